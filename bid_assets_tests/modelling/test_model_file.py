"""The model file: plain content, read as it was written; what does not fit is refused with what to do."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pytest
from joblib.numpy_pickle import NumpyUnpickler

from bid_assets.features.family import NAMED_NUMBERS, TOKENS, VECTOR
from bid_assets.modelling.estimators.calibration import Calibration
from bid_assets.modelling.model import BidSuccessModel
from bid_assets.modelling.model_file import PARTS, ModelFormatError, content_hash, from_plain, load, save, to_plain
from bid_assets.modelling.plain_types import type_from_plain, type_to_plain
from bid_assets_tests.modelling.fixed_model import fixed_model, rows

CHILD = """
import sys
from pathlib import Path
from bid_assets.modelling.model_file import content_hash, load
model = load(Path(sys.argv[1]))
print(content_hash(model), model.empty_row_probability(), "xgboost" in sys.modules)
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.joblib"
    save(fixed_model(), path)
    return path


@cache
def _content() -> dict[str, Any]:
    return to_plain(fixed_model())


def test_a_model_comes_back_as_it_was(file: Path) -> None:
    again = load(file)
    np.testing.assert_array_equal(again.predict(rows()), fixed_model().predict(rows()))
    assert content_hash(again) == content_hash(fixed_model())
    assert again.facts() == fixed_model().facts()
    assert again.holdout_model is not None


@pytest.mark.parametrize("kind", ["model", "blended_model", "calibrated_model"])
def test_any_model_comes_back_as_it_was(kind: str, dataset: pa.Table, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    model: BidSuccessModel = request.getfixturevalue(kind)
    isotonic = Calibration("isotonic", knots=(-1.0, 0.0, 2.0), levels=(0.1, 0.4, 0.8))
    for number, each in enumerate((model, replace(model, calibration=isotonic))):
        save(each, path := tmp_path / f"{number}.joblib")
        np.testing.assert_array_equal(load(path).predict(dataset), each.predict(dataset))
        assert content_hash(load(path)) == content_hash(each)


def test_it_is_loaded_and_scores_without_xgboost_and_has_the_same_hash_in_another_process(file: Path) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(file)], env=environment, capture_output=True, text=True, check=True
    )
    assert child.stdout.split() == [content_hash(fixed_model()), str(fixed_model().empty_row_probability()), "False"]


def test_the_file_holds_no_class_but_those_of_arrays(file: Path) -> None:
    classes: set[tuple[str, str]] = set()

    class Listing(NumpyUnpickler):  # type: ignore[misc]
        def find_class(self, module: str, name: str) -> Any:
            classes.add((module, name))
            return super().find_class(module, name)

    Listing("", io.BytesIO(zlib.decompress(file.read_bytes())), ensure_native_byte_order=True).load()
    assert classes == {("joblib.numpy_pickle", "NumpyArrayWrapper"), ("numpy", "ndarray"), ("numpy", "dtype")}


def test_joblib_alone_reads_the_content(file: Path) -> None:
    content = joblib.load(file)
    assert content["format"] == 8
    assert isinstance(content["model"]["booster"], bytes)


def encoder(content: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(each for each in content["model"]["encoders"] if each["kind"] == kind)


BROKEN: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda content: content.update(format=9), r"format 9, and this version of the code reads format 8; .*`bid-assets run`"),
    (lambda content: content.pop("format"), r"holds a dict, and no model with a format number"),
    (lambda content: content.pop("compiled"), r"has format, model and compiled, and this one format, model"),
    (
        lambda content: content["model"].update(kind="forest"),
        r"model: 'forest' is a kind of part that .* does not know; .*run`",
    ),
    (lambda content: content["model"].update(kind="calibration"), r"model: bid_success_model is expected, not 'calibration'"),
    (lambda content: content["model"].pop("booster"), r"model: bid_success_model has no booster"),
    (lambda content: content["model"].update(booster="text"), r"model\.booster: bytes is expected, not 'text'"),
    (lambda content: content["model"].update(threshold=True), r"model\.threshold: float or int is expected, not True"),
    (lambda content: content["model"].update(mood=1), r"model: bid_success_model has a mood, which is unknown here"),
    (lambda content: content["model"]["encoders"].append({"kind": "forest"}), r"model\.encoders\[9\]: 'forest' is a kind"),
    (lambda content: content["model"].update(encoders=None), r"model\.encoders: a list is expected, not None"),
    (lambda content: encoder(content, "multi_hot").update(categories=["a", 1]), r"categories\[1\]: str is expected, not 1"),
    (lambda content: encoder(content, "passthrough").update(type="quaternion"), r"encoders\[0\]\.type: .*quaternion"),
    (
        lambda content: encoder(content, "token_logit").update(weights=np.zeros(3, dtype=np.float32)),
        r"weights: an array of float64 in one dimension is expected, not an array of float32, shape \(3,\)",
    ),
    (lambda content: content["model"]["history"].update(slopes=[1.0]), r"history\.slopes: an array of float64 .* not \[1\.0\]"),
    (lambda content: content["model"]["parameters"].update(mood=1), r"parameters: training_parameters has a mood"),
    (lambda content: content["compiled"].update(trees={"kind": "calibration"}), r"compiled\.trees: tree_ensemble is expected"),
]


@pytest.mark.parametrize(("change", "problem"), BROKEN)
def test_content_that_does_not_fit_is_refused_by_name(change: Callable[[dict[str, Any]], object], problem: str) -> None:
    content = deepcopy(_content())
    change(content)
    with pytest.raises(ModelFormatError, match=problem):
        from_plain(content)


def test_a_training_parameter_that_the_file_does_not_have_yet_has_its_default() -> None:
    content = deepcopy(_content())
    del content["model"]["parameters"]["min_precision"]
    assert from_plain(content).parameters.min_precision == 0.5


def test_a_training_parameter_that_was_renamed_keeps_its_name_in_the_file() -> None:
    content = deepcopy(_content())
    content["model"]["parameters"].update(threshold_aim="value", refit_after_judging=False)
    parameters = from_plain(content).parameters
    assert (parameters.threshold_objective, parameters.refit_on_holdout) == ("value", False)


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    for wrong in (replace(fixed_model(), threshold="high"), replace(fixed_model(), training={"when": object()})):
        with pytest.raises(
            (ModelFormatError, TypeError), match=r"model\.threshold|builtins\.object is no part of a model file"
        ):
            save(wrong, tmp_path / "model.joblib")
    assert not list(tmp_path.iterdir())


class Trap:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.witness,)


def test_a_file_with_anything_else_is_refused_before_it_is_made(tmp_path: Path) -> None:
    joblib.dump({"format": 8, "model": Trap(tmp_path / "witness")}, tmp_path / "model.joblib", compress=3)
    with pytest.raises(ModelFormatError, match=r"no model file: it holds pathlib\.Path\.touch, which no model does"):
        load(tmp_path / "model.joblib")
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize("damaged", [b"", b"no pickle", b"\x78\x5e no zlib", zlib.compress(b"\x80\x04cut")])
def test_a_damaged_file_is_one_error_that_names_it(damaged: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.joblib").write_bytes(damaged)
    with pytest.raises(ModelFormatError, match=r"model\.joblib is no model file"):
        load(tmp_path / "model.joblib")


@pytest.mark.parametrize(
    "type_",
    [
        *(
            pa.bool_(),
            pa.int8(),
            pa.uint64(),
            pa.float16(),
            pa.float64(),
            pa.string(),
            pa.large_string(),
            pa.list_(pa.string()),
        ),
        *(TOKENS, NAMED_NUMBERS, VECTOR, pa.list_(pa.float32(), 4), pa.decimal128(10, 2), pa.decimal256(50, 3)),
    ],
)
def test_a_type_of_a_column_comes_back_as_it_was(type_: pa.DataType) -> None:
    assert type_from_plain(type_to_plain(type_)) == type_


def test_a_type_is_written_without_what_a_parquet_file_changes() -> None:
    assert type_to_plain(pa.list_(pa.field("element", pa.string(), nullable=False))) == ["list", "string"]
    assert type_to_plain(pa.dictionary(pa.int32(), pa.string())) == "string"
    with pytest.raises(TypeError, match="map"):
        type_to_plain(pa.map_(pa.string(), pa.string()))


@pytest.mark.parametrize("kind", PARTS)
def test_every_part_and_field_is_in_the_reference(kind: str) -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "model_file.md"
    [line] = [line for line in page.read_text().splitlines() if line.startswith(f"| `{kind}` |")]
    assert kind == "training_parameters" or all(f"`{name}`" in line for name in PARTS[kind].attributes)
