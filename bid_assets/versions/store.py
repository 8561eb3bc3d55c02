"""The version store: immutable versions with manifests, a HEAD per window, and a few named pointers.

    <store>/<asset>/<partition>/<asset>_<YYYYMMDD_HHMMSS>_<hash8>.<extension>
    <store>/<asset>/<partition>/<same name>.manifest.json
    <store>/<asset>/<partition>/HEAD

A version exists once its manifest does. The order of writing is file, manifest, HEAD, each step atomic (`files.py`), so a
crash at any point leaves the old HEAD and no half version. What the content of a version means is not known here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from bid_assets.versions.code import library_versions
from bid_assets.versions.files import files_at
from bid_assets.versions.hashing import json_hash
from bid_assets.versions.manifest import Draft, Manifest
from bid_assets.windows import utc_now

HEAD = "HEAD"
MANIFEST = ".manifest.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Written(NamedTuple):
    """The version that a write ended with, and whether the write made it."""

    manifest: Manifest
    created: bool


class VersionNotFound(LookupError):
    """There is no such version."""


class CorruptVersion(RuntimeError):
    """A file of the store is not what was written."""


class VersionStore:
    """Versions below a folder or any fsspec URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._files = files_at(url)

    def write(self, draft: Draft, write_file: Callable[[Path], None]) -> Written:
        """Make a version of `draft` and move HEAD to it; or nothing, where HEAD is the same version already.

        `write_file` fills a local file and is called only if a version is made.
        """
        folder = _folder(draft.asset, draft.partition)
        head = self.head(draft.asset, draft.partition)
        if head is not None and same_version(draft, head):
            return Written(head, created=False)
        manifest = self._write_version(folder, draft, write_file)
        self._files.replace(f"{folder}/{HEAD}", manifest.version.encode())
        return Written(manifest, created=True)

    def _write_version(self, folder: str, draft: Draft, write_file: Callable[[Path], None]) -> Manifest:
        created_at, identity = utc_now().replace(microsecond=0), identity_hash(draft)
        facts: dict[str, Any] = {}

        def write_and_measure(path: Path) -> None:
            write_file(path)
            facts.update(sha256=_sha256(path), bytes=path.stat().st_size)

        while True:
            version = f"{draft.asset}_{created_at:%Y%m%d_%H%M%S}_{identity[:8]}"
            file = f"{version}.{draft.extension}"
            if self._files.put_new(f"{folder}/{file}", write_and_measure):
                break
            created_at += timedelta(
                seconds=1
            )  # the same identity within a second, or what a killed writer left: a name of its own
        manifest = Manifest(
            version=version, created_at=created_at, file=file, libraries=library_versions(), **facts, **_said(draft)
        )
        self._files.put_new(f"{folder}/{version}{MANIFEST}", lambda path: _write(path, manifest.to_json()))
        return manifest

    def head(self, asset: str, partition: str) -> Manifest | None:
        """The version that readers get; None where there is none. Raises `CorruptVersion`."""
        folder = _folder(asset, partition)
        name = self._files.read(f"{folder}/{HEAD}")
        if name is None:
            return None
        manifest = self._manifest(folder, name.decode(errors="replace").strip())
        if manifest is None:
            raise CorruptVersion(f"{self._files.url(f'{folder}/{HEAD}')} names a version that is not there: {name!r}")
        return manifest

    def heads(self, asset: str, partitions: Iterable[str]) -> dict[str, Manifest]:
        """The heads of many windows; windows without a version are absent."""
        found = ((partition, self.head(asset, partition)) for partition in partitions)
        return {partition: manifest for partition, manifest in found if manifest is not None}

    def manifest(self, asset: str, partition: str, version: str) -> Manifest:
        """The manifest of one version. Raises `VersionNotFound`, `CorruptVersion`."""
        manifest = self._manifest(_folder(asset, partition), version)
        if manifest is None:
            there = [item.version for item in self.versions(asset, partition)][-5:]
            raise VersionNotFound(
                f"{asset} has no version {version} of window {partition}; there are {', '.join(there) or 'none'}"
            )
        return manifest

    def versions(self, asset: str, partition: str | None = None) -> list[Manifest]:
        """All versions of an asset, or of one of its windows, oldest first."""
        found = []
        for key in self.partitions(asset) if partition is None else [partition]:
            folder = _folder(asset, key)
            names = [name.removesuffix(MANIFEST) for name in self._files.names(folder) if name.endswith(MANIFEST)]
            found += [manifest for name in names if (manifest := self._manifest(folder, name)) is not None]
        return sorted(found, key=lambda item: (item.created_at, item.partition, item.version))

    def assets(self) -> list[str]:
        """The assets that have versions."""
        return [name for name in self._files.names("") if self.partitions(name)]

    def partitions(self, asset: str) -> list[str]:
        """The windows of an asset that have a HEAD, oldest first."""
        return [key for key in self._files.names(_checked(asset)) if self._files.read(f"{asset}/{key}/{HEAD}") is not None]

    def fetch(self, manifest: Manifest) -> Path:
        """The version's file on this machine, its checksum verified. Raises `CorruptVersion`."""
        path = f"{_folder(manifest.asset, manifest.partition)}/{manifest.file}"
        try:
            local = self._files.local(path)
        except FileNotFoundError as error:
            raise CorruptVersion(f"{self._files.url(path)} is gone; its manifest is still there") from error
        if (found := _sha256(local)) != manifest.sha256:
            raise CorruptVersion(
                f"{self._files.url(path)} has SHA-256 {found}, but {manifest.sha256} was written; it must not be used"
            )
        return local

    def set_head(self, asset: str, partition: str, version: str) -> None:
        """Make readers get `version`, which must exist."""
        manifest = self.manifest(asset, partition, version)
        self._files.replace(f"{_folder(asset, partition)}/{HEAD}", manifest.version.encode())

    def read_pointer(self, name: str) -> dict[str, Any] | None:
        """The value of a named pointer at the root of the store; None where it was never moved."""
        text = self._files.read(_checked(name))
        if text is None:
            return None
        try:
            return dict(orjson.loads(text))
        except (ValueError, TypeError) as error:
            raise CorruptVersion(f"{self._files.url(name)} is damaged: {error}") from error

    def move_pointer(self, name: str, value: dict[str, Any]) -> None:
        """Give a named pointer a new value, atomically."""
        self._files.replace(_checked(name), orjson.dumps(value, option=orjson.OPT_INDENT_2))

    def file_url(self, manifest: Manifest) -> str:
        """Where the version's file is."""
        return self._files.url(f"{_folder(manifest.asset, manifest.partition)}/{manifest.file}")

    def _manifest(self, folder: str, version: str) -> Manifest | None:
        text = self._files.read(f"{folder}/{_checked(version)}{MANIFEST}")
        if text is None:
            return None
        try:
            return Manifest.from_json(text)
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptVersion(f"{self._files.url(f'{folder}/{version}{MANIFEST}')} is damaged: {error}") from error


def same_version(draft: Draft, manifest: Manifest) -> bool:
    """Whether a draft would say nothing new: same content, inputs of the same content, same asset code, same settings.

    Inputs count by content, not by version: one that was written anew with the same content is no news. The commit does
    not count either, since every commit would make everything new; the asset's own code version does.
    """
    return identity_hash(draft) == identity_hash(manifest)


def identity_hash(item: Draft | Manifest) -> str:
    """The hash of all that makes a version another one."""
    inputs = sorted((ref.asset, ref.partition, ref.content_hash) for ref in item.inputs)
    return json_hash([item.content_hash, inputs, item.code.asset, item.settings])


def _said(draft: Draft) -> dict[str, Any]:
    said = dict(vars(draft))
    del said["extension"]
    return said


def _folder(asset: str, partition: str) -> str:
    return f"{_checked(asset)}/{_checked(partition)}"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of an asset, window, version or pointer (letters, digits, '.', '_', '-')")
    return name


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
