"""Reads the prediction log as Arrow, in order of time, a few megabytes at a time.

with open_prediction_reader(url) as reader, reader.stream(span) as rows:
    for batch in rows: ...
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import pyarrow as pa

from bid_assets.common.windows import TimeRange
from bid_assets.prediction_log.connection import PredictionConnection
from bid_assets.prediction_log.schema import COLUMNS, MODEL_FEATURES, PREDICTIONS, tables_exist


class PredictionReader:
    """Reads the prediction database. Opened by `open_prediction_reader`."""

    def __init__(self, connection: PredictionConnection) -> None:
        self._connection = connection
        self.has_tables = tables_exist(connection)
        """Whether the tables exist; without them everything else here is empty."""

    def time_range(self) -> tuple[datetime | None, datetime | None]:
        """The times of the oldest and the newest prediction; None where there is none."""
        if not self.has_tables:
            return None, None
        [row] = self._connection.fetch(f"SELECT min(at) AS oldest, max(at) AS newest FROM {PREDICTIONS}").to_pylist()
        return row["oldest"] and row["oldest"].astimezone(UTC), row["newest"] and row["newest"].astimezone(UTC)

    def feature_names(self, span: TimeRange) -> dict[str, list[str]]:
        """Model version -> the names of the numbers in `features`, for the models that predicted in `span`."""
        if not self.has_tables:
            return {}
        table = self._connection.fetch(
            f"SELECT model, names FROM {MODEL_FEATURES} "
            f"WHERE model IN (SELECT model FROM {PREDICTIONS} WHERE {_in_span(span)}) ORDER BY model"
        )
        return dict(zip(table["model"].to_pylist(), table["names"].to_pylist(), strict=True))

    @contextmanager
    def stream(self, span: TimeRange) -> Iterator[pa.RecordBatchReader]:
        """The predictions of `span` by time and id, with the schema `COLUMNS`, for as long as the block runs."""
        if not self.has_tables:
            yield COLUMNS.empty_table().to_reader()
            return
        columns = ", ".join(COLUMNS.names)
        with self._connection.stream(f"SELECT {columns} FROM {PREDICTIONS} WHERE {_in_span(span)} ORDER BY at, id") as rows:
            yield rows.cast(COLUMNS)


@contextmanager
def open_prediction_reader(url: str) -> Iterator[PredictionReader]:
    """A reader of the prediction database at a libpq URL. Raises `DatabaseUnreachableError`."""
    with closing(PredictionConnection(url)) as connection:
        yield PredictionReader(connection)


def _in_span(span: TimeRange) -> str:
    return f"at >= '{span.start.isoformat()}' AND at < '{span.end.isoformat()}'"
