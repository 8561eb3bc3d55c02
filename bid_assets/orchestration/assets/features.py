"""One asset per feature family. The families themselves, and how to add one, are in `features/`."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa

from bid_assets.app_db.readability import ReadabilityCounts, Reasons
from bid_assets.common.windows import Cadence, TimeRange, microseconds_since_epoch
from bid_assets.features.family import Encoder, FeatureFamily, RawTables
from bid_assets.features.interval_counts import microseconds
from bid_assets.features.registry import families
from bid_assets.orchestration.asset_checks import readable_values_check, readable_values_result
from bid_assets.orchestration.assets.common import OWNERS, RANGE_RUN, REFRESH_POOL, run_span
from bid_assets.orchestration.input_tracking import record_window_metadata
from bid_assets.orchestration.io_managers import SETTINGS_KEY, TIME_COLUMN_KEY
from bid_assets.orchestration.metadata import UNREADABLE_VALUES
from bid_assets.orchestration.partitions import looking_back, windows, windows_for_days
from bid_assets.settings import Settings


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
        ins={table: looking_back(back) for table in family.reads},
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
    def compute(context: dg.AssetExecutionContext, **tables: Any) -> Iterator[dg.Output[pa.Table] | dg.AssetCheckResult]:
        encoder = (
            process_encoder(settings.encoder, settings.home, settings.resolved_encoder_cache) if family.needs_encoder else None
        )
        span = run_span(context, settings.cadence)
        features = family.compute_table(tables, span, encoder)
        fingerprint = {"encoder_fingerprint": encoder.fingerprint} if encoder else {}
        alone = len(context.partition_keys) == 1  # in a range run they would be the whole range's, shown for each window
        counts = _readability(family, tables, span, settings.cadence, context.partition_keys)
        record_window_metadata(context, {key: {UNREADABLE_VALUES: reasons} for key, reasons in counts.items()})
        yield dg.Output(features, metadata={**(family.row_counts_metadata(tables, span) if alone else {}), **fingerprint})
        if counts:
            yield readable_values_result(family.name, counts.values())

    return compute


def _readability(
    family: FeatureFamily, tables: RawTables, span: TimeRange, cadence: Cadence, keys: Sequence[str]
) -> dict[str, Reasons]:
    """Of each window which values of JSON columns could not be read; empty for a family that reads none."""
    if family.readability is None:
        return {}
    times, columns = family.readability(tables, span)
    starts = np.array([microseconds_since_epoch(cadence.window(key).start) for key in keys])
    windows = pa.array(starts[np.searchsorted(starts, microseconds(times), side="right") - 1])
    counts = ReadabilityCounts()
    for column, reasons in columns.items():
        counts.put(column, windows, reasons)
    return {key: counts.of_window(int(start)) for key, start in zip(keys, starts, strict=True)}


@cache
def process_encoder(name: str, home: Path, models: Path) -> Encoder:
    """The encoder of this process: made once, since loading its model costs seconds."""
    from bid_assets.features.embeddings.encoder import make_encoder

    return make_encoder(name, home, models)
