"""What Dagster loads (`workspace.yaml`): the asset graph for the settings of the environment."""

from bid_assets.orchestration.definitions import build_defs

defs = build_defs()
