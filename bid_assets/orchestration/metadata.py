"""What a materialization shows in the Dagster UI: a manifest as metadata, and metadata as the plain facts of a manifest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any
from urllib.parse import quote

import dagster as dg

from bid_assets.app_db.readability import Reasons, by_column
from bid_assets.version_store.manifest import InputRef, Manifest

Metadata = dict[str, dg.MetadataValue[Any]]


def plain_facts(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers, texts and JSON among an output's metadata: what is worth keeping in the manifest. Pictures are not."""
    kept = (dg.IntMetadataValue, dg.FloatMetadataValue, dg.TextMetadataValue, dg.BoolMetadataValue, dg.JsonMetadataValue)
    facts: dict[str, Any] = {}
    for name, value in metadata.items():
        if isinstance(value, kept):
            facts[name] = value.value
        elif isinstance(value, bool | int | float | str):
            facts[name] = value
    return facts


UNREADABLE_VALUES = "unreadable_values"
"""Fact of a version whose asset reads JSON values, or times that may be missing: its `app_db.readability.Reasons`; in the UI
the number, with a table.
"""


def readability_metadata(windows: Iterable[Reasons]) -> Metadata:
    """How many values could not be read, and of each column the reasons and the share."""
    columns = by_column(windows)
    records = [
        dg.TableRecord(data={"column": column.column, "reason": reason, "values": count, "of": column.values})
        for column in columns
        for reason, count in column.unreadable.items()
    ]
    total = sum(sum(column.unreadable.values()) for column in columns)
    table = {f"{UNREADABLE_VALUES}_by_reason": dg.MetadataValue.table(records=records)} if records else {}
    return {UNREADABLE_VALUES: dg.MetadataValue.int(total), **table}


PLOTTED = frozenset(
    {"roc_auc", "average_precision_rarer", "log_loss", "brier", "calibration_error", "precision", "recall", "f1"}
    | {"labelled", "label_rate", "train_rows"}
)
"""Numbers whose course over the windows is worth a plot. Dagster plots every number, so all others are shown as text."""


def shown_numbers(metadata: Mapping[str, Any]) -> Metadata:
    """The numbers among an output's metadata as people read them: of four digits; text where no plot is worth having.

    The manifest keeps them as they are (`plain_facts`).
    """
    shown: Metadata = {}
    for name, value in plain_facts(metadata).items():
        if isinstance(value, float) and name in PLOTTED:
            shown[name] = dg.MetadataValue.float(rounded(value))
        elif isinstance(value, int | float) and not isinstance(value, bool) and name not in PLOTTED:
            shown[name] = dg.MetadataValue.text(f"{rounded(value):,}")
    return shown


def rounded(value: float) -> float:
    """A number of four significant digits; an integer as it is."""
    return value if isinstance(value, int) or not math.isfinite(value) else float(f"{value:.4g}")


def metadata_of(manifest: Manifest, url: str, *, created: bool, columns: bool) -> Metadata:
    """A manifest for the eye: the version and its numbers, what it was made from, its columns if asked for, its code."""
    shown: Metadata = {
        "version": dg.MetadataValue.text(manifest.version),
        "new_version": dg.MetadataValue.bool(created),
        "path": dg.MetadataValue.path(url),
        "bytes": dg.MetadataValue.text(f"{manifest.bytes:,}"),
        "content_hash": dg.MetadataValue.text(manifest.content_hash),
        "inputs": dg.MetadataValue.text(f"{len(manifest.inputs):,}"),
    }
    if manifest.rows is not None:
        shown["dagster/row_count"] = dg.MetadataValue.int(manifest.rows)
    if manifest.cutoff is not None:
        shown["cutoff"] = dg.MetadataValue.timestamp(manifest.cutoff)
    if manifest.inputs:
        shown["inputs_table"] = _inputs_table(manifest.inputs)
        shown["inputs_links"] = dg.MetadataValue.md(_inputs_links(manifest.inputs))
    if columns and manifest.schema is not None:
        schema = [dg.TableColumn(name=field["name"], type=field["type"]) for field in manifest.schema]
        shown["dagster/column_schema"] = dg.MetadataValue.table_schema(dg.TableSchema(columns=schema))
    if manifest.code.git_commit:
        dirty = " (with uncommitted changes)" if manifest.code.dirty else ""
        shown["code"] = dg.MetadataValue.text(manifest.code.git_commit + dirty)
    return shown


def _by_asset(inputs: tuple[InputRef, ...]) -> list[tuple[str, list[InputRef]]]:
    ordered = sorted(inputs, key=lambda ref: (ref.asset, ref.partition))
    return [(asset, list(refs)) for asset, refs in groupby(ordered, key=lambda ref: ref.asset)]


def _inputs_table(inputs: tuple[InputRef, ...]) -> dg.TableMetadataValue:
    """One line per upstream asset; the whole list is in the manifest file, which `path` leads to."""
    records = [
        dg.TableRecord(
            data={
                "asset": asset,
                "windows": len(refs),
                "first": refs[0].partition,
                "last": refs[-1].partition,
                "newest version": max(ref.version for ref in refs),
            }
        )
        for asset, refs in _by_asset(inputs)
    ]
    return dg.MetadataValue.table(records=records)


def _inputs_links(inputs: tuple[InputRef, ...]) -> str:
    lines = ["| asset | window | version | content |", "|---|---|---|---|"]
    for asset, refs in _by_asset(inputs):
        for ref in refs[-3:]:
            link = f"/assets/{quote(asset)}?view=partitions&partition={quote(ref.partition)}"
            lines.append(f"| [{asset}]({link}) | {ref.partition} | `{ref.version}` | `{ref.content_hash[:8]}` |")
        if len(refs) > 3:
            lines.append(f"| {asset} | and {len(refs) - 3} earlier windows | | |")
    return "\n".join(lines)
