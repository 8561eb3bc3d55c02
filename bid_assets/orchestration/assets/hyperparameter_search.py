"""An optional search for hyperparameters, started by hand: in no job of the loop and not part of `bid-assets run`."""

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from bid_assets.orchestration.assets.common import OWNERS
from bid_assets.orchestration.assets.model import MODEL_SETTINGS, training_parameters
from bid_assets.orchestration.input_tracking import loaded_versions
from bid_assets.orchestration.io_managers import SETTINGS_KEY, WINDOWED
from bid_assets.orchestration.partitions import windows
from bid_assets.settings import Settings
from bid_assets.version_store.code_version import code_of
from bid_assets.version_store.parquet import WindowedTable
from bid_assets.version_store.plain_json import json_hash


class SearchConfig(dg.Config):
    """How long to search."""

    trials: int = Field(30, ge=1, description="Settings to try; the first one is the present setting.")
    seconds: float | None = Field(None, gt=0, description="Begin no trial after so many seconds.")
    seed: int = Field(0, ge=0, description="Equal seeds try equal settings.")


def search_asset(settings: Settings) -> dg.AssetsDefinition:
    """`hyperparameter_search`, for a window."""

    @dg.asset(
        description="Hyperparameters found on the training part of the dataset, by folds that go forward in time. Made by "
        "hand.",
        group_name="training",
        owners=OWNERS,
        kinds={"json"},
        code_version="1",
        ins={"training_dataset": dg.AssetIn(dagster_type=WINDOWED)},
        partitions_def=windows(settings),
        io_manager_key="json_io_manager",
        metadata={SETTINGS_KEY: MODEL_SETTINGS},
    )
    def hyperparameter_search(
        context: dg.AssetExecutionContext, config: SearchConfig, training_dataset: WindowedTable
    ) -> dg.Output[dict[str, Any]]:
        from bid_assets.modelling.classifier import columns_to_read
        from bid_assets.modelling.hyperparameter_search import search

        parameters = training_parameters(settings)
        dataset = loaded_versions(context, "training_dataset")[-1]
        journal = journal_of(settings, [dataset.content_hash, parameters.as_dict(), config.seed])
        result = search(
            training_dataset.read(lambda schema: columns_to_read(schema, parameters)),
            parameters,
            journal,
            trials=config.trials,
            seconds=config.seconds,
            seed=config.seed,
            on_trial=lambda done, of, best: context.log.info(f"trial {done} of {of}: best log loss {best:.5f}"),
        )
        return dg.Output(
            result,
            metadata={
                "log_loss": result["value"],
                "log_loss_of_the_default": result["default_value"],
                "trials": len(result["trials"]),
                "better_in": result["difference"]["better_in"],
                "best": dg.MetadataValue.json(result["best"]),
            },
        )

    return hyperparameter_search


def journal_of(settings: Settings, determining: list[Any]) -> Path:
    """Where a search with these determinants is kept while it runs; other code or libraries search anew."""
    folder = settings.home / "searches"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{json_hash([determining, code_of('modelling')])[:16]}.journal"
