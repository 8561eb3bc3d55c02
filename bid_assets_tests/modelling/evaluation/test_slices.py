from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from bid_assets.modelling.evaluation.slices import slice_metrics

ROWS = 120


@pytest.fixture
def holdout() -> pa.Table:
    rows = range(ROWS)
    return pa.table(
        {
            "profile_id": [f"p{n % 12}" for n in rows],
            "submitted_at": pa.array(
                [datetime(2026, 3 if n < 100 else 4, 1 + n % 20, tzinfo=UTC) for n in rows], pa.timestamp("us", "UTC")
            ),
            "profile_type": [None if n % 10 == 0 else "agency" if n % 3 else "personal" for n in rows],
            "amount": pa.array([None if n < 10 else float(n) for n in rows], pa.float64()),
        }
    )


@pytest.fixture
def found(holdout: pa.Table) -> list[dict]:
    success = np.arange(ROWS) % 2 == 0
    probability = np.linspace(0.1, 0.9, ROWS)
    return slice_metrics(holdout, success, probability, pa.array(["p0", "p1"]), rarer_is_success=True)


def of(found: list[dict], name: str) -> dict[str, dict]:
    return {part["value"]: part for part in found if part["slice"] == name}


def test_every_kind_of_slice_has_every_row_once(found: list[dict]) -> None:
    for name in ("profile", "profile type", "amount", "month"):
        assert sum(part["rows"] for part in of(found, name).values()) == ROWS


def test_a_profile_is_known_if_it_was_trained_on(found: list[dict]) -> None:
    assert of(found, "profile")["known"]["profiles"] == 2
    assert of(found, "profile")["new"]["profiles"] == 10


def test_a_missing_value_is_a_slice_of_its_own(found: list[dict]) -> None:
    assert of(found, "profile type")["missing"]["rows"] == 12
    assert of(found, "amount")["missing"]["rows"] == 10


def test_amounts_are_cut_at_their_quartiles(found: list[dict]) -> None:
    quartiles = [part for value, part in of(found, "amount").items() if value != "missing"]
    assert len(quartiles) == 4
    assert all(27 <= part["rows"] <= 28 for part in quartiles)


def test_small_slices_are_marked_and_not_hidden(found: list[dict]) -> None:
    assert of(found, "amount")["missing"]["too_small"]
    assert not of(found, "month")["2026-03"]["too_small"]
    assert of(found, "amount")["missing"]["log_loss"] is not None


def test_a_kind_without_its_column_is_left_out(found: list[dict]) -> None:
    assert not of(found, "job category")


def test_rare_values_share_one_slice(holdout: pa.Table) -> None:
    many = holdout.append_column("job_category", pa.array([f"c{min(n % 40, 25)}" for n in range(ROWS)]))
    found = slice_metrics(many, np.arange(ROWS) % 2 == 0, np.full(ROWS, 0.5), pa.array([], pa.string()), rarer_is_success=True)
    categories = of(found, "job category")
    assert len(categories) == 12
    assert sum(part["rows"] for part in categories.values()) == ROWS
    assert "other" in categories


def test_slices_are_json(found: list[dict]) -> None:
    assert json.loads(json.dumps(found, allow_nan=False))


def test_no_rows_give_no_slices(holdout: pa.Table) -> None:
    assert (
        slice_metrics(holdout.slice(0, 0), np.empty(0, dtype=bool), np.empty(0), pa.array(["p0"]), rarer_is_success=True) == []
    )
