"""How good a model is on the bids that came after those it learned from."""

from typing import Any

import dagster as dg
import pyarrow.compute as pc

from bid_assets.modelling.evaluation import plots
from bid_assets.orchestration.assets.common import OWNERS, RETRAINING_POOL
from bid_assets.orchestration.assets.model import plot_metadata
from bid_assets.orchestration.input_tracking import loaded_versions
from bid_assets.orchestration.io_managers import WINDOWED
from bid_assets.orchestration.partitions import windows
from bid_assets.settings import Settings
from bid_assets.version_store.parquet import WindowedTable


def report_asset(settings: Settings) -> dg.AssetsDefinition:
    """`metrics_report`, one per window."""

    @dg.asset(
        description="The model evaluated on its holdout, beside three baselines: the base rate, each profile's own rate, "
        "and history-only logistic regression.",
        group_name="training",
        owners=OWNERS,
        kinds={"json"},
        code_version="4",
        pool=RETRAINING_POOL,
        ins={"training_dataset": dg.AssetIn(dagster_type=WINDOWED)},
        partitions_def=windows(settings),
        io_manager_key="json_io_manager",
    )
    def metrics_report(
        context: dg.AssetExecutionContext, training_dataset: WindowedTable, trained_model: Any
    ) -> dg.Output[dict[str, Any]]:
        from bid_assets.modelling.dataset.assemble import columns_with_texts
        from bid_assets.modelling.evaluation.report import evaluate

        rows = training_dataset.read(lambda schema: columns_with_texts(schema, ()))
        holdout = training_dataset.read(
            lambda schema: columns_with_texts(schema, trained_model.text_columns), where=pc.field("split") == "holdout"
        )
        report = evaluate(trained_model, rows, holdout)
        report["model"] = loaded_versions(context, "trained_model")[-1].version
        report["dataset"] = loaded_versions(context, "training_dataset")[-1].version
        pictures = plot_metadata(roc_curve=plots.roc(report), calibration_curve=plots.calibration(report))
        return dg.Output(report, metadata={**headline(report), **pictures})

    return metrics_report


def headline(report: dict[str, Any]) -> dict[str, float]:
    """The metrics that the UI plots over windows; those that could not be computed are left out."""
    names = ("roc_auc", "average_precision_rarer", "log_loss", "brier", "calibration_error", "precision", "recall", "f1")
    return {name: report["model_metrics"][name] for name in names if report["model_metrics"].get(name) is not None}
