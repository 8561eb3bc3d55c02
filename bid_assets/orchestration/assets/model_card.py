"""The page that people look at: everything that is known of a window's model, as HTML, and its summary in Dagster's UI."""

from typing import Any

import dagster as dg
import pyarrow as pa

from bid_assets.orchestration.assets.common import OWNERS, RETRAINING_POOL
from bid_assets.orchestration.input_tracking import loaded_versions, record_earlier_inputs
from bid_assets.orchestration.partitions import windows
from bid_assets.settings import Settings

EARLIER_WINDOWS = 26
"""Over so many windows the card shows how quality has developed."""


def model_card_asset(settings: Settings) -> dg.AssetsDefinition:
    """`model_card`, one per window."""

    @dg.asset(
        description="A model card: decision, metrics with intervals, curves, slices, dataset, lineage, limits of use.",
        group_name="serving",
        owners=OWNERS,
        kinds={"html"},
        code_version="8",
        pool=RETRAINING_POOL,
        partitions_def=windows(settings),
        io_manager_key="html_io_manager",
        required_resource_keys={"store"},
    )
    def model_card(
        context: dg.AssetExecutionContext,
        trained_model: Any,
        feature_importances: pa.Table,
        metrics_report: dict[str, Any],
        deployment: dict[str, Any],
    ) -> dg.Output[str]:
        from bid_assets.model_card.page import CardData, render_html, render_markdown

        store = context.resources.store
        model_ref = loaded_versions(context, "trained_model")[-1]
        model = store.manifest(model_ref.asset, model_ref.partition, model_ref.version)
        dataset = next(ref for ref in model.inputs if ref.asset == "training_dataset")
        earlier = record_earlier_inputs(context, store, settings, "metrics_report", EARLIER_WINDOWS)
        card = CardData(
            model=model,
            dataset=store.manifest(dataset.asset, dataset.partition, dataset.version),
            report=metrics_report,
            decision=deployment,
            importances=feature_importances.to_pylist(),
            earlier=[(report.partition, report.info) for report in earlier],
        )
        return dg.Output(render_html(card), metadata={"summary": dg.MetadataValue.md(render_markdown(card))})

    return model_card
