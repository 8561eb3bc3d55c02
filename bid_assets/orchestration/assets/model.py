"""The assets `trained_model` and `feature_importances` of a window."""

import dataclasses
import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, get_type_hints

import dagster as dg
import pyarrow as pa
from pydantic import create_model

from bid_assets.modelling.evaluation import plots
from bid_assets.modelling.evaluation.charts import standalone
from bid_assets.modelling.parameters import TrainingParameters
from bid_assets.orchestration.assets.common import OWNERS, RETRAINING_POOL
from bid_assets.orchestration.input_tracking import loaded_versions, record_inputs
from bid_assets.orchestration.io_managers import SETTINGS_KEY, WINDOWED
from bid_assets.orchestration.partitions import windows
from bid_assets.settings import Settings
from bid_assets.version_store.parquet import WindowedTable
from bid_assets.version_store.store import VersionNotFoundError
from bid_assets.version_store.version_ids import resolve

SEARCH_KEY = "hyperparameters"

MODEL_CODE_VERSION = "10"
"""Of `trained_model`; where the newest model was made by another, a retraining is due."""

MODEL_SETTINGS = [field.name for field in dataclasses.fields(TrainingParameters) if field.name in Settings.model_fields]
"""Training parameters that are settings of the platform too; a run's config may still overrule them."""


def training_parameters(settings: Settings, **overrides: Any) -> TrainingParameters:
    """The defaults, the settings over them, and `overrides` over both."""
    return TrainingParameters(**{**settings.model_dump(include=set(MODEL_SETTINGS)), **overrides})


def training_config(settings: Settings) -> type[dg.Config]:
    """The hyperparameters as Dagster config, with their names, types and defaults taken from `TrainingParameters`."""
    defaults = training_parameters(settings)
    types = get_type_hints(TrainingParameters)
    fields: dict[str, Any] = {name: (types[name], getattr(defaults, name)) for name in types}
    fields[SEARCH_KEY] = (str | None, settings.hyperparameters)
    return create_model("TrainingConfig", __base__=dg.Config, **fields)


def searched_hyperparameters(context: dg.AssetExecutionContext, settings: Settings, version: str) -> dict[str, Any]:
    """The best setting of a search, which becomes an input of the step. Raises `dg.Failure` for one that does not fit."""
    store = context.resources.store
    try:
        search = store.manifest("hyperparameter_search", *resolve(store, "hyperparameter_search", version))
    except VersionNotFoundError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    if search.partition > context.partition_key:
        raise dg.Failure(
            f"{version} was found on window {search.partition}, which comes after {context.partition_key}: that would look "
            f"ahead",
            allow_retries=False,
        )
    record_inputs(context, settings, search)
    best: dict[str, Any] = json.loads(store.fetch(search).read_bytes())["best"]
    return best


def model_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """`trained_model` and `feature_importances`."""
    return [_model_asset(settings), _importances_asset(settings)]


def _model_asset(settings: Settings) -> dg.AssetsDefinition:
    config_type = training_config(settings)

    @dg.asset(
        description="A model with all that it needs to score: schema, vocabularies, booster, regressions on history and text, "
        "ratings, threshold.",
        group_name="training",
        owners=OWNERS,
        kinds={"xgboost", "joblib"},
        code_version=MODEL_CODE_VERSION,
        pool=RETRAINING_POOL,
        ins={"training_dataset": dg.AssetIn(dagster_type=WINDOWED)},
        partitions_def=windows(settings),
        io_manager_key="joblib_io_manager",
        output_required=False,
        required_resource_keys={"store"},
        metadata={SETTINGS_KEY: MODEL_SETTINGS},
    )
    def trained_model(
        context: dg.AssetExecutionContext,
        config: config_type,  # type: ignore[valid-type]
        training_dataset: WindowedTable,
    ) -> Iterator[dg.Output[Any]]:
        from bid_assets.modelling.parameters import NotTrainableError
        from bid_assets.modelling.training import train

        loaded = loaded_versions(context, "training_dataset")[-1]
        dataset = context.resources.store.manifest(loaded.asset, loaded.partition, loaded.version)
        values = config.model_dump()  # type: ignore[attr-defined]
        search = values.pop(SEARCH_KEY)
        parameters = TrainingParameters(**values)
        if search is not None:
            parameters = dataclasses.replace(parameters, **searched_hyperparameters(context, settings, search))
        try:
            model = train(training_dataset, parameters, dataset.info.get("encoder_fingerprint"))
        except NotTrainableError as reason:
            yield from _observe_no_model(context, str(reason))
            return
        yield dg.Output(model, metadata=model.facts())

    return trained_model


def _importances_asset(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        description="What the model looks at: gain, weight and mean |SHAP| of each feature.",
        group_name="training",
        owners=OWNERS,
        kinds={"csv"},
        code_version="1",
        pool=RETRAINING_POOL,
        ins={"training_dataset": dg.AssetIn(dagster_type=WINDOWED)},
        partitions_def=windows(settings),
        io_manager_key="csv_io_manager",
    )
    def feature_importances(training_dataset: WindowedTable, trained_model: Any) -> dg.Output[pa.Table]:
        from bid_assets.modelling.dataset.assemble import columns_with_texts
        from bid_assets.modelling.evaluation.explanations import evenly_spaced_rows
        from bid_assets.modelling.evaluation.explanations import feature_importances as importances

        rows = training_dataset.take(
            evenly_spaced_rows(training_dataset.num_rows), lambda schema: columns_with_texts(schema, trained_model.text_columns)
        )
        table = importances(trained_model, rows)
        return dg.Output(table, metadata=plot_metadata(importances=plots.importances(table.to_pylist(), "mean_abs_shap")))

    return feature_importances


def _observe_no_model(context: dg.AssetExecutionContext, reason: str) -> Iterator[Any]:
    """Say on the asset's page why there is no model; whatever comes after it in this run is skipped, not failed."""
    context.log.warning(f"no model for {context.partition_key}: {reason}")
    yield dg.AssetObservation(
        asset_key="trained_model", partition=context.partition_key, description=reason, metadata={"not_trained": reason}
    )


def plot_metadata(**charts: str | None) -> dict[str, dg.MarkdownMetadataValue]:
    """Plots as metadata, without those that there is no data for; they are stored in the event log."""
    return {
        name: dg.MetadataValue.md(f"![plot](data:image/svg+xml;base64,{b64encode(standalone(chart).encode()).decode()})")
        for name, chart in charts.items()
        if chart is not None
    }
