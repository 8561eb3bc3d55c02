"""What holds for every family of the list, and for those of the documentation, alone and together."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bid_assets.app_db import contract
from bid_assets.common.windows import Cadence, TimeRange, microseconds_since_epoch
from bid_assets.features import families, mapping, registry
from bid_assets.features.family import VECTOR, FeatureFamily, Role, span_mask
from bid_assets.features.inputs import BidContext, BidHistory, Vector
from bid_assets.features.table_definition import TableDefinition
from bid_assets.settings import Settings
from bid_assets_tests.features.documented import FIRST_FEATURE, PACE
from bid_assets_tests.features.tables import START, at, table_of

WEEKS = 20
WEEK = timedelta(weeks=1)
EVERYTHING = TimeRange(START, START + WEEKS * WEEK)
FAMILIES = (*registry.families(), FIRST_FEATURE, PACE)

TIME_OF = {"raw_bids": "submitted_at", "raw_bid_outcomes": "outcome_timestamp", "raw_profiles": "window", "raw_jobs": "window"}
hours = st.integers(0, WEEKS * 14 - 1).map(lambda half_day: 12 * half_day)


class Digests:
    """An encoder without a model: the vector of a text is the start of its digest."""

    fingerprint = "digests"
    dimension = 4

    def encode(self, texts: pa.ChunkedArray | pa.Array) -> pa.FixedSizeListArray:
        some = [hashlib.sha256(text.encode()).digest()[:4] if text and text.strip() else None for text in texts.to_pylist()]
        return pa.array([None if digest is None else list(digest) for digest in some], pa.list_(pa.float32(), 4))

    def vectors(self, texts: Sequence[str | None]) -> list[Vector | None]:
        encoded = self.encode(pa.array(texts, pa.string())).to_pylist()
        return [None if vector is None else np.array(vector, np.float32) for vector in encoded]


def compute(family: FeatureFamily, tables: dict[str, pa.Table], span: TimeRange = EVERYTHING) -> pa.Table:
    return family.compute_table(tables, span, Digests() if family.needs_encoder else None)


def outcomes_of(bids: list[dict[str, Any]], chance: Random, since: int = 0) -> list[dict[str, Any]]:
    """Up to three outcomes for each bid, none before the hour `since` or before its bid."""
    return [
        {
            "id": f"o{chance.random()}",
            "bid_id": bid["id"],
            "is_success": chance.random() < 0.5,
            "outcome_timestamp": max(at(since), bid["submitted_at"]) + chance.randrange(60) * timedelta(hours=12),
        }
        for bid in bids
        for _ in range(chance.choice([0, 1, 1, 2, 3]))
    ]


SETTINGS = (
    '{"budget": 3, "is_fixed_price": true}',
    '{"budget": "2.5", "duration_weeks": 1e400, "is_fixed_price": "yes"}',
    '{"budget": 0, "duration_weeks": -1}',
    '{"budget": true, "duration_weeks": 1e-320}',
    '{"budget": 1e-308}',
    '{"budget": "1_500", "duration_weeks": " 4 ", "is_fixed_price": 1, "note": NaN}',
    "{'budget': 7, 'is_fixed_price': False}",
    '{"budget": 1e400, "is_fixed_price": "T"}',
    "[1]",
    "rubbish",
    None,
)
SIGNALS = ('{"rating": 4.87, "tags": ["New client", {"a": true}], "n": 1e400}', "[[[[[1]]]]]", '"\u0130 word"', "rubbish", None)
SKILLS = (["go", "a"], ["b", "go"], [" Go\u2003", "\u0130stanbul", "STRASSE", "go"], ["", "\u00a0", None], [], None)


@st.composite
def markets(draw: st.DrawFn) -> dict[str, pa.Table]:
    """Raw tables as the reader gives them: profiles and jobs once for each window whose bids name them."""
    chance = Random(draw(st.integers(0, 2**32)))
    bids = [
        {
            "id": f"b{chance.random()}",
            "profile_id": chance.choice("pq"),
            "job_id": chance.choice("jk"),
            "submitted_at": at(hour),
            "amount": chance.choice([None, 0.0, 2.5, 1e308]),
            "generated_bid_text": chance.choice(["one", "two", " ", None]),
            "bid_settings_snapshot": chance.choice(SETTINGS),
            "external_signals_snapshot": chance.choice(SIGNALS),
        }
        for hour in draw(st.lists(hours, min_size=1, max_size=14))
    ]
    window = {bid["id"]: Cadence.WEEKLY.floor(bid["submitted_at"]) for bid in bids}
    profiles = [
        {
            "id": name,
            "window": start,
            "profile_type": chance.choice(["agency", None]),
            "skills": chance.choice(SKILLS),
            "created_at": at(chance.randrange(2000)),
            "updated_at": chance.choice([None, at(chance.randrange(2000))]),
        }
        for name, start in sorted({(bid["profile_id"], window[bid["id"]]) for bid in bids})
    ]
    clients = chance.choice([{"j": "c", "k": "c"}, {"j": "c", "k": "d"}, {"j": "c", "k": None}])
    jobs = [
        {
            "id": name,
            "window": start,
            "title": name,
            "category": chance.choice(["data", None]),
            "required_skills": chance.choice(SKILLS),
            "posted_at": at(chance.randrange(2000)),
            "client_id": clients[name],
        }
        for name, start in sorted({(bid["job_id"], window[bid["id"]]) for bid in bids})
    ]
    return {
        "raw_bids": table_of(contract.RAW_BIDS, bids),
        "raw_bid_outcomes": table_of(contract.RAW_BID_OUTCOMES, outcomes_of(bids, chance)),
        "raw_profiles": table_of(contract.RAW_PROFILES, profiles),
        "raw_jobs": table_of(contract.RAW_JOBS, jobs),
    }


def between(tables: dict[str, pa.Table], start: datetime, end: datetime) -> dict[str, pa.Table]:
    return {
        name: table.filter(pa.array(span_mask(table[TIME_OF[name]], TimeRange(start, end)))) for name, table in tables.items()
    }


@given(markets(), hours, st.integers(0, 2**32))
def test_no_outcome_from_t_on_changes_any_feature_of_a_bid_submitted_by_t(
    tables: dict[str, pa.Table], t: int, seed: int
) -> None:
    kept = tables["raw_bid_outcomes"]
    kept = kept.filter(pa.array(span_mask(kept["outcome_timestamp"], TimeRange(START, at(t)))))
    others = outcomes_of(tables["raw_bids"].to_pylist(), Random(seed), since=t)
    changed = {**tables, "raw_bid_outcomes": pa.concat_tables([kept, table_of(contract.RAW_BID_OUTCOMES, others)])}
    until = TimeRange(START, at(t) + timedelta(microseconds=1))
    for family in FAMILIES:
        assert compute(family, changed, until).equals(compute(family, tables, until)), family.name


@given(markets(), hours)
def test_no_bid_from_t_on_changes_any_feature_of_a_bid_submitted_before_t(tables: dict[str, pa.Table], t: int) -> None:
    before = TimeRange(START, at(t))
    bids = tables["raw_bids"]
    past = {**tables, "raw_bids": bids.filter(pa.array(span_mask(bids["submitted_at"], before)))}
    for family in FAMILIES:
        assert compute(family, past, before).equals(compute(family, tables, before)), family.name


@settings(max_examples=15)
@given(markets())
def test_a_range_gives_what_its_windows_give_one_by_one_each_from_its_look_back_alone(tables: dict[str, pa.Table]) -> None:
    starts = [START + week * WEEK for week in range(WEEKS)]
    for family in FAMILIES:
        back = timedelta(days=family.lookback_days)
        alone = [compute(family, between(tables, s - back, s + WEEK), TimeRange(s, s + WEEK)) for s in starts]
        assert pa.concat_tables(alone).equals(compute(family, tables)), family.name


@given(markets(), st.integers(0, 2**32))
def test_the_order_of_rows_changes_nothing(tables: dict[str, pa.Table], seed: int) -> None:
    chance = np.random.default_rng(seed)
    shuffled = {name: table.take(pa.array(chance.permutation(len(table)))) for name, table in tables.items()}
    for family in FAMILIES:
        assert compute(family, shuffled).equals(compute(family, tables)), family.name


def micros(moment: datetime | None) -> int | None:
    return None if moment is None else microseconds_since_epoch(moment)


def history_of(bids: list[dict[str, Any]], outcomes: list[dict[str, Any]]) -> BidHistory:
    """The history that consists of these bids, whenever they and their outcomes were."""
    place = {bid["id"]: number for number, bid in enumerate(bids)}
    theirs = [outcome for outcome in outcomes if outcome["bid_id"] in place]
    return BidHistory(
        submitted_at=[microseconds_since_epoch(bid["submitted_at"]) for bid in bids],
        outcome_bid_index=[place[outcome["bid_id"]] for outcome in theirs],
        outcome_ids=[outcome["id"] for outcome in theirs],
        is_success=[outcome["is_success"] for outcome in theirs],
        known_at=[microseconds_since_epoch(outcome["outcome_timestamp"]) for outcome in theirs],
    )


def contexts(tables: dict[str, pa.Table]) -> list[BidContext]:
    """The bids of the tables, each with all that is known of it."""
    bids, outcomes, profiles, jobs = (
        tables[name].to_pylist() for name in ("raw_bids", "raw_bid_outcomes", "raw_profiles", "raw_jobs")
    )

    def named(rows: list[dict[str, Any]], name: str, moment: datetime) -> dict[str, Any]:
        [row] = [row for row in rows if row["id"] == name and row["window"] == Cadence.WEEKLY.floor(moment)]
        return {key: micros(value) if isinstance(value, datetime) else value for key, value in row.items()}

    client = {job["id"]: job["client_id"] for job in jobs}
    found = []
    for bid in bids:
        theirs = [other for other in bids if other["profile_id"] == bid["profile_id"]]
        of_client = [other for other in bids if client[other["job_id"]] == client[bid["job_id"]]]
        found.append(
            BidContext(
                at=microseconds_since_epoch(bid["submitted_at"]),
                amount=bid["amount"],
                text=bid["generated_bid_text"],
                settings=bid["bid_settings_snapshot"],
                signals=bid["external_signals_snapshot"],
                profile=named(profiles, bid["profile_id"], bid["submitted_at"]),
                job=named(jobs, bid["job_id"], bid["submitted_at"]),
                profile_history=history_of(theirs, outcomes),
                client_history=None if client[bid["job_id"]] is None else history_of(of_client, outcomes),
            )
        )
    return found


def compute_rows(family: FeatureFamily, bids: Sequence[BidContext], types: pa.Schema) -> list[dict[str, Any]]:
    """The features of the bids as the table has them."""
    rows = family.compute_rows(bids, Digests() if family.needs_encoder else None)
    return list(pa.Table.from_pylist(list(rows), schema=pa.schema(list(types)[2:])).to_pylist())


@given(markets(), st.lists(st.text(), min_size=14, max_size=14))
def test_property_the_features_of_single_bids_are_those_of_the_table(tables: dict[str, pa.Table], texts: list[str]) -> None:
    bids = tables["raw_bids"]
    place = bids.schema.get_field_index("generated_bid_text")
    tables["raw_bids"] = bids.set_column(place, bids.schema.field(place), pa.array(texts[: len(bids)], pa.string()))
    for family in FAMILIES:
        columns = compute(family, tables)
        expected = {(row.pop(family.key), row.pop(family.time_column)): row for row in columns.to_pylist()}
        computed = compute_rows(family, contexts(tables), columns.schema)
        for bid, row in zip(bids.to_pylist(), computed, strict=True):
            window = Cadence.WEEKLY.floor(bid["submitted_at"])
            key = (bid["id"], bid["submitted_at"]) if family.key == "bid_id" else (bid["job_id"], window)
            assert row == expected[key], family.name


@settings(max_examples=30)
@given(markets())
def test_property_bids_that_are_computed_together_do_not_see_each_other(tables: dict[str, pa.Table]) -> None:
    bids = contexts(tables)
    for family in FAMILIES:
        types = compute(family, tables).schema
        alone = [compute_rows(family, [bid], types)[0] for bid in bids]
        assert compute_rows(family, bids, types) == alone, family.name


@settings(max_examples=30)
@given(markets())
def test_property_a_table_function_is_served_the_features_that_it_gives_in_training(tables: dict[str, pa.Table]) -> None:
    bids = contexts(tables)
    for family in FAMILIES:
        types = compute(family, tables).schema
        by_function = replace(family, definition=TableDefinition(family.compute_table))
        assert compute_rows(by_function, bids, types) == compute_rows(family, bids, types), family.name


@settings(max_examples=30)
@given(markets(), st.integers(1, 5))
def test_property_pieces_and_chunks_of_any_size_change_nothing(tables: dict[str, pa.Table], size: int) -> None:
    chunked = {
        name: pa.concat_tables([table.slice(0, 0), *(table.slice(start, size) for start in range(0, table.num_rows, size))])
        for name, table in tables.items()
    }
    for family in FAMILIES:
        with mock.patch.object(mapping, "ROWS_AT_ONCE", size):
            in_pieces = compute(family, chunked)
        assert in_pieces.equals(compute(family, tables)), family.name


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_column_is_declared_and_has_the_type_that_it_declares(family: FeatureFamily) -> None:
    empty = {name: schema.empty_table() for name, schema in contract.STREAMS.items()}
    computed = compute(family, empty).schema
    assert computed.names == family.schema.names
    for field, declared in zip(computed, family.schema, strict=True):
        assert field.type == (pa.list_(pa.float32(), Digests.dimension) if declared.type == VECTOR else declared.type)
    assert all(feature.meaning for feature in family.features)


def test_two_features_of_one_name_are_refused_by_feature_and_families() -> None:
    copy = replace(FAMILIES[0], name="copied_features")
    with pytest.raises(
        ValueError, match=f"{copy.features[0].name!r} is in the family {FAMILIES[0].name} and in copied_features"
    ):
        registry.refuse_duplicate_features([FAMILIES[0], copy])


@pytest.mark.parametrize("role", [Role.PAST_BIDS, Role.KNOWN_OUTCOMES, Role.SUCCESSES])
def test_a_count_that_others_ask_for_is_one_feature_of_the_profiles_history(role: Role) -> None:
    [name] = registry.features_with_role(role)
    [history] = [family for family in FAMILIES if family.is_profile_history]
    assert name in {feature.name for feature in history.features}


MADE_UP = """
import pyarrow as pa
from bid_assets.features.family import Feature, FeatureFamily
from bid_assets.features.mapping import RowDefinition

FAMILY = FeatureFamily(name="luck_features", description="Luck.", key="bid_id", reads=("raw_bids",),
                       features=(Feature("luck", pa.int8(), "luck"),), definition=RowDefinition(lambda bid: {"luck": 7}))
"""


@pytest.fixture
def with_luck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One more module in the package, and its name in the list."""
    (tmp_path / "luck.py").write_text(MADE_UP)
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "FAMILY_MODULES", (*registry.FAMILY_MODULES, "luck"))
    registry.families.cache_clear()
    yield
    registry.families.cache_clear()
    sys.modules.pop("bid_assets.features.families.luck", None)


@pytest.mark.usefixtures("with_luck")
def test_a_family_is_added_by_one_module_and_its_name() -> None:
    from bid_assets.orchestration.assets.features import feature_assets

    assert [family.name for family in registry.families()][-2:] == ["word_features", "luck_features"]
    assert "luck_features" in {asset.key.path[-1] for asset in feature_assets(Settings())}


def test_the_list_of_families_costs_no_heavy_import() -> None:
    heavy = {"dagster", "pandas", "torch", "xgboost", "sklearn", "scipy", "sentence_transformers", "sqlalchemy", "lmdb"}
    script = f"import sys; from bid_assets.features.registry import families; families(); print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
