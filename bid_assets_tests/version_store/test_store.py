from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from bid_assets.version_store.manifest import CodeVersion, Draft
from bid_assets.version_store.store import VersionNotFoundError, VersionStore
from bid_assets_tests.version_store.drafts import ASSET, WINDOW, head_text, ref, write_text


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(str(tmp_path / "store"))


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
    assert store.file_url(manifest) == str(folder / manifest.file)


def test_the_same_content_from_the_same_inputs_makes_no_new_version(store: VersionStore) -> None:
    first = write_text(store, "x", inputs=(ref("a", "1", "v1"), ref("b", "2")))
    again = write_text(store, "x", inputs=(ref("b", "2"), ref("a", "1", "v2")), run_id="another run")
    assert (first.created, again.created) == (True, False)
    assert again.manifest == first.manifest
    assert len(store.versions(ASSET)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": (ref("a", "2"),)},
        {"inputs": (ref("a", "1", window="2026-01-12"),)},
        {"inputs": ()},
        {"settings": {"lookback_windows": 3}},
        {"code": CodeVersion("abc", False, "2")},
        {"extension": "md"},
    ],
)
def test_the_same_content_made_of_something_else_is_a_new_version(store: VersionStore, change: dict[str, object]) -> None:
    write_text(store, "x", inputs=(ref("a", "1"),))
    assert write_text(store, "x", **{"inputs": (ref("a", "1"),), **change}).created


def test_settings_are_compared_as_json_keeps_them(store: VersionStore) -> None:
    settings = {"windows": (1, 2), "limit": float("nan"), 7: "seven"}
    assert write_text(store, "x", settings=settings).created
    assert not write_text(store, "x", settings=settings).created


def test_a_commit_alone_makes_no_new_version(store: VersionStore) -> None:
    write_text(store, "x", code=CodeVersion("abc", False, "1"))
    assert not write_text(store, "x", code=CodeVersion("def", True, "1")).created


def test_only_the_head_is_compared_so_that_content_may_come_back(store: VersionStore) -> None:
    for text in ("one", "two", "one"):
        assert write_text(store, text).created
    assert head_text(store) == "one"
    assert [store.fetch(manifest).read_text() for manifest in store.versions(ASSET)] == ["one", "two", "one"]


def test_a_version_that_is_not_written_is_not_computed_into_a_file(store: VersionStore) -> None:
    head = write_text(store, "x").manifest
    draft = Draft(ASSET, WINDOW, "txt", head.content_hash)
    assert store.write(draft, lambda path: pytest.fail("the file was written again")).manifest == head


def test_a_name_that_is_taken_within_one_second_is_never_written_over(
    store: VersionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = write_text(store, "one").manifest.created_at
    monkeypatch.setattr("bid_assets.version_store.store.utc_now", lambda: moment)
    for text in ("two", "one", "two", "one"):
        write_text(store, text)
    versions = store.versions(ASSET)
    assert len({manifest.version for manifest in versions}) == 5
    assert {len(manifest.version) for manifest in versions} == {len(versions[0].version)}
    assert sorted(store.fetch(manifest).read_text() for manifest in versions) == ["one", "one", "one", "two", "two"]


def test_heads_leave_out_windows_without_a_version(store: VersionStore) -> None:
    manifest = write_text(store, "x", "2026-01-12").manifest
    assert store.heads(ASSET, ["2026-01-05", "2026-01-12"]) == {"2026-01-12": manifest}
    assert store.partitions(ASSET) == ["2026-01-12"]
    assert store.assets() == [ASSET]


def test_manifests_come_back_as_they_were_written(store: VersionStore) -> None:
    told = {"rows": 3, "schema": ({"name": "n", "type": "int64"},), "info": {"Zürich": [1.5, None]}, "run_id": "r"}
    written = write_text(store, "x", inputs=(ref("a", "1"),), code=CodeVersion("c", True, None), **told).manifest
    assert store.manifest(ASSET, WINDOW, written.version) == written
    assert store.manifests([written.ref, ref("a", "1")]) == {written.ref: written}
    assert store.all_versions() == [written]


def test_a_version_that_is_not_there_is_an_error_that_names_those_that_are(store: VersionStore) -> None:
    there = write_text(store, "x").manifest.version
    with pytest.raises(VersionNotFoundError, match=there):
        store.manifest(ASSET, WINDOW, "notes_20260101_000000_00000000")
    with pytest.raises(VersionNotFoundError, match="none of that window"):
        store.manifest(ASSET, "2026-01-12", there)


def test_head_can_be_moved_back_to_a_version_that_exists(store: VersionStore) -> None:
    old = write_text(store, "old").manifest
    write_text(store, "new")
    store.set_head(ASSET, WINDOW, old.version)
    assert head_text(store) == "old"
    with pytest.raises(VersionNotFoundError, match=old.version):
        store.set_head(ASSET, WINDOW, "notes_20260101_000000_00000000")


def test_a_pointer_moves_and_is_read_back(store: VersionStore) -> None:
    assert store.read_pointer("ACTIVE") is None
    store.move_pointer("ACTIVE", {"version": "a"})
    store.move_pointer("ACTIVE", {"version": "b"})
    assert store.read_pointer("ACTIVE") == {"version": "b"}
    assert store.assets() == []


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".hidden", "a\0", "-x", "a\\b", "x\n", "x" * 300])
def test_a_name_that_could_leave_the_store_is_refused(store: VersionStore, name: str) -> None:
    for draft in ({"window": name}, {"asset": name}, {"extension": name}):
        with pytest.raises(ValueError, match="is no name of"):
            write_text(store, "x", **draft)
    for read in (store.versions, store.partitions, store.read_pointer, lambda name: store.head(ASSET, name)):
        with pytest.raises(ValueError, match="is no name of"):
            read(name)
    assert not Path(store.url).exists()


def test_a_store_can_be_anywhere_and_is_made_when_first_written(tmp_path: Path) -> None:
    url = str(tmp_path / "a" / "b")
    assert VersionStore(url).assets() == []
    assert not Path(url).exists()
    write_text(VersionStore(url), "x")
    assert head_text(VersionStore(f"file://{url}")) == "x"


def test_a_store_can_be_sent_to_another_process(store: VersionStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    relative = VersionStore("here")
    write_text(relative, "x")
    monkeypatch.chdir("/")
    assert head_text(pickle.loads(pickle.dumps(relative))) == "x"
