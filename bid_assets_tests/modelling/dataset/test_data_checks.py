from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from bid_assets.modelling.dataset.assemble import FAMILY_OF
from bid_assets.modelling.dataset.data_checks import (
    PreviousDatasets,
    label_rate_as_before,
    missing_families,
    no_family_all_missing,
    rejected_rows_within_limit,
    schema_as_before,
)

NAN = float("nan")


def dataset(**columns: tuple[str, list[float | None]]) -> pa.Table:
    """Columns by name: (family, values)."""
    fields = [pa.field(name, pa.float64(), metadata={FAMILY_OF: family}) for name, (family, _) in columns.items()]
    return pa.table([pa.array(values, pa.float64()) for _, values in columns.values()], schema=pa.schema(fields))


FULL = dataset(a=("one", [1.0, None]), b=("two", [2.0, 3.0]))
EMPTY_ONE = dataset(a=("one", [None, NAN]), b=("two", [2.0, 3.0]))
COLUMNS = [{"name": "a", "type": "double"}, {"name": "b", "type": "double"}]


def test_a_few_rejected_rows_pass_and_many_do_not() -> None:
    assert rejected_rows_within_limit({"w1": 5}, {"w1": 95}, 0.05).passed
    assert not rejected_rows_within_limit({"w1": 6}, {"w1": 94}, 0.05).passed


def test_rejected_rows_of_the_last_window_are_not_diluted_by_a_long_look_back() -> None:
    verdict = rejected_rows_within_limit({"w1": 0, "w2": 50}, {"w1": 100_000, "w2": 50}, 0.05)
    assert not verdict.passed
    assert "50.0% of the rows of window w2" in verdict.finding


def test_a_last_window_of_few_rows_is_not_evaluated_alone() -> None:
    assert rejected_rows_within_limit({"w1": 0, "w2": 5}, {"w1": 1000, "w2": 5}, 0.05).passed


def test_no_rows_at_all_are_within_the_limit() -> None:
    assert rejected_rows_within_limit({}, {}, 0.05).passed


def test_a_family_of_nulls_and_nans_alone_is_missing() -> None:
    assert missing_families(EMPTY_ONE) == {"one"}
    assert missing_families(FULL) == frozenset()


def test_a_family_that_lost_all_values_stops_the_dataset() -> None:
    verdict = no_family_all_missing(missing_families(EMPTY_ONE), PreviousDatasets(schema=COLUMNS))
    assert (verdict.passed, verdict.stops) == (False, True)
    assert "one" in verdict.finding


@pytest.mark.parametrize("before", [PreviousDatasets(), PreviousDatasets(schema=COLUMNS, missing_families=frozenset(["one"]))])
def test_a_family_that_never_had_values_is_told_and_does_not_stop(before: PreviousDatasets) -> None:
    verdict = no_family_all_missing(missing_families(EMPTY_ONE), before)
    assert (verdict.passed, verdict.stops) == (False, False)


@pytest.mark.parametrize(
    ("rate", "passes"), [(0.5, True), (0.74, True), (0.76, False), (0.24, False), (1.0, False), (0.0, False)]
)
def test_the_odds_of_success_may_change_within_the_limit(rate: float, passes: bool) -> None:
    verdict = label_rate_as_before(rate, PreviousDatasets(label_rates=[0.6, 0.4]), 3)
    assert verdict.passed is passes
    assert f"{rate:.1%} of the labels are successes; 50.0% were in the 2 dataset(s) before" in verdict.finding


@pytest.mark.parametrize(("rate", "passes"), [(0.2, True), (0.3, False)])
def test_a_rare_success_may_change_by_less(rate: float, passes: bool) -> None:
    assert label_rate_as_before(rate, PreviousDatasets(label_rates=[0.1]), 3).passed is passes


def test_the_first_label_rate_has_nothing_to_be_compared_with() -> None:
    assert label_rate_as_before(0.99, PreviousDatasets(), 3).passed
    assert label_rate_as_before(None, PreviousDatasets(label_rates=[0.1]), 3).passed


def test_the_same_columns_pass_in_any_order() -> None:
    assert schema_as_before(FULL.schema, PreviousDatasets(schema=COLUMNS[::-1])).passed
    assert schema_as_before(FULL.schema, PreviousDatasets()).passed


def test_a_changed_schema_stops_and_names_the_columns() -> None:
    verdict = schema_as_before(
        FULL.schema, PreviousDatasets(schema=[COLUMNS[0], {"name": "b", "type": "string"}, {"name": "c", "type": "double"}])
    )
    assert (verdict.passed, verdict.stops) == (False, True)
    assert "gone: b (string), c (double); new: b (double)" in verdict.finding


BEFORE_B_CHANGED = PreviousDatasets(schema=[COLUMNS[0], {"name": "b", "type": "string"}], families={"a": "one", "b": "two"})


def test_a_changed_schema_of_a_family_whose_change_is_declared_passes_and_is_told() -> None:
    verdict = schema_as_before(FULL.schema, replace(BEFORE_B_CHANGED, declared={"two": "two has code version 2, not 1"}))
    assert verdict.passed
    assert verdict.finding == "as declared (two has code version 2, not 1): gone: b (string); new: b (double)"


def test_another_family_is_not_excused_by_it() -> None:
    verdict = schema_as_before(FULL.schema, replace(BEFORE_B_CHANGED, declared={"one": "one has code version 2, not 1"}))
    assert not verdict.passed
    assert verdict.finding == "gone: b (string); new: b (double)"


def test_columns_of_new_families_and_of_those_that_are_none_any_more_are_declared_with_them() -> None:
    before = PreviousDatasets(schema=[COLUMNS[0], {"name": "c", "type": "double"}], families={"a": "one", "c": "three"})
    assert schema_as_before(FULL.schema, replace(before, declared={"two": "two is a new family", "three": "no more"})).passed
    assert not schema_as_before(FULL.schema, replace(before, declared={"two": "two is a new family"})).passed
