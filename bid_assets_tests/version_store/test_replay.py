from __future__ import annotations

from pathlib import Path

import pytest

from bid_assets.verification.damage import check
from bid_assets.verification.restoring import RestoringStore
from bid_assets.version_store.manifest import Draft
from bid_assets.version_store.replay import PinnedStore
from bid_assets.version_store.store import VersionNotFoundError, VersionStore
from bid_assets_tests.version_store.drafts import ASSET, WINDOW, head_text, write_text


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(str(tmp_path / "store"))


@pytest.fixture
def pinned(store: VersionStore) -> PinnedStore:
    """The store as it was when `made` was made of the notes "old"; they have changed since."""
    old = write_text(store, "old").manifest
    made = write_text(store, "made", asset="made", inputs=(old.ref,)).manifest
    write_text(store, "new")
    return PinnedStore(store.url, made)


def test_a_pinned_store_reads_what_was_read_then(store: VersionStore, pinned: PinnedStore) -> None:
    assert head_text(store) == "new"
    assert head_text(pinned) == "old"
    assert list(pinned.heads(ASSET, ["2020-01-06", WINDOW])) == [WINDOW]


def test_a_window_that_was_not_read_then_is_absent(store: VersionStore, pinned: PinnedStore) -> None:
    write_text(store, "later", "2026-01-12")
    assert pinned.head(ASSET, "2026-01-12") is None


def test_nothing_is_written_and_no_pointer_moves_but_the_draft_is_kept(store: VersionStore, pinned: PinnedStore) -> None:
    before = store.all_versions()
    pinned.write(Draft("made", WINDOW, "txt", "hash"), lambda path: pytest.fail("it was written"))
    pinned.move_pointer("ACTIVE", {})
    assert [draft.content_hash for draft in pinned.drafts] == ["hash"]
    assert store.all_versions() == before
    assert store.read_pointer("ACTIVE") is None


def test_an_input_that_is_gone_is_an_error_that_names_it(store: VersionStore, pinned: PinnedStore) -> None:
    version = pinned.target.inputs[0].version
    (Path(store.url) / ASSET / WINDOW / f"{version}.manifest.json").unlink()
    with pytest.raises(VersionNotFoundError, match=version):
        pinned.head(ASSET, WINDOW)


def test_a_version_whose_hash_is_by_a_former_rule_is_restored_in_its_place(store: VersionStore) -> None:
    made = write_text(store, "made", content_hash="by the former rule").manifest
    Path(store.file_url(made)).unlink()
    [lost] = check(store)
    restoring = RestoringStore(store.url, lost, replaceable=False)
    draft = Draft(ASSET, WINDOW, "txt", "by the rule of today", former_content_hashes=("by the former rule",))
    restoring.write(draft, lambda path: path.write_text("made") and None)
    assert restoring.restored is not None
    assert (head_text(store), check(store)) == ("made", [])
    assert store.heads(ASSET, [WINDOW])[WINDOW].content_hash == "by the former rule"
