"""Columns to numbers, by Arrow type alone: what is learnt of each column, and how a column then becomes a matrix.

Fitted on training rows only; encoding never learns anything. Missing stays missing: a null is NaN in every number that its
column gives. A value that training has not kept is 0 in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Matrix = npt.NDArray[np.float32]

PROFILE = "profile_id"
"""The column that says whose bid a row is."""

_CHUNK = 1 << 16
FEWEST_OF_A_NAME = 2
"""A number whose name is in fewer rows is not learnt."""


@dataclass(frozen=True)
class Numbers:
    """A number or yes/no column, as it is."""

    column: str
    type: pa.DataType

    @property
    def names(self) -> tuple[str, ...]:
        """What the numbers are called, one name per matrix column."""
        return (self.column,)

    def encode(self, values: pa.Array) -> Matrix:
        """The column as a matrix of shape (rows, len(names))."""
        return _floats(values)[:, None]


@dataclass(frozen=True)
class NamedNumbers:
    """A column of numbers by name: one number per known name, missing where the row does not have it."""

    column: str
    type: pa.DataType
    numbers: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What the numbers are called, one name per matrix column."""
        return tuple(f"{self.column}.{name}" for name in self.numbers)

    def encode(self, values: pa.Array) -> Matrix:
        """The column as a matrix of shape (rows, len(names))."""
        matrix = np.full((len(values), len(self.numbers)), np.nan, dtype=np.float32)
        rows, each = pc.list_parent_indices(values).to_numpy(zero_copy_only=False), pc.list_flatten(values)
        known = pc.index_in(pc.struct_field(each, "name"), value_set=pa.array(self.numbers, pa.string()))
        place = pc.fill_null(known, -1).to_numpy(zero_copy_only=False)
        kept = place >= 0
        matrix[rows[kept], place[kept]] = _floats(pc.struct_field(each, "value"))[kept]
        return matrix


@dataclass(frozen=True)
class Vocabulary:
    """A text column, or a list-of-texts column: one number per known value, 1 where the row has it."""

    column: str
    type: pa.DataType
    values: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What the numbers are called, one name per matrix column."""
        return tuple(f"{self.column}={value}" for value in self.values)

    def encode(self, values: pa.Array) -> Matrix:
        """The column as a matrix of shape (rows, len(names))."""
        matrix = np.zeros((len(values), len(self.values)), dtype=np.float32)
        matrix[_kept(values, self.values)] = 1.0
        matrix[values.is_null().to_numpy(False)] = np.nan
        return matrix


@dataclass(frozen=True, eq=False)
class TokenLogit:
    """The words of a document: what they add to the log-odds, as a number (see `words`); 0 is usual. Trees do not look at it.

    A row that holds `known` words says the sum of their `weight`, divided by the root of the sum of their `square`, less `usual`.
    """

    column: str
    type: pa.DataType
    words: tuple[str, ...]
    weight: npt.NDArray[np.float64]
    square: npt.NDArray[np.float64]
    usual: float

    @property
    def names(self) -> tuple[str, ...]:
        """What the numbers are called, one name per matrix column."""
        return (self.column,)

    def encode(self, values: pa.Array) -> Matrix:
        """The column as a matrix of shape (rows, 1)."""
        said = self.of_known(*self.known(values), len(values))
        said[values.is_null().to_numpy(False)] = np.nan
        return said[:, None]

    def known(self, values: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Of the words of all rows those that training has kept: their rows, and their places in `words`."""
        return _kept(values, self.words)

    def strongest(self, words: Sequence[str], most: int) -> list[str]:
        """Those of the words that count most, either way."""
        weights = dict(zip(self.words, np.abs(self.weight).tolist(), strict=True))
        return sorted((word for word in words if weights.get(word)), key=lambda word: -weights[word])[:most]

    def of_known(self, rows: npt.NDArray[np.int64], codes: npt.NDArray[np.int64], count: int) -> Matrix:
        """What `count` rows say that hold these words. Words are added in their order, so a row alone says the same."""
        added = np.bincount(rows, self.weight[codes], count)
        length = np.sqrt(np.bincount(rows, self.square[codes], count))
        return np.asarray(added / np.where(length > 0, length, 1) - self.usual, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class EmbeddingLogit:
    """An embedding: what it adds to the log-odds, as a number (see `words`); 0 is the mean of training. Trees do not look at it.

    `weight` has shape (dimension,); a row says the sum of its products with the embedding, less `usual`.
    """

    column: str
    type: pa.DataType
    weight: npt.NDArray[np.float64]
    usual: float

    @property
    def names(self) -> tuple[str, ...]:
        """What the numbers are called, one name per matrix column."""
        return (self.column,)

    def encode(self, values: pa.Array) -> Matrix:
        """The column as a matrix of shape (rows, 1)."""
        matrix = np.full((len(values), 1), np.nan, dtype=np.float32)
        for start in range(0, len(values), _CHUNK):
            present, embeddings = vectors(values.slice(start, _CHUNK))
            matrix[start + np.flatnonzero(present), 0] = self.of_vectors(embeddings)
        return matrix

    def of_vectors(self, embeddings: Matrix) -> npt.NDArray[np.float64]:
        """What embeddings of shape (rows, dimension) say. Never through BLAS: a row says the same alone as among others."""
        return np.asarray((embeddings * self.weight).sum(axis=1) - self.usual)


@dataclass(frozen=True, eq=False)
class Rating:
    """The profile: how its bids have ended beside what was expected of them (see `rating`); 0 for one that is not known."""

    type: pa.DataType
    profiles: tuple[str, ...]
    ratings: npt.NDArray[np.float64]

    column = PROFILE
    names = ("profile_rating",)
    meaning = "how the profile's decided bids have ended beside what was expected of them"

    def encode(self, values: pa.Array) -> Matrix:
        """The column as a matrix of shape (rows, 1)."""
        matrix = np.zeros((len(values), 1), dtype=np.float32)
        rows, codes = _kept(values, self.profiles)
        matrix[rows, 0] = self.ratings[codes]
        return matrix

    def of(self, profile: str | None) -> float:
        """The rating of one profile."""
        return float(self.encode(pa.array([profile], self.type))[0, 0])


TextLogit = TokenLogit | EmbeddingLogit
Encoding = Numbers | NamedNumbers | Vocabulary | TextLogit | Rating


class ColumnMismatchError(ValueError):
    """A table does not have the columns that a model was trained on, or has them with another kind of value."""

    def __init__(self, message: str, column: str | None = None) -> None:
        super().__init__(message)
        self.column = column


def fit(table: pa.Table, columns: Sequence[str], *, vocabulary_size: int) -> tuple[Encoding, ...]:
    """What is learnt of each of `columns` of the training rows. Raises `ColumnMismatchError` for types no encoding is known for."""
    encodings: list[Encoding] = []
    for name in columns:
        values = array_of(table[name])
        match kind(values.type):
            case "number":
                encodings.append(Numbers(name, values.type))
            case "text" | "texts":
                encodings.append(Vocabulary(name, values.type, _most_frequent(items(values)[1], vocabulary_size)))
            case "named numbers":
                each = pc.struct_field(pc.list_flatten(values), "name")
                encodings.append(NamedNumbers(name, values.type, _most_frequent(each, vocabulary_size, FEWEST_OF_A_NAME)))
            case _:
                raise ColumnMismatchError(
                    f"column {name!r} is {values.type}: only numbers, texts, lists of texts and named numbers can be features here"
                )
    return tuple(encodings)


def encode(table: pa.Table, encodings: Sequence[Encoding], spare: int = 0) -> Matrix:
    """The matrix of shape (rows, all names of `encodings`, and so many columns of NaN).

    Raises one `ColumnMismatchError` that lists all that does not fit.
    """
    problems = []
    for encoding in encodings:
        index = table.schema.get_field_index(encoding.column)
        if index < 0:
            problems.append(f"column {encoding.column!r} is missing")
        elif not _same_kind(table.schema.field(index).type, encoding.type):
            problems.append(f"column {encoding.column!r} is {table.schema.field(index).type}, not {encoding.type}")
    if problems:
        raise ColumnMismatchError(f"the model cannot score this table: {'; '.join(problems)}")
    width = sum(len(encoding.names) for encoding in encodings)
    matrix = np.full((table.num_rows, width + spare), np.nan, dtype=np.float32)
    start = 0
    for encoding in encodings:
        width = len(encoding.names)
        matrix[:, start : start + width] = encoding.encode(array_of(table[encoding.column]))
        start += width
    return matrix


def kind(type_: pa.DataType) -> str | None:
    """`number`, `text`, `texts`, `words`, `named numbers` or `vector`; None for a type that cannot be a feature."""
    types = pa.types
    if types.is_dictionary(type_):
        return kind(type_.value_type)
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
    if (types.is_list(type_) or types.is_large_list(type_)) and kind(type_.value_type) == "text":
        return "texts" if types.is_list(type_) else "words"
    return None


def reads_embeddings(encodings: Iterable[object]) -> bool:
    """Whether a text has to be encoded for these encodings."""
    return any(isinstance(each, EmbeddingLogit) for each in encodings)


def text_columns(schema: pa.Schema) -> list[str]:
    """The columns that hold words or embeddings: most of a dataset's bytes."""
    return [field.name for field in schema if kind(field.type) in ("words", "vector")]


def _same_kind(given: pa.DataType, expected: pa.DataType) -> bool:
    if kind(given) != kind(expected):
        return False
    return kind(given) != "vector" or given.list_size == expected.list_size


def array_of(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece, its values as they are."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], column.type)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _floats(values: pa.Array) -> Matrix:
    """Float32 with NaN for null and for what is not finite."""
    floats = pc.cast(values, pa.float32()) if not pa.types.is_floating(values.type) else values
    with np.errstate(over="ignore"):
        numbers = np.array(floats.to_numpy(zero_copy_only=False), dtype=np.float32)
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers


def items(values: pa.Array) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Every text of the column, and the row that it belongs to."""
    if kind(values.type) == "text":
        return np.arange(len(values)), values.cast(pa.string())
    return pc.list_parent_indices(values).to_numpy(zero_copy_only=False), pc.list_flatten(values).cast(pa.string())


def _kept(values: pa.Array, kept: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of the texts of all rows those that are `kept`: their rows, and their places in it."""
    rows, texts = items(values)
    found = pc.fill_null(pc.index_in(texts, value_set=pa.array(kept, pa.string())), -1).to_numpy(False)
    return rows[found >= 0], found[found >= 0]


def _most_frequent(texts: pa.Array, size: int, fewest: int = 1) -> tuple[str, ...]:
    """The `size` most frequent texts of those that occur `fewest` times or more; of equally frequent ones, those first in the alphabet."""
    counts = pa.Table.from_struct_array(pc.value_counts(texts.drop_null()))
    counts = counts.filter(pc.greater_equal(counts["counts"], fewest))
    order = pc.sort_indices(counts, sort_keys=[("counts", "descending"), ("values", "ascending")])[:size]
    return tuple(counts["values"].take(order).to_pylist())


def added_by_texts(scores: Matrix) -> npt.NDArray[np.float64]:
    """The sum of columns each of which a `TextLogit` has made, shape (rows,); what is missing adds nothing."""
    added = np.zeros(len(scores))
    for column in scores.T:
        added += np.nan_to_num(column)
    return added


def vectors(values: pa.Array) -> tuple[np.ndarray, Matrix]:
    """Which rows have a finite vector, and those vectors, of shape (such rows, dimension)."""
    present = values.is_valid().to_numpy(zero_copy_only=False)
    found = np.asarray(values.flatten().cast(pa.float32())).reshape(-1, values.type.list_size)
    finite = np.isfinite(found).all(axis=1)
    present[present] = finite
    return present, found[finite]
