"""Reports and decisions that an earlier release stored are read under the keys of today."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from bid_assets.modelling.evaluation.former_keys import with_current_keys
from bid_assets.orchestration.io_manager_formats import JsonIOManager
from bid_assets.settings import Settings
from bid_assets.version_store.store import VersionStore

FORMER = {
    "outlook": {"roc_auc": {"expected": 0.7}, "swing": 0.2},
    "model_metrics": {"threshold_aim": "f1"},
    "rules": [{"rule": "ROC AUC at least", "figure": 0.7}],
    "comparison": {"figures": {"log_loss": {"difference": None}}},
}
CURRENT: dict[str, Any] = {
    "performance_forecast": {"roc_auc": {"expected": 0.7}, "between_period_sd": 0.2},
    "model_metrics": {"threshold_objective": "f1"},
    "rules": [{"rule": "ROC AUC at least", "value": 0.7}],
    "comparison": {"metrics": {"log_loss": {"difference": None}}},
}


@pytest.mark.parametrize("stored", [FORMER, CURRENT])
def test_stored_json_has_the_keys_of_today(stored: dict[str, Any], tmp_path: Path) -> None:
    assert with_current_keys(stored) == CURRENT
    (tmp_path / "report.json").write_bytes(orjson.dumps(stored))
    manager = JsonIOManager(VersionStore(tmp_path.as_uri()), Settings())
    assert manager.read_file(tmp_path / "report.json") == CURRENT
