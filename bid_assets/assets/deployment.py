"""The decision whether a window's model becomes the active one. The pointer moves once the decision is stored."""

from dataclasses import asdict
from typing import Any

import dagster as dg

from bid_assets.assets.common import OWNERS, RETRAINING_POOL
from bid_assets.io_managers import SETTINGS_KEY, loaded_versions
from bid_assets.partitions import windows
from bid_assets.settings import Settings
from bid_assets.versions.activation import active_model
from bid_assets.versions.store import VersionStore

THRESHOLDS = ["min_roc_auc", "max_calibration_error", "min_log_loss_gain"]


def deployment_asset(settings: Settings) -> dg.AssetsDefinition:
    """`deployment`, one decision per window."""

    @dg.asset(
        description="Whether this window's model is activated, rule by rule, and the pointer that moved if it was.",
        group_name="serving",
        owners=OWNERS,
        kinds={"json"},
        code_version="1",
        pool=RETRAINING_POOL,
        partitions_def=windows(settings),
        io_manager_key="decision_io_manager",
        required_resource_keys={"store"},
        metadata={SETTINGS_KEY: THRESHOLDS},
    )
    def deployment(
        context: dg.AssetExecutionContext,
        trained_model: Any,  # loaded so that a model whose file fails its checksum cannot be activated
        metrics_report: dict[str, Any],
    ) -> dg.Output[dict[str, Any]]:
        decision = decide(context.resources.store, loaded_versions(context, "trained_model")[-1], metrics_report, settings)
        rules = [dg.TableRecord(data={key: str(value) for key, value in rule.items()}) for rule in decision["rules"]]
        return dg.Output(
            decision,
            metadata={
                "activated": decision["activate"],
                "reason": decision["reason"],
                "rules": dg.MetadataValue.table(records=rules),
            },
        )

    return deployment


def decide(store: VersionStore, model: Any, report: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The decision about `model` (an `InputRef`): the gate's rules, and never back to an older window by itself."""
    from bid_assets.modelling.gate import Thresholds, judge

    judgement = judge(report, Thresholds(**settings.model_dump(include=set(THRESHOLDS))))
    active = active_model(store)
    later = active.model.partition if active is not None and active.model.partition > model.partition else None
    order = {"rule": "no model of a later window is active", "figure": later, "limit": model.partition, "passed": later is None}
    return {
        "model": asdict(model),
        "activate": judgement.passed and later is None,
        "reason": judgement.reason if later is None else f"the active model learned from a later window, {later}",
        "rules": [*judgement.rules, order],
    }
