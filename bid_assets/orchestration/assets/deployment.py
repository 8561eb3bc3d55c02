"""The decision about a window's model: rejected, active, or awaiting a person's approval.

Manual decisions come in by run config.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import dagster as dg
from pydantic import Field

from bid_assets.deployments import commands
from bid_assets.deployments.events import Action, ActiveModel, DeploymentHistory, ModelState, read_history
from bid_assets.modelling.evaluation.former_keys import with_current_keys
from bid_assets.orchestration.assets.common import OWNERS, RETRAINING_POOL
from bid_assets.orchestration.input_tracking import loaded_versions
from bid_assets.orchestration.io_managers import SETTINGS_KEY, WINDOWED
from bid_assets.orchestration.partitions import windows
from bid_assets.settings import Settings
from bid_assets.version_store.manifest import InputRef
from bid_assets.version_store.parquet import WindowedTable
from bid_assets.version_store.store import CorruptVersionError, VersionStore

FLOORS = ["min_roc_auc", "max_calibration_error", "min_log_loss_gain"]
PROMOTION = ["required_improvement", "required_confidence", "fresher_tolerance", "max_roc_auc_loss", "max_slice_harm"]
DECISION_SETTINGS = [*FLOORS, *PROMOTION, "approval"]

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


def decide_deployment(
    store: VersionStore, ref: InputRef, model: Any, dataset: WindowedTable, report: dict[str, Any], settings: Settings
) -> dict[str, Any]:
    """The decision about `model`: is it good enough, is it no worse than the active one, and has no person decided otherwise.

    JSON-able: `model`, `outcome` (a `ModelState`), `reason`, `rules`, `comparison` with the active model (None where there is
    none).
    """
    from bid_assets.modelling.promotion.acceptance_rules import Thresholds, absolute_rules, summarize

    deployments = read_history(store)
    comparison, promotion = _compare_with_champion(store, deployments.traffic.active, ref, model, dataset, settings)
    rules = [
        *absolute_rules(report, Thresholds(**settings.model_dump(include=set(FLOORS)))),
        _no_later_window_rule(deployments.traffic.active, ref),
        _not_manually_retired_rule(deployments, ref),
        *promotion,
    ]
    passed, reason = summarize(rules, report)
    if not passed:
        outcome = ModelState.REJECTED
    elif settings.approval == "manual":
        outcome = ModelState.AWAITING
        reason += f"; approve it with `bid-assets approve {ref.version} --reason ...`, or here with the config `approve`"
    else:
        outcome = ModelState.ACTIVE
    return {"model": asdict(ref), "outcome": outcome.value, "reason": reason, "rules": rules, "comparison": comparison}


def _compare_with_champion(
    store: VersionStore, active: ActiveModel | None, ref: InputRef, model: Any, dataset: WindowedTable, settings: Settings
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The comparison with the active model, and the rules on it; neither where there is no other model to compare with."""
    if active is None or active.model == ref:
        return None, []
    from bid_assets.modelling.promotion.champion_challenger import PromotionRules, promotion_rules
    from bid_assets.orchestration.champion_comparison import NotComparableError, compare_with_champion

    try:
        compared = compare_with_champion(store, active.model, model, dataset)
    except NotComparableError as why:
        return {"champion": active.model.version, "not_comparable": str(why)}, []
    rules = PromotionRules(**settings.model_dump(include=set(PROMOTION)))
    return compared, promotion_rules(compared, rules, fresher=compared["fresher"])


def _no_later_window_rule(active: ActiveModel | None, ref: InputRef) -> dict[str, Any]:
    later = active.model.partition if active is not None and active.model.partition > ref.partition else None
    return {
        "rule": "no model of a later window is active",
        "value": later,
        "limit": ref.partition,
        "passed": later is None,
        **({} if later is None else {"otherwise": f"the active model learned from a later window, {later}"}),
    }


def _not_manually_retired_rule(deployments: DeploymentHistory, ref: InputRef) -> dict[str, Any]:
    """A rule: a model that people have replaced or rejected is not activated again by itself."""
    rejections = [event for event in deployments.events_of(ref) if event.action is Action.REJECTED and event.decision is None]
    retired = deployments.state(ref) is ModelState.RETIRED
    if retired:
        otherwise = "it was active before and has been replaced; `bid-assets rollback --to` brings it back"
    else:
        otherwise = f"{rejections[-1].by} has rejected it: {rejections[-1].reason}" if rejections else ""
    return {
        "rule": "nobody has taken it back",
        "value": None,
        "limit": None,
        "passed": not otherwise,
        **({"otherwise": otherwise} if otherwise else {}),
    }


def _row(rule: dict[str, Any]) -> dg.TableRecord:
    """A rule as a row of text; the rule on slices names the slice."""
    rule = with_current_keys(rule)
    text = rule["rule"] + (f" ({rule['slice']})" if "slice" in rule else "")
    return dg.TableRecord({"rule": text, **{name: _short(rule[name]) for name in ("value", "limit", "passed")}})


def _short(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
