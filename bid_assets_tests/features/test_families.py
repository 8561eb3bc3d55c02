"""What holds for every family of the list, alone and together."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bid_assets import features
from bid_assets.app_db import contract
from bid_assets.features import base, history, profile, temporal
from bid_assets.features import families as registry
from bid_assets.features.base import VECTOR, FeatureFamily, within
from bid_assets.settings import Settings
from bid_assets.windows import Cadence, TimeRange
from bid_assets_tests.features.tables import START, at, table_of

WEEKS = 20
WEEK = timedelta(weeks=1)
EVERYTHING = TimeRange(START, START + WEEKS * WEEK)
FAMILIES = registry.families()

TIME_OF = {"raw_bids": "submitted_at", "raw_bid_outcomes": "outcome_timestamp", "raw_profiles": "window", "raw_jobs": "window"}
hours = st.integers(0, WEEKS * 14 - 1).map(lambda half_day: 12 * half_day)


class Digests:
    """An encoder without a model: the vector of a text is the start of its digest."""

    fingerprint = "digests"
    dimension = 4

    def encode(self, texts: pa.ChunkedArray | pa.Array) -> pa.FixedSizeListArray:
        some = [hashlib.sha256(text.encode()).digest()[:4] if text and text.strip() else None for text in texts.to_pylist()]
        return pa.array([None if digest is None else list(digest) for digest in some], pa.list_(pa.float32(), 4))


def compute(family: FeatureFamily, tables: dict[str, pa.Table], span: TimeRange = EVERYTHING) -> pa.Table:
    return family.compute(tables, span, Digests() if family.needs_encoder else None)


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
            "amount": chance.choice([None, 2.5]),
            "generated_bid_text": chance.choice(["one", "two", " ", None]),
            "bid_settings_snapshot": chance.choice(['{"budget": 3, "is_fixed_price": true}', "rubbish", None]),
        }
        for hour in draw(st.lists(hours, min_size=1, max_size=14))
    ]
    window = {bid["id"]: Cadence.WEEKLY.floor(bid["submitted_at"]) for bid in bids}
    profiles = [
        {"id": name, "window": start, "skills": ["go", chance.choice("ab")], "updated_at": at(chance.randrange(2000))}
        for name, start in sorted({(bid["profile_id"], window[bid["id"]]) for bid in bids})
    ]
    jobs = [
        {"id": name, "window": start, "title": name, "required_skills": ["go", "a"], "posted_at": at(chance.randrange(2000))}
        for name, start in sorted({(bid["job_id"], window[bid["id"]]) for bid in bids})
    ]
    return {
        "raw_bids": table_of(contract.RAW_BIDS, bids),
        "raw_bid_outcomes": table_of(contract.RAW_BID_OUTCOMES, outcomes_of(bids, chance)),
        "raw_profiles": table_of(contract.RAW_PROFILES, profiles),
        "raw_jobs": table_of(contract.RAW_JOBS, jobs),
    }


def between(tables: dict[str, pa.Table], start: datetime, end: datetime) -> dict[str, pa.Table]:
    return {name: table.filter(pa.array(within(table[TIME_OF[name]], TimeRange(start, end)))) for name, table in tables.items()}


@given(markets(), hours, st.integers(0, 2**32))
def test_no_outcome_from_t_on_changes_any_feature_of_a_bid_submitted_by_t(
    tables: dict[str, pa.Table], t: int, seed: int
) -> None:
    kept = tables["raw_bid_outcomes"]
    kept = kept.filter(pa.array(within(kept["outcome_timestamp"], TimeRange(START, at(t)))))
    others = outcomes_of(tables["raw_bids"].to_pylist(), Random(seed), since=t)
    changed = {**tables, "raw_bid_outcomes": pa.concat_tables([kept, table_of(contract.RAW_BID_OUTCOMES, others)])}
    until = TimeRange(START, at(t) + timedelta(microseconds=1))
    for family in FAMILIES:
        assert compute(family, changed, until).equals(compute(family, tables, until)), family.name


@given(markets(), hours)
def test_no_bid_from_t_on_changes_any_feature_of_a_bid_submitted_before_t(tables: dict[str, pa.Table], t: int) -> None:
    before = TimeRange(START, at(t))
    bids = tables["raw_bids"]
    past = {**tables, "raw_bids": bids.filter(pa.array(within(bids["submitted_at"], before)))}
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


@given(markets(), st.lists(st.text(), min_size=14, max_size=14))
def test_few_rows_which_are_looked_at_one_by_one_have_the_features_that_columns_of_them_have(
    tables: dict[str, pa.Table], texts: list[str]
) -> None:
    bids = tables["raw_bids"]
    place = bids.schema.get_field_index("generated_bid_text")
    tables["raw_bids"] = bids.set_column(place, bids.schema.field(place), pa.array(texts[: len(bids)], pa.string()))
    for family in FAMILIES:
        few = compute(family, tables)
        with pytest.MonkeyPatch.context() as patch:
            for module in (base, profile, temporal):
                patch.setattr(module, "FEW", -1)
            patch.setattr(history, "FEW_ASKED", -1)
            many = compute(family, tables)
            patch.setattr(history, "FEW_ASKED", 1 << 20)
            assert compute(family, tables).equals(many), family.name
        assert few.equals(many), family.name


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_column_is_declared_and_has_the_type_that_it_declares(family: FeatureFamily) -> None:
    empty = {name: schema.empty_table() for name, schema in contract.STREAMS.items()}
    computed = compute(family, empty).schema
    assert computed.names == family.schema.names
    for field, declared in zip(computed, family.schema, strict=True):
        assert field.type == (pa.list_(pa.float32(), Digests.dimension) if declared.type == VECTOR else declared.type)
    assert all(feature.meaning for feature in family.features)


def test_no_two_features_have_one_name() -> None:
    names = [feature.name for family in FAMILIES for feature in family.features]
    assert len(names) == len(set(names))


MADE_UP = """
import pyarrow as pa
from bid_assets.features.base import Feature, FeatureFamily, bids_of

def compute(tables, span, encoder):
    bids = bids_of(tables["raw_bids"], span)
    return FAMILY.table(bids["id"], bids["submitted_at"], {"luck": pa.repeat(7, len(bids))})

FAMILY = FeatureFamily(name="luck_features", description="Luck.", key="bid_id", reads=("raw_bids",),
                       features=(Feature("luck", pa.int8(), "luck"),), compute=compute)
"""


@pytest.fixture
def with_luck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One more module in the package, and its name in the list."""
    (tmp_path / "luck.py").write_text(MADE_UP)
    monkeypatch.setattr(features, "__path__", [*features.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "FAMILY_MODULES", (*registry.FAMILY_MODULES, "luck"))
    registry.families.cache_clear()
    yield
    registry.families.cache_clear()
    sys.modules.pop("bid_assets.features.luck", None)


@pytest.mark.usefixtures("with_luck")
def test_a_family_is_added_by_one_module_and_its_name() -> None:
    from bid_assets.assets.features import feature_assets

    assert [family.name for family in registry.families()] == [*(family.name for family in FAMILIES), "luck_features"]
    assert "luck_features" in {asset.key.path[-1] for asset in feature_assets(Settings())}


def test_the_list_of_families_costs_no_heavy_import() -> None:
    heavy = {"dagster", "pandas", "torch", "xgboost", "sklearn", "scipy", "sentence_transformers", "sqlalchemy", "lmdb"}
    script = f"import sys; from bid_assets.features.families import families; families(); print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
