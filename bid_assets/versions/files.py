"""Small atomic steps on files: put once, replace, read, list. On a local folder or on an object store; nothing of versions.

Local files are written beside their name, fsynced and linked, so that no reader sees half of one. An object store's put is
atomic by itself.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

TEMPORARY = ".tmp-"
STALE_SECONDS = 24 * 3600
"""A temporary file older than this was left by a writer that was killed."""


class Files(ABC):
    """Files under one root, named by relative paths with `/`."""

    @abstractmethod
    def put_new(self, path: str, write: Callable[[Path], None]) -> bool:
        """Make a file that must not exist yet, from what `write` puts into a local file; False where it exists."""

    @abstractmethod
    def replace(self, path: str, content: bytes) -> None:
        """Put or replace a small file atomically."""

    @abstractmethod
    def read(self, path: str) -> bytes | None:
        """The bytes of a file; None where there is none."""

    @abstractmethod
    def names(self, path: str) -> list[str]:
        """The names in a folder, sorted, without hidden ones; empty where there is no folder."""

    @abstractmethod
    def local(self, path: str) -> Path:
        """A local copy of a file, which may be the file itself. Raises `FileNotFoundError`."""

    @abstractmethod
    def url(self, path: str) -> str:
        """The full name of a file."""


def files_at(url: str) -> Files:
    """The files below a folder or any fsspec URL."""
    if "://" not in url or url.startswith("file://"):
        return LocalFiles(Path(url.removeprefix("file://")))
    return RemoteFiles(url)


class LocalFiles(Files):
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def put_new(self, path: str, write: Callable[[Path], None]) -> bool:
        """Write beside, fsync, link: a link never replaces a file."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        self._sweep(target.parent)
        temporary = self._temporary(target)
        try:
            write(temporary)
            _fsync(temporary)
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            _fsync(target.parent)
            return True
        finally:
            temporary.unlink(missing_ok=True)

    def replace(self, path: str, content: bytes) -> None:
        """Write beside, fsync, rename over."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._temporary(target)
        temporary.write_bytes(content)
        _fsync(temporary)
        temporary.replace(target)
        _fsync(target.parent)

    def read(self, path: str) -> bytes | None:
        """As it is now."""
        try:
            return (self.root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self, path: str) -> list[str]:
        """As they are now."""
        try:
            return sorted(entry.name for entry in (self.root / path).iterdir() if not entry.name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def local(self, path: str) -> Path:
        """The file itself."""
        found = self.root / path
        if not found.is_file():
            raise FileNotFoundError(str(found))
        return found

    def url(self, path: str) -> str:
        """The absolute path."""
        return str(self.root / path)

    @staticmethod
    def _temporary(target: Path) -> Path:
        handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=target.suffix, dir=target.parent)
        os.close(handle)
        Path(name).chmod(0o666 & ~_umask())
        return Path(name)

    @staticmethod
    def _sweep(folder: Path) -> None:
        """Remove what killed writers have left behind long ago."""
        for entry in folder.glob(f"{TEMPORARY}*"):
            try:
                if time.time() - entry.stat().st_mtime > STALE_SECONDS:
                    entry.unlink()
            except FileNotFoundError:
                continue


class RemoteFiles(Files):
    """An object store through fsspec. Verified local copies are kept in the user's temporary folder."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.base = url.rstrip("/")
        options: dict[str, Any] = {"use_listings_cache": False} if url.startswith("s3") else {}
        self.system, root = fsspec.core.url_to_fs(self.base, **options)
        self.root = str(root).rstrip("/")
        self.cache = Path(tempfile.gettempdir()) / f"bid_assets-{os.getuid()}" / self.base.replace("://", "_").replace("/", "_")

    def put_new(self, path: str, write: Callable[[Path], None]) -> bool:
        """Write locally, put in one request. The names of versions carry a hash, so two writers meet only by agreeing."""
        if self.system.exists(f"{self.root}/{path}"):
            return False
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / path.rsplit("/", 1)[-1]
            write(file)
            self.system.put_file(str(file), f"{self.root}/{path}")
        return True

    def replace(self, path: str, content: bytes) -> None:
        """One put."""
        self.system.pipe_file(f"{self.root}/{path}", content)

    def read(self, path: str) -> bytes | None:
        """As it is now, whatever was listed before."""
        try:
            return bytes(self.system.cat_file(f"{self.root}/{path}"))
        except FileNotFoundError:
            return None

    def names(self, path: str) -> list[str]:
        """As they are now."""
        try:
            self.system.invalidate_cache()
            found = self.system.ls(f"{self.root}/{path}".rstrip("/"), detail=False)
        except FileNotFoundError:
            return []
        names = {str(name).rstrip("/").rsplit("/", 1)[-1] for name in found}
        return sorted(name for name in names if name and not name.startswith("."))

    def local(self, path: str) -> Path:
        """A copy, downloaded once: files of a version never change."""
        target = self.cache / path
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=TEMPORARY) as folder:
                copy = Path(folder) / target.name
                self.system.get_file(f"{self.root}/{path}", str(copy))
                shutil.move(copy, target)
        return target

    def url(self, path: str) -> str:
        """The full URL."""
        return f"{self.base}/{path}"


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
