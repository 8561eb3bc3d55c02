"""Manifests: the metadata of a version, beside its file; and the draft that a writer starts from."""

from __future__ import annotations

import builtins
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bid_assets.version_store.checksummed_json import dump_checksummed, parse_checksummed

VersionKey = tuple[str, str, str]
"""Asset, window, version."""


@dataclass(frozen=True, order=True, slots=True)
class InputRef:
    """One exact version, and the hash of its content."""

    asset: str
    partition: str
    version: str
    content_hash: str


@dataclass(frozen=True)
class CodeVersion:
    """The code that wrote a version: the checkout's commit, whether it had uncommitted changes, the asset's own code
    version."""

    git_commit: str | None
    dirty: bool | None
    asset: str | None


@dataclass(frozen=True)
class Draft:
    """The metadata of a version before it is written. Fields as in `Manifest`; `extension` has no dot."""

    asset: str
    partition: str
    extension: str
    content_hash: str
    inputs: tuple[InputRef, ...] = ()
    code: CodeVersion = field(default_factory=lambda: CodeVersion(None, None, None))
    run_id: str | None = None
    rows: int | None = None
    schema: tuple[dict[str, str], ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    cutoff: datetime | None = None
    info: dict[str, Any] = field(default_factory=dict)
    former_content_hashes: tuple[str, ...] = ()
    """Hashes of the same content by the rules of earlier releases, whose manifests may have either. Not in the manifest."""

    def has_content(self, content_hash: str | None) -> bool:
        """Whether it is the content that a manifest with this hash describes."""
        return content_hash in (self.content_hash, *self.former_content_hashes)


@dataclass(frozen=True)
class Manifest:
    """All metadata of a version. Times are UTC; `file` lies beside the manifest; `info` is free JSON."""

    asset: str
    partition: str
    version: str
    created_at: datetime
    run_id: str | None
    code: CodeVersion
    content_hash: str
    file: str
    sha256: str
    bytes: int
    rows: int | None
    schema: tuple[dict[str, str], ...] | None
    settings: dict[str, Any]
    libraries: dict[str, str]
    cutoff: datetime | None
    inputs: tuple[InputRef, ...]
    info: dict[str, Any]

    @property
    def ref(self) -> InputRef:
        """The version as others name it."""
        return InputRef(self.asset, self.partition, self.version, self.content_hash)

    def to_json(self) -> builtins.bytes:
        """Readable, stable JSON with a checksum."""
        return dump_checksummed(vars(self))

    @classmethod
    def from_json(cls, text: builtins.bytes) -> Manifest:
        """The manifest of `to_json`. Raises `ValueError`, `KeyError` or `TypeError` where the text is anything else."""
        value = parse_checksummed(text, allow_missing=False)
        return cls(
            **value
            | {
                "created_at": datetime.fromisoformat(value["created_at"]),
                "cutoff": None if value["cutoff"] is None else datetime.fromisoformat(value["cutoff"]),
                "code": CodeVersion(**value["code"]),
                "inputs": tuple(InputRef(*ref.values()) for ref in value["inputs"]),
                "schema": None if value["schema"] is None else tuple(value["schema"]),
            }
        )
