"""Rows as users have them (pandas, NumPy) as Arrow tables with the types of a training dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from bid_assets.features.registry import families
from bid_assets.modelling.dataset.assemble import FAMILY_OF, KEYS

if TYPE_CHECKING:
    import pandas as pd


def table_from_frame(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """The frame's columns that `schema` names, as Arrow with its types: pandas has neither vectors nor nulls.

    Raises `ValueError`, which names the column, for values of another type.
    """
    fields = [field for field in schema if field.name in frame.columns]
    columns = []
    for each in fields:
        try:
            columns.append(pa.array(frame[each.name], each.type, from_pandas=True))
        except pa.ArrowException as error:
            raise ValueError(f"column {each.name!r} cannot be read as {each.type}: {error}") from None
    return pa.table(columns, schema=pa.schema(fields))


def schema_of_frame(frame: pd.DataFrame) -> pa.Schema:
    """Keys and features with their declared types and families; columns that nobody declares by their values."""
    declared = {
        feature.name: pa.field(feature.name, feature.type, metadata={FAMILY_OF: family.name.encode()})
        for family in families()
        for feature in family.features
    }
    fields = []
    for name in frame.columns:
        field = declared.get(name) or (KEYS.field(name) if name in KEYS.names else pa.field(name, pa.array(frame[name]).type))
        if pa.types.is_list(field.type) and pa.types.is_floating(field.type.value_type):
            length = next((len(vector) for vector in frame[name] if vector is not None), 1)
            field = field.with_type(pa.list_(pa.float32(), length))
        fields.append(field)
    return pa.schema(fields)


def table_from_array(values: np.ndarray) -> pa.Table:
    """Numbers of shape (rows, columns) as columns `x0`, `x1`, ..."""
    return pa.table({f"x{number}": column for number, column in enumerate(values.T)})
