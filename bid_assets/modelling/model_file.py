"""The file of a trained model: its format, reading and writing it, and the hash of its content.

A model file is a joblib file of one dict: `format` (`FORMAT`), `model` (all that was learned) and `compiled` (what is
derived from it, so that scoring needs no XGBoost). In it are only dicts, lists, JSON values, bytes and NumPy arrays: no
class of this package, and none of Arrow's. Each part is a dict of its `kind` and its fields; `PARTS` says which class
each one is. Names in the file do not change when classes, fields or modules are renamed: only `PARTS` does.

The format is described in docs/reference/model_file.md. How a model scores is in `model`, how it is trained in `train`.
"""

from __future__ import annotations

import io
import types
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import joblib
import numpy as np
import pyarrow as pa
from joblib.numpy_pickle import NumpyUnpickler

from bid_assets.modelling import legacy_model_file
from bid_assets.modelling.estimators.calibration import Calibration
from bid_assets.modelling.estimators.column_encoders import (
    EmbeddingLogit,
    MultiHotEncoder,
    NamedNumbersEncoder,
    PassthroughEncoder,
    TargetStatistic,
    TokenLogit,
)
from bid_assets.modelling.estimators.linear_logit import LinearLogit
from bid_assets.modelling.estimators.numpy_trees import NumpyTreeEnsemble
from bid_assets.modelling.model import BidSuccessModel
from bid_assets.modelling.parameters import TrainingParameters
from bid_assets.modelling.plain_types import type_from_plain, type_to_plain
from bid_assets.version_store.content_hash import plain_hash

FORMAT = 8
"""Of a model file. A change of what a file consists of takes the next number: a file of another number is refused."""

REMEDY = "the loop trains a new one by itself, or at once: `bid-assets run`"


class ModelFormatError(RuntimeError):
    """A model file that this version of the code cannot score with; the message says what to do."""


@dataclass(frozen=True)
class Part:
    """A class whose objects are parts of a model. Its fields have their own names in the file, or those of `renamed`."""

    cls: type
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Field -> name in the file."""
    defaults: bool = False
    """Whether a field that the file does not have has the default of the class."""

    @cached_property
    def attributes(self) -> dict[str, str]:
        """Name in the file -> field."""
        return {self.renamed.get(each.name, each.name): each.name for each in fields(self.cls)}


PARTS: Mapping[str, Part] = {
    "passthrough": Part(PassthroughEncoder),
    "named_numbers": Part(NamedNumbersEncoder, {"known_names": "names"}),
    "multi_hot": Part(MultiHotEncoder),
    "token_logit": Part(TokenLogit),
    "embedding_logit": Part(EmbeddingLogit),
    "target_statistic": Part(TargetStatistic),
    "linear_logit": Part(LinearLogit),
    "calibration": Part(Calibration),
    "tree_ensemble": Part(NumpyTreeEnsemble, {"num_features": "features"}),
    "training_parameters": Part(
        TrainingParameters,
        {"threshold_objective": "threshold_aim", "refit_on_holdout": "refit_after_judging"},
        defaults=True,
    ),
    "bid_success_model": Part(BidSuccessModel, {"history_logit": "history"}),
}
"""Every kind of part that a model file may hold."""

_KINDS = {part.cls: kind for kind, part in PARTS.items()}


def save(model: BidSuccessModel, path: Path) -> None:
    """Write a model file. Raises `ModelFormatError` or `TypeError`, and writes nothing, where it could not be read again."""
    content = to_plain(model)
    from_plain(content)
    joblib.dump(content, path, compress=3)  # lightly: models are small and load often


def load(path: Path) -> BidSuccessModel:
    """The model of a file whose checksum has been verified. Raises `ModelFormatError`."""
    return from_plain(read(path))


def read(path: Path) -> Any:
    """The content of a model file, not checked yet; that of a file of format 7 as it would be in one of today's. Raises
    `ModelFormatError`."""
    try:
        raw = path.read_bytes()
        file = io.BytesIO(zlib.decompress(raw) if raw[:1] == b"\x78" else raw)
        content = _PlainUnpickler(path.name, file, ensure_native_byte_order=True).load()
        return legacy_model_file.converted(content, FORMAT) if isinstance(content, legacy_model_file.Holder) else content
    except ModelFormatError:
        raise
    except legacy_model_file.NotConvertibleError as error:
        raise ModelFormatError(f"this model was saved by an earlier version of the code ({error}); {REMEDY}") from None
    except Exception as error:  # whatever unpickling may raise
        raise ModelFormatError(f"{path.name} is no model file: {error!r}") from error


def to_plain(model: BidSuccessModel) -> dict[str, Any]:
    """The content of the model's file. Imports XGBoost where the model has not been compiled yet."""
    return {"format": FORMAT, "model": plain_part(model), "compiled": {"trees": plain_part(model.tree_ensemble)}}


def from_plain(content: Any) -> BidSuccessModel:
    """The model of a file's content. Raises `ModelFormatError` that says what is wrong, and where."""
    if not isinstance(content, dict) or "format" not in content:
        raise ModelFormatError(f"the file holds a {type(content).__name__}, and no model with a format number")
    if content["format"] != FORMAT:
        raise ModelFormatError(
            f"this model is of format {content['format']}, and this version of the code reads format {FORMAT}; {REMEDY}"
        )
    if content.keys() != {"format", "model", "compiled"} or not isinstance(content["compiled"], dict):
        raise ModelFormatError(f"a model file has format, model and compiled, and this one {', '.join(map(str, content))}")
    model: BidSuccessModel = _built(content["model"], BidSuccessModel, "model")
    trees = _built(content["compiled"].get("trees"), NumpyTreeEnsemble | None, "compiled.trees")
    if trees is not None:  # otherwise they are compiled when first asked
        vars(model)["tree_ensemble"] = trees
    return model


def content_hash(model: BidSuccessModel) -> str:
    """SHA-256 of all that was learned, the same in every process and after a round trip through the file.

    Neither the format number nor what is compiled is in it: the same model in another format has the same hash.
    """
    return plain_hash(plain_part(model))


def former_content_hashes(model: BidSuccessModel) -> tuple[str, ...]:
    """What the manifests of earlier releases have as the content hash of this model."""
    return (legacy_model_file.content_hash(plain_part(model)),)


class _PlainUnpickler(NumpyUnpickler):  # type: ignore[misc]
    """Knows arrays and the classes of format 7, which become holders, and refuses every other class by name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ARRAYS:
            return super().find_class(module, name)
        if (holder := legacy_model_file.find_class(module, name)) is not None:
            return holder
        if module.partition(".")[0] == __name__.partition(".")[0]:
            raise ModelFormatError(f"this model was saved by another version of the code (it has a {module}.{name}); {REMEDY}")
        raise ModelFormatError(f"{self.filename} is no model file: it holds {module}.{name}, which no model does")


_ARRAYS = {("joblib.numpy_pickle", "NumpyArrayWrapper"), ("numpy", "ndarray"), ("numpy", "dtype")}


def plain_part(value: Any) -> Any:
    """A part, or a value in one, as it stands in the file. Raises `TypeError` for what no file may hold."""
    if (kind := _KINDS.get(type(value))) is not None:
        attributes = PARTS[kind].attributes.items()
        return {"kind": kind, **{name: plain_part(getattr(value, attribute)) for name, attribute in attributes}}
    if isinstance(value, pa.DataType):
        return type_to_plain(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return [plain_part(each) for each in value]
    if isinstance(value, dict):
        return {name: plain_part(each) for name, each in value.items()}
    if value is None or type(value) in (str, int, float, bool, bytes, np.ndarray):
        return value
    raise TypeError(f"{type(value).__module__}.{type(value).__name__} is no part of a model file: PARTS does not name it")


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _built(value: Any, hint: Any, where: str) -> Any:
    """The value that is declared as `hint`, from its plain content."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if value is None and types.NoneType in options:
        return None
    if any(option in _KINDS for option in options):
        return _part(value, options, where)
    [hint] = [option for option in options if option is not types.NoneType]
    if get_origin(hint) is tuple:
        [item, _] = get_args(hint)
        _expect(isinstance(value, list), value, "a list", where)
        if item is str and set(map(type, value)) <= {str}:
            return tuple(value)
        return tuple(_built(each, item, f"{where}[{number}]") for number, each in enumerate(value))
    if get_origin(hint) is np.ndarray:
        [dtype] = get_args(get_args(hint)[1])
        right = isinstance(value, np.ndarray) and value.dtype == dtype and value.ndim == 1
        return _expect(right, value, f"an array of {np.dtype(dtype)} in one dimension", where)
    if hint is pa.DataType:
        try:
            return type_from_plain(value)
        except ValueError as error:
            raise ModelFormatError(f"{where}: {error}; {REMEDY}") from None
    if hint is np.float32:
        return np.float32(_expect(type(value) is float, value, "a number", where))
    return _scalar(value, hint, where)


def _scalar(value: Any, hint: Any, where: str) -> Any:
    accepted = {float: (float, int), dict[str, Any]: (dict,)}.get(hint, (hint,))
    return _expect(type(value) in accepted, value, " or ".join(each.__name__ for each in accepted), where)


def _part(value: Any, options: tuple[Any, ...], where: str) -> Any:
    """A part of one of the classes `options`."""
    kind = value.get("kind") if isinstance(value, dict) else None
    possible = [_KINDS[option] for option in options if option in _KINDS]
    if not isinstance(kind, str) or kind not in PARTS:
        raise ModelFormatError(f"{where}: {kind!r} is a kind of part that this version of the code does not know; {REMEDY}")
    _expect(kind in possible, kind, " or ".join(possible), where)
    part = PARTS[kind]
    given = {name: each for name, each in value.items() if name != "kind"}
    missing = [] if part.defaults else [name for name in part.attributes if name not in given]
    unknown = [name for name in given if name not in part.attributes]
    if missing or unknown:
        problems = [f"has no {name}" for name in missing] + [f"has a {name}, which is unknown here" for name in unknown]
        raise ModelFormatError(f"{where}: {kind} {', '.join(problems)}; {REMEDY}")
    hints = _hints(part.cls)
    arguments = {part.attributes[name]: (each, hints[part.attributes[name]], f"{where}.{name}") for name, each in given.items()}
    return part.cls(**{attribute: _built(*argument) for attribute, argument in arguments.items()})


def _expect(right: bool, value: Any, expected: str, where: str) -> Any:
    """The value, if it is right. Raises `ModelFormatError`."""
    if not right:
        actual = f"an array of {value.dtype}, shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)
        raise ModelFormatError(f"{where}: {expected} is expected, not {actual:.80}; {REMEDY}")
    return value
