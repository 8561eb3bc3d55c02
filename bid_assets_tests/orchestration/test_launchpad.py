"""What the launchpad of Dagster's UI shows before anybody has typed anything: the defaults of an asset's config."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import yaml
from dagster._core.snap.snap_to_yaml import default_values_yaml_from_type_snap

from bid_assets.orchestration.definitions import build_defs
from bid_assets.settings import Settings
from bid_assets.version_store.store import VersionStore


def test_the_launchpad_of_deployment_shows_the_fields_to_approve_reject_and_override(tmp_path: Path) -> None:
    definitions = build_defs(Settings(home=tmp_path), VersionStore(str(tmp_path / "store")))
    job = definitions.resolve_implicit_global_asset_job_def().get_subset(asset_selection={dg.AssetKey("deployment")})
    schema = job.get_config_schema_snapshot()
    root = job.get_job_snapshot().mode_def_snaps[0].root_config_key
    assert root is not None
    shown = yaml.safe_load(default_values_yaml_from_type_snap(schema, schema.get_config_snap(root)))
    assert shown["ops"]["deployment"]["config"] == {"approve": "", "reject": "", "override": False, "by": "", "reason": ""}
