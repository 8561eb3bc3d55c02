"""Looking up a few profiles and jobs, with the records of these profiles and of the jobs' clients, whatever ids and times are made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest

from bid_assets.app_db.point_lookup import Found, Lookup, Records
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
        CREATE TABLE bids (id {id_type} PRIMARY KEY, profile_id {id_type}, job_id {id_type}, amount float8, submitted_at {time_type});
        CREATE TABLE bid_outcomes (id {id_type} PRIMARY KEY, bid_id {id_type}, is_success boolean, outcome_timestamp {time_type})""",
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
def looking(url: str) -> Iterator[Lookup]:
    lookup = Lookup(url)
    yield lookup
    lookup.close()


def found(url: str, *asked: list[str], since: datetime = MONDAY, until: datetime = MONDAY + 7 * DAY) -> Found:
    profiles, jobs, clients = (*asked, [], [])[:3]
    with looking(url) as lookup:
        return lookup.find(profiles, jobs, since, until, clients)


def micros(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


@pytest.mark.parametrize("kind", IDS)
def test_ids_of_any_type_are_found_by_their_text(app_db: str, kind: str) -> None:
    id_type, [one, two] = IDS[kind]
    tables(app_db, id_type)
    filled(app_db, [one, two])
    told = found(app_db, [one], [two], [])
    assert told.profiles[one]["profile_type"] == "agency"
    assert told.jobs[two] == {**told.jobs[two], "title": f"job {two}", "required_skills": ["go"], "client_id": one}
    assert told.of_profiles == Records([one], [micros(MONDAY)], [two], [0], [True], [micros(MONDAY + 2 * DAY)])
    assert (told.of_clients.owners, sorted(told.of_clients.submitted)) == ([one, one], [micros(MONDAY), micros(MONDAY + DAY)])


@pytest.mark.parametrize("kind", IDS)
def test_an_id_that_the_column_cannot_hold_is_unknown(app_db: str, kind: str) -> None:
    id_type, ids = IDS[kind]
    tables(app_db, id_type)
    filled(app_db, ids)
    told = found(app_db, ["nobody \0", "x" * 40, ids[0]], ["no such job", "9" * 30], ["nobody's"])
    assert (list(told.profiles), told.jobs, told.of_clients.owners) == ([ids[0]], {}, [])


def test_a_uuid_written_in_capitals_finds_the_record_too(app_db: str) -> None:
    _, [one, two] = IDS["uuid"]
    tables(app_db, "uuid")
    filled(app_db, [one, two])
    told = found(app_db, [one.upper()])
    assert (list(told.profiles), told.of_profiles.owners) == ([one.upper()], [one.upper()])


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
        assert found(app_db, ["a", "b"], since=since, until=until).of_profiles.owners == owners


def test_bids_and_outcomes_that_break_the_contract_are_in_no_record(app_db: str) -> None:
    tables(app_db, "text")
    filled(app_db, ["a", "b"])
    insert(app_db, "bids", [{"id": "worse", "profile_id": "a", "job_id": "a", "submitted_at": MONDAY, "amount": -1}])
    insert(app_db, "bid_outcomes", [{"id": "early", "bid_id": "a", "is_success": True, "outcome_timestamp": MONDAY - DAY}])
    told = found(app_db, ["a"], ["a"]).of_profiles
    assert (len(told.owners), told.outcomes) == (1, ["b"])


def test_a_client_that_is_only_named_has_its_record_too(app_db: str) -> None:
    tables(app_db, "text")
    filled(app_db, ["a", "b"])
    assert found(app_db, [], [], ["a"]).of_clients.owners == ["a", "a"]


def test_a_database_whose_jobs_have_no_clients_has_no_record_of_them(app_db: str) -> None:
    tables(app_db, "text", clients=False)
    insert(app_db, "profiles", [{"id": "a"}])
    insert(app_db, "jobs", [{"id": "j"}])
    insert(app_db, "bids", [{"id": "b", "profile_id": "a", "job_id": "j", "submitted_at": MONDAY}])
    told = found(app_db, ["a"], ["j"], ["a"])
    assert (told.of_profiles.owners, told.of_clients.owners) == (["a"], [])
