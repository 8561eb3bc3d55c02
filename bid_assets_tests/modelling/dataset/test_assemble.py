from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bid_assets.common.windows import Cadence
from bid_assets.features.family import Feature
from bid_assets.modelling.dataset import assemble as dataset_module
from bid_assets.modelling.dataset.assemble import (
    BID_COLUMNS,
    FAMILY_OF,
    KEY_COLUMNS,
    assemble,
    by_windows,
    dataset_facts,
    feature_columns,
    labelled_bids,
    submitted_between,
    with_features,
)
from bid_assets.modelling.dataset.splits import SPLITS, LabelRules
from bid_assets.version_store.content_hash import table_hash
from bid_assets_tests.features.tables import START, at, bids_table, outcomes_table
from bid_assets_tests.modelling.market import CUTOFF, JOB, Market, family, vectors

PRICE = family("price", "bid_id", Feature("price", pa.float64(), ""))


def small(bids: pa.Table, outcomes: pa.Table, *features: object, hours: float = 1000, share: float = 0.0) -> pa.Table:
    return assemble(bids, outcomes, features, cutoff=at(hours), holdout_share=share, cadence=Cadence.WEEKLY)  # type: ignore[arg-type]


def test_the_latest_outcome_before_the_cutoff_is_the_label() -> None:
    bids = bids_table([("a", "p", 1)])
    outcomes = outcomes_table([("o1", "a", True, 5), ("o2", "a", False, 9), ("o3", "a", True, 20)])
    table = small(bids, outcomes, hours=20)
    assert table["target_is_success"].to_pylist() == [False]
    assert table["outcome_timestamp"].to_pylist() == [at(9)]


def test_of_outcomes_at_one_time_the_larger_id_is_the_label() -> None:
    outcomes = outcomes_table([("o2", "a", True, 5), ("o1", "a", False, 5)])
    assert small(bids_table([("a", "p", 1)]), outcomes)["target_is_success"].to_pylist() == [True]


def test_an_outcome_at_the_cutoff_is_not_known_yet() -> None:
    assert small(bids_table([("a", "p", 1)]), outcomes_table([("o", "a", True, 5)]), hours=5).num_rows == 0


def test_undecided_and_later_bids_are_left_out_and_the_undecided_counted() -> None:
    bids = bids_table([("open", "p", 1), ("won", "p", 2), ("later", "p", 50)])
    table = small(bids, outcomes_table([("o", "won", True, 3)]), hours=40)
    assert table["bid_id"].to_pylist() == ["won"]
    found = dataset_facts(bids, table)
    assert (found["bids"], found["labelled"], found["undecided"]) == (2, 1, 1)


def test_rows_are_in_order_of_submission_then_id() -> None:
    bids = bids_table([("b", "p", 2), ("c", "p", 1), ("a", "p", 2)])
    table = small(bids, outcomes_table([(f"o{name}", name, True, 9) for name in "abc"]))
    assert table["bid_id"].to_pylist() == ["c", "a", "b"]


def test_a_bid_without_a_row_in_a_family_has_nulls_there() -> None:
    bids = bids_table([("a", "p", 1), ("b", "p", 2)])
    prices = pa.table({"bid_id": ["b"], "submitted_at": pa.array([at(2)]), "price": [7.0]})
    table = small(bids, outcomes_table([("oa", "a", True, 9), ("ob", "b", True, 9)]), (PRICE, prices))
    assert table["price"].to_pylist() == [None, 7.0]


def test_a_job_is_joined_by_the_window_of_the_bid() -> None:
    week = 7 * 24
    bids = bids_table([("a", "p", 1), ("b", "p", week + 1), ("c", "p", 2 * week + 1)])
    jobs = pa.table({"job_id": ["j", "j"], "window": pa.array([START, at(week)]), "job": vectors(np.array([[1.0, 2], [3, 4]]))})
    table = small(bids, outcomes_table([(f"o{name}", name, True, 900) for name in "abc"]), (JOB, jobs))
    assert table["job"].to_pylist() == [[1, 2], [3, 4], None]
    assert table["window"].to_pylist() == [START, at(week), at(2 * week)]


def test_a_family_with_two_rows_of_one_key_is_refused_by_name() -> None:
    prices = pa.table({"bid_id": ["a", "a"], "submitted_at": pa.array([at(1)] * 2), "price": [7.0, 8.0]})
    with pytest.raises(ValueError, match="price has more than one row for some bid_id"):
        small(bids_table([("a", "p", 1)]), outcomes_table([("o", "a", True, 9)]), (PRICE, prices))


def test_two_families_with_a_feature_of_one_name_are_refused() -> None:
    prices = pa.table({"bid_id": ["a"], "submitted_at": pa.array([at(1)]), "price": [7.0]})
    with pytest.raises(ValueError, match="feature 'price', which another family has too"):
        small(bids_table([("a", "p", 1)]), outcomes_table([("o", "a", True, 9)]), (PRICE, prices), (PRICE, prices))


def test_a_look_back_without_any_version_is_a_dataset_without_rows() -> None:
    table = small(pa.table({}), pa.table({}), (PRICE, pa.table({})), (JOB, pa.table({})))
    assert table.num_rows == 0
    assert table.column_names == [*KEY_COLUMNS, "price", "job"]
    assert dataset_facts(pa.table({}), table)["label_rate"] is None


def test_a_feature_names_its_family(a_market: Market) -> None:
    table = a_market.dataset()
    assert feature_columns(table) == ["rate", "bids", "fixed", "level", "skills", "text", "job"]
    assert table.schema.field("rate").metadata[FAMILY_OF] == b"profile_historical_features"


def test_the_moment_of_building_is_no_part_of_the_content(a_market: Market) -> None:
    late, later = (a_market.dataset(cutoff=START + timedelta(days=days)) for days in (300, 400))
    assert table_hash(late) == table_hash(later)
    assert late["cutoff"][0] != later["cutoff"][0]


def test_facts_can_be_written_as_json_and_add_up(a_market: Market, dataset: pa.Table) -> None:
    found = json.loads(json.dumps(dataset_facts(a_market.bids, dataset), allow_nan=False))
    assert sum(found[f"{name}_rows"] for name in SPLITS) == found["labelled"] == dataset.num_rows
    assert found["label_rate"] == pytest.approx(pc.mean(dataset["target_is_success"]).as_py())


def test_an_old_undecided_bid_may_count_as_a_failure_known_since_it_was_that_old() -> None:
    bids = bids_table([("old", "p", 0), ("young", "p", 80), ("won", "p", 1)])
    outcomes = outcomes_table([("o", "won", True, 90)])
    rules = LabelRules(impute_failure_after=timedelta(hours=48))
    made = assemble(bids, outcomes, [], cutoff=at(100), holdout_share=0, cadence=Cadence.WEEKLY, rules=rules)
    assert made.select(["bid_id", "target_is_success", "outcome_timestamp"]).to_pylist() == [
        {"bid_id": "old", "target_is_success": False, "outcome_timestamp": at(48)},
        {"bid_id": "won", "target_is_success": True, "outcome_timestamp": at(90)},
    ]


def test_facts_say_how_many_undecided_bids_are_old_enough_to_be_decided() -> None:
    bids = bids_table([("old", "p", 0), ("young", "p", 80), ("won", "p", 1)])
    outcomes = outcomes_table([("o", "won", True, 90)])
    rules = LabelRules(maturity=timedelta(hours=48))
    made = assemble(bids, outcomes, [], cutoff=at(100), holdout_share=0, cadence=Cadence.WEEKLY, rules=rules)
    found = dataset_facts(bids, made)
    assert (found["undecided"], found["undecided_mature"], found["label_maturity_days"]) == (2, 1, 2.0)


def test_a_dataset_needs_few_columns_of_the_bids_and_one_family_at_a_time(a_market: Market, dataset: pa.Table) -> None:
    bids = a_market.bids.select(BID_COLUMNS)
    features = (pair for pair in a_market.features)
    assembled = assemble(bids, a_market.outcomes, features, cutoff=CUTOFF, holdout_share=0.2, cadence=Cadence.WEEKLY)
    assert assembled.equals(dataset)
    assert dataset_facts(bids, assembled) == dataset_facts(a_market.bids, dataset)


def test_runs_of_windows_joined_one_by_one_are_the_dataset_joined_at_once(
    a_market: Market, dataset: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_module, "ROWS_AT_ONCE", 100)
    rows = labelled_bids(a_market.bids, a_market.outcomes, cutoff=CUTOFF, holdout_share=0.2, cadence=Cadence.WEEKLY)
    windows = [f"{START + timedelta(weeks=week):%Y-%m-%d}" for week in range(30)]
    starts = a_market.bids.select(["id", "submitted_at"])
    parts = []
    for run, some in by_windows(rows, windows, Cadence.WEEKLY):
        span = (Cadence.WEEKLY.window(run[0]).start, Cadence.WEEKLY.window(run[-1]).end)
        theirs = submitted_between(starts, *span)["id"]
        of_run = (
            (each, table.filter(pc.is_in(table["bid_id"], value_set=theirs)) if each.key == "bid_id" else table)
            for each, table in a_market.features
        )
        parts.append(with_features(some, of_run))
    assert len(parts) > 5
    assert all(100 <= part.num_rows < 300 for part in parts[:-1])
    assert pa.concat_tables(parts).combine_chunks().equals(dataset)
