"""Files that are not what was written: caught, named, left out by readers, and cured by writing again."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import joblib
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bid_assets.verification.damage import check, harmful
from bid_assets.version_store.manifest import Draft
from bid_assets.version_store.store import CorruptVersionError, VersionStore
from bid_assets_tests.version_store.drafts import ASSET, WINDOW, head_text, write_text


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(str(tmp_path / "store"))


@pytest.fixture
def manifest_file(store: VersionStore) -> Path:
    version = write_text(store, "x", info={"metric": 0.5}).manifest.version
    return Path(store.url) / ASSET / WINDOW / f"{version}.manifest.json"


def flip(content: bytes, position: int, bit: int = 0) -> bytes:
    return content[:position] + bytes([content[position] ^ (1 << bit)]) + content[position + 1 :]


class AnyTextWith(str):
    """Equal to every text that contains some parts."""

    def __new__(cls, *parts: str) -> AnyTextWith:
        made = super().__new__(cls, " ... ".join(parts))
        made.parts = parts
        return made

    parts: tuple[str, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and all(part in other for part in self.parts)

    __hash__ = str.__hash__


def assert_left_out(store: VersionStore, manifest_file: Path) -> None:
    """The version is no version for readers; who asks for it learns which file is damaged."""
    assert store.head(ASSET, WINDOW) is None
    assert store.versions(ASSET, WINDOW) == []
    with pytest.raises(CorruptVersionError, match=manifest_file.name):
        store.manifest(ASSET, WINDOW, manifest_file.name.removesuffix(".manifest.json"))


class Trap:
    """A pickle that betrays itself when it is opened."""

    def __init__(self, witness: str) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.witness,)


def test_a_flipped_byte_is_caught_before_unpickling(store: VersionStore, tmp_path: Path) -> None:
    witness = tmp_path / "unpickled"
    draft = Draft(ASSET, WINDOW, "joblib", "trap")
    manifest = store.write(draft, lambda path: joblib.dump(Trap(str(witness)), path) and None).manifest
    file = store.fetch(manifest)
    file.write_bytes(flip(file.read_bytes(), file.stat().st_size - 1))
    with pytest.raises(CorruptVersionError, match=manifest.file):
        joblib.load(store.fetch(manifest))
    assert not witness.exists()


def test_a_file_that_is_gone_is_an_error(store: VersionStore) -> None:
    manifest = write_text(store, "x").manifest
    store.fetch(manifest).unlink()
    with pytest.raises(CorruptVersionError, match=f"{manifest.file} is gone"):
        store.fetch(manifest)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_flipped_bit_of_a_manifest_is_caught(store: VersionStore, manifest_file: Path, data: st.DataObject) -> None:
    content = manifest_file.read_bytes()
    position, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    manifest_file.write_bytes(flip(content, position, bit))
    assert_left_out(store, manifest_file)
    manifest_file.write_bytes(content)
    assert head_text(store) == "x"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_truncated_manifest_is_caught(store: VersionStore, manifest_file: Path, data: st.DataObject) -> None:
    content = manifest_file.read_bytes()
    manifest_file.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert_left_out(store, manifest_file)
    manifest_file.write_bytes(content)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"asset": 1}', b"\xff\xfe"])
def test_a_manifest_that_is_something_else_is_caught(store: VersionStore, manifest_file: Path, damage: bytes) -> None:
    manifest_file.write_bytes(damage)
    assert_left_out(store, manifest_file)


def test_a_manifest_in_the_place_of_another_is_caught(store: VersionStore, manifest_file: Path) -> None:
    other = write_text(store, "other", "2026-01-12").manifest
    manifest_file.write_bytes((Path(store.url) / ASSET / "2026-01-12" / f"{other.version}.manifest.json").read_bytes())
    assert_left_out(store, manifest_file)


@pytest.mark.parametrize("file", ["../../secret", "/etc/hostname", ""])
def test_a_manifest_cannot_lead_out_of_the_store(store: VersionStore, manifest_file: Path, file: str) -> None:
    head = store.head(ASSET, WINDOW)
    assert head is not None
    manifest_file.write_bytes(replace(head, file=file).to_json())
    assert_left_out(store, manifest_file)


@pytest.mark.parametrize("head", [b"", b"notes_2026", b"\x00\x01", b"../../x", b"notes_20260101_000000_00000000"])
def test_a_damaged_head_is_named_and_readers_get_the_newest_intact_version(
    store: VersionStore, head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    write_text(store, "old")
    newest = write_text(store, "new").manifest
    path = Path(store.url) / ASSET / WINDOW / "HEAD"
    path.write_bytes(head)
    assert head_text(store) == "new"
    store.fetch(newest).write_text("harmed")
    assert head_text(store) == "old"
    assert [record.message for record in caplog.records] == [AnyTextWith(str(path), "`bid-assets verify --repair` mends it")]


def test_a_head_whose_version_is_gone_leads_to_the_version_before(store: VersionStore, manifest_file: Path) -> None:
    write_text(store, "y")
    new = store.head(ASSET, WINDOW)
    assert new is not None
    (manifest_file.parent / f"{new.version}.manifest.json").unlink()
    assert head_text(store) == "x"


def test_a_version_whose_file_has_another_size_is_seen_without_reading_it_and_a_flipped_one_by_its_checksum(
    store: VersionStore,
) -> None:
    intact, flipped, short, gone = (write_text(store, text).manifest for text in ("intact", "flipped", "short", "gone"))
    store.fetch(flipped).write_text("flopped")
    store.fetch(short).write_text("shor")
    store.fetch(gone).unlink()
    every = [intact, flipped, short, gone]
    assert store.damaged(every) == [short, gone]
    assert store.damaged(every, checksums=True) == [flipped, short, gone]


@pytest.mark.parametrize("value", [b"", b"{", b"[1]", b"7"])
def test_a_damaged_pointer_reads_as_absent_and_is_named(
    store: VersionStore, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store.move_pointer("ACTIVE", {})
    (Path(store.url) / "ACTIVE").write_bytes(value)
    assert store.read_pointer("ACTIVE") is None
    assert "ACTIVE is damaged" in caplog.text


STRAYS = (
    "README.txt",
    "raw_bids/notes.txt",
    "raw_bids/2026-01-05 copy/HEAD",
    "raw_bids/2026-01-05.bak/HEAD",
    "raw bids/2026-01-05/HEAD",
    f"{ASSET}/{WINDOW}/x.manifest.json",
    f"{ASSET}/{WINDOW}/deeper/HEAD",
    "deployments/notes.txt",
)


@pytest.mark.parametrize("path", STRAYS)
def test_a_stray_file_changes_nothing_that_is_read(store: VersionStore, path: str) -> None:
    manifest = write_text(store, "x").manifest
    stray = Path(store.url) / path
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_text("torn")
    assert store.assets() == [ASSET]
    assert store.partitions(ASSET) == [WINDOW]
    assert store.all_versions() == [manifest]
    assert store.entries("deployments") == {}
    assert head_text(store) == "x"


def test_a_clock_that_goes_back_is_said_and_the_new_version_is_what_readers_get(
    store: VersionStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    old = write_text(store, "old").manifest
    monkeypatch.setattr("bid_assets.version_store.store.utc_now", lambda: old.created_at - timedelta(days=1))
    write_text(store, "new")
    assert head_text(store) == "new"
    assert [record.message for record in caplog.records] == [
        AnyTextWith("the clock of this machine has gone back", old.version)
    ]
    assert harmful(check(store)) == []


@pytest.mark.parametrize("name", ["HEAD", "manifest", "file"])
def test_making_the_window_again_cures_any_damage(store: VersionStore, manifest_file: Path, name: str) -> None:
    head = store.head(ASSET, WINDOW)
    assert head is not None
    damaged = {"HEAD": manifest_file.with_name("HEAD"), "manifest": manifest_file, "file": store.fetch(head)}[name]
    damaged.write_bytes(flip(damaged.read_bytes(), 0))
    written = write_text(store, "x", info={"metric": 0.5})
    assert head_text(store) == "x"
    assert written.created == (name == "manifest")
    assert name == "manifest" or written.manifest == head
