"""Writers that are killed, fail or meet: what readers see then."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from bid_assets.version_store.atomic_files import STALE_SECONDS, TEMPORARY
from bid_assets.version_store.manifest import Draft
from bid_assets.version_store.store import VersionStore
from bid_assets_tests.version_store.drafts import (
    ASSET,
    WINDOW,
    die_writing,
    head_text,
    in_a_process,
    watched,
    write_many,
    write_text,
)

ONE_FILE = ["fsync", "link", "unlink", "fsync"]
A_WRITE = [*ONE_FILE, *ONE_FILE, "fsync", "replace", "unlink", "fsync"]
NEW_HEAD = A_WRITE.index("replace") + 2
"""Killed from this call on (counted from 1), the writer has moved HEAD."""


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(str(tmp_path / "store"))


def names(store: VersionStore) -> list[str]:
    return sorted(path.name for path in (Path(store.url) / ASSET / WINDOW).iterdir())


def test_the_stages_below_are_all_stages_of_a_write(store: VersionStore) -> None:
    write_text(store, "old")
    calls: list[str] = []
    with watched(calls.append):
        write_text(store, "new")
    assert calls == A_WRITE


@pytest.mark.parametrize("stage", range(len(A_WRITE) + 1))
def test_a_writer_killed_at_any_stage_leaves_a_whole_head_and_the_next_write_succeeds(store: VersionStore, stage: int) -> None:
    old = write_text(store, "old").manifest
    writer = in_a_process(die_writing, store.url, stage)
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    assert head_text(store) == ("new" if stage >= NEW_HEAD else "old")
    versions = store.versions(ASSET)
    assert versions[0] == old
    assert {store.fetch(manifest).read_text() for manifest in versions} <= {"old", "new"}
    write_text(store, "new")
    assert head_text(store) == "new"


@pytest.mark.parametrize("stage", [0, 1, 4, 8, 12, 18])
def test_a_store_whose_first_writer_was_killed_is_empty_or_whole(store: VersionStore, stage: int) -> None:
    writer = in_a_process(die_writing, store.url, stage)
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    assert head_text(store) in (None, "new")
    assert store.partitions(ASSET) == ([] if head_text(store) is None else [WINDOW])
    write_text(store, "newer")
    assert head_text(store) == "newer"


def test_a_version_without_head_is_listed_all_the_same(store: VersionStore) -> None:
    manifest = write_text(store, "x").manifest
    (Path(store.url) / ASSET / WINDOW / "HEAD").unlink()
    assert store.versions(ASSET) == [manifest]
    assert store.partitions(ASSET) == []


def test_what_a_killed_writer_has_left_is_removed_by_a_later_write_once_it_is_old(store: VersionStore) -> None:
    write_text(store, "old")
    folder = Path(store.url) / ASSET / WINDOW
    left, in_use = folder / f"{TEMPORARY}left.txt", folder / f"{TEMPORARY}used.txt"
    for file in (left, in_use):
        file.write_text("half")
    os.utime(left, times=(0, time.time() - STALE_SECONDS - 1))
    write_text(store, "new")
    assert not left.exists()
    assert in_use.exists()


def test_temporary_files_are_no_versions(store: VersionStore) -> None:
    write_text(store, "x")
    (Path(store.url) / ASSET / WINDOW / f"{TEMPORARY}1.manifest.json").write_text("half")
    assert len(store.versions(ASSET)) == 1


def test_a_failed_write_leaves_nothing_behind(store: VersionStore) -> None:
    write_text(store, "old")
    before = names(store)

    def fail(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="disk is full"):
        store.write(Draft(ASSET, WINDOW, "txt", "other"), fail)
    assert head_text(store) == "old"
    assert names(store) == before


def test_two_processes_writing_one_window_a_hundred_times_lose_no_version(store: VersionStore) -> None:
    writers = [in_a_process(write_many, store.url, who, 100) for who in ("one", "two")]
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    manifests = store.versions(ASSET)
    assert len(manifests) == 200
    texts = {store.fetch(manifest).read_text() for manifest in manifests}
    assert texts == {f"{who} {number}" for who in ("one", "two") for number in range(100)}
    assert head_text(store) in ("one 99", "two 99")
    assert len(names(store)) == 401


def test_two_processes_writing_the_same_at_once_both_end_with_a_whole_version(store: VersionStore) -> None:
    writers = [in_a_process(write_many, store.url, "same", 20) for _ in range(2)]
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    texts = [store.fetch(manifest).read_text() for manifest in store.versions(ASSET)]
    assert set(texts) == {f"same {number}" for number in range(20)}
