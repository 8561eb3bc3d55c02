"""Looks for damage in a store: every file is read, every checksum compared, every reference followed. Changes nothing.

What is done about it is in `repair.py`; what is damage and what a reader does meanwhile, in `version_store/store.py`
and `deployments/events.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from bid_assets.common.windows import Cadence, utc_now
from bid_assets.deployments import events, retraining_requests
from bid_assets.version_store import store_metadata
from bid_assets.version_store.atomic_files import STALE_SECONDS
from bid_assets.version_store.checksummed_json import parse_checksummed
from bid_assets.version_store.layout import HEAD, MANIFEST, is_version_path
from bid_assets.version_store.manifest import InputRef, Manifest, VersionKey
from bid_assets.version_store.store import VersionStore, parsed_manifest

POINTERS = (events.POINTER, retraining_requests.POINTER, store_metadata.METADATA)
_NAME_OF_VERSION = re.compile(r".+_(\d{8}_\d{6})_[0-9a-f]{8}")


class Kind(StrEnum):
    """What is damaged."""

    FILE = "file of a version"
    MANIFEST = "manifest"
    HEAD = "HEAD"
    EVENT = "deployment event"
    POINTER = "pointer"
    GARBAGE = "garbage"
    STRAY = "stray file"


@dataclass(frozen=True)
class Finding:
    """One damaged, missing or foreign file. `version`, `content_hash` and `manifest`: as far as they are known."""

    kind: Kind
    path: str
    problem: str
    version: VersionKey | None = None
    content_hash: str | None = None
    manifest: Manifest | None = None
    readers: bool = False
    """Whether it is the version that HEAD names."""

    @property
    def harmless(self) -> bool:
        """Whether nothing that was written is damaged."""
        return self.kind in (Kind.GARBAGE, Kind.STRAY)


@dataclass
class _Contents:
    """The files of a store, sorted into what they are."""

    heads: dict[tuple[str, str], str] = field(default_factory=dict)
    """Asset and window -> content of HEAD."""
    manifests: dict[VersionKey, Manifest] = field(default_factory=dict)
    illegible: dict[VersionKey, str] = field(default_factory=dict)
    files: dict[VersionKey, str] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)

    def named_by_head(self, key: VersionKey) -> bool:
        return self.heads.get(key[:2]) == key[2]


def check(store: VersionStore) -> list[Finding]:
    """All damage of a store, in the order in which it is to be repaired."""
    contents = _sorted_out(store)
    return [
        *_events(store),
        *_damaged_files(store, contents),
        *_lost_versions(store, contents),
        *_heads(contents),
        *_pointers(store),
        *_leftovers(contents),
    ]


def url_of(store: VersionStore, finding: Finding) -> str:
    """The full name of the file that a finding is about."""
    return store.files.url(finding.path)


def _sorted_out(store: VersionStore) -> _Contents:
    contents, manifests, heads = _Contents(), [], []
    for path in store.files.find(""):
        parts = path.split("/")
        if is_version_path(parts) and parts[2] == HEAD:
            heads.append(path)
        elif is_version_path(parts) and path.endswith(MANIFEST):
            manifests.append(path)
        elif is_version_path(parts) and _NAME_OF_VERSION.fullmatch(parts[2].rsplit(".", 1)[0]):
            contents.files[parts[0], parts[1], parts[2].rsplit(".", 1)[0]] = path
        elif path not in POINTERS and not events.is_event_path(path):
            contents.strays.append(path)
    for path, text in zip(heads, store.files.read(*heads), strict=True):
        asset, partition, _ = path.split("/")
        contents.heads[asset, partition] = (text or b"").decode(errors="replace").strip()
    for path, text in zip(manifests, store.files.read(*manifests), strict=True):
        asset, partition, name = path.split("/")
        key = asset, partition, name.removesuffix(MANIFEST)
        try:
            contents.manifests[key] = parsed_manifest(path, text or b"")
        except ValueError as error:
            contents.illegible[key] = str(error)
    return contents


def _damaged_files(store: VersionStore, contents: _Contents) -> Iterator[Finding]:
    """Versions whose data are not what was written, in the order in which they were made: inputs come before what needs
    them."""
    manifests = sorted(contents.manifests.items(), key=lambda item: item[1].created_at)
    paths = ["/".join((*key[:2], manifest.file)) for key, manifest in manifests]
    with ThreadPoolExecutor() as pool:
        checksums = pool.map(store.files.checksum, paths)
        for (key, manifest), path, checksum in zip(manifests, paths, checksums, strict=True):
            if checksum != manifest.sha256:
                problem = (
                    "it is gone"
                    if checksum is None
                    else f"its SHA-256 is {checksum[:8]}..., but {manifest.sha256[:8]}... was written"
                )
                yield Finding(Kind.FILE, path, problem, key, manifest.content_hash, manifest, contents.named_by_head(key))


def _lost_versions(store: VersionStore, contents: _Contents) -> Iterator[Finding]:
    """Versions without a readable manifest that something names or that have left a damaged one."""
    lost: dict[VersionKey, tuple[str, str | None]] = {}
    heads = [key for window, version in contents.heads.items() if (key := (*window, version)) in contents.files]
    for key in (*contents.illegible, *heads):
        if key not in contents.manifests:
            lost[key] = contents.illegible.get(key, "it is gone, and HEAD names its version"), None
    for named_by, ref in _references(store, contents.manifests):
        key = ref.asset, ref.partition, ref.version
        if key not in contents.manifests:
            lost[key] = contents.illegible.get(key, f"it is gone, and {named_by} names its version"), ref.content_hash
    for key in sorted(lost, key=time_of):
        problem, content_hash = lost[key]
        path = "/".join(key) + MANIFEST
        yield Finding(Kind.MANIFEST, path, problem, key, content_hash, readers=contents.named_by_head(key))


def _references(store: VersionStore, manifests: Mapping[VersionKey, Manifest]) -> Iterator[tuple[str, InputRef]]:
    for manifest in manifests.values():
        for ref in manifest.inputs:
            yield manifest.version, ref
    for number, event in events.read_log(store).events.items():
        yield f"deployment event {number}", event.model
        if event.decision is not None:
            yield f"deployment event {number}", event.decision


def _heads(contents: _Contents) -> Iterator[Finding]:
    windows: dict[tuple[str, str], list[str]] = {}
    for asset, partition, version in contents.manifests:
        windows.setdefault((asset, partition), []).append(version)
    for window in sorted({*windows, *contents.heads}):
        named = contents.heads.get(window)
        if named is None or named not in windows.get(window, ()):
            problem = "it is gone" if named is None else f"it names no readable version but {named[:80]!r}"
            yield Finding(Kind.HEAD, "/".join((*window, HEAD)), problem)


def _events(store: VersionStore) -> Iterator[Finding]:
    log = events.read_log(store)
    for number in (*log.restorable, *log.lost):
        copy = "there is a copy" if number in log.restorable else "there is no copy"
        yield Finding(Kind.EVENT, events.event_path(number), f"it is damaged or gone; {copy}")


def _pointers(store: VersionStore) -> Iterator[Finding]:
    texts = dict(zip(POINTERS, store.files.read(*POINTERS), strict=True))
    for name, text in texts.items():
        problem: str | None
        try:
            problem = None if text is None else _content_problem(name, parse_checksummed(text))
        except ValueError as error:
            problem = str(error)
        if name == events.POINTER and problem is None:
            problem = events.pointer_mismatch(store)
        if problem is not None:
            yield Finding(Kind.POINTER, name, problem)


def _content_problem(name: str, value: Mapping[str, object]) -> str | None:
    if name == retraining_requests.POINTER and not retraining_requests.is_well_formed(value):
        return "it holds no retraining requests"
    cadence = value.get(store_metadata.CADENCE)
    if name == store_metadata.METADATA and cadence is not None and cadence not in list(Cadence):
        return f"{cadence!r} is no cadence"
    return None


def _leftovers(contents: _Contents) -> Iterator[Finding]:
    """Files of no version: of a writer that was killed before it wrote the manifest, or of somebody else."""
    oldest = utc_now() - timedelta(seconds=STALE_SECONDS)
    for key, path in contents.files.items():
        known = key in contents.manifests or key in contents.illegible or contents.named_by_head(key)
        if not known and time_of(key) < oldest:
            yield Finding(Kind.GARBAGE, path, "no manifest: its writer was killed", key)
    for path in contents.strays:
        yield Finding(Kind.STRAY, path, "it is no file of the store; nothing reads it")


def time_of(key: VersionKey) -> datetime:
    """When a version was made, by its name, to the second."""
    match = _NAME_OF_VERSION.fullmatch(key[2])
    try:
        return datetime.strptime(match[1] if match else "", "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def harmful(findings: Iterable[Finding]) -> Sequence[Finding]:
    """Those that are damage."""
    return [finding for finding in findings if not finding.harmless]
