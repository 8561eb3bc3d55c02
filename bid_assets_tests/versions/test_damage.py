"""Files that are not what was written: caught, named, and cured by writing again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import joblib
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bid_assets.versions.manifest import Draft
from bid_assets.versions.store import CorruptVersion, VersionStore
from bid_assets_tests.versions.drafts import ASSET, WINDOW, head_text, write_text


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(str(tmp_path / "store"))


@pytest.fixture
def manifest_file(store: VersionStore) -> Path:
    version = write_text(store, "x", info={"figure": 0.5}).manifest.version
    return Path(store.url) / ASSET / WINDOW / f"{version}.manifest.json"


def flip(content: bytes, position: int, bit: int = 0) -> bytes:
    return content[:position] + bytes([content[position] ^ (1 << bit)]) + content[position + 1 :]


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
    with pytest.raises(CorruptVersion, match=manifest.file):
        joblib.load(store.fetch(manifest))
    assert not witness.exists()


def test_a_file_that_is_gone_is_an_error(store: VersionStore) -> None:
    manifest = write_text(store, "x").manifest
    store.fetch(manifest).unlink()
    with pytest.raises(CorruptVersion, match=f"{manifest.file} is gone"):
        store.fetch(manifest)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_flipped_bit_of_a_manifest_is_caught(store: VersionStore, manifest_file: Path, data: st.DataObject) -> None:
    content = manifest_file.read_bytes()
    position, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    manifest_file.write_bytes(flip(content, position, bit))
    with pytest.raises(CorruptVersion, match=manifest_file.name):
        store.head(ASSET, WINDOW)
    manifest_file.write_bytes(content)
    assert head_text(store) == "x"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_truncated_manifest_is_caught(store: VersionStore, manifest_file: Path, data: st.DataObject) -> None:
    content = manifest_file.read_bytes()
    manifest_file.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(CorruptVersion, match=manifest_file.name):
        store.versions(ASSET)
    manifest_file.write_bytes(content)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"asset": 1}', b"\xff\xfe"])
def test_a_manifest_that_is_something_else_is_caught(store: VersionStore, manifest_file: Path, damage: bytes) -> None:
    manifest_file.write_bytes(damage)
    with pytest.raises(CorruptVersion, match=manifest_file.name):
        store.head(ASSET, WINDOW)


def test_a_manifest_in_the_place_of_another_is_caught(store: VersionStore, manifest_file: Path) -> None:
    other = write_text(store, "other", "2026-01-12").manifest
    manifest_file.write_bytes((Path(store.url) / ASSET / "2026-01-12" / f"{other.version}.manifest.json").read_bytes())
    with pytest.raises(CorruptVersion, match=manifest_file.name):
        store.head(ASSET, WINDOW)


@pytest.mark.parametrize("file", ["../../secret", "/etc/hostname", ""])
def test_a_manifest_cannot_lead_out_of_the_store(store: VersionStore, manifest_file: Path, file: str) -> None:
    head = store.head(ASSET, WINDOW)
    assert head is not None
    manifest_file.write_bytes(replace(head, file=file).to_json())
    with pytest.raises(CorruptVersion, match=manifest_file.name):
        store.head(ASSET, WINDOW)


@pytest.mark.parametrize("head", [b"", b"notes_2026", b"\x00\x01", b"../../x", b"notes_20260101_000000_00000000"])
def test_a_damaged_head_is_an_error_that_names_it(store: VersionStore, head: bytes) -> None:
    write_text(store, "x")
    path = Path(store.url) / ASSET / WINDOW / "HEAD"
    path.write_bytes(head)
    with pytest.raises(CorruptVersion, match=str(path)):
        store.head(ASSET, WINDOW)


def test_a_head_whose_version_is_gone_is_an_error_that_names_both(store: VersionStore, manifest_file: Path) -> None:
    manifest_file.unlink()
    with pytest.raises(CorruptVersion, match=rf"HEAD names the version {manifest_file.name.split('.')[0]}, which is gone"):
        store.heads(ASSET, [WINDOW])


@pytest.mark.parametrize("value", [b"", b"{", b"[1]", b"7"])
def test_a_damaged_pointer_is_an_error_that_names_it(store: VersionStore, value: bytes) -> None:
    store.move_pointer("ACTIVE", {})
    (Path(store.url) / "ACTIVE").write_bytes(value)
    with pytest.raises(CorruptVersion, match="ACTIVE is damaged"):
        store.read_pointer("ACTIVE")


@pytest.mark.parametrize("name", ["HEAD", "manifest", "file"])
def test_making_the_window_again_cures_any_damage(store: VersionStore, manifest_file: Path, name: str) -> None:
    head = store.head(ASSET, WINDOW)
    assert head is not None
    damaged = {"HEAD": manifest_file.with_name("HEAD"), "manifest": manifest_file, "file": store.fetch(head)}[name]
    damaged.write_bytes(flip(damaged.read_bytes(), 0))
    assert write_text(store, "x", info={"figure": 0.5}).created
    assert head_text(store) == "x"
