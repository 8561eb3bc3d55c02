"""One asset per feature family. The families themselves, and how to add one, are in `features/`."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa

from bid_assets.app_db.readability import ReadabilityCounts, Reasons
from bid_assets.common.arrow import microseconds
from bid_assets.common.windows import Cadence, TimeRange, batch_windows, microseconds_since_epoch
from bid_assets.features.family import Encoder, FeatureFamily, RawTables
from bid_assets.features.mapping import readability, row_counts
from bid_assets.features.registry import families
from bid_assets.orchestration.asset_checks import readable_values_check, readable_values_result
from bid_assets.orchestration.assets.common import OWNERS, RANGE_RUN, REFRESH_POOL
from bid_assets.orchestration.input_tracking import record_window_metadata
from bid_assets.orchestration.io_managers import SETTINGS_KEY, TIME_COLUMN_KEY, WINDOWED, MissingVersionsError
from bid_assets.orchestration.metadata import UNREADABLE_VALUES
from bid_assets.orchestration.partitions import lookback_input, span_of, windows, windows_for_days
from bid_assets.settings import Settings
from bid_assets.version_store.parquet import WindowedTable

ROWS_AT_ONCE = 1 << 17
"""Of the largest input of a family: many enough that what is looked back at is not read too often."""


def feature_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The assets of all families."""
    return [_family_asset(family, settings) for family in families()]


def _family_asset(family: FeatureFamily, settings: Settings) -> dg.AssetsDefinition:
    back = windows_for_days(settings.cadence, family.lookback_days)

    @dg.asset(
        name=family.name,
        description=family.description,
        group_name="features",
        owners=OWNERS,
        kinds={"arrow", "parquet"},
        code_version=family.code_version,
        check_specs=[readable_values_check(family.name)] if family.readability else [],
        ins={table: lookback_input(back, WINDOWED) for table in family.reads},
        partitions_def=windows(settings),
        backfill_policy=RANGE_RUN,
        pool=REFRESH_POOL,
        io_manager_key="parquet_io_manager",
        metadata={
            TIME_COLUMN_KEY: family.time_column,
            SETTINGS_KEY: ["encoder"] if family.needs_encoder else [],
            "features": dg.MetadataValue.md("\n".join(f"- `{f.name}`: {f.meaning}" for f in family.features)),
        },
    )
    def compute(context: dg.AssetExecutionContext, **inputs: WindowedTable) -> Iterator[Any]:
        for name, table in inputs.items():
            if table.missing:
                raise MissingVersionsError(name, table.missing)
        encoder = encoder_of(settings) if family.needs_encoder else None
        counts, counts_of_rows = dict[str, Reasons](), dict[str, int]()
        alone = len(context.partition_keys) == 1  # in a range run row counts would be a part's, shown for each window

        def features_by_batch() -> Iterator[pa.Table]:
            for keys, _ in batch_windows(context.partition_keys, _largest_input(inputs, context.partition_keys), ROWS_AT_ONCE):
                span = span_of(settings.cadence, keys)
                tables = {name: _with_lookback(table, keys, back).read() for name, table in inputs.items()}
                reasons = _readability(family, tables, span, settings.cadence, keys)
                record_window_metadata(context, {key: {UNREADABLE_VALUES: each} for key, each in reasons.items()})
                counts.update(reasons)
                if alone:
                    counts_of_rows.update(row_counts(family, tables, span))
                yield family.compute_table(tables, span, encoder)

        features = features_by_batch()
        first = next(features)
        batches = (batch for part in chain([first], features) for batch in part.to_batches())
        fingerprint = {"encoder_fingerprint": encoder.fingerprint} if encoder else {}
        yield dg.Output(pa.RecordBatchReader.from_batches(first.schema, batches), metadata={**counts_of_rows, **fingerprint})
        if counts:
            yield readable_values_result(family.name, counts.values())

    return compute


def _largest_input(inputs: Mapping[str, WindowedTable], keys: Sequence[str]) -> Iterator[int]:
    """Of each window the rows of the input that has most."""
    rows = [{manifest.partition: manifest.rows or 0 for manifest in table.manifests} for table in inputs.values()]
    return (max(of_table.get(key, 0) for of_table in rows) for key in keys)


def _with_lookback(table: WindowedTable, keys: Sequence[str], back: int) -> WindowedTable:
    """Of an input the windows that the features of `keys` look at: `back` windows for each, itself included."""
    first, last = table.windows.index(keys[0]), table.windows.index(keys[-1])
    return table.select_windows(table.windows[max(0, first + 1 - back) : last + 1])


def _readability(
    family: FeatureFamily, tables: RawTables, span: TimeRange, cadence: Cadence, keys: Sequence[str]
) -> dict[str, Reasons]:
    """Of each window which values of JSON columns could not be read; empty for a family that reads none."""
    if not family.readability:
        return {}
    times, columns = readability(family, tables, span)
    starts = np.array([microseconds_since_epoch(cadence.window(key).start) for key in keys])
    windows = pa.array(starts[np.searchsorted(starts, microseconds(times), side="right") - 1])
    counts = ReadabilityCounts()
    for column, reasons in columns.items():
        counts.put(column, windows, reasons)
    return {key: counts.of_window(int(start)) for key, start in zip(keys, starts, strict=True)}


def encoder_of(settings: Settings) -> Encoder:
    """The encoder of these settings: made once in a process, since loading its model costs seconds."""
    return _encoder(settings.encoder, settings.home, settings.resolved_encoder_cache)


@cache
def _encoder(name: str, home: Path, models: Path) -> Encoder:
    from bid_assets.features.embeddings.encoder import make_encoder

    return make_encoder(name, home, models)
