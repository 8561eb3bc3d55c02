"""Small atomic steps on files: put once, replace, read, find. On a local folder or on an object store; nothing of versions.

Local files are written beside their name, fsynced and linked, so that no reader sees half of one. An object store's put is
atomic by itself.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

TEMPORARY = ".tmp-"
STALE_SECONDS = 24 * 3600
"""A temporary file older than this was left by a writer that was killed."""


class ChecksumMismatchError(Exception):
    """A file's SHA-256 is not the expected one; the message is the actual one."""


class Files(ABC):
    """Files under one root, named by relative paths with `/`. Names that begin with a dot are nobody's."""

    local_reads: bool
    """Whether files are read without being transferred."""

    @abstractmethod
    def put_new(self, path: str, write: Callable[[Path], None]) -> bool:
        """Make a file that must not exist yet, from what `write` puts into a local file; False where it exists."""

    @abstractmethod
    def replace(self, path: str, write: Callable[[Path], None]) -> None:
        """Put or replace a file atomically by what `write` puts into a local file."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file; nothing happens where there is none."""

    @abstractmethod
    def sweep(self) -> list[str]:
        """Remove what killed writers have left long ago, wherever it lies; the paths of what was removed."""

    @abstractmethod
    def read(self, *paths: str) -> list[bytes | None]:
        """The bytes of each file as they are now; None where there is none."""

    @abstractmethod
    def find(self, folder: str) -> list[str]:
        """The paths of all files anywhere below `folder` (`""`: the root), sorted; empty where there is no folder."""

    @abstractmethod
    def local(self, path: str, sha256: str) -> Path:
        """A local copy of a file, which may be the file itself. Raises `FileNotFoundError`, `ChecksumMismatchError`."""

    @abstractmethod
    def sizes(self, *paths: str) -> list[int | None]:
        """The size in bytes of each file; None where there is none."""

    @abstractmethod
    def checksum(self, path: str) -> str | None:
        """The SHA-256 of a file as it is stored, every byte of it read; None where there is none."""

    @abstractmethod
    def intact(self, path: str, sha256: str, size: int) -> bool:
        """Whether the file is there and, as far as can be said without transferring it, unharmed."""

    @abstractmethod
    def url(self, path: str) -> str:
        """The full name of a file."""


def files_at(url: str) -> Files:
    """The files below a folder or any fsspec URL."""
    if "://" not in url or url.startswith("file://"):
        return LocalFiles(Path(url.removeprefix("file://")))
    return RemoteFiles(url)


class LocalFiles(Files):
    """A folder of this machine, made when first written to."""

    local_reads = True

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def put_new(self, path: str, write: Callable[[Path], None]) -> bool:
        """Write beside, fsync, link: a link never replaces a file."""
        target = self.root / path
        with _written_beside(target, write) as temporary:
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
        _fsync(target.parent)
        return True

    def replace(self, path: str, write: Callable[[Path], None]) -> None:
        """Write beside, fsync, rename over."""
        target = self.root / path
        with _written_beside(target, write) as temporary:
            os.replace(temporary, target)  # noqa: PTH105 - one call to intercept when a test kills a writer
        _fsync(target.parent)

    def remove(self, path: str) -> None:
        """Unlink."""
        (self.root / path).unlink(missing_ok=True)

    def sweep(self) -> list[str]:
        """In every folder."""
        folders = [self.root, *(path for path in self.root.rglob("*") if path.is_dir())] if self.root.is_dir() else []
        return sorted(str(file.relative_to(self.root)) for folder in folders for file in _sweep(folder))

    def read(self, *paths: str) -> list[bytes | None]:
        """One by one: the system keeps small files in memory."""
        return [_read(self.root / path) for path in paths]

    def find(self, folder: str) -> list[str]:
        """By walking the folders."""
        return sorted(_below(self.root / folder, f"{folder}/" if folder else ""))

    def local(self, path: str, sha256: str) -> Path:
        """The file itself."""
        file = self.root / path
        if (actual := sha256_of(file)) != sha256:
            raise ChecksumMismatchError(actual)
        return file

    def sizes(self, *paths: str) -> list[int | None]:
        """One by one."""
        return [_size(self.root / path) for path in paths]

    def checksum(self, path: str) -> str | None:
        """Of the file itself."""
        file = self.root / path
        return sha256_of(file) if file.is_file() else None

    def intact(self, path: str, sha256: str, size: int) -> bool:
        """Every byte is looked at."""
        return self.checksum(path) == sha256

    def url(self, path: str) -> str:
        """The absolute path."""
        return str(self.root / path)


class RemoteFiles(Files):
    """An object store through fsspec.

    Copies of files are kept under their checksum in `<BID_ASSETS_HOME>/cache/versions`, which may be emptied at any time.
    """

    local_reads = False

    def __init__(self, url: str) -> None:
        self.base = url.rstrip("/")

    @property
    def _system(self) -> Any:
        """fsspec keeps one per process, also after a fork. Listings are never cached: other processes write too."""
        import fsspec

        return fsspec.core.url_to_fs(self.base, use_listings_cache=False)[0]

    def put_new(self, path: str, write: Callable[[Path], None]) -> bool:
        """Write locally, then one conditional put: S3 refuses it where the name is taken (`If-None-Match`)."""
        with tempfile.TemporaryDirectory(prefix="bid_assets-") as folder:
            file = Path(folder) / path.rsplit("/", 1)[-1]
            write(file)
            try:
                self._system.put_file(str(file), self.url(path), mode="create")
            except FileExistsError:
                return False
        return True

    def replace(self, path: str, write: Callable[[Path], None]) -> None:
        """Write locally, then one put."""
        with tempfile.TemporaryDirectory(prefix="bid_assets-") as folder:
            file = Path(folder) / path.rsplit("/", 1)[-1]
            write(file)
            self._system.put_file(str(file), self.url(path))

    def remove(self, path: str) -> None:
        """One deletion."""
        with suppress(FileNotFoundError):
            self._system.rm_file(self.url(path))

    def sweep(self) -> list[str]:
        """A put that did not end leaves nothing that could be seen."""
        return []

    def read(self, *paths: str) -> list[bytes | None]:
        """Many at a time, where the file system can."""
        if not paths:
            return []
        system = self._system
        names = [system._strip_protocol(self.url(path)) for path in paths]
        contents = system.cat(names, on_error="return")
        return [_bytes_or_none(contents[name]) for name in names]

    def find(self, folder: str) -> list[str]:
        """One listing."""
        system = self._system
        root = system._strip_protocol(self.base).rstrip("/")
        paths = [name.removeprefix(root).lstrip("/") for name in system.find(f"{root}/{folder}".rstrip("/"))]
        return sorted(path for path in paths if "/." not in f"/{path}")

    def local(self, path: str, sha256: str) -> Path:
        """A copy, downloaded once."""
        from bid_assets.settings import get_settings

        copy = get_settings().home / "cache" / "versions" / sha256 / path.rsplit("/", 1)[-1]
        if copy.is_file() and sha256_of(copy) == sha256:
            return copy
        copy.parent.mkdir(parents=True, exist_ok=True)
        with _written_beside(copy, lambda file: self._system.get_file(self.url(path), str(file))) as temporary:
            if (actual := sha256_of(temporary)) != sha256:
                raise ChecksumMismatchError(actual)
            temporary.replace(copy)
        return copy

    def sizes(self, *paths: str) -> list[int | None]:
        """One listing of each of their top folders."""
        system = self._system
        root = system._strip_protocol(self.base).rstrip("/")
        there: dict[str, int] = {}
        for folder in {path.split("/", 1)[0] for path in paths}:
            there |= {name: int(info["size"]) for name, info in system.find(f"{root}/{folder}", detail=True).items()}
        return [there.get(f"{root}/{path}") for path in paths]

    def checksum(self, path: str) -> str | None:
        """Of the object, not of the copy that is kept here."""
        digest = hashlib.sha256()
        try:
            with self._system.open(self.url(path), "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except FileNotFoundError:
            return None
        return digest.hexdigest()

    def intact(self, path: str, sha256: str, size: int) -> bool:
        """Object stores check their bytes themselves: the size tells whether it is the file."""
        return self._size(path) == size

    def _size(self, path: str) -> int | None:
        try:
            return int(self._system.size(self.url(path)))
        except FileNotFoundError:
            return None

    def url(self, path: str) -> str:
        """The full URL."""
        return f"{self.base}/{path}"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a local file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _written_beside(target: Path, write: Callable[[Path], None]) -> Iterator[Path]:
    """A temporary file in the folder of `target`, filled and on disk; gone at the end unless it was moved."""
    _make_folder(target.parent)
    _sweep(target.parent)
    temporary = target.parent / f"{TEMPORARY}{secrets.token_hex(8)}{target.suffix}"
    try:
        write(temporary)
        _fsync(temporary)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each on disk before anything is put into it."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _fsync(folder.parent)


def _sweep(folder: Path) -> list[Path]:
    """Remove what killed writers have left behind long ago."""
    removed = []
    for file in folder.glob(f"{TEMPORARY}*"):
        try:
            if time.time() - file.stat().st_mtime > STALE_SECONDS:
                file.unlink()
                removed.append(file)
        except FileNotFoundError:
            continue  # another writer was quicker
    return removed


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _below(folder: Path | str, prefix: str) -> Iterator[str]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _below(entry.path, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _bytes_or_none(content: Any) -> bytes | None:
    if isinstance(content, (FileNotFoundError, IsADirectoryError)):
        return None
    if isinstance(content, BaseException):
        raise content
    return bytes(content)
