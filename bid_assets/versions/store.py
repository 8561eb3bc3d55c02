"""The version store: immutable versions with manifests, a HEAD per window, a few named pointers and logs.

    <store>/<asset>/<partition>/<asset>_<YYYYMMDD_HHMMSS>_<hash8>.<extension>
    <store>/<asset>/<partition>/<same name>.manifest.json
    <store>/<asset>/<partition>/HEAD
    <store>/<log>/<number>.json

A version exists once its manifest does. The order of writing is file, manifest, HEAD, each step atomic (`files.py`), so a
crash at any point leaves the old HEAD and no half version. What the content of a version means is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from bid_assets.versions.code import library_versions
from bid_assets.versions.files import WrongChecksum, files_at, sha256_of
from bid_assets.versions.hashing import PLAIN_JSON, json_hash
from bid_assets.versions.manifest import Draft, InputRef, Manifest
from bid_assets.windows import as_utc, utc_now

HEAD = "HEAD"
MANIFEST = ".manifest.json"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


class Written(NamedTuple):
    """The version that a write ended with, and whether the write made it."""

    manifest: Manifest
    created: bool


class VersionNotFound(LookupError):
    """There is no such version."""


class CorruptVersion(RuntimeError):
    """A file of the store is not what was written."""


class VersionStore:
    """Versions below a folder or any fsspec URL. Several processes may write; every read sees what is there now.

    Names of assets, windows, versions and pointers are letters, digits, `.`, `_` and `-`: `ValueError` for any other.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._files = files_at(url)

    def write(self, draft: Draft, write_file: Callable[[Path], None]) -> Written:
        """Make a version of `draft` and move HEAD to it; or nothing, where HEAD is the same version already and unharmed.

        `write_file` fills a new local file and is called only if a version is made. A damaged HEAD does not stop a writer:
        making the window again is the cure.
        """
        _folder(draft.asset, draft.partition), _checked(draft.extension)
        head = self._readable_head(draft.asset, draft.partition)
        if head is not None and same_version(draft, head) and self._intact(head):
            return Written(head, created=False)
        manifest = self._write_version(draft, write_file)
        self._files.replace(_path(manifest, HEAD), manifest.version.encode())
        return Written(manifest, created=True)

    def head(self, asset: str, partition: str) -> Manifest | None:
        """The version that readers get; None where there is none. Raises `CorruptVersion`."""
        return self.heads(asset, [partition]).get(partition)

    def heads(self, asset: str, partitions: Iterable[str]) -> dict[str, Manifest]:
        """The heads of many windows, in their order; windows without a version are absent. Raises `CorruptVersion`."""
        folders = {partition: _folder(asset, partition) for partition in partitions}
        contents = self._files.read(*(f"{folder}/{HEAD}" for folder in folders.values()))
        versions = {
            partition: self._head_version(folder, content)
            for (partition, folder), content in zip(folders.items(), contents, strict=True)
            if content is not None
        }
        found = self._manifests([(asset, partition, version) for partition, version in versions.items()])
        for (partition, version), manifest in zip(versions.items(), found, strict=True):
            if manifest is None:
                raise CorruptVersion(
                    f"{self._files.url(f'{folders[partition]}/{HEAD}')} names the version {version}, which is gone; make the "
                    "window again, or move HEAD to a version that is there"
                )
        return {manifest.partition: manifest for manifest in found if manifest is not None}

    def manifest(self, asset: str, partition: str, version: str) -> Manifest:
        """The manifest of one version. Raises `VersionNotFound`, which names what there is, and `CorruptVersion`."""
        manifest = self._manifests([(asset, partition, version)])[0]
        if manifest is None:
            there = [item.version for item in self.versions(asset, partition)][-5:]
            raise VersionNotFound(
                f"{asset} has no version {version} of window {partition}; "
                + (f"the newest are {', '.join(there)}" if there else "it has none of that window at all")
            )
        return manifest

    def manifests(self, refs: Iterable[InputRef]) -> dict[InputRef, Manifest]:
        """The manifests of many versions, read together; those that are gone are absent. Raises `CorruptVersion`."""
        asked = list(dict.fromkeys(refs))
        found = self._manifests([(ref.asset, ref.partition, ref.version) for ref in asked])
        return {ref: manifest for ref, manifest in zip(asked, found, strict=True) if manifest is not None}

    def versions(self, asset: str, partition: str | None = None) -> list[Manifest]:
        """All versions of an asset, or of one of its windows, oldest first. Raises `CorruptVersion`."""
        return self._versions_below(_checked(asset) if partition is None else _folder(asset, partition))

    def version_names(self, asset: str, partition: str | None = None) -> list[tuple[str, str]]:
        """Window and name of each version of an asset, or of one of its windows; no manifest is read."""
        folder = _checked(asset) if partition is None else _folder(asset, partition)
        paths = [path.removesuffix(MANIFEST).split("/") for path in self._files.find(folder) if path.endswith(MANIFEST)]
        return sorted((path[1], path[2]) for path in paths if len(path) == 3)

    def everything(self) -> list[Manifest]:
        """All versions of all assets, oldest first. Raises `CorruptVersion`."""
        return self._versions_below("")

    def assets(self) -> list[str]:
        """The assets that have a HEAD in some window."""
        return sorted({path[0] for path in self._head_paths("")})

    def partitions(self, asset: str) -> list[str]:
        """The windows of an asset that have a HEAD, oldest first."""
        return [path[1] for path in self._head_paths(_checked(asset))]

    def fetch(self, manifest: Manifest) -> Path:
        """The version's file on this machine, its checksum verified just now. Raises `CorruptVersion`."""
        url = self.file_url(manifest)
        try:
            return self._files.local(_path(manifest, manifest.file), manifest.sha256)
        except FileNotFoundError:
            raise CorruptVersion(f"{url} is gone, though its manifest is still there; make the window again") from None
        except WrongChecksum as error:
            raise CorruptVersion(
                f"{url} has SHA-256 {error}, but {manifest.sha256} was written; it must not be used: make the window again, "
                "or restore the file"
            ) from None

    def set_head(self, asset: str, partition: str, version: str) -> None:
        """Make readers get `version`. Raises `VersionNotFound`."""
        manifest = self.manifest(asset, partition, version)
        self._files.replace(_path(manifest, HEAD), manifest.version.encode())

    def read_pointer(self, name: str) -> dict[str, Any] | None:
        """The value of a named pointer at the root of the store; None where it was never moved. Raises `CorruptVersion`."""
        text = self._files.read(_checked(name))[0]
        if text is None:
            return None
        try:
            return dict(orjson.loads(text))
        except (ValueError, TypeError) as error:
            raise CorruptVersion(f"{self._files.url(name)} is damaged: {error}") from None

    def move_pointer(self, name: str, value: dict[str, Any]) -> None:
        """Give a named pointer a new value, atomically."""
        self._files.replace(_checked(name), orjson.dumps(value, option=PLAIN_JSON | orjson.OPT_INDENT_2))

    def append(self, log: str, number: int, entry: dict[str, Any]) -> bool:
        """Put entry `number` (from 1) of a log, for ever. False where somebody else has put that entry before."""
        text = orjson.dumps(entry, option=PLAIN_JSON | orjson.OPT_INDENT_2)
        return self._files.put_new(_entry_path(log, number), lambda path: _write(path, text))

    def entries(self, log: str, after: int = 0) -> list[dict[str, Any]]:
        """The entries of a log that follow number `after`, in their order. Raises `CorruptVersion`."""
        following = f"{_checked(log)}/{_entry_name(after)}"
        paths = [path for path in self._files.find(log) if path > following]
        return [self._entry(path, text) for path, text in zip(paths, self._files.read(*paths), strict=True)]

    def has_entry(self, log: str, number: int) -> bool:
        """Whether a log has an entry of this number: one small read."""
        return self._files.read(_entry_path(log, number))[0] is not None

    def file_url(self, manifest: Manifest) -> str:
        """Where the version's file is."""
        return self._files.url(_path(manifest, manifest.file))

    def _readable_head(self, asset: str, partition: str) -> Manifest | None:
        try:
            return self.head(asset, partition)
        except CorruptVersion:
            return None

    def _intact(self, manifest: Manifest) -> bool:
        return self._files.intact(_path(manifest, manifest.file), manifest.sha256, manifest.bytes)

    def _write_version(self, draft: Draft, write_file: Callable[[Path], None]) -> Manifest:
        created_at, identity = utc_now(), identity_hash(draft)
        facts: dict[str, Any] = {}

        def write_and_measure(path: Path) -> None:
            write_file(path)
            facts.update(sha256=sha256_of(path), bytes=path.stat().st_size)

        said = {name: value for name, value in vars(draft).items() if name not in ("extension", "cutoff")}
        said["cutoff"] = None if draft.cutoff is None else as_utc(draft.cutoff)
        for attempt in count():
            # a taken name is the same write within one second, or what a killed writer has left: another hash then
            suffix = identity[:8] if attempt == 0 else json_hash([identity, attempt])[:8]
            version = f"{draft.asset}_{created_at:%Y%m%d_%H%M%S}_{suffix}"
            file = f"{version}.{draft.extension}"
            if not self._files.put_new(f"{draft.asset}/{draft.partition}/{file}", write_and_measure):
                continue
            manifest = Manifest(
                version=version, created_at=created_at, file=file, libraries=library_versions(), **facts, **said
            )
            text = manifest.to_json()
            if self._files.put_new(_path(manifest, version + MANIFEST), lambda path, text=text: _write(path, text)):  # type: ignore[misc]
                return manifest
        raise AssertionError  # `count` never ends

    def _entry(self, path: str, text: bytes | None) -> dict[str, Any]:
        try:
            return dict(orjson.loads(text or b""))
        except (ValueError, TypeError) as error:
            raise CorruptVersion(f"{self._files.url(path)} is damaged: {error}; restore the file") from None

    def _versions_below(self, folder: str) -> list[Manifest]:
        paths = [path.removesuffix(MANIFEST).split("/") for path in self._files.find(folder) if path.endswith(MANIFEST)]
        found = self._manifests([(path[0], path[1], path[2]) for path in paths if len(path) == 3])
        present = [manifest for manifest in found if manifest is not None]
        return sorted(present, key=lambda item: (item.created_at, item.asset, item.partition, item.version))

    def _head_paths(self, folder: str) -> list[list[str]]:
        paths = (path.split("/") for path in self._files.find(folder))
        return [path for path in paths if len(path) == 3 and path[2] == HEAD]

    def _head_version(self, folder: str, content: bytes) -> str:
        version = content.decode(errors="replace").strip()
        if not _NAME.fullmatch(version):
            raise CorruptVersion(
                f"{self._files.url(f'{folder}/{HEAD}')} is damaged: it names no version but {content[:80]!r}; make the window "
                "again, or move HEAD to a version that is there"
            )
        return version

    def _manifests(self, keys: Sequence[tuple[str, str, str]]) -> list[Manifest | None]:
        """The manifests of versions (asset, partition, version), read together; None where there is none."""
        paths = [f"{_folder(asset, partition)}/{_checked(version)}{MANIFEST}" for asset, partition, version in keys]
        texts = self._files.read(*paths)
        return [None if text is None else self._parsed(path, text) for path, text in zip(paths, texts, strict=True)]

    def _parsed(self, path: str, text: bytes) -> Manifest:
        try:
            manifest = Manifest.from_json(text)
            if path != _path(manifest, manifest.version + MANIFEST) or not _NAME.fullmatch(manifest.file):
                raise ValueError(f"it is the manifest of {manifest.version} in window {manifest.partition}")
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptVersion(f"{self._files.url(path)} is damaged: {error}") from None
        return manifest


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


def _entry_path(log: str, number: int) -> str:
    return f"{_checked(log)}/{_entry_name(number)}"


def _entry_name(number: int) -> str:
    return f"{number:08}.json"


def _folder(asset: str, partition: str) -> str:
    return f"{_checked(asset)}/{_checked(partition)}"


def _path(manifest: Manifest, name: str) -> str:
    return f"{_folder(manifest.asset, manifest.partition)}/{name}"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name of an asset, window, version or pointer: letters, digits, '.', '_' and '-', not first a dot "
            "or dash"
        )
    return name


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
