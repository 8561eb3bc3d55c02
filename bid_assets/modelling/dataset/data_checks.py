"""Data checks of a dataset, which stop it before anybody reads it. Pure: counts and schemas in, check results out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.modelling.dataset.assemble import FAMILY_OF

_ENOUGH_ROWS = 100
"""A window's share of rejected rows says little below so many rows."""


@dataclass(frozen=True)
class CheckResult:
    """The result of a check. `advice` says what to do where it failed; `stops` whether a failure stops the dataset."""

    check: str
    passed: bool
    finding: str
    advice: str
    values: Mapping[str, Any] = field(default_factory=dict)
    stops: bool = True


@dataclass(frozen=True)
class PreviousDatasets:
    """The previous datasets: schema and label rates, newest first.

    `families` says whose each column of the schema was. `declared` are the families that code or settings have changed since,
    and how; under the empty name what belongs to no family.
    """

    schema: Sequence[Mapping[str, str]] = ()
    families: Mapping[str, str] = field(default_factory=dict)
    declared: Mapping[str, str] = field(default_factory=dict)
    label_rates: Sequence[float] = ()
    missing_families: frozenset[str] = frozenset()


def rejected_rows_within_limit(rejected: Mapping[str, int], valid: Mapping[str, int], limit: float) -> CheckResult:
    """Rejected against all rows, by window: over the whole look-back, and in its last window that has enough of them."""
    totals = {key: rejected.get(key, 0) + valid.get(key, 0) for key in sorted({*rejected, *valid})}
    rows, bad = sum(totals.values()), sum(rejected.values())
    large = [key for key, total in totals.items() if total >= _ENOUGH_ROWS]
    shares = {"the look-back": bad / rows if rows else 0.0}
    if large:
        shares[f"window {large[-1]}"] = rejected.get(large[-1], 0) / totals[large[-1]]
    worst, share = max(shares.items(), key=lambda item: item[1])
    return CheckResult(
        "rejected_rows_within_limit",
        share <= limit,
        f"{share:.1%} of the rows of {worst} were rejected; at most {limit:.1%} may be",
        "Look at the rejected_rows of the look-back's windows (table, id, reason), mend them in the application's database, "
        "and refresh the windows; or raise BID_ASSETS_MAX_REJECTED_SHARE.",
        {"rejected_rows": bad, "rows": rows, "share": share},
    )


def no_family_all_missing(missing: Collection[str], previous: PreviousDatasets) -> CheckResult:
    """Every family has a value somewhere. Where the dataset before had none either, or there was none, it does not stop.

    `missing`: see `missing_families`.
    """
    empty = sorted(missing)
    lost = [name for name in empty if name not in previous.missing_families]
    return CheckResult(
        "no_family_all_missing",
        not empty,
        f"{', '.join(empty)}: all values are missing" if empty else "every family has values",
        "See whether the application still fills the columns that the family reads, and whether its windows were made.",
        {"families": empty},
        stops=bool(lost and previous.schema),
    )


def label_rate_as_before(rate: float | None, previous: PreviousDatasets, limit: float) -> CheckResult:
    """The odds of success are at most `limit` times those of the datasets before (their mean rate), or as many times less."""
    if rate is None or not previous.label_rates:
        return CheckResult("label_rate_as_before", True, "there is nothing to compare with yet", "")
    usual = sum(previous.label_rates) / len(previous.label_rates)
    ratio = _odds(max(rate, usual)) / _odds(min(rate, usual))
    return CheckResult(
        "label_rate_as_before",
        ratio <= limit,
        f"{rate:.1%} of the labels are successes; {usual:.1%} were in the {len(previous.label_rates)} dataset(s) before",
        "See in bid_outcomes whether outcomes are recorded as before (a bulk correction, a new meaning of is_success, "
        "failures that no longer arrive).",
        {"label_rate": rate, "usual": usual, "odds_ratio": ratio},
    )


def _odds(rate: float) -> float:
    """Finite also where all labels are of one kind."""
    return (rate + 1e-6) / (1 - rate + 1e-6)


def schema_as_before(schema: pa.Schema, previous: PreviousDatasets) -> CheckResult:
    """The same columns and types as in the dataset before, but for those of families whose change is declared."""
    present = {(f.name, str(f.type)): _family_of(f) for f in schema}
    usual = {(column["name"], column["type"]): previous.families.get(column["name"], "") for column in previous.schema}
    changed = (
        {"gone": _without(usual, present), "new": _without(present, usual)} if previous.schema else {"gone": {}, "new": {}}
    )
    families = {family for columns in changed.values() for family in columns.values()}
    unexpected = {word: {c: f for c, f in columns.items() if f not in previous.declared} for word, columns in changed.items()}
    if any(unexpected.values()):
        finding = _column_changes(unexpected)
    elif families:
        reasons = "; ".join(sorted({previous.declared[family] for family in families}))
        finding = f"as declared ({reasons}): {_column_changes(changed)}"
    else:
        finding = "the columns are those of the dataset before"
    return CheckResult(
        "schema_as_before",
        not any(unexpected.values()),
        finding,
        "See which family's columns or types changed, though neither its code version nor a setting says so.",
        {word: [name for name, _ in sorted(columns)] for word, columns in changed.items()},
    )


def _without(columns: Mapping[tuple[str, str], str], others: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    return {column: family for column, family in columns.items() if column not in others}


def _column_changes(changed: Mapping[str, Mapping[tuple[str, str], str]]) -> str:
    """In words: `gone: a (double); new: b (string)`."""
    return "; ".join(
        f"{word}: {', '.join(f'{name} ({kind})' for name, kind in sorted(columns))}"
        for word, columns in changed.items()
        if columns
    )


def _family_of(column: pa.Field) -> str:
    return str((column.metadata or {}).get(FAMILY_OF, b""), "utf-8")


def families_of_columns(schema: pa.Schema) -> dict[str, str]:
    """Column of a dataset -> the family that it is of, as the dataset itself says; columns of none are left out."""
    return {column.name: family for column in schema if (family := _family_of(column))}


def missing_families(dataset: pa.Table) -> frozenset[str]:
    """The families none of whose columns has a value in these rows; none where there is no row."""
    has_value: dict[str, bool] = {}
    for name in dataset.column_names:
        family = _family_of(dataset.schema.field(name))
        if family:
            missing = pc.is_null(dataset[name], nan_is_null=pa.types.is_floating(dataset[name].type))
            has_value[family] = has_value.get(family, False) or not pc.all(missing).as_py()
    return frozenset(family for family, any_value in has_value.items() if not any_value)
