"""Checksummed JSON, the format of the store's small files (manifests, log entries, pointers).

The last key of the object is a checksum of the text before it.

Any damage shows when the text is read. What is done about damage is decided in `store.py`.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

import orjson

from bid_assets.version_store.plain_json import PLAIN_JSON

_CHECKSUM = b',\n  "checksum": "'
_ENDS_LIKE_CHECKSUM = re.compile(rb'[0-9a-f]{64}"\s*\}\s*$')


def dump_checksummed(value: Any) -> bytes:
    """Readable, stable JSON of an object (a dictionary or dataclass) with its checksum; an empty one has none."""
    text = orjson.dumps(value, option=PLAIN_JSON | orjson.OPT_INDENT_2)
    body = text.removesuffix(b"\n}")
    return text if body == text else body + _CHECKSUM + sha256(body).hexdigest().encode() + b'"\n}\n'


def parse_checksummed(text: bytes, *, allow_missing: bool = True) -> dict[str, Any]:
    """The object of `dump_checksummed`. Raises `ValueError` where the checksum is wrong.

    `allow_missing`: accept text without a checksum, as earlier releases wrote it.
    """
    body, mark, checksum = text.rpartition(_CHECKSUM)
    if mark:
        if checksum != sha256(body).hexdigest().encode() + b'"\n}\n':
            raise ValueError("its text does not fit its checksum")
        text = body + b"}"
    elif not allow_missing or _ENDS_LIKE_CHECKSUM.search(text):
        raise ValueError("it has no checksum")
    value = orjson.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"it holds no object but {text[:40]!r}")
    return value
