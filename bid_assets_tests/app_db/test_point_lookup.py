"""Point lookups of a few profiles and jobs, with the bid history of these profiles and of the jobs' clients, for any types of
ids and times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest

from bid_assets.app_db.point_lookup import HistoryColumns, LookupResult, PointLookup
from bid_assets_tests.app_db.database import MONDAY, execute, insert

DAY = timedelta(days=1)
IDS = {
    "text": ("text", ["p1", "p2"]),
    "uuid": ("uuid", ["6f1c2d3e-0000-4000-8000-00000000000a", "6f1c2d3e-0000-4000-8000-00000000000b"]),
    "integer": ("bigint", ["17", "18"]),
}


def tables(url: str, id_type: str, time_type: str = "timestamptz", *, clients: bool = True) -> None:
    client = f", client_id {id_type}" if clients else ""
    execute(
        url,
        f"""CREATE TABLE profiles (id {id_type} PRIMARY KEY, profile_type text, updated_at {time_type});
        CREATE TABLE jobs (id {id_type} PRIMARY KEY, title text, required_skills jsonb{client});
        CREATE TABLE bids (id {id_type} PRIMARY KEY, profile_id {id_type}, job_id {id_type}, amount float8,
            submitted_at {time_type});
        CREATE TABLE bid_outcomes (id {id_type} PRIMARY KEY, bid_id {id_type}, is_success boolean,
            outcome_timestamp {time_type})""",
    )


def filled(url: str, ids: list[str]) -> None:
    """Two profiles with a bid each on a job of their own, both jobs of one client; the first bid has an outcome."""
    one, two = ids
    for name in ids:
        insert(url, "profiles", [{"id": name, "profile_type": "agency"}])
        insert(url, "jobs", [{"id": name, "title": f"job {name}", "required_skills": '["go"]', "client_id": one}])
    for number, name in enumerate(ids):
        insert(url, "bids", [{"id": name, "profile_id": name, "job_id": name, "submitted_at": MONDAY + number * DAY}])
    insert(url, "bid_outcomes", [{"id": two, "bid_id": one, "is_success": True, "outcome_timestamp": MONDAY + 2 * DAY}])


@contextmanager
def open_lookup(url: str) -> Iterator[PointLookup]:
    lookup = PointLookup(url)
    yield lookup
    lookup.close()


def fetch(url: str, *ids: list[str], since: datetime = MONDAY, until: datetime = MONDAY + 7 * DAY) -> LookupResult:
    profiles, jobs, clients = (*ids, [], [])[:3]
    with open_lookup(url) as lookup:
        return lookup.fetch(profiles, jobs, since, until, clients)


def micros(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


@pytest.mark.parametrize("kind", IDS)
def test_ids_of_any_type_are_found_by_their_text(app_db: str, kind: str) -> None:
    id_type, [one, two] = IDS[kind]
    tables(app_db, id_type)
    filled(app_db, [one, two])
    result = fetch(app_db, [one], [two], [])
    assert result.profiles[one]["profile_type"] == "agency"
    assert result.jobs[two] == {**result.jobs[two], "title": f"job {two}", "required_skills": ["go"], "client_id": one}
    assert result.profile_history == HistoryColumns([one], [micros(MONDAY)], [two], [0], [True], [micros(MONDAY + 2 * DAY)])
    assert (result.client_history.owners, sorted(result.client_history.submitted_at)) == (
        [one, one],
        [micros(MONDAY), micros(MONDAY + DAY)],
    )


@pytest.mark.parametrize("kind", IDS)
def test_an_id_that_the_column_cannot_hold_is_unknown(app_db: str, kind: str) -> None:
    id_type, ids = IDS[kind]
    tables(app_db, id_type)
    filled(app_db, ids)
    result = fetch(app_db, ["nobody \0", "x" * 40, ids[0]], ["no such job", "9" * 30], ["nobody's"])
    assert (list(result.profiles), result.jobs, result.client_history.owners) == ([ids[0]], {}, [])


def test_a_uuid_written_in_capitals_finds_the_history_too(app_db: str) -> None:
    _, [one, two] = IDS["uuid"]
    tables(app_db, "uuid")
    filled(app_db, [one, two])
    result = fetch(app_db, [one.upper()])
    assert (list(result.profiles), result.profile_history.owners) == ([one.upper()], [one.upper()])


@pytest.mark.parametrize("time_type", ["timestamptz", "timestamp"])
def test_the_span_holds_its_start_and_not_its_end(app_db: str, time_type: str) -> None:
    tables(app_db, "text", time_type)
    filled(app_db, ["a", "b"])
    instant = timedelta(microseconds=1)
    for since, until, owners in (
        (MONDAY, MONDAY + DAY, ["a"]),
        (MONDAY + instant, MONDAY + DAY + instant, ["b"]),
        (MONDAY + instant, MONDAY + DAY, []),
    ):
        assert fetch(app_db, ["a", "b"], since=since, until=until).profile_history.owners == owners


def test_bids_and_outcomes_that_break_the_contract_are_in_no_history(app_db: str) -> None:
    tables(app_db, "text")
    filled(app_db, ["a", "b"])
    insert(app_db, "bids", [{"id": "worse", "profile_id": "a", "job_id": "a", "submitted_at": MONDAY, "amount": -1}])
    insert(app_db, "bid_outcomes", [{"id": "early", "bid_id": "a", "is_success": True, "outcome_timestamp": MONDAY - DAY}])
    result = fetch(app_db, ["a"], ["a"]).profile_history
    assert (len(result.owners), result.outcome_ids) == (1, ["b"])


def test_a_client_that_is_only_named_has_its_history_too(app_db: str) -> None:
    tables(app_db, "text")
    filled(app_db, ["a", "b"])
    assert fetch(app_db, [], [], ["a"]).client_history.owners == ["a", "a"]


def test_a_database_whose_jobs_have_no_clients_has_no_history_of_them(app_db: str) -> None:
    tables(app_db, "text", clients=False)
    insert(app_db, "profiles", [{"id": "a"}])
    insert(app_db, "jobs", [{"id": "j"}])
    insert(app_db, "bids", [{"id": "b", "profile_id": "a", "job_id": "j", "submitted_at": MONDAY}])
    result = fetch(app_db, ["a"], ["j"], ["a"])
    assert (result.profile_history.owners, result.client_history.owners) == (["a"], [])
