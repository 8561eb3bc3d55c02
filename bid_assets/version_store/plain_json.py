"""Values as JSON, and the hash of what they say. Imports neither NumPy nor Arrow, which small commands do without."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

PLAIN_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
"""How values become JSON in the store: dataclasses, times and numpy numbers included; NaN becomes null."""


def json_hash(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`: keys in order, no white space. A value and what JSON keeps of it are equal."""
    value_copy = orjson.loads(orjson.dumps(value, option=PLAIN_JSON))  # keys become text before they are put in order
    return hashlib.sha256(orjson.dumps(value_copy, option=orjson.OPT_SORT_KEYS)).hexdigest()
