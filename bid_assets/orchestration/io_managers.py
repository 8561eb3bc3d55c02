"""The IO manager over the version store: every output becomes a version, every input a pinned one.

It writes manifests, remembers what a step has loaded and tells Dagster about it; subclasses know one file format each
(`io_manager_formats`). What a version is and how it is kept safe is the business of `version_store/`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import orjson
import pyarrow as pa

from bid_assets.common.progress import report_progress
from bid_assets.orchestration import metadata
from bid_assets.orchestration.input_tracking import LoadedInput, loaded_by, recorded_window_metadata
from bid_assets.orchestration.partitions import LOOKBACK_KEY, keys_of_input, lookback_of, resolved_lookback
from bid_assets.settings import Settings
from bid_assets.version_store.code_version import current_code_version
from bid_assets.version_store.manifest import Draft, Manifest
from bid_assets.version_store.parquet import TableFile, WindowedTable
from bid_assets.version_store.plain_json import json_hash
from bid_assets.version_store.store import VersionStore, WriteResult
from bid_assets.version_store.store_metadata import remember_cadence

T = TypeVar("T")
R = TypeVar("R")

SETTINGS_KEY = "bid_assets/settings"
"""Metadata key of an asset: the names of the settings that its content depends on."""

IDENTITY_KEY = "bid_assets/identity"
"""Metadata key of an asset: names of facts (`input_tracking.record_window_metadata`) that belong to a version's identity."""

TIME_COLUMN_KEY = "partition_expr"
"""Metadata key of an asset: the column that says which window a row belongs to (as in Dagster's database IO managers)."""


WRITERS = 8
"""Windows of a range run written at once: making files durable is waiting, not computing."""

WINDOWED = dg.PythonObjectDagsterType(WindowedTable, name="WindowedTable")
"""For inputs that are pinned when the step starts and read when asked; Dagster wants one type object per name."""


class MissingVersionsError(dg.Failure):
    """An asset was asked to load windows that nobody has made yet."""

    def __init__(self, asset: str, missing: Sequence[str]) -> None:
        first, last = missing[0], missing[-1]
        super().__init__(
            description=f"{asset} has no version for {len(missing)} window(s) that this step looks back over "
            f"({first}{f' to {last}' if last != first else ''}). Make them with `bid-assets run --from {first} --to {last}`, "
            f"or materialize {asset} for these windows in the UI.",
            metadata={"asset": asset, "missing_windows": list(missing)},
            allow_retries=False,
        )


class VersionedIOManager(dg.IOManager, ABC):
    """Writes one version per window and loads pinned versions; a subclass knows the file format.

    In a range run one output covers many windows: `parts` cuts it, and each window gets its own version whose manifest
    names just the inputs which that window looks at.
    """

    extension: str

    def __init__(self, store: VersionStore, settings: Settings) -> None:
        self.store = store
        self.settings = settings

    @abstractmethod
    def content_hash(self, value: Any) -> str:
        """The hash of the logical content of `value`."""

    def former_content_hashes(self, value: Any) -> tuple[str, ...]:
        """The hashes of the same content by the rules of earlier releases, which older manifests have. Here: there are none."""
        return ()

    @abstractmethod
    def write_file(self, value: Any, path: Path) -> None:
        """Write `value` to a new local file."""

    @abstractmethod
    def read(self, context: dg.InputContext, keys: Sequence[str], heads: Mapping[str, Manifest]) -> Any:
        """The value of these windows, as the type annotation of the input asks for it."""

    def parts(self, context: dg.OutputContext, keys: Sequence[str], value: Any) -> Iterator[tuple[str, Any]]:
        """The windows of an output, each with its value. Here: a value belongs to exactly one window."""
        if len(keys) != 1:
            raise dg.DagsterInvariantViolationError(
                f"{context.asset_key.to_user_string()} gives one value for {len(keys)} windows; run them one by one"
            )
        yield keys[0], value

    def table_of(self, value: Any) -> pa.Table | TableFile | None:
        """The Arrow table whose rows and schema the manifest describes; None where the value is no table."""
        return None

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Write one version per window, and show them in Dagster."""
        keys = list(context.asset_partition_keys)
        asset = asset_name(context.asset_key)
        remember_cadence(self.store, self.settings.cadence)
        content_hashes = []
        writes = in_order(lambda part: self._write(context, asset, *part), self.parts(context, keys, obj), WRITERS)
        for done, written in enumerate(writes, start=1):
            content_hashes.append(written.manifest.content_hash)
            self._show(context, written.manifest, created=written.created, of=keys)
            report_progress(asset, done, len(keys))
        data_version = content_hashes[0] if len(content_hashes) == 1 else json_hash(content_hashes)
        context.step_context.set_data_version(context.asset_key, dg.DataVersion(data_version))

    def _write(self, context: dg.OutputContext, asset: str, key: str, value: Any) -> WriteResult:
        draft = self._draft(context, asset, key, value)
        written = self.store.write(draft, lambda path: self.write_file(value, path))
        self.after_write(context, value, written.manifest)
        return written

    def after_write(self, context: dg.OutputContext, value: Any, manifest: Manifest) -> None:
        """What else must happen once the version is there; for subclasses."""

    def load_input(self, context: dg.InputContext) -> Any:
        """Pin the heads of the windows asked for, remember them for the manifest, and read them."""
        mapped, definition = list(context.asset_partition_keys), context.definition_metadata
        if definition.get(LOOKBACK_KEY) == "auto":  # Dagster has mapped all that it can
            definition = resolved_lookback(self.settings, self.store, mapped[-1], definition)
            mapped = mapped[-lookback_of(definition) :]
        keys = keys_of_input(self.settings, mapped, definition)
        heads = self.store.heads(asset_name(context.asset_key), keys)
        loaded_by(context.step_context).add(LoadedInput(heads[key].ref, definition) for key in keys if key in heads)
        return self.read(context, keys, heads)

    def _draft(self, context: dg.OutputContext, asset: str, key: str, value: Any) -> Draft:
        table = self.table_of(value)
        facts = metadata.plain_facts(context.output_metadata)
        cutoff = facts.pop("cutoff", None)
        spec = context.asset_spec
        return Draft(
            asset=asset,
            partition=key,
            extension=self.extension,
            content_hash=self.content_hash(value),
            former_content_hashes=self.former_content_hashes(value),
            inputs=loaded_by(context.step_context).within_lookback(self.settings.cadence, key),
            code=current_code_version(spec.code_version),
            run_id=context.run_id,
            rows=None if table is None else table.num_rows,
            schema=None if table is None else tuple({"name": f.name, "type": str(f.type)} for f in table.schema),
            settings={**self._relevant_settings(context), **self._identity_of(context, key)},
            cutoff=None if cutoff is None else datetime.fromisoformat(cutoff),
            info={**facts, **recorded_window_metadata(context.step_context, key)},
        )

    def _relevant_settings(self, context: dg.OutputContext) -> dict[str, Any]:
        names = context.definition_metadata.get(SETTINGS_KEY, ())
        assert isinstance(names, list | tuple)
        config = context.step_context.op_config
        return {
            **self.settings.model_dump(mode="json", include=set(names)),
            **({"config": orjson.loads(orjson.dumps(config))} if config else {}),
        }

    def _identity_of(self, context: dg.OutputContext, key: str) -> dict[str, Any]:
        names = context.definition_metadata.get(IDENTITY_KEY, ())
        assert isinstance(names, list | tuple)
        facts = recorded_window_metadata(context.step_context, key)
        return {name: facts[name] for name in names if name in facts}

    def _show(self, context: dg.OutputContext, manifest: Manifest, *, created: bool, of: Sequence[str]) -> None:
        """Columns with the last window only: Dagster shows those of the newest event, and they are most of what one costs."""
        last = manifest.partition == of[-1]
        values = {
            **metadata.shown_numbers(context.output_metadata),
            **metadata.metadata_of(manifest, self.store.file_url(manifest), created=created, columns=last),
        }
        recorded = recorded_window_metadata(context.step_context, manifest.partition)
        if (reasons := recorded.get(metadata.UNREADABLE_VALUES)) is not None:  # also where the version is an older one
            values |= metadata.readability_metadata([reasons])
        if len(of) == 1:
            context.add_output_metadata(values)
        else:
            context.step_context.add_asset_metadata(values, context.asset_key, partition_key=manifest.partition)


def in_order(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """`work` done on `items` by a few threads, results in order; no more items are taken than are being worked on."""
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[R]] = deque()
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def asset_name(key: dg.AssetKey) -> str:
    """The asset's name in the store."""
    return "__".join(key.path)
