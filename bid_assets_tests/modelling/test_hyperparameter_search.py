from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bid_assets.modelling import hyperparameter_search as searching
from bid_assets.modelling.hyperparameter_search import SPACE, folds, search
from bid_assets.modelling.parameters import NotTrainableError
from bid_assets_tests.modelling.conftest import QUICK
from bid_assets_tests.modelling.test_training import relabelled


@pytest.fixture(scope="module")
def found(dataset: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return search(dataset, QUICK, tmp_path_factory.mktemp("search") / "journal", trials=4)


def test_each_fold_evaluates_what_comes_after_all_that_it_learned_and_was_known(dataset: pa.Table) -> None:
    for fold in folds(dataset):
        learns, evaluates = (fold.filter(pc.equal(fold["split"], name)) for name in ("train", "holdout"))
        begin = pc.min(evaluates["submitted_at"]).as_py()
        assert pc.max(learns["submitted_at"]).as_py() < begin
        assert pc.max(learns["outcome_timestamp"]).as_py() < begin


def test_no_fold_looks_at_the_holdout(dataset: pa.Table) -> None:
    train = set(dataset.filter(pc.equal(dataset["split"], "train"))["bid_id"].to_pylist())
    evaluated = [bid for fold in folds(dataset) for bid in fold["bid_id"].to_pylist()]
    assert set(evaluated) <= train


def test_every_bid_of_the_newer_half_is_evaluated_once(dataset: pa.Table) -> None:
    evaluated = [
        bid for fold in folds(dataset) for bid in fold.filter(pc.equal(fold["split"], "holdout"))["bid_id"].to_pylist()
    ]
    train = dataset.filter(pc.equal(dataset["split"], "train")).num_rows
    assert len(evaluated) == len(set(evaluated)) == pytest.approx(train / 2, abs=3)


def test_the_first_trial_is_the_setting_of_now_and_the_best_is_no_worse(found: dict[str, Any]) -> None:
    assert found["trials"][0]["parameters"] == {name: getattr(QUICK, name) for name in SPACE}
    assert found["value"] <= found["default_value"] == found["trials"][0]["value"]
    assert found["difference"]["difference"] <= 1e-9
    assert json.dumps(found, allow_nan=False)


def test_a_search_that_was_killed_goes_on_and_finds_the_same(
    dataset: pa.Table, found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    true = searching.fold_loss

    def killed_in_the_third_trial(*arguments: Any) -> float:
        made.append(arguments)
        if len(made) == 8:
            raise KeyboardInterrupt
        return true(*arguments)

    monkeypatch.setattr(searching, "fold_loss", killed_in_the_third_trial)
    with pytest.raises(KeyboardInterrupt):
        search(dataset, QUICK, tmp_path / "journal", trials=4)
    assert search(dataset, QUICK, tmp_path / "journal", trials=4) == found
    assert len(made) == 8 + 6  # two trials of three folds were still to be made


def test_when_the_time_is_up_no_further_trial_begins(dataset: pa.Table, tmp_path: Path) -> None:
    assert len(search(dataset, QUICK, tmp_path / "journal", trials=50, seconds=1e-9)["trials"]) == 1


def test_one_kind_of_outcome_cannot_be_searched_on(dataset: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(NotTrainableError, match="one class"):
        search(relabelled(dataset, "train", success=True), QUICK, tmp_path / "journal", trials=1)


def test_values_stay_inside_the_space(found: dict[str, Any]) -> None:
    depths = [trial["parameters"]["max_depth"] for trial in found["trials"]]
    assert np.all((np.array(depths) >= 2) & (np.array(depths) <= 6))
