from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bid_assets.app_db.contract import REQUIRED_COLUMNS
from bid_assets.app_db.schema import METADATA
from bid_assets.simulation.options import MarketplaceOptions
from bid_assets.simulation.simulate import Marketplace, simulate
from bid_assets_tests.conftest import CHECKOUT
from bid_assets_tests.simulation.markets import END, market

TABLES = {"profiles": "profiles", "jobs": "jobs", "bids": "bids", "bid_outcomes": "outcomes"}

DIGEST = """
from bid_assets_tests.simulation.test_simulate import digest
from bid_assets_tests.simulation.markets import market
print(digest(market(3, 900, corruption_share=0.02)))
"""


def digest(made: Marketplace) -> str:
    tables = (made.profiles, made.jobs, made.bids, made.outcomes, made.later_outcomes, made.truth)
    return hashlib.sha256(repr([table.to_pylist() for table in tables]).encode()).hexdigest()


def share(rows: pa.ChunkedArray) -> float:
    return float(pc.mean(rows.cast(pa.float64())).as_py())


def test_another_process_without_simd_and_with_another_hash_seed_makes_the_same_market() -> None:
    environment = os.environ | {"PYTHONHASHSEED": "5", "NPY_DISABLE_CPU_FEATURES": "X86_V4 X86_V3 AVX512_ICL AVX512_SPR"}
    other = subprocess.run(
        [sys.executable, "-c", DIGEST], env=environment, cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == digest(market(3, 900, corruption_share=0.02))


def test_another_seed_makes_another_market() -> None:
    assert not market(3, 900).bids.equals(market(3, 900, seed=8).bids)


@settings(max_examples=12)
@given(
    rate=st.integers(1, 60),
    weeks=st.integers(1, 4),
    more=st.integers(1, 3),
    seed=st.integers(0, 99),
    corruption_share=st.sampled_from((0, 0.1)),
)
def test_a_longer_market_begins_like_a_shorter_one(
    rate: int, weeks: int, more: int, seed: int, corruption_share: float
) -> None:
    short = simulate(MarketplaceOptions(weeks=weeks, bids=weeks * rate, seed=seed, end=END, corruption_share=corruption_share))
    end = END + more * timedelta(days=7)
    long = simulate(
        MarketplaceOptions(
            weeks=weeks + more, bids=(weeks + more) * rate, seed=seed, end=end, corruption_share=corruption_share
        )
    )
    count = short.bids.num_rows
    without_status = [name for name in short.bids.column_names if name != "status"]
    assert short.bids.select(without_status).equals(long.bids.select(without_status).slice(0, count))
    assert short.truth.equals(long.truth.slice(0, count))
    assert short.jobs.equals(long.jobs.slice(0, short.jobs.num_rows))
    constant = ["id", "name", "profile_type", "experience_level", "created_at"]
    assert short.profiles.select(constant).equals(long.profiles.select(constant).slice(0, short.profiles.num_rows))
    made_by_then = pa.concat_tables([long.outcomes, long.later_outcomes]).sort_by("id")
    of_short = pa.concat_tables([short.outcomes, short.later_outcomes]).sort_by("id")
    assert of_short.equals(made_by_then.filter(pc.is_in(made_by_then["id"], value_set=of_short["id"])))


def test_no_outcome_is_told_before_it_is_known() -> None:
    made = market()
    assert pc.max(made.outcomes["outcome_timestamp"]).as_py() < END
    assert pc.min(made.later_outcomes["outcome_timestamp"]).as_py() >= END
    assert made.later_outcomes.num_rows > 0


def test_the_market_has_as_many_bids_as_were_asked_for_in_its_weeks() -> None:
    made = market(7, 1001)
    assert made.bids.num_rows == made.truth.num_rows == 1001
    first, last = pc.min_max(made.bids["submitted_at"]).as_py().values()
    assert END - timedelta(days=49) <= first <= last < END


def test_one_bid_in_many_weeks_is_a_market_too() -> None:
    assert market(5, 1).bids.num_rows == 1


def test_ids_are_unique() -> None:
    made = market(corruption_share=0.05)
    for table in (made.profiles, made.jobs, made.bids, pa.concat_tables([made.outcomes, made.later_outcomes])):
        assert pc.count_distinct(table["id"]).as_py() == table.num_rows


def test_tables_have_exactly_the_columns_of_the_contract() -> None:
    made = market()
    for name, attribute in TABLES.items():
        table: pa.Table = getattr(made, attribute)
        assert set(table.column_names) == {column.name for column in METADATA.tables[name].columns}
        assert all(table[column].null_count == 0 for column in REQUIRED_COLUMNS[name])


def test_a_clean_market_keeps_the_order_of_things() -> None:
    made = market()
    bids = made.bids.join(made.jobs.select(["id", "posted_at"]), keys="job_id", right_keys="id", join_type="inner")
    bids = bids.join(made.profiles.select(["id", "created_at"]), keys="profile_id", right_keys="id", join_type="inner")
    assert bids.num_rows == made.bids.num_rows
    assert pc.all(pc.less(bids["posted_at"], bids["submitted_at"])).as_py()
    assert pc.all(pc.less(bids["created_at"], bids["submitted_at"])).as_py()
    outcomes = made.outcomes.join(made.bids.select(["id", "submitted_at"]), keys="bid_id", right_keys="id", join_type="inner")
    assert outcomes.num_rows == made.outcomes.num_rows
    assert pc.all(pc.less(outcomes["submitted_at"], outcomes["outcome_timestamp"])).as_py()


def test_failures_become_known_later_than_successes_and_some_bids_never_hear() -> None:
    made = market()
    outcomes = pa.concat_tables([made.outcomes, made.later_outcomes]).to_pandas()
    bids = made.bids.to_pandas().set_index("id")
    outcomes["days"] = (outcomes.outcome_timestamp - outcomes.bid_id.map(bids.submitted_at)).dt.total_seconds() / 86400
    median = outcomes.groupby("is_success").days.median()
    assert 2 < median[True] < 7 < median[False] < 28
    assert 0.03 < 1 - outcomes.bid_id.nunique() / len(bids) < 0.12


def test_the_last_outcome_of_a_bid_is_the_true_one_and_a_few_are_corrections() -> None:
    made = market()
    outcomes = pa.concat_tables([made.outcomes, made.later_outcomes]).to_pandas().sort_values("outcome_timestamp")
    last = outcomes.groupby("bid_id").is_success.last()
    truth = made.truth.to_pandas().set_index("bid_id").is_success
    assert (last == truth[last.index]).all()
    corrected = outcomes.bid_id.duplicated(keep="first")
    assert 0.005 < corrected.mean() < 0.03
    first = outcomes.groupby("bid_id").is_success.first()
    assert (first[outcomes.bid_id[corrected]] != truth[outcomes.bid_id[corrected]]).all()


def test_status_is_what_the_outcomes_known_so_far_say() -> None:
    made = market()
    latest = made.outcomes.to_pandas().sort_values("outcome_timestamp").groupby("bid_id").is_success.last()
    told = latest.map({True: "accepted", False: "declined"})
    bids = made.bids.to_pandas()
    assert bids.status.tolist() == bids.id.map(told).fillna("submitted").tolist()


def test_activity_is_heavy_tailed_and_most_bids_are_of_profiles_with_a_history() -> None:
    counts = market().bids.to_pandas().profile_id.value_counts()
    assert counts.max() > 10 * counts.median()
    assert counts[counts >= 20].sum() > 0.7 * counts.sum()


def test_texts_are_mostly_distinct_and_of_many_lengths_and_a_few_are_missing_or_empty() -> None:
    texts = market().bids["generated_bid_text"]
    told = texts.filter(pc.not_equal(pc.fill_null(texts, ""), ""))
    assert pc.count_distinct(told).as_py() > 0.98 * len(told)
    words = pc.list_value_length(pc.utf8_split_whitespace(told)).to_pandas()
    assert words.quantile(0.05) < 40 < 110 < words.quantile(0.95)
    assert words.max() < 230
    assert 0.005 < texts.null_count / len(texts) < 0.03
    assert 0.005 < share(pc.equal(texts.drop_null(), "")) < 0.03


def test_no_template_is_left_unfilled() -> None:
    made = market()
    for texts in (made.bids["generated_bid_text"], made.jobs["description"], made.jobs["title"]):
        assert not pc.any(pc.match_substring_regex(texts, "[{}]")).as_py()


def test_people_bid_by_day_rather_than_at_night_and_on_weekdays() -> None:
    times = market().bids["submitted_at"]
    assert share(pc.is_in(pc.hour(times), value_set=pa.array(range(8, 20)))) > 0.6
    assert share(pc.greater_equal(pc.day_of_week(times), 5)) < 0.25


def test_categories_are_in_demand_at_different_times() -> None:
    jobs = market(weeks=26).jobs.to_pandas()
    half = jobs.posted_at > jobs.posted_at.iloc[len(jobs) // 2]
    change = jobs[half].category.value_counts() / jobs[~half].category.value_counts()
    assert change.min() < 0.8 < 1.25 < change.max()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weeks": 0}, "weeks must be at least 1"),
        ({"bids": 0}, "bids must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"corruption_share": 0.5}, "corruption_share is a share"),
        ({"end": datetime(2024, 7, 1)}, "time zone"),  # noqa: DTZ001
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MarketplaceOptions(**options)  # type: ignore[arg-type]


def test_by_default_the_market_ends_with_the_last_closed_week() -> None:
    end = MarketplaceOptions().end
    assert end.weekday() == 0
    assert timedelta(0) <= datetime.now(UTC) - end < timedelta(days=7)
