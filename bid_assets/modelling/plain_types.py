"""Arrow types as JSON, for the model file: what a column holds, without names of list items, nullability, metadata and
dictionaries.

A type is its Arrow alias (`"double"`, `"string"`), or a list of a constructor and its arguments (`["list", "string"]`).
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

_LISTS = {"list": pa.list_, "large_list": pa.large_list}
_DECIMALS = {"decimal32": pa.decimal32, "decimal64": pa.decimal64, "decimal128": pa.decimal128, "decimal256": pa.decimal256}


def type_to_plain(type_: pa.DataType) -> Any:
    """The type as a string or a list of JSON values. Raises `TypeError` for one that no column of a dataset has."""
    types = pa.types
    if types.is_dictionary(type_):
        return type_to_plain(type_.value_type)
    if types.is_fixed_size_list(type_):
        return ["fixed_size_list", type_to_plain(type_.value_type), type_.list_size]
    if types.is_list(type_) or types.is_large_list(type_):
        return ["large_list" if types.is_large_list(type_) else "list", type_to_plain(type_.value_type)]
    if types.is_struct(type_):
        return ["struct", *([field.name, type_to_plain(field.type)] for field in type_)]
    if types.is_decimal(type_):
        return [f"decimal{type_.bit_width}", type_.precision, type_.scale]
    try:
        if pa.type_for_alias(str(type_)) == type_:
            return str(type_)
    except ValueError:
        pass
    raise TypeError(f"a model file has no word for the Arrow type {type_}")


def type_from_plain(plain: Any) -> pa.DataType:
    """The type that `type_to_plain` has written. Raises `ValueError` for anything else."""
    match plain:
        case str():
            return pa.type_for_alias(plain)
        case ["fixed_size_list", item, int(size)]:
            return pa.list_(type_from_plain(item), size)
        case ["list" | "large_list" as name, item]:
            return _LISTS[name](type_from_plain(item))
        case ["struct", *fields] if all(isinstance(field, list) and len(field) == 2 for field in fields):
            return pa.struct([(name, type_from_plain(item)) for name, item in fields])
        case [str(name), int(precision), int(scale)] if name in _DECIMALS:
            return _DECIMALS[name](precision, scale)
    raise ValueError(f"{plain!r} is no Arrow type")
