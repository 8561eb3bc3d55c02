from __future__ import annotations

from pathlib import Path

from bid_assets.common.windows import utc_now
from bid_assets.deployments.retraining_requests import lower_flag, raise_flag, raised_flags
from bid_assets.version_store.store import VersionStore


def test_a_flag_is_raised_with_its_reason_and_time_and_lowered_by_name(tmp_path: Path) -> None:
    store, before = VersionStore(str(tmp_path)), utc_now()
    raise_flag(store, "drift", "amounts have doubled")
    raise_flag(store, "calibration", "too sure")
    lower_flag(store, "calibration")
    lower_flag(store, "nobody raised it")
    flags = raised_flags(store)
    assert set(flags) == {"drift"}
    reason, at = flags["drift"]
    assert reason == "amounts have doubled"
    assert before <= at <= utc_now()


def test_a_store_without_flags_has_none(tmp_path: Path) -> None:
    assert raised_flags(VersionStore(str(tmp_path))) == {}


def test_a_damaged_file_of_flags_counts_as_none_and_a_flag_can_be_raised_again(tmp_path: Path) -> None:
    store = VersionStore(str(tmp_path))
    raise_flag(store, "drift", "amounts have doubled")
    for damage in ('{"drift": {}}', "torn"):
        (tmp_path / "FLAGS").write_text(damage)
        assert raised_flags(store) == {}
    raise_flag(store, "drift", "again")
    assert set(raised_flags(store)) == {"drift"}
