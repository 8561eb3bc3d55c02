"""The client's record: that of `history`, of which the tests against the definition are in test_history.py, by another
group."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.app_db.contract import RAW_JOBS
from bid_assets.features.families import client_history, profile_history
from bid_assets_tests.features.families.test_profile_history import EVERYTHING, World, worlds
from bid_assets_tests.features.tables import START, bids_table, outcomes_table, table_of

OWNERS = {"j1": "c1", "j2": "c1", "j3": "c2", "j4": None}


def raw(world: World, jobs: list[str]) -> dict[str, pa.Table]:
    known = [{"window": START, "id": job, "client_id": owner} for job, owner in OWNERS.items()]
    return {
        "raw_bids": bids_table(world.bids, job_id=jobs),
        "raw_bid_outcomes": outcomes_table(world.outcomes),
        "raw_jobs": table_of(RAW_JOBS, known),
    }


def features(tables: dict[str, pa.Table]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = client_history.FAMILY.compute_table(tables, EVERYTHING, None).to_pylist()
    return rows


@given(worlds(), st.data())
def test_property_a_clients_record_is_a_profiles_record_with_the_client_for_the_profile(
    world: World, data: st.DataObject
) -> None:
    jobs = [data.draw(st.sampled_from([*OWNERS, "unknown"])) for _ in world.bids]
    owners = [OWNERS.get(job) for job in jobs]
    of_clients = [(bid[0], owner, bid[2]) for bid, owner in zip(world.bids, owners, strict=True) if owner is not None]
    tables = {"raw_bids": bids_table(of_clients), "raw_bid_outcomes": outcomes_table(world.outcomes)}
    expected = {row["bid_id"]: row for row in profile_history.FAMILY.compute_table(tables, EVERYTHING, None).to_pylist()}
    for row in features(raw(world, jobs)):
        record = expected.get(row["bid_id"], {})
        for feature in profile_history.FEATURES:
            assert row[client_history.PREFIX + feature.name] == record.get(feature.name), feature.name


def test_bids_of_other_profiles_on_other_jobs_of_the_client_count() -> None:
    world = World([("b0", "p", 0), ("b1", "q", 48)], [("o0", "b0", False, 24)])
    [_, row] = features(raw(world, ["j1", "j2"]))
    assert (row["client_bids_7d"], row["client_success_rate_7d"], row["client_open_bids"]) == (1, 0.0, 0)


def test_without_a_known_client_all_is_missing() -> None:
    world = World([("b0", "p", 0), ("b1", "p", 48)], [])
    [_, row] = features(raw(world, ["j4", "j4"]))
    assert {value for name, value in row.items() if name.startswith(client_history.PREFIX)} == {None}
