"""File formats of the IO managers: Parquet, CSV, JSON, joblib, HTML; and the event that a deployment decision is."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import orjson
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from bid_assets.common.arrow import split_by_window
from bid_assets.modelling.evaluation.former_keys import with_current_keys
from bid_assets.orchestration.io_managers import TIME_COLUMN_KEY, MissingVersionsError, VersionedIOManager, asset_name
from bid_assets.orchestration.partitions import LOOKBACK_KEY
from bid_assets.settings import Settings
from bid_assets.version_store.content_hash import table_hash
from bid_assets.version_store.manifest import InputRef, Manifest
from bid_assets.version_store.parquet import TableFile, WindowedTable, write_parquet
from bid_assets.version_store.plain_json import json_hash
from bid_assets.version_store.store import VersionStore

_SHOWN_EVENTS = 20
"""So many of the newest events of the deployment history are shown with a decision."""


class ParquetIOManager(VersionedIOManager):
    """Tables: Arrow tables, streams of record batches in order of windows, files of tables written part by part, or pandas
    frames.

    An input annotated `pa.Table` or `pd.DataFrame` is read whole and must be complete; one annotated `WindowedTable` is
    pinned now and read when asked, with the columns asked for; one that looks back says itself which windows are missing.
    """

    extension = "parquet"

    def parts(self, context: dg.OutputContext, keys: Sequence[str], value: Any) -> Iterator[tuple[str, pa.Table]]:
        """Cut the rows by the asset's time column; without one, the table belongs to the one window of the run."""
        column = context.definition_metadata.get(TIME_COLUMN_KEY)
        if column is None:
            yield from super().parts(context, keys, value if isinstance(value, TableFile) else as_table(value))
            return
        assert isinstance(column, str)
        yield from split_by_window(value if is_stream(value) else as_table(value), column, keys, self.settings.cadence)

    def table_of(self, value: Any) -> pa.Table | TableFile:
        """The value is the table."""
        return value if isinstance(value, TableFile) else as_table(value)

    def content_hash(self, value: Any) -> str:
        """Of the table's logical content."""
        return value.content_hash if isinstance(value, TableFile) else table_hash(as_table(value))

    def write_file(self, value: Any, path: Path) -> None:
        """As Parquet."""
        if isinstance(value, TableFile):
            shutil.copyfile(value.path, path)
        else:
            write_parquet(as_table(value), path)

    def read(self, context: dg.InputContext, keys: Sequence[str], heads: Mapping[str, Manifest]) -> Any:
        """A table of all windows, or a `WindowedTable`."""
        asset = asset_name(context.asset_key)
        windowed = WindowedTable(self.store, asset, keys, heads)
        as_windowed = context.dagster_type.typing_type is WindowedTable
        if windowed.missing and not (as_windowed and LOOKBACK_KEY in context.definition_metadata):
            raise MissingVersionsError(asset, windowed.missing)
        if as_windowed:
            return windowed
        table = windowed.read()
        return table.to_pandas() if context.dagster_type.typing_type is pd.DataFrame else table


class SingleWindowIOManager(VersionedIOManager, ABC):
    """Formats whose values belong to one window each."""

    def read(self, context: dg.InputContext, keys: Sequence[str], heads: Mapping[str, Manifest]) -> Any:
        """The verified file of the one window."""
        missing = [key for key in keys if key not in heads]
        if missing:
            raise MissingVersionsError(asset_name(context.asset_key), missing)
        if len(keys) != 1:
            raise dg.DagsterInvariantViolationError(
                f"{context.asset_key.to_user_string()} can be loaded for one window at a time, not for {len(keys)}"
            )
        return self.read_file(self.store.fetch(heads[keys[0]]))

    @abstractmethod
    def read_file(self, path: Path) -> Any:
        """The value of a file whose checksum has been verified."""


class JoblibIOManager(SingleWindowIOManager):
    """Models, as joblib files of plain content; see `modelling.model_file`."""

    extension = "joblib"

    def content_hash(self, value: Any) -> str:
        """Of what was learned."""
        from bid_assets.modelling import model_file

        return model_file.content_hash(value)

    def former_content_hashes(self, value: Any) -> tuple[str, ...]:
        """By the rule of format 7."""
        from bid_assets.modelling import model_file

        return model_file.former_content_hashes(value)

    def write_file(self, value: Any, path: Path) -> None:
        """As a model file."""
        from bid_assets.modelling import model_file

        model_file.save(value, path)

    def read_file(self, path: Path) -> Any:
        """The model. The store has verified the checksum before."""
        from bid_assets.modelling import model_file

        return model_file.load(path)


class JsonIOManager(SingleWindowIOManager):
    """Dictionaries, as canonical JSON."""

    extension = "json"

    def content_hash(self, value: Any) -> str:
        """Of the canonical JSON."""
        return json_hash(value)

    def write_file(self, value: Any, path: Path) -> None:
        """Indented, keys in order."""
        path.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))

    def read_file(self, path: Path) -> Any:
        """The dictionary, under the keys of today."""
        return with_current_keys(orjson.loads(path.read_bytes()))


class DecisionIOManager(JsonIOManager):
    """Deployment decisions: JSON, and the event of the deployment history that each one is.

    The decision is written first, so that the history never names a decision that does not exist.
    """

    def _relevant_settings(self, context: dg.OutputContext) -> dict[str, Any]:
        """Without the run's config: what a person says in it is an event of the history, no property of the decision."""
        settings = super()._relevant_settings(context)
        settings.pop("config", None)
        return settings

    def after_write(self, context: dg.OutputContext, value: Any, manifest: Manifest) -> None:
        """Let the decision be history, and show what has become of the model."""
        from bid_assets.deployments.events import ModelState, read_history, record_decision

        model = InputRef(**value["model"])
        record_decision(
            self.store,
            model,
            ModelState(value["outcome"]),
            value["reason"],
            manifest.ref,
            by=f"bid_assets, run {context.run_id}",
        )
        now = read_history(self.store)
        context.add_output_metadata(
            {
                "state": now.state(model).value,
                "active_model": now.traffic.active.model.version if now.traffic.active is not None else "none",
                "deployments": dg.MetadataValue.table(
                    [dg.TableRecord(event.table_row()) for event in now.events[-_SHOWN_EVENTS:]]
                ),
            }
        )


class CsvIOManager(SingleWindowIOManager):
    """Small tables that people open elsewhere."""

    extension = "csv"

    def table_of(self, value: Any) -> pa.Table:
        """The value is the table."""
        return as_table(value)

    def content_hash(self, value: Any) -> str:
        """Of the table's logical content."""
        return table_hash(as_table(value))

    def write_file(self, value: Any, path: Path) -> None:
        """With a header."""
        csv.write_csv(as_table(value), path)

    def read_file(self, path: Path) -> pa.Table:
        """Types as the CSV reader infers them."""
        return csv.read_csv(path)


class HtmlIOManager(SingleWindowIOManager):
    """Pages for people."""

    extension = "html"

    def content_hash(self, value: Any) -> str:
        """Of the text."""
        return json_hash(value)

    def write_file(self, value: Any, path: Path) -> None:
        """As UTF-8."""
        path.write_text(value, encoding="utf-8")

    def read_file(self, path: Path) -> str:
        """The text."""
        return path.read_text(encoding="utf-8")


def io_managers(store: VersionStore, settings: Settings) -> dict[str, VersionedIOManager]:
    """The IO managers by resource key."""
    return {
        "parquet_io_manager": ParquetIOManager(store, settings),
        "joblib_io_manager": JoblibIOManager(store, settings),
        "json_io_manager": JsonIOManager(store, settings),
        "decision_io_manager": DecisionIOManager(store, settings),
        "csv_io_manager": CsvIOManager(store, settings),
        "html_io_manager": HtmlIOManager(store, settings),
    }


def is_stream(value: object) -> bool:
    """Whether the value gives its rows batch by batch."""
    return isinstance(value, pa.RecordBatchReader)


def as_table(value: Any) -> pa.Table:
    """The value as an Arrow table; a pandas frame loses its index."""
    if isinstance(value, pa.Table):
        return value
    if isinstance(value, pd.DataFrame):
        return pa.Table.from_pandas(value, preserve_index=False)
    raise TypeError(f"expected an Arrow table or a pandas frame, got {type(value).__name__}")
