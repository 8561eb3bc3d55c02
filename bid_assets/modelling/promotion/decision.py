"""The decision whether a new model is promoted: acceptance rules, the comparison with the active model, manual decisions.

A model that passes all rules is active, or awaits a person's approval where the setting `approval` says so. The rules on the
report are in `acceptance_rules.py`, those on the comparison in `champion_challenger.py`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bid_assets.deployments.events import Action, ActiveModel, DeploymentHistory, ModelState, read_history
from bid_assets.modelling.promotion.acceptance_rules import (
    ACCEPTANCE_SETTINGS,
    PROMOTION_SETTINGS,
    AcceptanceThresholds,
    PromotionThresholds,
    absolute_rules,
    summarize,
)
from bid_assets.modelling.promotion.champion_challenger import promotion_rules
from bid_assets.modelling.promotion.champion_evaluation import NotComparableError, compare_with_champion
from bid_assets.settings import Settings
from bid_assets.version_store.manifest import InputRef
from bid_assets.version_store.parquet import WindowedTable
from bid_assets.version_store.store import VersionStore


def decide_deployment(
    store: VersionStore, ref: InputRef, model: Any, dataset: WindowedTable, report: dict[str, Any], settings: Settings
) -> dict[str, Any]:
    """The decision about `model`: is it good enough, is it no worse than the active one, and has no person decided otherwise.

    JSON-able: `model`, `outcome` (a `ModelState`), `reason`, `rules`, `comparison` with the active model (None where there is
    none).
    """
    deployments = read_history(store)
    comparison, promotion = _compare_with_champion(store, deployments.traffic.active, ref, model, dataset, settings)
    rules = [
        *absolute_rules(report, AcceptanceThresholds(**settings.model_dump(include=set(ACCEPTANCE_SETTINGS)))),
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
    try:
        compared = compare_with_champion(store, active.model, model, dataset)
    except NotComparableError as why:
        return {"champion": active.model.version, "not_comparable": str(why)}, []
    thresholds = PromotionThresholds(**settings.model_dump(include=set(PROMOTION_SETTINGS)))
    return compared, promotion_rules(compared, thresholds, fresher=compared["fresher"])


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
        "rule": "not retired or rejected by a person",
        "value": None,
        "limit": None,
        "passed": not otherwise,
        **({"otherwise": otherwise} if otherwise else {}),
    }
