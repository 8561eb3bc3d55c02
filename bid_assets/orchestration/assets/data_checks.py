"""The data-quality checks of the dataset, as Dagster asset checks. Their rules are in `modelling/dataset/data_checks.py`.

A dataset is checked before it is written: one that fails never becomes what readers get, and what was active stays active.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import dagster as dg
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bid_assets.app_db.contract import UNDATED_REASON
from bid_assets.features.registry import families
from bid_assets.orchestration.assets.raw_tables import RAW_ASSETS
from bid_assets.orchestration.metadata import rounded
from bid_assets.settings import Settings
from bid_assets.version_store.manifest import Manifest
from bid_assets.version_store.parquet import TableFile, WindowedTable
from bid_assets.version_store.plain_json import json_hash
from bid_assets.version_store.store import VersionStore

QUALITY_CHECKS = {
    "rejected_rows_within_limit": "Not too many rows of the look-back break the contract.",
    "no_family_all_missing": "No feature family has lost all of its values.",
    "label_rate_as_before": "The odds of success are near those of the datasets before.",
    "schema_as_before": "Columns and types are those of the dataset before.",
}
"""Name -> description. A failure of one stops the dataset before its HEAD moves."""

DATASET_CODE_VERSION = "4"
"""To be raised when the columns of a dataset change that are of no family, or what they mean."""

MISSING_FAMILIES_KEY = "families_without_values"
QUALITY_BASIS_KEY = "quality_basis"
"""Fact of a dataset: its `quality_basis`."""
QUALITY_SETTINGS = ["max_rejected_share", "max_label_odds_ratio", "min_labelled_bids"]
_COMPARED_DATASETS = 8


def quality_checks() -> list[dg.AssetCheckSpec]:
    """The specs of all checks."""
    return [
        dg.AssetCheckSpec(name, asset="training_dataset", description=description, blocking=True)
        for name, description in QUALITY_CHECKS.items()
    ]


def run_data_checks(
    store: VersionStore,
    dataset: TableFile,
    missing: Collection[str],
    bids: WindowedTable,
    label_rate: float | None,
    settings: Settings,
    encoder_fingerprint: str | None,
) -> list[Any]:
    """The results of all data checks on a dataset that is no version yet; `missing`: the families that have no value in it."""
    from bid_assets.modelling.dataset import data_checks

    before = _previous_datasets(store, settings, encoder_fingerprint)
    rejected, valid = rejected_rows(store, bids.windows), _rows(store, ["raw_bids", "raw_bid_outcomes"], bids.windows)
    enough = dataset.num_rows >= settings.min_labelled_bids
    return [
        data_checks.rejected_rows_within_limit(rejected, valid, settings.max_rejected_share),
        data_checks.no_family_all_missing(missing, before),
        data_checks.label_rate_as_before(label_rate if enough else None, before, settings.max_label_odds_ratio),
        data_checks.schema_as_before(dataset.schema, before),
    ]


def quality_basis(store: VersionStore, settings: Settings, windows: Sequence[str]) -> str:
    """A hash of what the checks look at that is no input of the dataset: their limits, and the rejected rows of `windows`."""
    rejected = {key: head.content_hash for key, head in store.heads("rejected_rows", windows).items()}
    return json_hash([settings.model_dump(mode="json", include=set(QUALITY_SETTINGS)), rejected])


def asset_check_results(results: Sequence[Any], accepted: Sequence[str]) -> Iterator[dg.AssetCheckResult]:
    """The results as Dagster's, with what to do where one failed."""
    try:
        refuse_unknown_checks(accepted)
    except ValueError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from None
    for result in results:
        accept = (
            f"If it is as it should be, accept it once: `{accept_command([result.check])}`, or materialize training_dataset "
            f'with the config `accept: ["{result.check}"]`.'
        )
        stops = result.stops and result.check not in accepted
        yield dg.AssetCheckResult(
            check_name=result.check,
            passed=result.passed,
            severity=dg.AssetCheckSeverity.ERROR if stops else dg.AssetCheckSeverity.WARN,
            description=result.finding if result.passed else f"{result.finding}. {result.advice} {accept}",
            metadata={name: rounded(value) if isinstance(value, float) else value for name, value in result.values.items()},
        )


def raise_if_blocked(results: Sequence[Any], accepted: Sequence[str]) -> None:
    """Raise `dagster.Failure` where a check that stops has failed and nobody has accepted that."""
    failed = [result for result in results if not result.passed and result.stops and result.check not in accepted]
    if failed:
        findings = "; ".join(f"{result.check}: {result.finding}" for result in failed)
        command = accept_command([result.check for result in failed])
        raise dg.Failure(
            description=f"the dataset was not written, and what is active stays active. {findings}. The check's page says what "
            f"to do; if it is as it should be: `{command}`",
            allow_retries=False,
        )


def refuse_unknown_checks(names: Sequence[str]) -> None:
    """Raise `ValueError` where a name is no check's."""
    if unknown := sorted(set(names) - set(QUALITY_CHECKS)):
        raise ValueError(f"accept names no check: {', '.join(unknown)}; the checks are {', '.join(QUALITY_CHECKS)}")


def accept_command(checks: Sequence[str]) -> str:
    """The command by which a person accepts what these checks have found."""
    return " ".join(["bid-assets run", *(f"--accept {check}" for check in checks)])


def _previous_datasets(store: VersionStore, settings: Settings, encoder_fingerprint: str | None) -> Any:
    """The facts of the newest datasets that a new one is compared with; small ones do not count for the label rate."""
    from bid_assets.modelling.dataset.data_checks import PreviousDatasets, families_of_columns

    heads = store.heads("training_dataset", store.partitions("training_dataset")).values()
    newest = sorted(heads, key=lambda head: head.created_at, reverse=True)
    rates = [head.info["label_rate"] for head in newest if (head.rows or 0) >= settings.min_labelled_bids]
    if not newest:
        return PreviousDatasets()
    missing = frozenset(newest[0].info.get(MISSING_FAMILIES_KEY, ()))
    columns = families_of_columns(pq.read_schema(store.fetch(newest[0])))
    return PreviousDatasets(
        newest[0].schema or (),
        columns,
        declared_changes(store, newest[0], encoder_fingerprint),
        rates[:_COMPARED_DATASETS],
        missing,
    )


def declared_changes(store: VersionStore, dataset: Manifest, encoder_fingerprint: str | None) -> dict[str, str]:
    """Family -> what code or settings have changed of it since `dataset` was made; under "" what concerns no family."""
    newest_inputs = {ref.asset: ref for ref in sorted(dataset.inputs, key=lambda ref: ref.partition)}
    code = {ref.asset: manifest.code.asset for ref, manifest in store.manifests(newest_inputs.values()).items()}
    now = {family.name: family for family in families()}
    changes = {name: f"{name} is a new family" for name in now if name not in newest_inputs}
    changes |= {name: f"{name} is a family no more" for name in newest_inputs if name not in now and name not in RAW_ASSETS}
    for name, family in now.items():
        if name in code and code[name] != family.code_version:
            changes[name] = f"{name} has code version {family.code_version}, not {code[name]}"
        elif name in newest_inputs and family.needs_encoder and dataset.info.get("encoder_fingerprint") != encoder_fingerprint:
            changes[name] = f"{name} are of another encoder"
    if dataset.code.asset != DATASET_CODE_VERSION:
        changes[""] = f"training_dataset has code version {DATASET_CODE_VERSION}, not {dataset.code.asset}"
    return changes


def rejected_rows(store: VersionStore, windows: Sequence[str]) -> dict[str, int]:
    """Rejected rows by window, without those that lie there only because they have no time."""
    counts = dict.fromkeys(windows, 0)
    for key, head in store.heads("rejected_rows", windows).items():
        if head.rows:
            reasons = pq.read_table(store.fetch(head), columns=["reason"], partitioning=None)["reason"]
            undated = pc.match_substring_regex(reasons, UNDATED_REASON)
            counts[key] = head.rows - (pc.sum(undated).as_py() or 0)
    return counts


def _rows(store: VersionStore, assets: Sequence[str], windows: Sequence[str]) -> dict[str, int]:
    """Rows by window, of several assets together."""
    counts = dict.fromkeys(windows, 0)
    for asset in assets:
        for key, head in store.heads(asset, windows).items():
            counts[key] += head.rows or 0
    return counts
