"""The version store: immutable versions with manifests, a HEAD per window, a few named pointers and logs.

    <store>/<asset>/<partition>/<asset>_<YYYYMMDD_HHMMSS>_<hash8>.<extension>
    <store>/<asset>/<partition>/<same name>.manifest.json
    <store>/<asset>/<partition>/HEAD
    <store>/<log>/<number>.json

A version exists once its manifest does. The order of writing is file, manifest, HEAD, each step atomic (`atomic_files.py`), so
a crash at any point leaves the old HEAD and no half version. What the content of a version means is not known here.

A small file that is damaged (HEAD, manifest, log entry, pointer) reads as if it were absent, and a warning names it: readers
go on with what is intact. For a HEAD that names no readable version that is the window's newest version (by `created_at`)
whose file is intact. Only who asks for one damaged version, or for its data, gets an error. `verification/` looks for
damage and repairs it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from bid_assets.common.windows import as_utc, utc_now
from bid_assets.version_store.atomic_files import ChecksumMismatchError, files_at, sha256_of
from bid_assets.version_store.checksummed_json import dump_checksummed, parse_checksummed
from bid_assets.version_store.code_version import library_versions
from bid_assets.version_store.layout import (
    ENTRY,
    HEAD,
    MANIFEST,
    NAME,
    entry_path,
    is_version_path,
    manifest_path,
    path_beside,
    validate_name,
    version_named,
    window_folder,
)
from bid_assets.version_store.manifest import Draft, InputRef, Manifest
from bid_assets.version_store.plain_json import json_hash

REPAIR_HINT = "`bid-assets verify --repair` mends it"

log = logging.getLogger(__name__)


class WriteResult(NamedTuple):
    """The version that is HEAD after a write, and whether the write created it."""

    manifest: Manifest
    created: bool


class VersionNotFoundError(LookupError):
    """There is no such version."""


class CorruptVersionError(RuntimeError):
    """A file of the store is not what was written."""


class VersionStore:
    """Versions below a folder or any fsspec URL. Several processes may write; every read sees what is there now.

    Names of assets, windows, versions and pointers are letters, digits, `.`, `_` and `-`: `ValueError` for any other.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.files = files_at(url)
        self._warnings: set[str] = set()

    def write(self, draft: Draft, write_file: Callable[[Path], None]) -> WriteResult:
        """Make a version of `draft` and move HEAD to it; or nothing, where HEAD is the same version already and unharmed.

        `write_file` fills a new local file and is called only if a version is made, or if HEAD is the same version and its
        file is damaged: it is then restored in place.
        """
        validate_name(draft.extension)
        head = self.head(draft.asset, draft.partition)
        if head is not None and same_version(draft, head):
            manifest, created = head if self._intact(head) else self.restore(head, write_file), False
        else:
            manifest, created = self._write_version(draft, write_file), True
        if head is not None and manifest.created_at < head.created_at:
            log.warning(
                f"the clock of this machine has gone back: {manifest.version} of window {manifest.partition} was made after "
                f"{head.version}, and its time is earlier ({manifest.created_at:%Y-%m-%d %H:%M:%S} UTC); readers get it all "
                "the same, but set the clock right"
            )
        if self._head_text(manifest.asset, manifest.partition) != manifest.version:
            self.files.replace(path_beside(manifest, HEAD), _writer(manifest.version.encode()))
        return WriteResult(manifest, created)

    def restore(self, manifest: Manifest, write_file: Callable[[Path], None]) -> Manifest:
        """Write the file of a version again, in its place, and its manifest, should bytes or checksum be others now.

        The caller vouches that the content is that of the version's content hash. Not for versions that are intact.
        """
        file_info: dict[str, Any] = {}
        self.files.replace(path_beside(manifest, manifest.file), _recording_checksum(write_file, file_info))
        restored = replace(manifest, **file_info)
        text = restored.to_json()
        path = path_beside(manifest, manifest.version + MANIFEST)
        if self.files.read(path)[0] != text:
            self.files.replace(path, _writer(text))
        return restored

    def head(self, asset: str, partition: str) -> Manifest | None:
        """The version that readers get; None where there is none."""
        return self.heads(asset, [partition]).get(partition)

    def heads(self, asset: str, partitions: Iterable[str]) -> dict[str, Manifest]:
        """The heads of many windows, in their order; windows without a version are absent."""
        paths = {partition: f"{window_folder(asset, partition)}/{HEAD}" for partition in partitions}
        contents = zip(paths, self.files.read(*paths.values()), strict=True)
        versions = {partition: version_named(content) for partition, content in contents if content is not None}
        legible = [(asset, partition, version) for partition, version in versions.items() if version is not None]
        manifests = {item.partition: item for item in self._manifests(legible) if item is not None}
        for partition in versions.keys() - manifests.keys():
            named = versions[partition]
            self.warn_of_damage(paths[partition], f"it names no readable version{f' but {named}' if named else ''}")
            if (newest := self.newest_intact(asset, partition)) is not None:
                manifests[partition] = newest
        return {partition: manifests[partition] for partition in versions if partition in manifests}

    def newest_intact(self, asset: str, partition: str) -> Manifest | None:
        """The newest version of a window, by `created_at`, whose manifest is readable and whose file is intact."""
        newest_first = reversed(self.versions(asset, partition))
        return next((item for item in newest_first if not self.damaged([item], checksums=True)), None)

    def damaged(self, manifests: Iterable[Manifest], *, checksums: bool = False) -> list[Manifest]:
        """Those of the versions whose file is gone or has another size; with `checksums`, every byte of it is read."""
        items = list(manifests)
        paths = [path_beside(item, item.file) for item in items]
        if checksums:
            with ThreadPoolExecutor() as pool:
                sums = pool.map(self.files.checksum, paths)
                return [item for item, checksum in zip(items, sums, strict=True) if checksum != item.sha256]
        return [item for item, size in zip(items, self.files.sizes(*paths), strict=True) if size != item.bytes]

    def manifest(self, asset: str, partition: str, version: str) -> Manifest:
        """The manifest of one version. Raises `VersionNotFoundError`, which names what there is, and `CorruptVersionError`."""
        path = manifest_path(asset, partition, version)
        text = self.files.read(path)[0]
        if text is None:
            existing = [item.version for item in self.versions(asset, partition)][-5:]
            raise VersionNotFoundError(
                f"{asset} has no version {version} of window {partition}; "
                + (f"the newest are {', '.join(existing)}" if existing else "it has none of that window at all")
            )
        try:
            return parsed_manifest(path, text)
        except ValueError as error:
            raise CorruptVersionError(f"{self.files.url(path)} is damaged: {error}; {REPAIR_HINT}") from None

    def manifests(self, refs: Iterable[InputRef]) -> dict[InputRef, Manifest]:
        """The manifests of many versions, read together; those that are gone are absent."""
        unique_refs = list(dict.fromkeys(refs))
        manifests = self._manifests([(ref.asset, ref.partition, ref.version) for ref in unique_refs])
        return {ref: manifest for ref, manifest in zip(unique_refs, manifests, strict=True) if manifest is not None}

    def versions(self, asset: str, partition: str | None = None) -> list[Manifest]:
        """All versions of an asset, or of one of its windows, oldest first."""
        return self._versions_below(validate_name(asset) if partition is None else window_folder(asset, partition))

    def version_names(self, asset: str, partition: str | None = None) -> list[tuple[str, str]]:
        """Window and name of each version of an asset, or of one of its windows; no manifest is read."""
        folder = validate_name(asset) if partition is None else window_folder(asset, partition)
        paths = [path.removesuffix(MANIFEST).split("/") for path in self.files.find(folder) if path.endswith(MANIFEST)]
        return sorted((path[1], path[2]) for path in paths if len(path) == 3)

    def all_versions(self) -> list[Manifest]:
        """All versions of all assets, oldest first."""
        return self._versions_below("")

    def assets(self) -> list[str]:
        """The assets that have a HEAD in some window."""
        return sorted({path[0] for path in self._head_paths("")})

    def partitions(self, asset: str) -> list[str]:
        """The windows of an asset that have a HEAD, oldest first."""
        return [path[1] for path in self._head_paths(validate_name(asset))]

    def fetch(self, manifest: Manifest) -> Path:
        """The version's file on this machine, its checksum verified just now. Raises `CorruptVersionError`."""
        url = self.file_url(manifest)
        try:
            return self.files.local(path_beside(manifest, manifest.file), manifest.sha256)
        except FileNotFoundError:
            raise CorruptVersionError(
                f"{url} is gone, though its manifest is still there; {_recovery_hint(manifest)}"
            ) from None
        except ChecksumMismatchError as error:
            raise CorruptVersionError(
                f"{url} has SHA-256 {error}, but {manifest.sha256} was written; it must not be used: {_recovery_hint(manifest)}"
            ) from None

    def set_head(self, asset: str, partition: str, version: str) -> None:
        """Make readers get `version`. Raises `VersionNotFoundError`."""
        manifest = self.manifest(asset, partition, version)
        self.files.replace(path_beside(manifest, HEAD), _writer(manifest.version.encode()))

    def remove_head(self, asset: str, partition: str) -> None:
        """Leave a window without a version for readers: it counts as never made."""
        self.files.remove(f"{window_folder(asset, partition)}/{HEAD}")

    def read_pointer(self, name: str) -> dict[str, Any] | None:
        """The value of a named pointer at the root of the store; None where it was never moved or is damaged."""
        return self._parse_json(validate_name(name), self.files.read(name)[0])

    def move_pointer(self, name: str, value: dict[str, Any]) -> None:
        """Give a named pointer a new value, atomically."""
        self.files.replace(validate_name(name), _writer(dump_checksummed(value)))

    def append(self, log: str, number: int, entry: dict[str, Any]) -> bool:
        """Put entry `number` (from 1) of a log, for ever. False where somebody else has put that entry before."""
        return self.files.put_new(entry_path(log, number), _writer(dump_checksummed(entry)))

    def restore_entry(self, log: str, number: int, entry: dict[str, Any]) -> None:
        """Put an entry again whose file is damaged or gone."""
        self.files.replace(entry_path(log, number), _writer(dump_checksummed(entry)))

    def entries(self, log: str, after: int = 0) -> dict[int, dict[str, Any] | None]:
        """The entries of a log that follow number `after`, by number, in their order; None for one that is damaged."""
        numbers = [
            int(match[1]) for path in self.files.find(validate_name(log)) if (match := ENTRY.fullmatch(path.split("/")[-1]))
        ]
        paths = {number: entry_path(log, number) for number in numbers if number > after}
        texts = self.files.read(*paths.values())
        return {number: self._parse_json(path, text) for (number, path), text in zip(paths.items(), texts, strict=True)}

    def has_entries(self, log: str, *numbers: int) -> list[bool]:
        """Whether a log has entries of these numbers, damaged or not: small reads."""
        return [text is not None for text in self.files.read(*(entry_path(log, number) for number in numbers))]

    def warn_of_damage(self, path: str, problem: str) -> None:
        """Log a warning that names a damaged file, once for each problem."""
        warning = f"{self.files.url(path)} is damaged and left out: {problem}; {REPAIR_HINT}"
        if warning not in self._warnings:
            self._warnings.add(warning)
            log.warning(warning)

    def file_url(self, manifest: Manifest) -> str:
        """Where the version's file is."""
        return self.files.url(path_beside(manifest, manifest.file))

    def _head_text(self, asset: str, partition: str) -> str | None:
        content = self.files.read(f"{window_folder(asset, partition)}/{HEAD}")[0]
        return None if content is None else content.decode(errors="replace")

    def _intact(self, manifest: Manifest) -> bool:
        return self.files.intact(path_beside(manifest, manifest.file), manifest.sha256, manifest.bytes)

    def _write_version(self, draft: Draft, write_file: Callable[[Path], None]) -> Manifest:
        created_at, identity = utc_now(), identity_hash(draft)
        file_info: dict[str, Any] = {}
        for attempt in count():
            # a taken name is the same write within one second, or what a killed writer has left: another hash then
            suffix = identity[:8] if attempt == 0 else json_hash([identity, attempt])[:8]
            version = f"{draft.asset}_{created_at:%Y%m%d_%H%M%S}_{suffix}"
            file = f"{version}.{draft.extension}"
            if not self.files.put_new(f"{draft.asset}/{draft.partition}/{file}", _recording_checksum(write_file, file_info)):
                continue
            manifest = replace(manifest_of(draft, version, created_at), **file_info)
            if self.files.put_new(path_beside(manifest, version + MANIFEST), _writer(manifest.to_json())):
                return manifest
        raise AssertionError  # `count` never ends

    def _parse_json(self, path: str, text: bytes | None) -> dict[str, Any] | None:
        """The object in a small file; None where there is no file, or a damaged one, which is named."""
        try:
            return None if text is None else parse_checksummed(text)
        except ValueError as error:
            self.warn_of_damage(path, str(error))
            return None

    def _versions_below(self, folder: str) -> list[Manifest]:
        paths = [path.removesuffix(MANIFEST).split("/") for path in self.files.find(folder) if path.endswith(MANIFEST)]
        manifests = self._manifests([(path[0], path[1], path[2]) for path in paths if is_version_path(path)])
        present = [manifest for manifest in manifests if manifest is not None]
        return sorted(present, key=lambda item: (item.created_at, item.asset, item.partition, item.version))

    def _head_paths(self, folder: str) -> list[list[str]]:
        paths = (path.split("/") for path in self.files.find(folder))
        return [path for path in paths if is_version_path(path) and path[2] == HEAD]

    def _manifests(self, keys: Sequence[tuple[str, str, str]]) -> list[Manifest | None]:
        """The manifests of versions (asset, partition, version), read together; None where there is none or a damaged one."""
        paths = [manifest_path(*key) for key in keys]
        manifests: list[Manifest | None] = []
        for path, text in zip(paths, self.files.read(*paths), strict=True):
            try:
                manifests.append(None if text is None else parsed_manifest(path, text))
            except ValueError as error:
                self.warn_of_damage(path, str(error))
                manifests.append(None)
        return manifests


def same_version(draft: Draft, manifest: Manifest) -> bool:
    """Whether a draft would say nothing new: same content, inputs of the same content, same asset code, same settings.

    Inputs count by content, not by version: one that was written anew with the same content is no news; one whose content
    has changed is, even where the outcome is the same, for lineage must stay true. The commit does not count, since every
    commit would make everything new; the asset's own code version does, and so does the format of the file.
    """
    return identity_hash(draft) == identity_hash(manifest) and manifest.file.endswith(f".{draft.extension}")


def identity_hash(item: Draft | Manifest) -> str:
    """The hash of all that makes a version another one."""
    inputs = sorted((ref.asset, ref.partition, ref.content_hash) for ref in item.inputs)
    return json_hash([item.content_hash, inputs, item.code.asset, item.settings])


def manifest_of(draft: Draft, version: str, created_at: datetime) -> Manifest:
    """The manifest of a draft, but for checksum and size of its file."""
    fields = {
        name: value for name, value in vars(draft).items() if name not in ("extension", "cutoff", "former_content_hashes")
    }
    return Manifest(
        version=version,
        created_at=created_at,
        file=f"{version}.{draft.extension}",
        sha256="",
        bytes=0,
        libraries=library_versions(),
        cutoff=None if draft.cutoff is None else as_utc(draft.cutoff),
        **fields,
    )


def parsed_manifest(path: str, text: bytes) -> Manifest:
    """The manifest that lies at `path`. Raises `ValueError` where the text is no manifest, or that of another version."""
    try:
        manifest = Manifest.from_json(text)
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is no manifest: {error!r}") from None
    if path != path_beside(manifest, manifest.version + MANIFEST) or not NAME.fullmatch(manifest.file):
        raise ValueError(f"it is the manifest of {manifest.version} in window {manifest.partition}")
    return manifest


def _recovery_hint(manifest: Manifest) -> str:
    """How to restore a version's file, in words."""
    return f"{REPAIR_HINT}, and so does `bid-assets run --from {manifest.partition} --to {manifest.partition}`"


def _writer(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def _recording_checksum(write_file: Callable[[Path], None], file_info: dict[str, Any]) -> Callable[[Path], None]:
    """`write_file`, which also puts checksum and size of the file into `file_info`."""

    def write(path: Path) -> None:
        write_file(path)
        file_info.update(sha256=sha256_of(path), bytes=path.stat().st_size)

    return write
