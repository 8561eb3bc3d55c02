"""The training dataset: feature families joined to the labels known at a cutoff, split by time. Tables in, one table out.

What a feature is belongs to `features`; how a column becomes numbers for a model belongs to `estimators.column_encoders`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import RAW_BID_OUTCOMES, RAW_BIDS, TEXT, TIME
from bid_assets.common.arrow import microseconds, window_starts
from bid_assets.common.windows import MICROSECOND, Cadence, as_utc, batch_windows, microseconds_since_epoch
from bid_assets.features.family import VECTOR, FeatureFamily
from bid_assets.modelling.dataset.label_maturity import resolve_maturity
from bid_assets.modelling.dataset.splits import NO_MATURITY, SPLITS, LabelRules, split_by_time
from bid_assets.modelling.estimators.column_encoders import text_columns

KEYS = pa.schema(
    [
        pa.field("bid_id", TEXT, nullable=False),
        pa.field("profile_id", TEXT, nullable=False),
        pa.field("job_id", TEXT, nullable=False),
        pa.field("window", TIME, nullable=False),
        pa.field("submitted_at", TIME, nullable=False),
        pa.field("outcome_timestamp", TIME, nullable=False),
        pa.field("target_is_success", pa.bool_(), nullable=False),
        pa.field("split", TEXT, nullable=False),
        pa.field("cutoff", TIME, nullable=False),
    ]
)
KEY_COLUMNS: tuple[str, ...] = tuple(KEYS.names)
"""The columns of a dataset that are no features."""

BID_COLUMNS = ("id", "profile_id", "job_id", "submitted_at")
"""What is read of `raw_bids`."""

ROWS_AT_ONCE = 1 << 16
"""Of a dataset that is written run by run of windows: enough for the columns of a Parquet file to be packed well."""

FAMILY_OF = b"family"
"""Key of the field metadata that names a feature's family."""


def assemble(
    bids: pa.Table,
    outcomes: pa.Table,
    features: Iterable[tuple[FeatureFamily, pa.Table]],
    *,
    cutoff: datetime,
    holdout_share: float,
    cadence: Cadence,
    rules: LabelRules = NO_MATURITY,
) -> pa.Table:
    """The rows of `labelled_bids` with the features of every family, as one table. Raises what `with_features` does."""
    rows = labelled_bids(bids, outcomes, cutoff=cutoff, holdout_share=holdout_share, cadence=cadence, rules=rules)
    return with_features(rows, features).combine_chunks()


def labelled_bids(
    bids: pa.Table,
    outcomes: pa.Table,
    *,
    cutoff: datetime,
    holdout_share: float,
    cadence: Cadence,
    rules: LabelRules = NO_MATURITY,
) -> pa.Table:
    """One row per bid of `bids` that was submitted and decided before `cutoff`, sorted by (submitted_at, bid_id): `KEYS`.

    The label is the outcome with the latest `outcome_timestamp` strictly before the cutoff (of equal times, the larger id).
    By `rules` an old undecided bid may count as a failure. A maturity that is to be learnt is learnt from what
    is known then (`label_maturity`). How the share and `rules` make the split is in `splits`.
    """
    moment = pa.scalar(as_utc(cutoff), TIME)
    bids = _with_columns(bids, RAW_BIDS)
    bids = bids.filter(pc.less(bids["submitted_at"], moment))
    labels = effective_outcomes(_with_columns(outcomes, RAW_BID_OUTCOMES), as_utc(cutoff))
    labels = labels.select(["bid_id", "is_success", "outcome_timestamp"])
    rules = resolve_maturity(rules, bids, labels)
    if rules.impute_failure_after is not None:
        labels = pa.concat_tables([labels, _imputed_failures(bids, labels, rules.impute_failure_after)])
    bids = bids.filter(pc.is_in(bids["id"], value_set=labels["bid_id"]))
    bids = bids.take(pc.sort_indices(bids, sort_keys=[("submitted_at", "ascending"), ("id", "ascending")]))
    label = labels.take(pc.index_in(bids["id"], value_set=labels["bid_id"]))
    submitted, known = microseconds(bids["submitted_at"]), microseconds(label["outcome_timestamp"])
    split = split_by_time(submitted, known, holdout=holdout_share, rules=rules)
    keys = {
        "bid_id": bids["id"],
        "profile_id": bids["profile_id"],
        "job_id": bids["job_id"],
        "window": pa.array(window_starts(submitted, cadence.length)).view(TIME),
        "submitted_at": bids["submitted_at"],
        "outcome_timestamp": label["outcome_timestamp"],
        "target_is_success": label["is_success"],
        "split": pa.array(split, TEXT),
        "cutoff": pa.repeat(moment, bids.num_rows),
    }
    circumstances = {
        "volatile": "true",
        "cutoff": as_utc(cutoff).isoformat(),
        "label_maturity_days": str(rules.known_maturity / timedelta(days=1)),
        "label_maturity_origin": rules.maturity_origin,
    }
    schema = KEYS.set(KEYS.get_field_index("cutoff"), KEYS.field("cutoff").with_metadata(circumstances))
    return pa.table([keys[name] for name in KEYS.names], schema=schema).combine_chunks()


def with_features(table: pa.Table, features: Iterable[tuple[FeatureFamily, pa.Table]]) -> pa.Table:
    """`table` with the features of every family appended; where a family has no row for a bid, its features are null.

    Raises `ValueError` for a family with two rows per key, or two families with a feature of one name.
    """
    for family, rows in features:
        table = _join(table, family, rows)
    return table


def by_windows(rows: pa.Table, windows: Sequence[str], cadence: Cadence) -> Iterator[tuple[list[str], pa.Table]]:
    """Successive windows that hold about `ROWS_AT_ONCE` of the rows, and these rows; all windows are in one of the runs.

    `rows` are in order of submission, none of them before the first window or after the last. What belongs to a bid
    lies in its own window of every family, so runs can be joined one by one.
    """
    edges = [microseconds_since_epoch(cadence.window(key).end) for key in windows]
    ends = np.searchsorted(microseconds(rows["submitted_at"]), edges)
    begin = 0
    for batch, count in batch_windows(windows, np.diff(ends, prepend=0).tolist(), ROWS_AT_ONCE):
        yield batch, rows.slice(begin, count)
        begin += count


def effective_outcomes(outcomes: pa.Table, cutoff: datetime | None) -> pa.Table:
    """The outcome of each bid that counts: its latest one strictly before `cutoff` (None: at all); ties: the larger id."""
    if cutoff is not None:
        outcomes = outcomes.filter(pc.less(outcomes["outcome_timestamp"], pa.scalar(cutoff, TIME)))
    order = [("bid_id", "ascending"), ("outcome_timestamp", "descending"), ("id", "descending")]
    outcomes = outcomes.take(pc.sort_indices(outcomes, sort_keys=order))
    ids = outcomes["bid_id"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return outcomes.filter(pa.array(np.diff(ids, prepend=-1) != 0))


def dataset_facts(bids: pa.Table, dataset: pa.Table) -> dict[str, Any]:
    """What there is to say about a dataset made from `bids`: counts, label rate, times, rows per split. JSON-able.

    `undecided` bids have no label; `undecided_mature` are those of them that are old enough to have one.
    """
    metadata = {key.decode(): value.decode() for key, value in dataset.schema.field("cutoff").metadata.items()}
    cutoff, maturity_days = datetime.fromisoformat(metadata["cutoff"]), float(metadata["label_maturity_days"])
    bids = _with_columns(bids, RAW_BIDS)
    bids = bids.filter(pc.less(bids["submitted_at"], pa.scalar(cutoff, TIME)))
    undecided = bids.filter(pc.invert(pc.is_in(bids["id"], value_set=dataset["bid_id"])))
    mature = _older_than(undecided["submitted_at"], timedelta(days=maturity_days), dataset["outcome_timestamp"])
    first, last = pc.min_max(dataset["submitted_at"]).as_py().values()
    return {
        "bids": bids.num_rows,
        "labelled": dataset.num_rows,
        "undecided": undecided.num_rows,
        "undecided_mature": pc.sum(mature).as_py() or 0,
        "label_maturity_days": maturity_days,
        "label_maturity_origin": metadata["label_maturity_origin"],
        "label_rate": pc.mean(dataset["target_is_success"]).as_py(),
        "first_submitted": first and first.isoformat(),
        "last_submitted": last and last.isoformat(),
        **{f"{name}_rows": pc.sum(pc.equal(dataset["split"], name)).as_py() or 0 for name in SPLITS},
        "cutoff": cutoff.isoformat(),
    }


def feature_columns(dataset: pa.Table) -> list[str]:
    """The names of the columns that are features."""
    return [name for name in dataset.column_names if name not in KEY_COLUMNS]


def labels(rows: pa.Table) -> npt.NDArray[np.bool_]:
    """Whether each row is a success."""
    return np.asarray(rows["target_is_success"], dtype=bool)


def rows_in_split(dataset: pa.Table, *names: str) -> pa.Table:
    """The rows of these parts of the split."""
    return dataset.filter(pc.is_in(dataset["split"], value_set=pa.array(names)))


def submitted_between(bids: pa.Table, start: datetime, end: datetime) -> pa.Table:
    """The rows submitted in [start, end)."""
    submitted = bids["submitted_at"]
    return bids.filter(pc.and_(pc.greater_equal(submitted, pa.scalar(start, TIME)), pc.less(submitted, pa.scalar(end, TIME))))


def columns_with_texts(schema: pa.Schema, texts: Container[str]) -> list[str]:
    """All columns of a dataset but for the words and embeddings that are not among `texts`."""
    left_out = {name for name in text_columns(schema) if name not in texts}
    return [name for name in schema.names if name not in left_out]


def _imputed_failures(bids: pa.Table, labels: pa.Table, age: timedelta) -> pa.Table:
    """A label of failure for each undecided bid of that age, known since it was that old."""
    old = _older_than(bids["submitted_at"], age, labels["outcome_timestamp"])
    open_bids = bids.filter(pc.and_(old, pc.invert(pc.is_in(bids["id"], value_set=labels["bid_id"]))))
    known = pa.array(microseconds(open_bids["submitted_at"]) + age // MICROSECOND, pa.int64()).cast(TIME)
    failed = pa.repeat(pa.scalar(False), open_bids.num_rows)
    return pa.table([open_bids["id"], failed, known], schema=labels.schema)


def _older_than(submitted: pa.ChunkedArray, age: timedelta, outcomes: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which bids had that age when the newest of the outcomes became known; none where there is no outcome."""
    newest = pc.max(outcomes).as_py()
    return pc.less(submitted, pa.scalar(None if newest is None else newest - age, TIME)).fill_null(False)


def _join(table: pa.Table, family: FeatureFamily, rows: pa.Table) -> pa.Table:
    """`table` with the features of `family` appended, null where `rows` has no row for a bid."""
    rows = _with_columns(rows, _declared(family))
    if family.key == "bid_id":
        bid_keys, present = table["bid_id"], rows["bid_id"]
    else:
        bid_keys, present = (_window_and_job(side["window"], side["job_id"]) for side in (table, rows))
    if pc.count_distinct(present).as_py() != rows.num_rows:
        raise ValueError(f"{family.name} has more than one row for some {family.key}; each may have one")
    index = pc.index_in(bid_keys, value_set=present)
    for feature in family.features:
        if feature.name in table.column_names:
            raise ValueError(f"{family.name} has a feature {feature.name!r}, which another family has too; rename one of them")
        field = rows.schema.field(feature.name).with_metadata({FAMILY_OF: family.name.encode()}).with_nullable(True)
        table = table.append_column(field, rows[feature.name].combine_chunks().take(index))
    return table


def _declared(family: FeatureFamily) -> pa.Schema:
    """The schema of a family's table without rows, as declared; a vector's length is then unknown, so it is 1."""
    kinds: Mapping[str, pa.DataType] = {
        feature.name: pa.list_(pa.float32(), 1) if feature.type == VECTOR else feature.type for feature in family.features
    }
    return pa.schema({family.key: TEXT, family.time_column: TIME, **kinds})


def _with_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table`, or no rows of `schema` where there is no version at all, hence no column."""
    return table if table.num_columns else schema.empty_table()


def _window_and_job(window: pa.ChunkedArray, job_id: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(pc.cast(pc.cast(pc.cast(window, TIME), pa.int64()), TEXT), job_id, "\x1f")
