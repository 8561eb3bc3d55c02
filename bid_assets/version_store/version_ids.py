"""Short ids of versions, and resolving the id that a command gets to a version.

A version is `<asset>_<YYYYMMDD>_<HHMMSS>_<hash8>`; its short id is the shortest end of it that no other version of the asset
has, mostly the hash. Names only: no manifest is read here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from bid_assets.version_store.store import VersionNotFoundError, VersionStore

MIN_ID_LENGTH = 4
"""A shorter text is no id, even where only one version has it today."""
MAX_LISTED = 5


class AmbiguousVersionError(VersionNotFoundError):
    """More than one version is called so; the message names them."""


def short_ids(versions: Iterable[str]) -> dict[str, str]:
    """Version -> its short id among these versions of one asset; the whole version where nothing shorter is its alone."""
    names = list(dict.fromkeys(versions))
    suffixes = Counter(suffix for name in names for suffix in set(_suffixes(name)))
    return {name: next((suffix for suffix in _suffixes(name) if suffixes[suffix] == 1), name) for name in names}


def match_versions(versions: Sequence[str], text: str) -> list[str]:
    """The versions of one asset that `text` may stand for: the version itself, else those that end with it, else those that
    begin with it, the asset's name left out or not, or whose hash does."""
    names = list(dict.fromkeys(versions))
    if text in names:
        return [text]
    if len(text) < MIN_ID_LENGTH:
        return []
    rules: list[Callable[[str], bool]] = [
        lambda name: text in _suffixes(name),
        lambda name: name.endswith(text),
        lambda name: name.startswith(text) or any(suffix.startswith(text) for suffix in _suffixes(name)),
    ]
    return next((matches for rule in rules if (matches := [name for name in names if rule(name)])), [])


def resolve(store: VersionStore, asset: str, text: str, partition: str | None = None) -> tuple[str, str]:
    """Window and full name of the version that `text` (a version, a short id, or the beginning or end of one) stands for.

    Raises `VersionNotFoundError`, and `AmbiguousVersionError` where several versions, or windows, have it.
    """
    candidates = store.version_names(asset, partition)
    names = set(match_versions([version for _, version in candidates], text))
    matches = [match for match in candidates if match[1] in names]
    where = f" of window {partition}" if partition else ""
    if not matches:
        newest = ", ".join(version for _, version in sorted(candidates, key=lambda match: match[1])[-MAX_LISTED:])
        raise VersionNotFoundError(
            f"the store has no {asset} {text}{where}; "
            + (f"the newest are {newest}" if newest else "it has none at all")
            + f" (`bid-assets versions {asset}` lists them)"
        )
    if len(matches) > 1:
        listed = ", ".join(f"{version} of window {window}" for window, version in matches[:MAX_LISTED])
        more = f" and {len(matches) - MAX_LISTED} more" if len(matches) > MAX_LISTED else ""
        raise AmbiguousVersionError(f"{text} may be any of {len(matches)} versions{where}: {listed}{more}; give more of it")
    return matches[0]


def _suffixes(version: str) -> list[str]:
    """The ends of a version that begin after an underscore, the shortest first: hash, time and hash, date and time and hash."""
    parts = version.rsplit("_", 3)
    return ["_".join(parts[start:]) for start in range(len(parts) - 1, 0, -1)]
