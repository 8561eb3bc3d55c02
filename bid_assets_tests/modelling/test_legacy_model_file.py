"""A model that the code of format 7 has saved is read as the model that it was."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest

from bid_assets.api import Store
from bid_assets.modelling.estimators.blend import Weights
from bid_assets.modelling.model_file import ModelFormatError, content_hash, former_content_hashes, from_plain, load, to_plain
from bid_assets.verification.damage import check
from bid_assets.version_store.manifest import Draft
from bid_assets.version_store.store import VersionStore
from bid_assets_tests.modelling.fixed_model import OLD_MODEL, fixed_model, record, rows

WITHOUT_THE_OLD_MODULES = f"""
import sys
from pathlib import Path
from bid_assets.modelling.model_file import read
from bid_assets.version_store.content_hash import plain_hash
for name in ("calibration", "linear", "model", "parameters", "preprocess", "trees"):
    sys.modules["bid_assets.modelling." + name] = None
print(plain_hash(read(Path({str(OLD_MODEL)!r}))["model"]))
"""


def test_it_scores_as_it_did() -> None:
    np.testing.assert_array_equal(load(OLD_MODEL).predict(rows()), record()["probabilities"])


def test_it_has_every_part_that_a_model_can_have() -> None:
    content = to_plain(load(OLD_MODEL))
    model = content["model"]
    assert {each["kind"] for each in model["encoders"]} == {
        "passthrough",
        "named_numbers",
        "multi_hot",
        "token_logit",
        "embedding_logit",
        "target_statistic",
    }
    assert model["history"]["kind"] == "linear_logit"
    assert model["calibration"]["method"] == "sigmoid"
    assert model["holdout_model"]["kind"] == model["kind"] == "bid_success_model"


def test_it_is_the_model_that_todays_code_trains_of_the_same_rows() -> None:
    assert [field.type for field in load(OLD_MODEL).feature_schema] == [field.type for field in fixed_model().feature_schema]
    np.testing.assert_allclose(load(OLD_MODEL).predict(rows()), fixed_model().predict(rows()), rtol=0, atol=1e-6)


def test_the_hash_in_its_manifest_can_still_be_checked_and_survives_a_conversion() -> None:
    model = load(OLD_MODEL)
    assert former_content_hashes(model) == (record()["content_hash_of_format_7"],)
    assert former_content_hashes(from_plain(to_plain(model))) == former_content_hashes(model)


def test_a_version_of_format_7_in_a_store_verifies_and_is_loaded(tmp_path: Path) -> None:
    store = VersionStore(str(tmp_path))
    draft = Draft("trained_model", "2026-01-05", "joblib", record()["content_hash_of_format_7"])
    store.write(draft, lambda path: shutil.copyfile(OLD_MODEL, path) and None)
    assert check(store) == []
    np.testing.assert_array_equal(Store(tmp_path).load_model("newest").predict(rows()), record()["probabilities"])


def test_it_is_read_where_the_old_modules_are_no_more() -> None:
    child = subprocess.run([sys.executable, "-c", WITHOUT_THE_OLD_MODULES], capture_output=True, text=True, check=False)
    assert child.stdout.strip() == content_hash(load(OLD_MODEL)), child.stderr


def test_a_model_of_an_earlier_format_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bid_assets.modelling.legacy_model_file.FORMAT", 70)
    with pytest.raises(ModelFormatError, match=r"earlier version of the code \(format 7.*`bid-assets run`"):
        load(OLD_MODEL)


def test_a_model_with_a_class_that_format_7_did_not_have_is_refused_with_what_to_do(tmp_path: Path) -> None:
    joblib.dump({"format": 6, "weights": Weights(0.1, 0.2)}, tmp_path / "model.joblib", compress=3)
    with pytest.raises(ModelFormatError, match=r"another version .*blend\.Weights.*`bid-assets run`"):
        load(tmp_path / "model.joblib")
