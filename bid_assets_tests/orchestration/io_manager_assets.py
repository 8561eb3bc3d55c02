"""A small asset graph on the real IO managers, importable by the processes of the multiprocess executor."""

from datetime import timedelta

import dagster as dg
import pandas as pd
import pyarrow as pa

from bid_assets.orchestration.io_manager_formats import io_managers
from bid_assets.orchestration.io_managers import SETTINGS_KEY, TIME_COLUMN_KEY, WINDOWED
from bid_assets.orchestration.partitions import lookback_input, windows
from bid_assets.settings import Settings, get_settings
from bid_assets.version_store.parquet import WindowedTable
from bid_assets.version_store.store import VersionStore

RANGE = dg.BackfillPolicy.single_run()


def small_defs(settings: Settings, rows_per_window: int = 2) -> dg.Definitions:
    """source -> doubled (looks back three windows) -> summed (a frame) -> told (JSON); source -> seen_from_afar (looks back
    101); summed -> read_later.
    """
    parts = windows(settings)

    @dg.asset(
        partitions_def=parts, backfill_policy=RANGE, io_manager_key="parquet_io_manager", metadata={TIME_COLUMN_KEY: "at"}
    )
    def source(context: dg.AssetExecutionContext) -> pa.RecordBatchReader:
        starts = [settings.cadence.window(key).start for key in context.partition_keys]
        times = [start + timedelta(hours=hour) for start in starts for hour in range(rows_per_window)]
        table = pa.table({"at": pa.array(times, pa.timestamp("us", tz="UTC")), "n": range(len(times))})
        return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=3))

    @dg.asset(
        ins={"source": lookback_input(3)},
        partitions_def=parts,
        backfill_policy=RANGE,
        io_manager_key="parquet_io_manager",
        code_version="7",
        metadata={TIME_COLUMN_KEY: "at", SETTINGS_KEY: ["cadence"]},
    )
    def doubled(context: dg.AssetExecutionContext, source: pa.Table) -> pa.Table:
        frame = source.to_pandas()
        frame = frame[frame["at"] >= pd.Timestamp(settings.cadence.window(context.partition_keys[0]).start)]
        return pa.Table.from_pandas(frame.assign(n=frame["n"] * 2), preserve_index=False)

    @dg.asset(ins={"doubled": lookback_input(2)}, partitions_def=parts, io_manager_key="parquet_io_manager")
    def summed(doubled: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"sum": [int(doubled["n"].sum())]})

    @dg.asset(ins={"source": lookback_input(3, WINDOWED)}, partitions_def=parts, io_manager_key="json_io_manager")
    def told(source: WindowedTable) -> dg.Output[dict[str, object]]:
        facts = {"windows": list(source.windows), "missing": list(source.missing), "columns": source.read(["n"]).column_names}
        return dg.Output(facts, metadata={"metric": 0.5})

    @dg.asset(ins={"source": lookback_input(101, WINDOWED)}, partitions_def=parts, io_manager_key="json_io_manager")
    def seen_from_afar(source: WindowedTable) -> list[str]:
        return list(source.windows)

    @dg.asset(ins={"summed": dg.AssetIn(dagster_type=WINDOWED)}, partitions_def=parts, io_manager_key="json_io_manager")
    def read_later(summed: WindowedTable) -> list[str]:
        return summed.read().column_names

    return dg.Definitions(
        assets=[source, doubled, summed, told, seen_from_afar, read_later],
        resources=dict(io_managers(VersionStore(settings.resolved_store_url), settings)),
        executor=dg.in_process_executor,
    )


def multiprocess_job() -> dg.JobDefinition:
    """The same graph with every step in a process of its own."""
    defs = small_defs(get_settings())
    job = dg.define_asset_job("separately", selection="*", executor_def=dg.multiprocess_executor)
    return dg.Definitions.merge(defs, dg.Definitions(jobs=[job])).resolve_job_def("separately")
