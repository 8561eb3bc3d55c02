"""A store that keeps the manifests it has read says the same as one that reads them each time, and reads each once."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.version_store import store as store_module
from bid_assets.version_store.caching import CachingStore
from bid_assets.version_store.store import VersionStore
from bid_assets_tests.version_store.drafts import ASSET, WINDOW, head_text, write_text

WINDOWS = (WINDOW, "2026-01-12")

writers = st.sampled_from(["itself", "another process"])
steps = st.one_of(
    st.tuples(writers, st.just("write"), st.sampled_from(WINDOWS), st.sampled_from("abc")),
    st.tuples(writers, st.just("set HEAD"), st.sampled_from(WINDOWS), st.integers(0, 5)),
    st.tuples(writers, st.just("remove HEAD"), st.sampled_from(WINDOWS), st.just(0)),
)


@given(st.lists(steps, max_size=12))
def test_whoever_writes_it_says_what_is_there_now(history: list[tuple[str, str, str, str | int]]) -> None:
    with TemporaryDirectory() as folder:
        caching, plain = CachingStore(folder), VersionStore(folder)
        for writer, step, window, value in history:
            store = caching if writer == "itself" else plain
            versions = plain.versions(ASSET, window)
            if step == "write":
                write_text(store, str(value), window)
            elif step == "set HEAD" and versions:
                store.set_head(ASSET, window, versions[int(value) % len(versions)].version)
            elif step == "remove HEAD":
                store.remove_head(ASSET, window)
            assert caching.heads(ASSET, WINDOWS) == plain.heads(ASSET, WINDOWS)
            assert caching.versions(ASSET) == plain.versions(ASSET)


def test_each_manifest_is_read_once_and_head_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    parse = store_module.parsed_manifest
    monkeypatch.setattr(store_module, "parsed_manifest", lambda path, text: read.append(path) or parse(path, text))
    store = CachingStore(str(tmp_path))
    first, second = (write_text(store, text).manifest.version for text in ("one", "two"))
    for version in (first, second, first):
        store.set_head(ASSET, WINDOW, version)
        read.clear()
        store.heads(ASSET, [WINDOW])
        store.versions(ASSET)
        store.heads(ASSET, [WINDOW])
        assert len(read) <= 1
    assert head_text(store) == "one"


def test_what_it_restores_itself_it_knows_with_its_new_bytes(tmp_path: Path) -> None:
    store = CachingStore(str(tmp_path))
    manifest = write_text(store, "one").manifest
    store.heads(ASSET, [WINDOW])
    store.restore(manifest, lambda path: path.write_text("one, in other bytes"))
    assert head_text(store) == "one, in other bytes"
