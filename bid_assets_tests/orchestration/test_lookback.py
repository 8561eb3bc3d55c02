"""How far a dataset looks back, by what the store holds."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bid_assets.orchestration import lookback
from bid_assets.orchestration.lookback import LEAST_WINDOWS, dataset_lookback, lookback_before
from bid_assets.orchestration.refresh.planning import dataset_windows
from bid_assets.settings import Settings
from bid_assets.version_store.manifest import Draft
from bid_assets.version_store.store import VersionStore

START = date(2024, 1, 1)
WEEKS = 60
SETTINGS = Settings(start=START)
KEYS = [(START + timedelta(weeks=week)).isoformat() for week in range(WEEKS)]


def write_outcomes(store: VersionStore, key: str, successes: int, failures: int) -> None:
    table = pa.table({"is_success": [True] * successes + [False] * failures})
    content = hashlib.sha256(f"{key} {successes} {failures}".encode()).hexdigest()
    for asset in ("raw_bid_outcomes", "raw_bids"):
        draft = Draft(asset=asset, partition=key, extension="parquet", content_hash=content, rows=table.num_rows)
        store.write(draft, lambda path: pq.write_table(table, path))


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> VersionStore:
    """Sixty weeks of ten outcomes each, of which one is a failure."""
    store = VersionStore(str(tmp_path_factory.mktemp("store")))
    for key in KEYS:
        write_outcomes(store, key, 9, 1)
    return store


@pytest.mark.parametrize(
    ("bids", "rarer", "expected"),
    [(100, 1, LEAST_WINDOWS), (300, 1, 30), (300, 45, 45), (10_000, 1, WEEKS)],
    ids=["at least half a year", "until there are enough bids", "until the rarer class has enough", "all there is"],
)
def test_auto_looks_back_until_there_is_enough(
    steady: VersionStore, monkeypatch: pytest.MonkeyPatch, bids: int, rarer: int, expected: int
) -> None:
    monkeypatch.setattr(lookback, "ENOUGH_LABELLED_BIDS", bids)
    monkeypatch.setattr(lookback, "ENOUGH_OF_RARER_CLASS", rarer)
    assert dataset_lookback(SETTINGS, steady, KEYS[-1]) == expected
    assert dataset_windows(SETTINGS, steady) == set(KEYS[-expected:])


def test_only_windows_up_to_the_datasets_own_count(steady: VersionStore) -> None:
    assert dataset_lookback(SETTINGS, steady, KEYS[39]) == 40
    cutoff = SETTINGS.cadence.window(KEYS[39]).end
    assert lookback_before(SETTINGS, steady, cutoff) == timedelta(weeks=40)


def test_a_number_fixes_it(steady: VersionStore) -> None:
    assert dataset_lookback(Settings(start=START, lookback_windows=7), steady, KEYS[-1]) == 7


@pytest.mark.parametrize("read", [0, 10, 20, 40])
def test_where_windows_have_not_been_read_it_goes_back_step_by_step_until_all_are(tmp_path: Path, read: int) -> None:
    """The planner asks again after each stage of reading: so a long history is not read whole where half of it is enough."""
    store = VersionStore(str(tmp_path))
    known = set(KEYS[len(KEYS) - read :])
    for key in known:
        write_outcomes(store, key, 1, 1)
    steps: list[int] = []
    while not steps or set(KEYS[-steps[-1] :]) - known:
        for key in set(KEYS[-steps[-1] :]) - known if steps else ():
            write_outcomes(store, key, 1, 1)
            known.add(key)
        steps.append(dataset_lookback(SETTINGS, store, KEYS[-1]))
    assert steps == sorted(steps)
    assert steps[0] <= max(LEAST_WINDOWS, 2 * read)
    assert steps[-1] == WEEKS


def test_outcomes_are_counted_once_for_each_version(steady: VersionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookback, "ENOUGH_LABELLED_BIDS", 300)
    dataset_lookback(SETTINGS, steady, KEYS[-1])
    monkeypatch.setattr(lookback, "WindowedTable", None)
    assert dataset_lookback(SETTINGS, steady, KEYS[-1]) == WEEKS


def test_no_file_is_read_where_there_are_too_few_outcomes_of_whatever_kind(
    steady: VersionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookback, "_successes_of", None)
    assert dataset_lookback(SETTINGS, steady, KEYS[-1]) == WEEKS
