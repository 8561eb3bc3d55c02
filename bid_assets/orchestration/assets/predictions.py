"""What the service has predicted, brought into the graph by window. The database it comes from is the platform's own."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.database import prediction_db_url
from bid_assets.orchestration.assets.common import OWNERS, RANGE_RUN
from bid_assets.orchestration.input_tracking import record_window_metadata
from bid_assets.orchestration.io_managers import TIME_COLUMN_KEY
from bid_assets.orchestration.partitions import windows
from bid_assets.settings import Settings
from bid_assets.version_store.manifest import Manifest
from bid_assets.version_store.parquet import WindowedTable
from bid_assets.version_store.store import VersionStore

if TYPE_CHECKING:
    from bid_assets.prediction_log.reader import PredictionReader

RAW_PREDICTIONS = "raw_predictions"

FEATURE_NAMES = "feature_names"
"""Fact of a version: model -> the names of the numbers in `features`."""


def predictions_asset(settings: Settings) -> dg.AssetsDefinition:
    """`raw_predictions`, one row per prediction of the window."""

    @dg.asset(
        name=RAW_PREDICTIONS,
        description="What the prediction service answered in the window, of which bid, by which model and variant, and the "
        "features that the model saw. Joins with bids by bid_id, or else by profile_id and job_id.",
        group_name="raw",
        owners=OWNERS,
        kinds={"postgres", "parquet"},
        code_version="1",
        partitions_def=windows(settings),
        backfill_policy=RANGE_RUN,
        io_manager_key="parquet_io_manager",
        required_resource_keys={"store"},
        metadata={TIME_COLUMN_KEY: "at"},
    )
    def raw_predictions(context: dg.AssetExecutionContext) -> Iterator[dg.Output[object]]:
        from bid_assets.prediction_log.reader import open_prediction_reader  # its driver takes a while to load
        from bid_assets.prediction_log.schema import COLUMNS

        with open_prediction_reader(prediction_db_url(settings)) as predictions:
            log = _PredictionWindows(settings, context.resources.store, predictions)
            keys = list(context.partition_keys)
            record_window_metadata(context, {key: {FEATURE_NAMES: log.feature_names(key)} for key in keys})
            metadata: dict[str, dg.RawMetadataValue] = {"watermark": dg.MetadataValue.json(log.watermark())}
            if warning := log.warning():
                context.log.warning(warning)
                metadata["remark"] = warning
            rows = (batch for key in keys for batch in log.rows(key))
            yield dg.Output(pa.RecordBatchReader.from_batches(COLUMNS, rows), metadata=metadata)

    return raw_predictions


class _PredictionWindows:
    """The predictions of the database, and those that have left it since they were read into the store."""

    def __init__(self, settings: Settings, store: VersionStore, predictions: "PredictionReader") -> None:
        self._cadence = settings.cadence
        self._store = store
        self._predictions = predictions
        self._oldest, self._newest = predictions.time_range()

    def rows(self, key: str) -> Iterator[pa.RecordBatch]:
        """The predictions of a window, by time and id."""
        from bid_assets.prediction_log.schema import COLUMNS

        if head := self._head_if_expired(key):
            stored = WindowedTable(self._store, RAW_PREDICTIONS, [key], {key: head}).read().cast(COLUMNS)
            left = stored if self._oldest is None else stored.filter(pc.less(stored["at"], pa.scalar(self._oldest)))
            yield from left.to_batches()
        with self._predictions.stream(self._cadence.window(key)) as rows:
            yield from rows

    def feature_names(self, key: str) -> dict[str, list[str]]:
        """The names of the features of each model that predicted in a window."""
        head = self._head_if_expired(key)
        before = head.info.get(FEATURE_NAMES, {}) if head else {}
        return {**before, **self._predictions.feature_names(self._cadence.window(key))}

    def watermark(self) -> dict[str, str | None]:
        """The time of the newest prediction, as JSON can hold it."""
        return {"newest_at": self._newest.isoformat() if self._newest else None}

    def warning(self) -> str | None:
        """What a person should know who wonders about an empty window."""
        if not self._predictions.has_tables:
            return "no service has remembered predictions in this database yet (BID_ASSETS_PREDICTION_DB_URL says which it is)"
        return None if self._oldest else "no prediction has been remembered yet, or all are older than the retention"

    def _head_if_expired(self, key: str) -> Manifest | None:
        """The version of a window whose predictions the database may not have any more."""
        start: datetime = self._cadence.window(key).start
        return self._store.head(RAW_PREDICTIONS, key) if self._oldest is None or start < self._oldest else None
