"""`bid-assets compare A B`: two models side by side, from their manifests and reports; nothing is loaded or scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from rich.markup import escape
from rich.table import Table

from bid_assets.cli.inspect import find_manifest
from bid_assets.cli.models import MODEL
from bid_assets.cli.output import console, print_json
from bid_assets.common.renamed_settings import with_current_names
from bid_assets.deployments.events import DeploymentHistory, read_history
from bid_assets.settings import get_settings
from bid_assets.version_store.manifest import Manifest
from bid_assets.version_store.store import VersionStore
from bid_assets.version_store.store_metadata import open_store

ComparisonRow = tuple[str, Any, Any]

DATASET = "training_dataset"
METRICS = ("roc_auc", "average_precision", "average_precision_rarer", "log_loss", "brier", "calibration_error", "threshold")
DATASET_METADATA = ("bids", "labelled", "undecided", "label_rate", "label_maturity_days")


def show_comparison(first: str, second: str, *, as_json: bool) -> None:
    """Print what two models have in common and what not."""
    store = open_store(get_settings())
    deployments = read_history(store)
    sides = [_facts(store, deployments, find_manifest(store, MODEL, None, version)) for version in (first, second)]
    if as_json:
        print_json({"a": sides[0], "b": sides[1], "differences": differences(*sides)})
        return
    a, b = sides
    console.print(f"A: [bold]{a['model']['version']}[/bold]\nB: [bold]{b['model']['version']}[/bold]")
    table = Table("", "A", "B", "B - A")
    for section in a:
        _add_section(table, section, a[section], b[section])
    console.print(table)
    same = a["dataset"].get("version") == b["dataset"].get("version")
    console.print(
        "Both were evaluated on the same holdout."
        if same
        else "Each was evaluated on the holdout of its own dataset: other bids, so a difference of the metrics is not the "
        "models' alone."
    )


def differences(a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    """Section -> name -> the values of A and B, where they are not equal."""
    sections = {
        section: {name: [left, right] for name, left, right in _rows(a[section], b[section]) if left != right} for section in a
    }
    return {section: rows for section, rows in sections.items() if rows}


def _facts(store: VersionStore, deployments: DeploymentHistory, model: Manifest) -> dict[str, dict[str, Any]]:
    """All that is compared of one model, by section."""
    dataset = _dataset(store, model)
    report = _report(store, model)
    settings = with_current_names({**({} if dataset is None else dataset.settings), **model.settings})
    return {
        "model": {
            "version": model.version,
            "window": model.partition,
            "made": f"{model.created_at:%Y-%m-%d %H:%M:%S}",
            "state": deployments.state(model.ref).value,
            "commit": (model.code.git_commit or "unknown")[:10] + ("+changes" if model.code.dirty else ""),
            "content": model.content_hash[:8],
        },
        "metrics": {name: report.get(name) for name in METRICS},
        "dataset": {} if dataset is None else _of_dataset(dataset),
        "parameters": with_current_names(model.info.get("parameters") or {}),
        "settings": {name: value for name, value in settings.items() if name != "config"},  # which is the parameters
        "features": {} if dataset is None else {field["name"]: field["type"] for field in dataset.schema or ()},
        "libraries": dict(model.libraries),
    }


def _of_dataset(dataset: Manifest) -> dict[str, Any]:
    windows = sorted({ref.partition for ref in dataset.inputs if ref.asset == "raw_bids"})
    return {
        "version": dataset.version,
        "cutoff": None if dataset.cutoff is None else f"{dataset.cutoff:%Y-%m-%d %H:%M}",
        "windows": f"{windows[0]} to {windows[-1]}" if windows else None,
        "rows": dataset.rows,
        **{name: dataset.info.get(name) for name in DATASET_METADATA},
        **{name: str(dataset.info.get(name))[:16] for name in ("first_submitted", "last_submitted")},
        "encoder_fingerprint": (dataset.info.get("encoder_fingerprint") or "")[:12],
    }


def _dataset(store: VersionStore, model: Manifest) -> Manifest | None:
    """What a model learned from; None where its manifest is gone."""
    inputs = [ref for ref in model.inputs if ref.asset == DATASET]
    return next(iter(store.manifests(inputs).values()), None)


def _report(store: VersionStore, model: Manifest) -> dict[str, Any]:
    """The metrics of the newest report about a model; none where there is no report."""
    reports = [each for each in store.versions("metrics_report", model.partition) if model.ref in each.inputs]
    return dict(orjson.loads(store.fetch(reports[-1]).read_bytes())["model_metrics"]) if reports else {}


def _add_section(table: Table, section: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Rows of a section: metrics and facts in full; of long lists what differs, and how much is equal."""
    rows = _rows(a, b)
    shown = rows if section in ("model", "metrics", "dataset") else [row for row in rows if row[1] != row[2]]
    equal = len(rows) - len(shown)
    table.add_section()
    table.add_row(f"[bold italic]{section}[/]", f"[dim]{equal} equal[/dim]" if equal else "")
    for name, left, right in shown:
        style = None if left == right else "bold"
        table.add_row(name, _cell(left), _cell(right), _difference(left, right), style=style)


def _rows(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[ComparisonRow]:
    return [(name, a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b])]


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return escape(value.removeprefix(f"{MODEL}_").removeprefix(f"{DATASET}_"))  # the rest is an id that commands take
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else escape(str(value))


def _difference(left: Any, right: Any) -> str:
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    return f"{right - left:+.4g}" if numbers and left != right else ""
