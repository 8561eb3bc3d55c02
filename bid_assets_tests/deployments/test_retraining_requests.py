from __future__ import annotations

from pathlib import Path

from bid_assets.common.windows import utc_now
from bid_assets.deployments.retraining_requests import pending_requests, request_retraining, withdraw_request
from bid_assets.version_store.store import VersionStore


def test_a_request_has_a_reason_and_a_time_and_is_withdrawn_by_name(tmp_path: Path) -> None:
    store, before = VersionStore(str(tmp_path)), utc_now()
    request_retraining(store, "drift", "amounts have doubled")
    request_retraining(store, "calibration", "too sure")
    withdraw_request(store, "calibration")
    withdraw_request(store, "nobody requested it")
    requests = pending_requests(store)
    assert set(requests) == {"drift"}
    reason, at = requests["drift"]
    assert reason == "amounts have doubled"
    assert before <= at <= utc_now()


def test_a_store_without_requests_has_none(tmp_path: Path) -> None:
    assert pending_requests(VersionStore(str(tmp_path))) == {}


def test_a_damaged_file_of_requests_counts_as_none_and_a_request_can_be_made_again(tmp_path: Path) -> None:
    store = VersionStore(str(tmp_path))
    request_retraining(store, "drift", "amounts have doubled")
    for damage in ('{"drift": {}}', "torn"):
        (tmp_path / "RETRAINING_REQUESTS").write_text(damage)
        assert pending_requests(store) == {}
    request_retraining(store, "drift", "again")
    assert set(pending_requests(store)) == {"drift"}
