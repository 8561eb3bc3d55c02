"""Model files of format 7, the last one that was a pickle of classes; read for one release, so that the active model
stays loadable.

Nothing here names a class of today: the old names become `Holder`s, whose fields become the content of a file of
today's format.

To be removed, with its uses in `model_file`, `io_manager_formats` and `version_store.manifest`, in the release after the one
that brings format 8.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import orjson
import pyarrow as pa

from bid_assets.modelling.plain_types import type_to_plain

FORMAT = 7


class NotConvertibleError(Exception):
    """A model of a format before 7."""


class Holder:
    """What an object of an old class had in it: its attributes."""

    kind: ClassVar[str]
    names: ClassVar[dict[str, str]]
    """Old attribute -> name in the file of today; empty where all have kept their names."""


_COLUMN = {"column": "column", "type": "type"}
_AS_THEY_ARE: dict[str, str] = {}
_OLD: dict[tuple[str, str], tuple[str, dict[str, str]]] = {
    ("preprocess", "Numbers"): ("passthrough", _COLUMN),
    ("preprocess", "NamedNumbers"): ("named_numbers", {**_COLUMN, "numbers": "names"}),
    ("preprocess", "Vocabulary"): ("multi_hot", {**_COLUMN, "values": "categories"}),
    ("preprocess", "WordScore"): (
        "token_logit",
        {**_COLUMN, "words": "tokens", "weight": "weights", "square": "idf_squared", "usual": "training_mean"},
    ),
    ("preprocess", "EmbeddingScore"): ("embedding_logit", {**_COLUMN, "weight": "weights", "usual": "training_mean"}),
    ("preprocess", "Rating"): ("target_statistic", {"type": "type", "profiles": "profiles", "ratings": "values"}),
    ("linear", "Line"): (
        "linear_logit",
        {
            "columns": "columns",
            "slope": "slopes",
            "offset": "offsets",
            "absent": "missing_terms",
            "low": "clip_min",
            "high": "clip_max",
            "base": "intercept",
        },
    ),
    ("calibration", "Calibration"): (
        "calibration",
        {"kind": "method", "slope": "slope", "intercept": "intercept", "knots": "knots", "levels": "levels"},
    ),
    ("trees", "PlainTrees"): (
        "tree_ensemble",
        {
            "base": "base_score",
            "depth": "depth",
            "features": "features",
            "roots": "roots",
            "feature": "split_features",
            "condition": "split_conditions",
            "missing_left": "default_left",
            "left": "left_children",
            "right": "right_children",
        },
    ),
    ("parameters", "TrainingParameters"): ("training_parameters", _AS_THEY_ARE),
    ("model", "BidSuccessModel"): (
        "bid_success_model",
        {
            "encodings": "encoders",
            "trees": "booster",
            "linear": "history",
            "linear_weight": "history_weight",
            "threshold": "threshold",
            "encoder_fingerprint": "encoder_fingerprint",
            "parameters": "parameters",
            "training": "training",
            "calibration": "calibration",
            "judged": "holdout_model",
        },
    ),
}
_HOLDERS = {
    (f"bid_assets.modelling.{module}", name): type(name, (Holder,), {"kind": kind, "names": names})
    for (module, name), (kind, names) in _OLD.items()
}
_NUMPY_SCALAR = ("numpy._core.multiarray", "scalar")
_ARROW_TYPES = {"type_for_alias", "field", "list_", "large_list", "struct", "dictionary", "decimal128", "decimal256"}


def find_class(module: str, name: str) -> Any:
    """What stands for a class or function of an old pickle; None where format 7 has none of that name."""
    if (module, name) == _NUMPY_SCALAR or (module == "pyarrow.lib" and name in _ARROW_TYPES):
        return getattr(importlib.import_module(module), name)
    return _HOLDERS.get((module, name))


def converted(old: Holder, number: int) -> dict[str, Any]:
    """The content of a file of format `number`. Raises `NotConvertibleError`, or `KeyError` for a model that lacks
    something."""
    state = vars(old)
    if state.get("format") != FORMAT:
        raise NotConvertibleError(f"format {state.get('format')}, and no later than {FORMAT} is wanted")
    return {"format": number, "model": _plain(old), "compiled": {"trees": _plain(state.get("_plain_trees"))}}


def _plain(value: Any) -> Any:
    if isinstance(value, Holder):
        old, state = type(value), vars(value)
        names = old.names or {attribute: attribute for attribute in state}
        return {"kind": old.kind, **{name: _plain(state[attribute]) for attribute, name in names.items()}}
    if isinstance(value, pa.DataType):
        return type_to_plain(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value


def content_hash(model: dict[str, Any]) -> str:
    """The content hash that a manifest of format 7 has for `model`, the part of a file that holds what was learned."""
    digest = hashlib.sha256(model["booster"])
    for encoder in model["encoders"]:
        digest.update(hashlib.sha256(_ENCODER_BYTES[encoder["kind"]](encoder)).digest())
    if (line := model["history"]) is not None:
        numbers = [line[name] for name in _OLD["linear", "Line"][1].values()]
        digest.update(hashlib.sha256(b"".join(np.asarray(part).tobytes() for part in numbers)).digest())
    calibration = model["calibration"]
    of_calibration = np.concatenate(
        [[calibration["slope"], calibration["intercept"]], calibration["knots"], calibration["levels"]]
    )
    digest.update(hashlib.sha256(calibration["method"].encode() + of_calibration.tobytes()).digest())
    parameters = {name: value for name, value in model["parameters"].items() if name != "kind"}
    rest = [model["history_weight"], model["threshold"], model["encoder_fingerprint"], parameters, model["training"]]
    digest.update(orjson.dumps(rest, option=orjson.OPT_SORT_KEYS))
    if model["holdout_model"] is not None:
        digest.update(content_hash(model["holdout_model"]).encode())
    return digest.hexdigest()


def _joined(*texts: str) -> bytes:
    return "\0".join(texts).encode()


_ENCODER_BYTES: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "passthrough": lambda each: _joined("numbers", each["column"]),
    "named_numbers": lambda each: _joined("named numbers", each["column"], *each["names"]),
    "multi_hot": lambda each: _joined("vocabulary", each["column"], *each["categories"]),
    "token_logit": lambda each: (
        _joined("words", each["column"], *each["tokens"])
        + each["weights"].tobytes()
        + each["idf_squared"].tobytes()
        + str(each["training_mean"]).encode()
    ),
    "embedding_logit": lambda each: (
        _joined("embedding", each["column"], str(each["training_mean"]), "") + each["weights"].tobytes()
    ),
    "target_statistic": lambda each: _joined("rating", *each["profiles"]) + each["values"].tobytes(),
}
