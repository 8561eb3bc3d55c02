"""The application's tables, read window by window from one snapshot of its database."""

from collections.abc import Iterator

import dagster as dg

from bid_assets.app_db.database import app_db_url
from bid_assets.common.windows import microseconds_since_epoch
from bid_assets.orchestration.asset_checks import (
    readable_values_check,
    readable_values_result,
    rejected_rows_check,
    rejected_rows_result,
)
from bid_assets.orchestration.assets.common import OWNERS, RANGE_RUN, REFRESH_POOL
from bid_assets.orchestration.input_tracking import record_window_metadata
from bid_assets.orchestration.io_managers import IDENTITY_KEY, TIME_COLUMN_KEY
from bid_assets.orchestration.metadata import UNREADABLE_VALUES
from bid_assets.orchestration.partitions import span_of, windows
from bid_assets.settings import Settings

FINGERPRINTS = "fingerprints"
"""Fact of a raw version: table -> fingerprint of the window's rows when it was read (see `app_db/fingerprints.py`)."""

CODE_VERSION = "2"
"""Of all raw tables.

A window that was read by another one is read again: its rows have the same fingerprints, but other values.
"""

RAW_ASSETS = {
    "raw_bids": ("submitted_at", "The window's bids, by the time of their submission."),
    "raw_bid_outcomes": ("outcome_timestamp", "Outcomes that became known in the window, corrections included."),
    "raw_jobs": ("window", "The jobs that the window's bids name, as they stood when the window was read."),
    "raw_profiles": ("window", "The profiles that the window's bids name, as they stood when the window was read."),
    "rejected_rows": ("window", "Rows that break the contract in meaning: set aside here with table, id and reason."),
}
"""Name -> (time column, description), in the order in which they are read."""

_WITH_READABILITY = ("raw_jobs", "raw_profiles")
"""Those of which JSON columns are read already (skills), and whose times may be missing; the others hold JSON as text."""

_IDENTITY = {"rejected_rows": {IDENTITY_KEY: [FINGERPRINTS]}}
"""Written last, so that its newest version says which rows were read completely; hence a new one whenever other rows were."""


def raw_assets(settings: Settings) -> dg.AssetsDefinition:
    """All raw tables as one step, since only one snapshot makes them agree with each other."""

    @dg.multi_asset(
        name="raw_tables",
        outs={
            name: dg.AssetOut(
                description=description,
                io_manager_key="parquet_io_manager",
                metadata={TIME_COLUMN_KEY: time_column, **_IDENTITY.get(name, {})},
                kinds={"postgres", "parquet"},
                owners=OWNERS,
                code_version=CODE_VERSION,
            )
            for name, (time_column, description) in RAW_ASSETS.items()
        },
        check_specs=[rejected_rows_check, *map(readable_values_check, _WITH_READABILITY)],
        group_name="raw",
        partitions_def=windows(settings),
        backfill_policy=RANGE_RUN,
        pool=REFRESH_POOL,
    )
    def raw_tables(context: dg.AssetExecutionContext) -> Iterator[dg.Output[object] | dg.AssetCheckResult]:
        from bid_assets.app_db.snapshot_reader import open_snapshot  # its drivers take a while to load

        span = span_of(settings.cadence, list(context.partition_keys))
        url, silence = app_db_url(settings), settings.db_silence_seconds
        with open_snapshot(url, cadence=settings.cadence, chunk_rows=settings.read_chunk_rows, silence=silence) as snapshot:
            fingerprints = snapshot.fingerprints(span)
            starts = {key: microseconds_since_epoch(settings.cadence.window(key).start) for key in context.partition_keys}
            watermark = {"watermark": dg.MetadataValue.json(snapshot.watermark())}
            for name in RAW_ASSETS:
                counts = snapshot.readability(name)  # complete for a window once its rows have been streamed
                facts = {
                    key: {UNREADABLE_VALUES: counts.of_window(start)} if name in _WITH_READABILITY else {}
                    for key, start in starts.items()
                }
                record_window_metadata(
                    context, {key: {FINGERPRINTS: fingerprints.get(key, {}), **facts[key]} for key in starts}
                )
                if name != "rejected_rows":
                    yield dg.Output(snapshot.stream(name, span), output_name=name, metadata=watermark)
                if name in _WITH_READABILITY:
                    yield readable_values_result(name, map(counts.of_window, starts.values()))
            # last, since the reader need not look again at what those streams have shown to be valid
            rejected = snapshot.stream("rejected_rows", span).read_all()
            yield dg.Output(rejected, output_name="rejected_rows", metadata=watermark)
            yield rejected_rows_result(rejected)

    return raw_tables
