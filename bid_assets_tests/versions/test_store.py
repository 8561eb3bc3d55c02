from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bid_assets.versions.manifest import CodeVersion, Draft
from bid_assets.versions.store import CorruptVersion, VersionNotFound, VersionStore
from bid_assets_tests.versions.drafts import ASSET, WINDOW, head_text, ref, write_text

STAGES = [*(f"fsync:{number}" for number in range(1, 7)), "link:1", "link:2", "rename:1"]


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(str(tmp_path / "store"))


def child(store: VersionStore, what: str, argument: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "bid_assets_tests.versions.drafts", store.url, what, argument])


def test_a_reader_gets_the_newest_version_and_finds_the_older_ones(store: VersionStore) -> None:
    old, new = write_text(store, "old").manifest, write_text(store, "new").manifest
    assert head_text(store) == "new"
    assert store.versions(ASSET) == [old, new]
    assert store.fetch(store.manifest(ASSET, WINDOW, old.version)).read_text() == "old"


def test_the_files_lie_where_the_design_says(store: VersionStore) -> None:
    manifest = write_text(store, "x").manifest
    folder = Path(store.url) / ASSET / WINDOW
    assert {path.name for path in folder.iterdir()} == {f"{manifest.version}.txt", f"{manifest.version}.manifest.json", "HEAD"}
    assert (folder / "HEAD").read_text() == manifest.version
    name, day, time, hash8 = manifest.version.split("_")
    assert (name, len(day), len(time), len(hash8)) == (ASSET, 8, 6, 8)


def test_the_same_content_from_the_same_inputs_makes_no_new_version(store: VersionStore) -> None:
    first = write_text(store, "x", inputs=(ref("a", "1", "v1"),))
    again = write_text(store, "x", inputs=(ref("a", "1", "v2"),), run_id="another run")
    assert (first.created, again.created) == (True, False)
    assert again.manifest == first.manifest
    assert len(store.versions(ASSET)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": (ref("a", "2"),)},
        {"inputs": ()},
        {"settings": {"lookback_windows": 3}},
        {"code": CodeVersion("abc", False, "2")},
    ],
)
def test_the_same_content_made_of_something_else_is_a_new_version(store: VersionStore, change: dict[str, object]) -> None:
    write_text(store, "x", inputs=(ref("a", "1"),))
    assert write_text(store, "x", **{"inputs": (ref("a", "1"),), **change}).created


def test_a_commit_alone_makes_no_new_version(store: VersionStore) -> None:
    write_text(store, "x", code=CodeVersion("abc", False, "1"))
    assert not write_text(store, "x", code=CodeVersion("def", True, "1")).created


def test_heads_leave_out_windows_without_a_version(store: VersionStore) -> None:
    manifest = write_text(store, "x", "2026-01-12").manifest
    assert store.heads(ASSET, ["2026-01-05", "2026-01-12"]) == {"2026-01-12": manifest}
    assert store.partitions(ASSET) == ["2026-01-12"]
    assert store.assets() == [ASSET]


def test_head_can_be_moved_back_to_a_version_that_exists(store: VersionStore) -> None:
    old = write_text(store, "old").manifest
    write_text(store, "new")
    store.set_head(ASSET, WINDOW, old.version)
    assert head_text(store) == "old"
    with pytest.raises(VersionNotFound, match=old.version):
        store.set_head(ASSET, WINDOW, "notes_20260101_000000_00000000")


def test_a_pointer_moves_and_is_read_back(store: VersionStore) -> None:
    assert store.read_pointer("ACTIVE") is None
    store.move_pointer("ACTIVE", {"version": "a"})
    store.move_pointer("ACTIVE", {"version": "b"})
    assert store.read_pointer("ACTIVE") == {"version": "b"}
    assert store.assets() == []


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".hidden", "a\0"])
def test_a_name_that_could_leave_the_store_is_refused(store: VersionStore, name: str) -> None:
    with pytest.raises(ValueError, match="is no name of"):
        write_text(store, "x", name)


def test_a_flipped_byte_is_caught_and_the_error_names_the_file(store: VersionStore) -> None:
    manifest = write_text(store, "content").manifest
    file = store.fetch(manifest)
    file.write_bytes(file.read_bytes().replace(b"n", b"m", 1))
    with pytest.raises(CorruptVersion, match=manifest.file):
        store.fetch(manifest)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"asset": 1}'])
def test_a_damaged_manifest_is_an_error_that_names_the_file(store: VersionStore, damage: str) -> None:
    manifest = write_text(store, "x").manifest
    path = Path(store.url) / ASSET / WINDOW / f"{manifest.version}.manifest.json"
    path.write_text(damage)
    with pytest.raises(CorruptVersion, match=path.name):
        store.head(ASSET, WINDOW)


@pytest.mark.parametrize("head", ["notes_20260101_000000_00000000", "rubbish"])
def test_a_head_that_names_nothing_is_an_error(store: VersionStore, head: str) -> None:
    write_text(store, "x")
    (Path(store.url) / ASSET / WINDOW / "HEAD").write_text(head)
    with pytest.raises(CorruptVersion, match="HEAD names a version that is not there"):
        store.head(ASSET, WINDOW)


def test_a_file_that_is_gone_is_an_error(store: VersionStore) -> None:
    manifest = write_text(store, "x").manifest
    store.fetch(manifest).unlink()
    with pytest.raises(CorruptVersion, match="is gone"):
        store.fetch(manifest)


def test_a_failed_write_leaves_nothing_behind(store: VersionStore) -> None:
    write_text(store, "old")
    before = sorted(path.name for path in (Path(store.url) / ASSET / WINDOW).iterdir())

    def fail(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="disk is full"):
        store.write(Draft(ASSET, WINDOW, "txt", "other"), fail)
    assert head_text(store) == "old"
    assert sorted(path.name for path in (Path(store.url) / ASSET / WINDOW).iterdir()) == before


@pytest.mark.parametrize("stage", STAGES)
def test_a_writer_killed_at_any_stage_leaves_the_old_head_and_the_next_write_succeeds(store: VersionStore, stage: str) -> None:
    old = write_text(store, "old").manifest
    assert child(store, "die", stage).wait() == -signal.SIGKILL
    assert head_text(store) in ("old", "new")
    assert stage == "fsync:6" or head_text(store) == "old"
    for manifest in store.versions(ASSET):
        assert store.fetch(manifest).read_text() in ("old", "new")
    assert old in store.versions(ASSET)
    write_text(store, "new")
    assert head_text(store) == "new"


@pytest.mark.slow
def test_two_processes_writing_one_window_a_hundred_times_lose_no_version(store: VersionStore) -> None:
    writers = [child(store, "one"), child(store, "two")]
    assert [writer.wait() for writer in writers] == [0, 0]
    texts = {store.fetch(manifest).read_text() for manifest in store.versions(ASSET)}
    assert texts == {f"{who} {number}" for who in ("one", "two") for number in range(100)}
    assert head_text(store) in texts


def test_a_store_can_be_anywhere_and_is_made_when_first_written(tmp_path: Path) -> None:
    url = str(tmp_path / "a" / "b")
    assert VersionStore(url).assets() == []
    write_text(VersionStore(url), "x")
    assert head_text(VersionStore(f"file://{url}")) == "x"
