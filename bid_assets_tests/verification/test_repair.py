"""Any one file of a store is damaged: readers go on, `check` names it, `repair` mends it or says that it is lost."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bid_assets.common.windows import Cadence
from bid_assets.deployments.events import active_model
from bid_assets.verification.damage import Kind, check, harmful
from bid_assets.verification.repair import repair
from bid_assets.version_store.atomic_files import STALE_SECONDS, TEMPORARY
from bid_assets.version_store.store import CorruptVersionError, VersionStore
from bid_assets_tests.verification.damaged_stores import DAMAGES, SmallStore

NO_TRACE = ("RETRAINING_REQUESTS", "STORE")
"""Files whose absence is no damage: nobody has raised a flag; the store is of an earlier release."""


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> SmallStore:
    return SmallStore.fill(VersionStore(str(tmp_path_factory.mktemp("intact") / "store")))


@pytest.fixture
def small(intact: SmallStore, tmp_path: Path) -> SmallStore:
    return copy_of(intact, tmp_path)


def copy_of(intact: SmallStore, folder: Path) -> SmallStore:
    shutil.copytree(intact.store.url, folder / "store")
    return SmallStore(VersionStore(str(folder / "store")), intact.texts)


def test_an_intact_store_has_no_damage_and_repairing_it_changes_nothing(small: SmallStore) -> None:
    before = {path: path.read_bytes() for path in Path(small.store.url).rglob("*") if path.is_file()}
    assert check(small.store) == []
    assert repair(small.store, Cadence.WEEKLY, small.remake) == []
    assert {path: path.read_bytes() for path in Path(small.store.url).rglob("*") if path.is_file()} == before


@settings(max_examples=60)
@given(st.data())
def test_law_after_a_repair_everything_reads_as_before(intact: SmallStore, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        small = copy_of(intact, Path(folder))
        before = small.reading()
        path = data.draw(st.sampled_from(small.store.files.find("")))
        how = data.draw(st.sampled_from(sorted(DAMAGES)))
        small.damage(path, how, data.draw(st.integers(0, 1 << 16)))
        if not path.endswith(".txt"):
            small.reading()  # whatever it gives, it goes on
        assert harmful(check(small.store)) or (path in NO_TRACE and how in ("deleted", "replaced"))
        repairs = repair(small.store, Cadence.WEEKLY, small.remake)
        after = small.reading()
        if path in NO_TRACE:
            after["requests"] = before["requests"] = None
            after["metadata"] = before["metadata"] = None
        assert after == before
        assert all(each.mended for each in repairs) or path == "RETRAINING_REQUESTS"
        assert harmful(check(small.store)) == []


@settings(max_examples=15)
@given(st.data())
def test_law_what_cannot_be_made_again_is_said_and_readers_get_what_is_intact(intact: SmallStore, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        small = copy_of(intact, Path(folder))
        versions = [path for path in small.store.files.find("") if path.endswith((".txt", ".manifest.json"))]
        path = data.draw(st.sampled_from(versions))
        small.damage(path, data.draw(st.sampled_from(sorted(DAMAGES))), data.draw(st.integers(0, 1 << 16)))
        repairs = repair(small.store, Cadence.WEEKLY, small.cannot_remake)
        assert path in [each.finding.path for each in repairs if not each.mended]
        small.reading()  # raises nothing: every HEAD leads to a file that is intact


def test_a_file_is_made_again_from_inputs_that_had_to_be_made_again_first(small: SmallStore) -> None:
    before = small.reading()
    for path in small.store.files.find(""):
        if path.endswith(".txt"):
            small.damage(path, "emptied")
    assert all(each.mended for each in repair(small.store, Cadence.WEEKLY, small.remake))
    assert small.reading() == before


def test_a_pointer_ahead_of_the_history_is_set_back_to_it(small: SmallStore) -> None:
    pointer = small.store.read_pointer("ACTIVE")
    assert pointer is not None
    small.store.move_pointer("ACTIVE", {**pointer, "event": 9, "active": None})
    before = active_model(small.store)
    [finding] = check(small.store)
    assert (finding.kind, finding.problem) == (Kind.POINTER, "it is of event 9, but the last event of the history is 5")
    repair(small.store, Cadence.WEEKLY, small.remake)
    assert active_model(small.store) == before
    assert check(small.store) == []


def test_what_killed_writers_have_left_is_removed_wherever_it_lies(small: SmallStore) -> None:
    root = Path(small.store.url)
    orphan = root / "raw_bids" / "2026-01-05" / "raw_bids_20260101_000000_00000000.parquet"
    left = [root / f"{TEMPORARY}1", root / "raw_bids" / "2026-01-05" / f"{TEMPORARY}2.txt", orphan]
    for file in left:
        file.write_text("half")
        os.utime(file, times=(0, time.time() - STALE_SECONDS - 1))
    fresh = root / "deployments" / f"{TEMPORARY}3"
    fresh.write_text("being written")
    assert harmful(check(small.store)) == []
    assert {each.action for each in repair(small.store, Cadence.WEEKLY, small.remake)} == {"removed"}
    assert [file for file in (*left, fresh) if file.exists()] == [fresh]


def test_a_stray_file_is_named_and_left(small: SmallStore) -> None:
    stray = Path(small.store.url) / "raw_bids" / "notes.txt"
    stray.write_text("mine")
    assert [(each.kind, each.path) for each in check(small.store)] == [(Kind.STRAY, "raw_bids/notes.txt")]
    repair(small.store, Cadence.WEEKLY, small.remake)
    assert stray.exists()


def test_a_damaged_file_names_itself_and_the_command_to_whoever_needs_it(small: SmallStore) -> None:
    head = small.store.head("raw_bids", "2026-01-05")
    assert head is not None
    Path(small.store.file_url(head)).unlink()
    with pytest.raises(
        CorruptVersionError, match=rf"{head.file} is gone.*verify --repair.*run --from 2026-01-05 --to 2026-01-05"
    ):
        small.store.fetch(head)
