from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import boto3
import pyarrow as pa
import pytest
from moto.server import ThreadedMotoServer

from bid_assets.common.windows import Cadence
from bid_assets.settings import get_settings
from bid_assets.verification.damage import check, harmful
from bid_assets.verification.repair import repair
from bid_assets.version_store.content_hash import table_hash
from bid_assets.version_store.layout import MANIFEST
from bid_assets.version_store.manifest import Draft
from bid_assets.version_store.parquet import WindowedTable, write_parquet
from bid_assets.version_store.store import CorruptVersionError, VersionStore
from bid_assets_tests.verification.damaged_stores import SmallStore
from bid_assets_tests.version_store.drafts import ASSET, WINDOW, head_text, in_a_process, write_many, write_text

BUCKET = "versions"


@pytest.fixture(scope="module")
def s3() -> Iterator[None]:
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
        yield
        server.stop()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where copies of remote files are kept."""
    monkeypatch.setenv("BID_ASSETS_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    yield tmp_path / "home"
    get_settings.cache_clear()


@pytest.fixture(params=["s3", "memory"])
def anywhere(request: pytest.FixtureRequest, home: Path) -> VersionStore:
    """A store on S3, and one in fsspec's memory."""
    if request.param == "memory":
        return VersionStore(f"memory://{uuid4().hex}/store")
    request.getfixturevalue("s3")
    return VersionStore(f"s3://{BUCKET}/{uuid4().hex}/store")


@pytest.fixture
def store(s3: None, home: Path) -> VersionStore:
    return VersionStore(f"s3://{BUCKET}/{uuid4().hex}/")


def put(store: VersionStore, url: str, body: bytes) -> None:
    """Write an object behind the store's back."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=body)


def test_versions_on_an_object_store_are_written_and_read_like_local_ones(anywhere: VersionStore) -> None:
    old, new = write_text(anywhere, "old").manifest, write_text(anywhere, "new").manifest
    assert not write_text(anywhere, "new").created
    assert head_text(anywhere) == "new"
    assert anywhere.versions(ASSET) == anywhere.all_versions() == [old, new]
    assert anywhere.file_url(new).startswith(anywhere.url)
    assert (anywhere.assets(), anywhere.partitions(ASSET)) == ([ASSET], [WINDOW])
    anywhere.set_head(ASSET, WINDOW, old.version)
    assert anywhere.heads(ASSET, ["2020-01-06", WINDOW]) == {WINDOW: old}


def test_an_object_store_without_versions_is_empty(anywhere: VersionStore) -> None:
    assert anywhere.assets() == anywhere.versions(ASSET) == []
    assert anywhere.head(ASSET, WINDOW) is None


def test_a_name_that_is_taken_on_an_object_store_is_never_written_over(
    anywhere: VersionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = write_text(anywhere, "one").manifest.created_at
    monkeypatch.setattr("bid_assets.version_store.store.utc_now", lambda: moment)
    for text in ("two", "one"):
        write_text(anywhere, text)
    versions = anywhere.versions(ASSET)
    assert len({manifest.version for manifest in versions}) == 3
    assert sorted(anywhere.fetch(manifest).read_text() for manifest in versions) == ["one", "one", "two"]


def test_pointers_move_there_too(anywhere: VersionStore) -> None:
    assert anywhere.read_pointer("ACTIVE") is None
    anywhere.move_pointer("ACTIVE", {"version": "a"})
    anywhere.move_pointer("ACTIVE", {"version": "b"})
    assert anywhere.read_pointer("ACTIVE") == {"version": "b"}


def test_tables_come_back_as_they_were(anywhere: VersionStore) -> None:
    table = pa.table({"n": [1, 2]})
    anywhere.write(Draft("t", WINDOW, "parquet", table_hash(table)), lambda path: write_parquet(table, path))
    assert WindowedTable(anywhere, "t", [WINDOW], anywhere.heads("t", [WINDOW])).read().equals(table)


def test_what_other_processes_write_is_seen_at_once(store: VersionStore) -> None:
    write_text(store, "old")
    assert len(store.versions(ASSET)) == 1
    writers = [in_a_process(write_many, store.url, who, 5) for who in ("one", "two")]
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    texts = {store.fetch(manifest).read_text() for manifest in store.versions(ASSET)}
    assert texts == {"old", *(f"{who} {number}" for who in ("one", "two") for number in range(5))}
    assert head_text(store) in ("one 4", "two 4")


def test_a_store_can_be_sent_to_another_process(store: VersionStore) -> None:
    write_text(store, "x")
    assert head_text(pickle.loads(pickle.dumps(store))) == "x"


def test_a_changed_object_is_caught(store: VersionStore) -> None:
    manifest = write_text(store, "content").manifest
    put(store, store.file_url(manifest), b"something else")
    with pytest.raises(CorruptVersionError, match=manifest.file):
        store.fetch(manifest)


def test_an_object_that_is_gone_is_an_error_and_writing_again_cures_it(store: VersionStore) -> None:
    manifest = write_text(store, "content").manifest
    bucket, _, key = store.file_url(manifest).removeprefix("s3://").partition("/")
    boto3.client("s3").delete_object(Bucket=bucket, Key=key)
    with pytest.raises(CorruptVersionError, match=f"{manifest.file} is gone"):
        store.fetch(manifest)
    assert write_text(store, "content").manifest == manifest
    assert head_text(store) == "content"


def test_a_damaged_manifest_on_an_object_store_is_an_error_that_names_it(store: VersionStore) -> None:
    manifest = write_text(store, "x").manifest
    put(store, store.file_url(manifest).replace(".txt", ".manifest.json"), b"{")
    with pytest.raises(CorruptVersionError, match=rf"s3://.*{manifest.version}\.manifest\.json"):
        store.manifest(ASSET, WINDOW, manifest.version)
    assert store.head(ASSET, WINDOW) is None


def test_a_copy_is_kept_below_home_and_fetched_again_when_it_is_damaged(store: VersionStore, home: Path) -> None:
    manifest = write_text(store, "content").manifest
    copy = store.fetch(manifest)
    assert home in copy.parents
    copy.write_text("damaged")
    assert store.fetch(manifest).read_text() == "content"
    assert [path for path in home.rglob("*") if path.is_file()] == [copy]


def test_a_bucket_that_is_not_there_is_an_error_when_written(s3: None, home: Path) -> None:
    with pytest.raises(FileNotFoundError, match="bucket does not exist"):
        write_text(VersionStore("s3://nowhere/store"), "x")


def test_damage_on_an_object_store_is_found_and_mended(anywhere: VersionStore) -> None:
    small = SmallStore.fill(anywhere)
    before = small.reading()
    paths = anywhere.files.find("")
    model = next(path for path in paths if path.startswith("trained_model/") and path.endswith(MANIFEST))
    data = next(path for path in paths if path.startswith("raw_bids/") and path.endswith(".txt"))
    damaged = ["deployments/00000002.json", data, model, "deployment/2026-01-12/HEAD", "ACTIVE"]
    for how, path in zip(["deleted", "flipped", "emptied", "deleted", "truncated"], damaged, strict=True):
        small.damage(path, how, 77)
    assert [finding.path for finding in harmful(check(anywhere))] == damaged
    assert all(each.mended for each in repair(anywhere, Cadence.WEEKLY, small.remake))
    assert small.reading() == before


def test_the_size_of_objects_tells_which_are_damaged(anywhere: VersionStore) -> None:
    there, gone = write_text(anywhere, "old").manifest, write_text(anywhere, "new").manifest
    anywhere.files.remove(f"{ASSET}/{WINDOW}/{gone.file}")
    assert anywhere.damaged([there, gone]) == [gone]
