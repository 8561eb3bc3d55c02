"""The training dataset: every family joined to the labels known at the cutoff, over the look-back of its window."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import dagster as dg
from pydantic import Field

from bid_assets.common.windows import Cadence, TimeRange, as_utc, utc_now
from bid_assets.common.work_folder import work_folder
from bid_assets.features.registry import families
from bid_assets.orchestration.assets.common import OWNERS, RETRAINING_POOL
from bid_assets.orchestration.assets.data_checks import (
    DATASET_CODE_VERSION,
    MISSING_FAMILIES_KEY,
    QUALITY_BASIS_KEY,
    asset_check_results,
    quality_basis,
    quality_checks,
    raise_if_blocked,
    rejected_rows,
    run_data_checks,
)
from bid_assets.orchestration.input_tracking import record_latest_inputs, record_window_metadata
from bid_assets.orchestration.io_managers import IDENTITY_KEY, SETTINGS_KEY, WINDOWED
from bid_assets.orchestration.partitions import lookback_input, windows
from bid_assets.orchestration.refresh.staleness import FamilyInputs, raw_heads
from bid_assets.settings import Settings
from bid_assets.version_store.parquet import TableFile, WindowedTable, write_parts
from bid_assets.version_store.replay import PinnedStore
from bid_assets.version_store.store import VersionStore

LABEL_SETTINGS = ["label_maturity_days", "train_on_mature_only", "undecided_as_failure_days"]

CONSISTENCY_TIMEOUT_SECONDS, CONSISTENCY_POLL_SECONDS = 60.0, 5.0
"""How long a dataset waits for a refresh in flight to end, and the pause between two checks."""


class DatasetConfig(dg.Config):
    """Run config of `training_dataset`."""

    cutoff: str | None = Field(
        None, description="ISO time; only outcomes known before it are used. Unset: the window's end, or now while it is open."
    )
    allow_missing_windows: list[str] = Field(
        [], description="Windows (YYYY-MM-DD) that may be absent; any other missing window is an error."
    )

    accept: list[str] = Field(
        [], description="Data-quality checks by name that may fail in this run, since somebody has looked into it."
    )


class MissingWindowsError(dg.Failure):
    """The look-back lacks windows that the run config does not allow to be missing."""

    def __init__(self, missing: dict[str, list[str]]) -> None:
        keys = sorted({key for windows in missing.values() for key in windows})
        super().__init__(
            description=f"the look-back has no version of {', '.join(sorted(missing))} for {len(keys)} window(s), "
            f"{keys[0]} to {keys[-1]}. Make them with `bid-assets run --from {keys[0]} --to {keys[-1]}`, "
            "or allow them by name in the run's config (allow_missing_windows).",
            metadata={"missing_windows": missing},
            allow_retries=False,
        )


def dataset_asset(settings: Settings) -> dg.AssetsDefinition:
    """`training_dataset`, one per window."""
    lookback = lookback_input(settings.lookback_windows, WINDOWED)
    tables = ["raw_bids", "raw_bid_outcomes", *(family.name for family in families())]

    @dg.asset(
        description="One row per labelled bid of the look-back: features as of the bid, label as of the cutoff, split by time.",
        group_name="training",
        owners=OWNERS,
        kinds={"arrow", "parquet"},
        code_version=DATASET_CODE_VERSION,
        ins=dict.fromkeys(tables, lookback),
        partitions_def=windows(settings),
        io_manager_key="parquet_io_manager",
        required_resource_keys={"store"},
        check_specs=quality_checks(),
        pool=RETRAINING_POOL,
        metadata={
            SETTINGS_KEY: ["cadence", "lookback_windows", "holdout_share", *LABEL_SETTINGS],
            IDENTITY_KEY: ["lookback_windows"],
        },
    )
    def training_dataset(context: dg.AssetExecutionContext, config: DatasetConfig, **inputs: WindowedTable) -> Iterator[Any]:
        store = context.resources.store
        refuse_missing_windows(inputs, allowed=config.allow_missing_windows)
        inputs = wait_for_consistent_inputs(context, store, settings, inputs)
        lookback_windows = inputs["raw_bids"].windows
        window_metadata: dict[str, Any] = {QUALITY_BASIS_KEY: quality_basis(store, settings, lookback_windows)}
        if settings.lookback_windows == "auto":  # the manifest has the number, by which the dataset can be made again
            window_metadata["lookback_windows"] = len(lookback_windows)
        record_window_metadata(context, {context.partition_key: window_metadata})
        cutoff = cutoff_of(settings.cadence.window(context.partition_key), config.cutoff)
        rows, facts = labelled_rows(inputs, cutoff, settings)
        encoder = one_encoder(inputs)
        with work_folder(settings.home, "dataset") as folder:
            dataset, missing = write_dataset(rows, inputs, settings.cadence, folder / "dataset.parquet")
            results = run_data_checks(
                store, dataset, missing, inputs["raw_bids"], facts["label_rate"], settings, encoder.get("encoder_fingerprint")
            )
            yield from asset_check_results(results, config.accept)
            raise_if_blocked(results, config.accept)
            rejected = sum(rejected_rows(store, lookback_windows).values())
            facts |= {MISSING_FAMILIES_KEY: sorted(missing), "rejected_rows": rejected, **_windows(inputs), **encoder}
            yield dg.Output(dataset, metadata=facts)

    return training_dataset


def labelled_rows(inputs: dict[str, WindowedTable], cutoff: datetime, settings: Settings) -> tuple[Any, dict[str, Any]]:
    """The bids of the look-back with the labels known at the cutoff, without features, and the facts about them."""
    from bid_assets.modelling.dataset.assemble import BID_COLUMNS, dataset_facts, labelled_bids

    bids, outcomes = inputs["raw_bids"].read(BID_COLUMNS), inputs["raw_bid_outcomes"].read()
    rows = labelled_bids(
        bids,
        outcomes,
        cutoff=cutoff,
        holdout_share=settings.holdout_share,
        cadence=settings.cadence,
        rules=label_rules(settings),
    )
    return rows, dataset_facts(bids, rows)


def write_dataset(
    rows: Any, inputs: dict[str, WindowedTable], cadence: Cadence, path: Path
) -> tuple[TableFile, frozenset[str]]:
    """The dataset of these labelled bids as a file, and the families without any value in it.

    Windows are joined and written run by run: with its embeddings the whole may be larger than memory.
    """
    from bid_assets.modelling.dataset.assemble import by_windows, with_features
    from bid_assets.modelling.dataset.data_checks import missing_families

    missing = []

    def parts() -> Iterator[Any]:
        for keys, bids in by_windows(rows, inputs["raw_bids"].windows, cadence):
            part = with_features(bids, ((family, inputs[family.name].select_windows(keys).read()) for family in families()))
            if part.num_rows:
                missing.append(missing_families(part))
            yield part

    return write_parts(parts(), path), frozenset.intersection(*missing) if missing else frozenset()


def label_rules(settings: Settings) -> Any:
    """The settings that say what is made of the time that labels take, as `modelling.dataset.splits.LabelRules`."""
    from bid_assets.modelling.dataset.splits import LabelRules

    days, horizon = settings.label_maturity_days, settings.undecided_as_failure_days
    return LabelRules(
        maturity=None if days == "auto" else timedelta(days=days),
        train_on_mature_only=settings.train_on_mature_only,
        impute_failure_after=None if horizon is None else timedelta(days=horizon),
    )


def refuse_missing_windows(inputs: dict[str, WindowedTable], allowed: list[str]) -> None:
    """Raise `MissingWindowsError` unless every window of every input is there or allowed by name."""
    missing = {name: [key for key in table.missing if key not in allowed] for name, table in inputs.items()}
    missing = {name: keys for name, keys in missing.items() if keys}
    if missing:
        raise MissingWindowsError(missing)


def wait_for_consistent_inputs(
    context: dg.AssetExecutionContext, store: VersionStore, settings: Settings, inputs: dict[str, WindowedTable]
) -> dict[str, WindowedTable]:
    """The inputs, all features among them made from the raw versions that are pinned beside them.

    They were not if a refresh is moving heads just now; then everything is pinned anew, until they agree. Raises `dg.Failure`
    where they do not within `CONSISTENCY_TIMEOUT_SECONDS`.
    """
    if isinstance(store, PinnedStore):
        return inputs  # a rebuild repeats what was
    deadline = monotonic() + CONSISTENCY_TIMEOUT_SECONDS
    while stale := inconsistent_windows(store, settings, inputs):
        first, last = min(min(keys) for keys in stale.values()), max(max(keys) for keys in stale.values())
        finding = (
            f"{', '.join(sorted(stale))} of {first} to {last} were made from other versions of the raw tables than those of now"
        )
        if monotonic() >= deadline:
            raise dg.Failure(
                description=f"{finding}. Refresh them: `bid-assets run --from {first} --to {last}`",
                metadata={"stale_windows": stale},
                allow_retries=False,
            )
        context.log.info(f"{finding}; waiting for the refresh that is probably under way")
        sleep(CONSISTENCY_POLL_SECONDS)
        inputs = record_latest_inputs(context, store, inputs)
    return inputs


def inconsistent_windows(store: VersionStore, settings: Settings, inputs: dict[str, WindowedTable]) -> dict[str, list[str]]:
    """Family -> windows whose pinned features were not made from the pinned raw versions (or, of other raw tables, the
    present).
    """
    keys = inputs["raw_bids"].windows
    pinned = {name: {manifest.partition: manifest for manifest in table.manifests} for name, table in inputs.items()}
    heads = {asset: {**raw, **pinned.get(asset, {})} for asset, raw in raw_heads(store, settings, families(), keys).items()}
    stale_by_family = {}
    for family in families():
        reads = FamilyInputs(family, settings.cadence)
        stale = [key for key, manifest in pinned[family.name].items() if not reads.matches_heads(manifest, heads)]
        if stale:
            stale_by_family[family.name] = stale
    return stale_by_family


def cutoff_of(window: TimeRange, pinned: str | None) -> datetime:
    """The moment from which on a dataset of `window` knows nothing: its end, or now while it is open."""
    return as_utc(datetime.fromisoformat(pinned)) if pinned else min(window.end, utc_now())


def one_encoder(inputs: dict[str, WindowedTable]) -> dict[str, str]:
    """The fingerprint of the encoder behind all embeddings; vectors of different encoders must not be mixed."""
    windows_by_encoder: dict[str, list[str]] = {}
    for table in inputs.values():
        for manifest in table.manifests:
            if fingerprint := manifest.info.get("encoder_fingerprint"):
                windows_by_encoder.setdefault(fingerprint, []).append(manifest.partition)
    if len(windows_by_encoder) > 1:
        encoders = "; ".join(f"{name[:12]} in {min(keys)} to {max(keys)}" for name, keys in windows_by_encoder.items())
        raise dg.Failure(
            description=f"the look-back mixes embeddings of {len(windows_by_encoder)} encoders ({encoders}). Encode all of it "
            f"with the present one: `bid-assets run --from {min(min(keys) for keys in windows_by_encoder.values())}`",
            allow_retries=False,
        )
    return {"encoder_fingerprint": next(iter(windows_by_encoder))} if windows_by_encoder else {}


def _windows(inputs: dict[str, WindowedTable]) -> dict[str, list[str]]:
    """The windows that the look-back expects, and those found in all of its inputs."""
    expected = inputs["raw_bids"].windows
    present = [key for key in expected if not any(key in table.missing for table in inputs.values())]
    return {"windows_expected": list(expected), "windows_found": present}
