"""Rows as users have them (pandas, NumPy) as Arrow tables with the types of a training dataset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from bid_assets.features.family import VECTOR
from bid_assets.features.registry import families
from bid_assets.modelling.dataset.assemble import FAMILY_OF, KEYS

if TYPE_CHECKING:
    import pandas as pd


def table_from_frame(frame: pd.DataFrame, schema: pa.Schema | None = None) -> pa.Table:
    """The frame's columns that `schema` names, as Arrow with its types: pandas has neither vectors nor nulls.

    Without a schema all columns: keys and features as they are declared, others by their values. Raises `ValueError`,
    which names the column, for values of another type.
    """
    frame = frame.rename(columns=str)
    columns, fields = [], []
    for each in _schema_of(frame) if schema is None else [field for field in schema if field.name in frame.columns]:
        try:
            columns.append(pa.array(frame[each.name], each.type, from_pandas=True))
        except pa.ArrowException as error:
            raise ValueError(f"column {each.name!r} cannot be read as {each.type}: {error}") from None
        fields.append(each)
    return pa.table(columns, schema=pa.schema(fields))


def table_from_array(values: np.ndarray) -> pa.Table:
    """Numbers of shape (rows, columns) as columns `x0`, `x1`, ..."""
    return pa.table({f"x{number}": column for number, column in enumerate(values.T)})


def _schema_of(frame: pd.DataFrame) -> Iterator[pa.Field]:
    declared = {
        feature.name: pa.field(feature.name, feature.type, metadata={FAMILY_OF: family.name.encode()})
        for family in families()
        for feature in family.features
    } | {key.name: key for key in KEYS}
    for name in frame.columns:
        field = declared.get(name) or pa.field(name, pa.array(frame[name], from_pandas=True).type)
        if field.type == VECTOR:
            length = next((len(vector) for vector in frame[name] if vector is not None), 1)
            field = field.with_type(pa.list_(pa.float32(), length))
        yield field
