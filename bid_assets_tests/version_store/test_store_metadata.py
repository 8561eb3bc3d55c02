"""The store remembers the cadence of its windows; another one is refused before anything is read or written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from bid_assets.common.windows import Cadence
from bid_assets.orchestration.definitions import build_defs
from bid_assets.orchestration.in_process_runs import materialize
from bid_assets.settings import Settings, get_settings
from bid_assets.version_store.store import VersionStore
from bid_assets.version_store.store_metadata import (
    CadenceError,
    check_cadence,
    inferred_cadence,
    open_store,
    read_metadata,
    remember_cadence,
    update_metadata,
)
from bid_assets_tests.orchestration.io_manager_assets import small_defs
from bid_assets_tests.platforms import call
from bid_assets_tests.version_store.drafts import write_text

MONDAYS = ("2026-01-05", "2026-01-12", "2026-01-19")
DAYS = ("2026-01-05", "2026-01-06", "2026-01-07")


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(str(tmp_path / "store"))


@pytest.fixture
def settings_of_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Settings]]:
    """The settings of a home in this test's folder, also in the environment."""

    def settings_with(cadence: Cadence) -> Settings:
        monkeypatch.setenv("BID_ASSETS_HOME", str(tmp_path))
        monkeypatch.setenv("BID_ASSETS_CADENCE", cadence.value)
        get_settings.cache_clear()
        return get_settings()

    yield settings_with
    get_settings.cache_clear()


def write_windows(store: VersionStore, windows: tuple[str, ...]) -> None:
    for window in windows:
        write_text(store, "x", window, asset="raw_bids")


def test_values_are_kept_beside_each_other(store: VersionStore) -> None:
    assert read_metadata(store) == {}
    update_metadata(store, cadence="weekly")
    assert update_metadata(store, start="2019-12-30") == read_metadata(store) == {"cadence": "weekly", "start": "2019-12-30"}


def test_an_empty_store_takes_any_cadence_and_checking_writes_nothing(store: VersionStore) -> None:
    for cadence in Cadence:
        check_cadence(store, cadence)
    assert not Path(store.url).exists()


def test_a_remembered_cadence_refuses_the_other(store: VersionStore) -> None:
    remember_cadence(store, Cadence.WEEKLY)
    remember_cadence(store, Cadence.WEEKLY)
    with pytest.raises(
        CadenceError, match=r"has weekly windows, but the setting BID_ASSETS_CADENCE is daily: set it to weekly"
    ):
        remember_cadence(store, Cadence.DAILY)


def test_a_store_of_an_earlier_release_is_adopted_by_the_keys_of_its_windows(store: VersionStore) -> None:
    write_windows(store, DAYS)
    with pytest.raises(CadenceError, match="has daily windows"):
        check_cadence(store, Cadence.WEEKLY)
    remember_cadence(store, Cadence.DAILY)
    assert read_metadata(store) == {"cadence": "daily"}


@pytest.mark.parametrize(
    ("keys", "cadence"),
    [
        ((), None),
        (MONDAYS[:1], None),
        (MONDAYS, Cadence.WEEKLY),
        (DAYS, Cadence.DAILY),
        (DAYS[1:2], Cadence.DAILY),
        ((*MONDAYS, *DAYS[1:2]), Cadence.WEEKLY),
    ],
)
def test_the_cadence_is_inferred_from_keys(keys: tuple[str, ...], cadence: Cadence | None) -> None:
    assert inferred_cadence(keys) is cadence


@pytest.mark.parametrize("command", [("run",), ("status",), ("backtest", "--every", "window")])
def test_commands_refuse_another_cadence_in_one_sentence_and_leave_the_store_as_it_was(
    settings_of_home: Callable[..., Settings], command: tuple[str, ...]
) -> None:
    write_windows(open_store(settings_of_home(Cadence.WEEKLY)), MONDAYS)
    settings = settings_of_home(Cadence.DAILY)
    before = sorted(Path(settings.resolved_store_url).rglob("*"))
    output = call(*command, fails=1).output
    assert "has weekly windows, but the setting BID_ASSETS_CADENCE is daily" in output
    assert "BID_ASSETS_HOME=DIR" in output
    assert sorted(Path(settings.resolved_store_url).rglob("*")) == before


def test_the_code_location_does_not_load_with_another_cadence(settings_of_home: Callable[..., Settings]) -> None:
    write_windows(open_store(settings_of_home(Cadence.WEEKLY)), MONDAYS)
    with pytest.raises(CadenceError, match="has weekly windows"):
        build_defs(settings_of_home(Cadence.DAILY))


def test_the_first_run_remembers_the_cadence_and_a_run_with_another_writes_nothing(
    settings: Settings, dagster_instance: dg.DagsterInstance
) -> None:
    store = open_store(settings)
    assert materialize(small_defs(settings), dagster_instance, ["source"], MONDAYS[:1]).succeeded
    assert read_metadata(store) == {"cadence": "weekly"}
    daily = settings.model_copy(update={"cadence": Cadence.DAILY})
    refused = materialize(small_defs(daily), dagster_instance, ["source"], DAYS[1:2])
    assert "has weekly windows" in refused.failures[0]
    assert store.partitions("source") == [*MONDAYS[:1]]
