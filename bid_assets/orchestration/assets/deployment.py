"""The asset `deployment`: the decision about a window's model (`modelling/promotion/decision.py`), or a manual one by run
config."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import dagster as dg
from pydantic import Field

from bid_assets.deployments import commands
from bid_assets.deployments.events import ModelState
from bid_assets.modelling.evaluation.former_keys import with_current_keys
from bid_assets.modelling.promotion.acceptance_rules import ACCEPTANCE_SETTINGS, PROMOTION_SETTINGS
from bid_assets.orchestration.assets.common import OWNERS, RETRAINING_POOL
from bid_assets.orchestration.input_tracking import loaded_versions
from bid_assets.orchestration.io_managers import SETTINGS_KEY, WINDOWED
from bid_assets.orchestration.partitions import windows
from bid_assets.settings import Settings
from bid_assets.version_store.manifest import InputRef
from bid_assets.version_store.parquet import WindowedTable
from bid_assets.version_store.store import CorruptVersionError, VersionStore

DECISION_SETTINGS = [*ACCEPTANCE_SETTINGS, *PROMOTION_SETTINGS, "approval"]

CODE_VERSION = "2"


class DeploymentConfig(dg.Config):
    """Run config of `deployment`: a manual decision, the same as on the command line.

    Empty texts, not None: the launchpad shows what has a value.
    """

    approve: str = Field(
        "", description="Version (or short id) of a trained_model that awaits approval, to become the active one."
    )
    reject: str = Field("", description="Version (or short id) of a trained_model that awaits approval, to be rejected.")
    override: bool = Field(False, description="With `approve`: activate it though it was rejected.")
    by: str = Field("", description="Who says so; needed to approve or reject.")
    reason: str = Field("", description="Why; needed to approve or reject.")


def deployment_asset(settings: Settings) -> dg.AssetsDefinition:
    """`deployment`, one decision per window."""

    @dg.asset(
        description="Whether this window's model is activated, rule by rule, and the history of what was active.",
        group_name="serving",
        owners=OWNERS,
        kinds={"json"},
        code_version=CODE_VERSION,
        pool=RETRAINING_POOL,
        ins={"training_dataset": dg.AssetIn(dagster_type=WINDOWED)},
        partitions_def=windows(settings),
        io_manager_key="decision_io_manager",
        required_resource_keys={"store"},
        metadata={SETTINGS_KEY: DECISION_SETTINGS},
    )
    def deployment(
        context: dg.AssetExecutionContext,
        config: DeploymentConfig,
        training_dataset: WindowedTable,
        trained_model: Any,  # loaded so that a model whose file fails its checksum cannot be activated
        metrics_report: dict[str, Any],
    ) -> dg.Output[dict[str, Any]]:
        from bid_assets.modelling.promotion.decision import decide_deployment

        store = context.resources.store
        apply_manual_decision(store, config)
        inputs = {name: loaded_versions(context, name)[-1] for name in ("training_dataset", "trained_model", "metrics_report")}
        decision = existing_decision(store, inputs.values(), settings) or decide_deployment(
            store, inputs["trained_model"], trained_model, training_dataset, metrics_report, settings
        )
        return dg.Output(
            decision,
            metadata={
                "activated": decision["outcome"] == ModelState.ACTIVE,
                "outcome": decision["outcome"],
                "reason": decision["reason"],
                "rules": dg.MetadataValue.table([_row(rule) for rule in decision["rules"]]),
            },
        )

    return deployment


def apply_manual_decision(store: VersionStore, config: DeploymentConfig) -> None:
    """Approve or reject what the config names.

    Raises `dg.Failure` where `by` or `reason` is missing, and for what `deployments.commands` refuses.
    """
    if not config.approve and not config.reject:
        return
    if config.approve and config.reject:
        raise dg.Failure("the config says both `approve` and `reject`; say one of them", allow_retries=False)
    if not config.by or not config.reason:
        raise dg.Failure("the config must say `by` (who) and `reason` (why): both are kept in the history", allow_retries=False)
    try:
        if config.approve:
            commands.approve(store, config.approve, config.by, config.reason, override=config.override)
        else:
            commands.reject(store, config.reject, config.by, config.reason)
    except commands.COMMAND_ERRORS as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def existing_decision(store: VersionStore, inputs: Iterable[InputRef], settings: Settings) -> dict[str, Any] | None:
    """The decision on the same inputs and settings, if there is one: a model is decided about once, whatever was activated
    since.
    """
    model = next(ref for ref in inputs if ref.asset == "trained_model")
    head = store.head("deployment", model.partition)
    if head is None or head.code.asset != CODE_VERSION:
        return None
    same_inputs = {ref.content_hash for ref in head.inputs} == {ref.content_hash for ref in inputs}
    if not same_inputs or head.settings != settings.model_dump(mode="json", include=set(DECISION_SETTINGS)):
        return None
    try:
        decision: dict[str, Any] = json.loads(store.fetch(head).read_bytes())
    except CorruptVersionError:
        return None  # it is made again, and restores the file
    return decision if decision["model"] == asdict(model) else None


def _row(rule: dict[str, Any]) -> dg.TableRecord:
    """A rule as a row of text; the rule on slices names the slice."""
    rule = with_current_keys(rule)
    text = rule["rule"] + (f" ({rule['slice']})" if "slice" in rule else "")
    return dg.TableRecord({"rule": text, **{name: _short(rule[name]) for name in ("value", "limit", "passed")}})


def _short(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
