"""Column encoders: Arrow columns to a numeric matrix, by Arrow type alone.

Fitted on training rows only; encoding is stateless. Missing stays missing: a null is NaN in every number that its
column gives. A value that was not kept in training is 0 in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Matrix = npt.NDArray[np.float32]

PROFILE_COLUMN = "profile_id"
"""The column that says whose bid a row is."""

_CHUNK_ROWS = 1 << 16
MIN_ROWS_PER_NAME = 2
"""A number whose name is in fewer rows gets no column."""


@dataclass(frozen=True)
class PassthroughEncoder:
    """A numeric or boolean column, unchanged."""

    column: str
    type: pa.DataType

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names, one per matrix column."""
        return (self.column,)

    def encode(self, values: pa.Array) -> Matrix:
        """The column as a matrix of shape (rows, len(names))."""
        return _as_floats(values)[:, None]


@dataclass(frozen=True)
class NamedNumbersEncoder:
    """A column of numbers by name: one matrix column per known name, missing where the row does not have it."""

    column: str
    type: pa.DataType
    known_names: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names, one per matrix column."""
        return tuple(f"{self.column}.{name}" for name in self.known_names)

    def encode(self, values: pa.Array) -> Matrix:
        """The column as a matrix of shape (rows, len(names))."""
        matrix = np.full((len(values), len(self.known_names)), np.nan, dtype=np.float32)
        rows, each = pc.list_parent_indices(values).to_numpy(zero_copy_only=False), pc.list_flatten(values)
        known = pc.index_in(pc.struct_field(each, "name"), value_set=pa.array(self.known_names, pa.string()))
        place = pc.fill_null(known, -1).to_numpy(zero_copy_only=False)
        kept = place >= 0
        matrix[rows[kept], place[kept]] = _as_floats(pc.struct_field(each, "value"))[kept]
        return matrix


@dataclass(frozen=True)
class MultiHotEncoder:
    """A text column, or a list-of-texts column, multi-hot: one matrix column per known value, 1 where the row has it."""

    column: str
    type: pa.DataType
    categories: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names, one per matrix column."""
        return tuple(f"{self.column}={value}" for value in self.categories)

    def encode(self, values: pa.Array) -> Matrix:
        """The column as a matrix of shape (rows, len(names))."""
        matrix = np.zeros((len(values), len(self.categories)), dtype=np.float32)
        matrix[_known_items(values, self.categories)] = 1.0
        matrix[values.is_null().to_numpy(False)] = np.nan
        return matrix


@dataclass(frozen=True, eq=False)
class TokenLogit:
    """TF-IDF logistic regression on the tokens of a document (`text_logistic_regression`): its contribution to the
    log-odds, as one column.

    The contribution of a row is the sum of the `weights` of its known `tokens`, divided by the root of the sum of their
    `idf_squared`, less `training_mean`: 0 is the mean of training. Trees do not read this column.
    """

    column: str
    type: pa.DataType
    tokens: tuple[str, ...]
    weights: npt.NDArray[np.float64]
    idf_squared: npt.NDArray[np.float64]
    training_mean: float

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names, one per matrix column."""
        return (self.column,)

    def encode(self, values: pa.Array) -> Matrix:
        """The column as a matrix of shape (rows, 1)."""
        scores = self.score_tokens(*self.known_tokens(values), len(values))
        scores[values.is_null().to_numpy(False)] = np.nan
        return scores[:, None]

    def known_tokens(self, values: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The known tokens of all rows: their rows, and their indices in `tokens`."""
        return _known_items(values, self.tokens)

    def strongest(self, tokens: Sequence[str], limit: int) -> list[str]:
        """At most `limit` of the tokens, those with the largest absolute weights."""
        weights = dict(zip(self.tokens, np.abs(self.weights).tolist(), strict=True))
        return sorted((token for token in tokens if weights.get(token)), key=lambda token: -weights[token])[:limit]

    def score_tokens(self, rows: npt.NDArray[np.int64], codes: npt.NDArray[np.int64], count: int) -> Matrix:
        """The contributions of `count` rows with these tokens. Added in their order: a row alone gets the same as among
        others."""
        added = np.bincount(rows, self.weights[codes], count)
        length = np.sqrt(np.bincount(rows, self.idf_squared[codes], count))
        return np.asarray(added / np.where(length > 0, length, 1) - self.training_mean, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class EmbeddingLogit:
    """Logistic regression on an embedding (`text_logistic_regression`): its contribution to the log-odds, as one column.

    The contribution of a row is the dot product of `weights`, shape (dimension,), with its embedding, less
    `training_mean`. Trees do not read this column.
    """

    column: str
    type: pa.DataType
    weights: npt.NDArray[np.float64]
    training_mean: float

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names, one per matrix column."""
        return (self.column,)

    def encode(self, values: pa.Array) -> Matrix:
        """The column as a matrix of shape (rows, 1)."""
        matrix = np.full((len(values), 1), np.nan, dtype=np.float32)
        for start in range(0, len(values), _CHUNK_ROWS):
            present, embeddings = finite_vectors(values.slice(start, _CHUNK_ROWS))
            matrix[start + np.flatnonzero(present), 0] = self.score_vectors(embeddings)
        return matrix

    def score_vectors(self, embeddings: Matrix) -> npt.NDArray[np.float64]:
        """The contributions of embeddings, shape (rows, dimension). Never through BLAS: a row alone gets the same as
        among others."""
        return np.asarray((embeddings * self.weights).sum(axis=1) - self.training_mean)


@dataclass(frozen=True, eq=False)
class TargetStatistic:
    """Target statistic of the profile (`target_statistics`), as one column; 0 for a profile that is not known."""

    type: pa.DataType
    profiles: tuple[str, ...]
    values: npt.NDArray[np.float64]

    column = PROFILE_COLUMN
    names = ("profile_rating",)
    meaning = "how the profile's decided bids have ended beside what was expected of them"

    def encode(self, values: pa.Array) -> Matrix:
        """The column as a matrix of shape (rows, 1)."""
        matrix = np.zeros((len(values), 1), dtype=np.float32)
        rows, codes = _known_items(values, self.profiles)
        matrix[rows, 0] = self.values[codes]
        return matrix

    def value_of(self, profile: str | None) -> float:
        """The statistic of one profile."""
        return float(self.encode(pa.array([profile], self.type))[0, 0])


TextLogit = TokenLogit | EmbeddingLogit
ColumnEncoder = PassthroughEncoder | NamedNumbersEncoder | MultiHotEncoder | TextLogit | TargetStatistic


class ColumnMismatchError(ValueError):
    """A table does not have the columns that a model was trained on, or has them with another kind of value."""

    def __init__(self, message: str, column: str | None = None) -> None:
        super().__init__(message)
        self.column = column


def fit_encoders(table: pa.Table, columns: Sequence[str], *, vocabulary_size: int) -> tuple[ColumnEncoder, ...]:
    """The encoders of `columns`, fitted to the training rows. Raises `ColumnMismatchError` for a type that has no encoder."""
    encoders: list[ColumnEncoder] = []
    for name in columns:
        values = as_array(table[name])
        match feature_kind(values.type):
            case "number":
                encoders.append(PassthroughEncoder(name, values.type))
            case "text" | "texts":
                encoders.append(MultiHotEncoder(name, values.type, _most_frequent(flatten_texts(values)[1], vocabulary_size)))
            case "named numbers":
                each = pc.struct_field(pc.list_flatten(values), "name")
                encoders.append(
                    NamedNumbersEncoder(name, values.type, _most_frequent(each, vocabulary_size, MIN_ROWS_PER_NAME))
                )
            case _:
                raise ColumnMismatchError(
                    f"column {name!r} is {values.type}: only numbers, texts, lists of texts and named numbers "
                    "can be features here"
                )
    return tuple(encoders)


def encode(table: pa.Table, encoders: Sequence[ColumnEncoder], extra_columns: int = 0) -> Matrix:
    """The matrix of shape (rows, all names of `encoders`, and `extra_columns` of NaN).

    Raises one `ColumnMismatchError` that lists all that does not fit.
    """
    problems = []
    for encoder in encoders:
        index = table.schema.get_field_index(encoder.column)
        if index < 0:
            problems.append(f"column {encoder.column!r} is missing")
        elif not _same_kind(table.schema.field(index).type, encoder.type):
            problems.append(f"column {encoder.column!r} is {table.schema.field(index).type}, not {encoder.type}")
    if problems:
        raise ColumnMismatchError(f"the model cannot score this table: {'; '.join(problems)}")
    width = sum(len(encoder.names) for encoder in encoders)
    matrix = np.full((table.num_rows, width + extra_columns), np.nan, dtype=np.float32)
    start = 0
    for encoder in encoders:
        width = len(encoder.names)
        matrix[:, start : start + width] = encoder.encode(as_array(table[encoder.column]))
        start += width
    return matrix


def feature_kind(type_: pa.DataType) -> str | None:
    """`number`, `text`, `texts`, `tokens`, `named numbers` or `vector`; None for a type that cannot be a feature."""
    types = pa.types
    if types.is_dictionary(type_):
        return feature_kind(type_.value_type)
    if types.is_boolean(type_) or types.is_integer(type_) or types.is_floating(type_) or types.is_decimal(type_):
        return "number"
    if types.is_string(type_) or types.is_large_string(type_):
        return "text"
    if types.is_fixed_size_list(type_) and types.is_floating(type_.value_type):
        return "vector"
    if (
        types.is_list(type_)
        and types.is_struct(type_.value_type)
        and {each.name for each in type_.value_type} == {"name", "value"}
    ):
        return "named numbers"
    if (types.is_list(type_) or types.is_large_list(type_)) and feature_kind(type_.value_type) == "text":
        return "texts" if types.is_list(type_) else "tokens"
    return None


def reads_embeddings(encoders: Iterable[object]) -> bool:
    """Whether a text has to be encoded for these encoders."""
    return any(isinstance(each, EmbeddingLogit) for each in encoders)


def text_columns(schema: pa.Schema) -> list[str]:
    """The columns that hold words or embeddings: most of a dataset's bytes."""
    return [field.name for field in schema if feature_kind(field.type) in ("tokens", "vector")]


def _same_kind(given: pa.DataType, expected: pa.DataType) -> bool:
    if feature_kind(given) != feature_kind(expected):
        return False
    return feature_kind(given) != "vector" or given.list_size == expected.list_size


def as_array(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece, its values as they are."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], column.type)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _as_floats(values: pa.Array) -> Matrix:
    """Float32 with NaN for null and for what is not finite."""
    floats = pc.cast(values, pa.float32()) if not pa.types.is_floating(values.type) else values
    with np.errstate(over="ignore"):
        numbers = np.array(floats.to_numpy(zero_copy_only=False), dtype=np.float32)
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers


def flatten_texts(values: pa.Array) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Every text of the column, and the row that it belongs to."""
    if feature_kind(values.type) == "text":
        return np.arange(len(values)), values.cast(pa.string())
    return pc.list_parent_indices(values).to_numpy(zero_copy_only=False), pc.list_flatten(values).cast(pa.string())


def _known_items(values: pa.Array, known: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The texts of all rows that are among `known`: their rows, and their indices in it."""
    rows, texts = flatten_texts(values)
    index = pc.fill_null(pc.index_in(texts, value_set=pa.array(known, pa.string())), -1).to_numpy(False)
    return rows[index >= 0], index[index >= 0]


def _most_frequent(texts: pa.Array, size: int, min_count: int = 1) -> tuple[str, ...]:
    """The `size` most frequent texts of those that occur `min_count` times or more; of equally frequent ones, those
    first in the alphabet."""
    counts = pa.Table.from_struct_array(pc.value_counts(texts.drop_null()))
    counts = counts.filter(pc.greater_equal(counts["counts"], min_count))
    order = pc.sort_indices(counts, sort_keys=[("counts", "descending"), ("values", "ascending")])[:size]
    return tuple(counts["values"].take(order).to_pylist())


def text_log_odds(scores: Matrix) -> npt.NDArray[np.float64]:
    """The sum of the columns of `TextLogit`s, shape (rows,); missing values add nothing."""
    added = np.zeros(len(scores))
    for column in scores.T:
        added += np.nan_to_num(column)
    return added


def finite_vectors(values: pa.Array) -> tuple[np.ndarray, Matrix]:
    """Which rows have a finite vector, and those vectors, of shape (such rows, dimension)."""
    present = values.is_valid().to_numpy(zero_copy_only=False)
    embeddings = np.asarray(values.flatten().cast(pa.float32())).reshape(-1, values.type.list_size)
    finite = np.isfinite(embeddings).all(axis=1)
    present[present] = finite
    return present, embeddings[finite]
