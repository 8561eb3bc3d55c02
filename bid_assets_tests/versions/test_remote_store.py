from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import boto3
import pyarrow as pa
import pytest
from moto.server import ThreadedMotoServer

from bid_assets.versions.store import CorruptVersion, VersionStore
from bid_assets.versions.tables import WindowedTable, write_parquet
from bid_assets_tests.versions.drafts import ASSET, WINDOW, head_text, write_text

BUCKET = "versions"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """An S3 server on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture
def store(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VersionStore:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # where copies of remote files are kept
    return VersionStore(f"s3://{BUCKET}/{uuid4().hex}")


def test_versions_on_an_object_store_are_written_and_read_like_local_ones(store: VersionStore) -> None:
    old, new = write_text(store, "old").manifest, write_text(store, "new").manifest
    assert not write_text(store, "new").created
    assert head_text(store) == "new"
    assert store.versions(ASSET) == [old, new]
    assert store.file_url(new).startswith(f"s3://{BUCKET}/")
    assert (store.assets(), store.partitions(ASSET)) == ([ASSET], [WINDOW])


def test_what_another_writer_has_done_is_seen_at_once(store: VersionStore) -> None:
    write_text(store, "old")
    assert head_text(store) == "old"
    write_text(VersionStore(store.url), "new")
    assert head_text(store) == "new"
    assert len(store.versions(ASSET)) == 2


def test_a_changed_object_is_caught(store: VersionStore) -> None:
    manifest = write_text(store, "content").manifest
    bucket, _, key = store.file_url(manifest).removeprefix("s3://").partition("/")
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=b"something else")
    with pytest.raises(CorruptVersion, match=manifest.file):
        store.fetch(manifest)


def test_pointers_move_there_too(store: VersionStore) -> None:
    assert store.read_pointer("ACTIVE") is None
    store.move_pointer("ACTIVE", {"version": "a"})
    assert store.read_pointer("ACTIVE") == {"version": "a"}


def test_tables_come_back_as_they_were(store: VersionStore) -> None:
    from bid_assets.versions.hashing import table_hash
    from bid_assets.versions.manifest import Draft

    table = pa.table({"n": [1, 2]})
    store.write(Draft("t", WINDOW, "parquet", table_hash(table)), lambda path: write_parquet(table, path))
    assert WindowedTable(store, "t", [WINDOW], store.heads("t", [WINDOW])).read().equals(table)
