"""Names and paths within the store; see `store` for what lies there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bid_assets.version_store.manifest import Manifest

HEAD = "HEAD"
MANIFEST = ".manifest.json"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_WINDOW = re.compile(r"\d{4}-\d{2}-\d{2}")
ENTRY = re.compile(r"(\d{8})\.json")


def is_version_path(path: Sequence[str]) -> bool:
    """Whether the parts of a path are asset, window and file, and not what somebody else has put into the store."""
    return len(path) == 3 and all(map(NAME.fullmatch, path)) and bool(_WINDOW.fullmatch(path[1]))


def version_named(content: bytes) -> str | None:
    """The version that a HEAD with this content names; None where it is no name."""
    version = content.decode(errors="replace").strip()
    return version if NAME.fullmatch(version) else None


def entry_path(log: str, number: int) -> str:
    """Of an entry of a log."""
    return f"{validate_name(log)}/{number:08}.json"


def window_folder(asset: str, partition: str) -> str:
    """Of the versions of a window, and of its HEAD."""
    return f"{validate_name(asset)}/{validate_name(partition)}"


def manifest_path(asset: str, partition: str, version: str) -> str:
    """Of the manifest of a version."""
    return f"{window_folder(asset, partition)}/{validate_name(version)}{MANIFEST}"


def path_beside(manifest: Manifest, name: str) -> str:
    """Of a file in the folder of this version."""
    return f"{window_folder(manifest.asset, manifest.partition)}/{name}"


def validate_name(name: str) -> str:
    """The name, if it may be a part of a path. Raises `ValueError`."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name of an asset, window, version or pointer: letters, digits, '.', '_' and '-', not first a dot "
            "or dash"
        )
    return name
