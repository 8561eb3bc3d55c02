"""Predictions read back as Arrow, in order of time, a few megabytes at a time.

with open_predictions(url) as predictions, predictions.stream(span) as rows:
    for batch in rows: ...
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import pyarrow as pa

from bid_assets.common.windows import TimeRange
from bid_assets.prediction_log.connection import Connection
from bid_assets.prediction_log.schema import COLUMNS, MODEL_FEATURES, PREDICTIONS, exist


class Predictions:
    """What the prediction database holds. Made by `open_predictions`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.present = exist(connection)
        """Whether any prediction was ever to be remembered; without, everything else here is empty."""

    def ends(self) -> tuple[datetime | None, datetime | None]:
        """The times of the oldest and of the newest prediction."""
        if not self.present:
            return None, None
        [row] = self._connection.fetch(f"SELECT min(at) AS oldest, max(at) AS newest FROM {PREDICTIONS}").to_pylist()
        return row["oldest"] and row["oldest"].astimezone(UTC), row["newest"] and row["newest"].astimezone(UTC)

    def feature_names(self, span: TimeRange) -> dict[str, list[str]]:
        """Of each model version that predicted in `span`: the names of the numbers in `features`."""
        if not self.present:
            return {}
        found = self._connection.fetch(
            f"SELECT model, names FROM {MODEL_FEATURES} WHERE model IN (SELECT model FROM {PREDICTIONS} WHERE {_within(span)}) "
            "ORDER BY model"
        )
        return dict(zip(found["model"].to_pylist(), found["names"].to_pylist(), strict=True))

    @contextmanager
    def stream(self, span: TimeRange) -> Iterator[pa.RecordBatchReader]:
        """The predictions of `span` by time and id, with the schema `COLUMNS`, for as long as the block runs."""
        if not self.present:
            yield COLUMNS.empty_table().to_reader()
            return
        columns = ", ".join(COLUMNS.names)
        with self._connection.stream(f"SELECT {columns} FROM {PREDICTIONS} WHERE {_within(span)} ORDER BY at, id") as rows:
            yield rows.cast(COLUMNS)


@contextmanager
def open_predictions(url: str) -> Iterator[Predictions]:
    """The predictions in the database at a libpq URL. Raises `DatabaseUnreachableError`."""
    with closing(Connection(url)) as connection:
        yield Predictions(connection)


def _within(span: TimeRange) -> str:
    return f"at >= '{span.start.isoformat()}' AND at < '{span.end.isoformat()}'"
