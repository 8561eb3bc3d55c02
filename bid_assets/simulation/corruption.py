"""Blemishes as real tables have them: a share of the rows of each kind is spoiled, after the truth has been drawn.

Blemishes that leave a row valid (a value missing, JSON badly stored) get the whole share, breaches of the contract a
twentieth of it each, so that `rejected_rows` shows a handful of every kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bid_assets.common.windows import MICROSECONDS_PER_DAY

_BREACH_FACTOR = 0.05


def profiles(table: pa.Table, rng: np.random.Generator, share: float) -> pa.Table:
    """Profiles some of which miss skills, level or type, or have their skills stored as a JSON string or as rubbish."""
    chance = rng.random((len(table), 5))
    table = _without(table, "skills", chance[:, 0] < share)
    table = _without(table, "experience_level", chance[:, 1] < share)
    table = _without(table, "profile_type", chance[:, 2] < share)
    table = _changed(table, "skills", chance[:, 3] < share, json.dumps)
    return _changed(table, "skills", chance[:, 4] < share * _BREACH_FACTOR, _broken)


def jobs(table: pa.Table, rng: np.random.Generator, share: float) -> pa.Table:
    """Jobs some of which miss their description, category or skills, or have the skills stored badly."""
    chance = rng.random((len(table), 5))
    table = _without(table, "description", chance[:, 0] < share)
    table = _without(table, "category", chance[:, 1] < share)
    table = _without(table, "required_skills", chance[:, 2] < share)
    table = _changed(table, "required_skills", chance[:, 3] < share, json.dumps)
    return _changed(table, "required_skills", chance[:, 4] < share * _BREACH_FACTOR, _broken)


def bids(bids: pa.Table, outcomes: pa.Table, rng: np.random.Generator, share: float) -> tuple[pa.Table, pa.Table]:
    """A week's bids and their outcomes, some of which are blemished or break the contract."""
    chance, bad = rng.random((len(bids), 4)), share * _BREACH_FACTOR
    times = bids["submitted_at"].take(pc.index_in(outcomes["bid_id"], value_set=bids["id"]))
    bids = _without(bids, "amount", chance[:, 0] < share)
    bids = _without(bids, "bid_settings_snapshot", chance[:, 1] < share)
    bids = _changed(bids, "bid_settings_snapshot", chance[:, 2] < share, json.dumps)
    bids = _changed(bids, "bid_settings_snapshot", chance[:, 3] < bad, _broken)
    return _breaching_bids(bids, rng.random(len(bids)), bad), _breaching_outcomes(outcomes, times, rng, bad)


def _breaching_bids(bids: pa.Table, chance: NDArray[np.float64], bad: float) -> pa.Table:
    """At most one breach for each bid: negative or infinite amount, unknown profile, no submission time."""
    kind = np.floor(chance / bad) if bad else np.full(len(chance), 4.0)
    bids = _replaced(bids, "amount", kind == 0, pa.scalar(-100.0))
    bids = _replaced(bids, "amount", kind == 1, pa.scalar(float("inf")))
    bids = _replaced(bids, "profile_id", kind == 2, pa.scalar("profile-of-nobody"))
    return _without(bids, "submitted_at", kind == 3)


def _breaching_outcomes(outcomes: pa.Table, bid_times: pa.ChunkedArray, rng: np.random.Generator, bad: float) -> pa.Table:
    """Outcomes before their bid, and outcomes of a bid that never was (added: every bid keeps its own)."""
    chance, stray = rng.random((2, len(outcomes)))
    day = pa.scalar(MICROSECONDS_PER_DAY, pa.duration("us"))
    outcomes = _replaced(outcomes, "outcome_timestamp", chance < bad, pc.subtract(bid_times, day))
    strays = outcomes.filter(stray < bad)
    ids = pc.binary_join_element_wise("stray", strays["id"], "-")
    strays = strays.set_column(0, "id", ids).set_column(1, "bid_id", pa.array(["bid-of-nobody"] * len(strays), pa.string()))
    return pa.concat_tables([outcomes, strays])


def _broken(text: str) -> str:
    return text[: len(text) // 2]


def _without(table: pa.Table, column: str, rows: NDArray[np.bool_]) -> pa.Table:
    return _replaced(table, column, rows, pa.scalar(None, table.schema.field(column).type))


def _changed(table: pa.Table, column: str, rows: NDArray[np.bool_], change: Callable[[str], str]) -> pa.Table:
    """Where there is a text, another one in its place."""
    texts = table[column].filter(pa.array(rows)).to_pylist()
    changed = pa.array([None if text is None else change(text) for text in texts], pa.string())
    index = table.schema.get_field_index(column)
    return table.set_column(index, table.schema.field(index), pc.replace_with_mask(table[column], pa.array(rows), changed))


def _replaced(table: pa.Table, column: str, rows: NDArray[np.bool_], by: pa.Scalar | pa.ChunkedArray) -> pa.Table:
    index = table.schema.get_field_index(column)
    return table.set_column(index, table.schema.field(index), pc.if_else(pa.array(rows), by, table[column]))
