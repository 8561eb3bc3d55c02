"""Persistent cache of embeddings (LMDB), by encoder and text, shared by all processes.

Readers never wait, writers queue, a killed writer leaves nothing half done. What encodes texts is in `encoder.py`.

A folder holds two tables: `rows`, from the SHA-256 of a text to a row number, and `vectors`, from the row number to the
vector as little-endian float32. Numbered rows are appended to full pages one after the other; inserted under
their hashes, in random order, the vectors would leave pages half empty, at three times the cost of a write and half as much
disk space again.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import TypeVar

import lmdb
import numpy as np
import numpy.typing as npt

INITIAL_BYTES = 1 << 26
"""Size that a cache's file may grow to before the map is doubled for the first time: 64 MiB, some 30,000 vectors."""

MAX_PROCESSES = 1024
"""Processes that may read one cache at once."""

Vectors = npt.NDArray[np.float32]
Result = TypeVar("Result")

_row_number = struct.Struct("=Q").pack  # LMDB's integer keys are in the machine's own byte order


class EmbeddingCache:
    """Vectors of one length, by the SHA-256 of their text. One object per folder and process (`open_cache`)."""

    def __init__(self, folder: Path, dimension: int, initial_bytes: int = INITIAL_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.dimension = dimension
        self.process = os.getpid()
        self._lock = Lock()  # the map may grow only while no thread of this process is inside it
        # One flush of the disk for each commit instead of two: if the machine dies, the last commit may be undone, no more.
        self._environment = lmdb.open(
            str(folder), map_size=initial_bytes, max_dbs=2, max_readers=MAX_PROCESSES, readahead=False, metasync=False
        )
        self._environment.reader_check()  # frees the places of readers that were killed
        self._rows = self._retry_with_larger_map(lambda: self._environment.open_db(b"rows"))
        self._vectors = self._retry_with_larger_map(lambda: self._environment.open_db(b"vectors", integerkey=True))

    def lookup(self, texts: Sequence[str]) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """The vectors of `texts`, shape (texts, dimension), and which of them are known; the others are zeros.

        Raises `ValueError` where the cache holds a vector of another length.
        """
        keys = [_key(text) for text in texts]
        return self._retry_with_larger_map(lambda: self._read(keys))

    def store(self, texts: Sequence[str], vectors: Vectors) -> None:
        """Keep the vectors of `texts`, in one transaction. Texts that are known already keep the vector they have."""
        if vectors.shape != (len(texts), self.dimension):
            raise ValueError(
                f"the embedding cache {self.folder} takes vectors of shape {(len(texts), self.dimension)}, not {vectors.shape}"
            )
        entries = [(_key(text), row.tobytes()) for text, row in zip(texts, vectors.astype("<f4", copy=False), strict=True)]
        self._retry_with_larger_map(lambda: self._write(entries))

    def close(self) -> None:
        """Give the files back; the object is of no use afterwards."""
        self._environment.close()

    def __len__(self) -> int:
        return self._retry_with_larger_map(self._count)

    def _read(self, keys: list[bytes]) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        stored = np.empty((len(keys), self.dimension), dtype="<f4")
        room, length = stored.view(np.uint8).reshape(-1).data, stored.itemsize * self.dimension
        unknown = []
        with self._environment.begin() as transaction:
            get, rows, vectors = transaction.get, self._rows, self._vectors
            for place, key in enumerate(keys):
                row = get(key, None, rows)
                if row is None:
                    unknown.append(place)
                    continue
                value = get(row, b"", vectors)
                if len(value) != length:
                    raise ValueError(
                        f"the embedding cache {self.folder} holds a vector of {len(value) / 4:g} numbers where the encoder "
                        f"makes {self.dimension}; remove that folder, and the texts will be encoded anew"
                    )
                room[place * length : (place + 1) * length] = value
        known = np.ones(len(keys), dtype=np.bool_)
        known[unknown], stored[unknown] = False, 0
        return stored, known

    def _write(self, entries: list[tuple[bytes, bytes]]) -> None:
        with self._environment.begin(write=True) as transaction:
            row = int(transaction.stat(self._vectors)["entries"])
            for key, value in entries:
                if transaction.put(key, _row_number(row), overwrite=False, db=self._rows):
                    transaction.put(_row_number(row), value, append=True, db=self._vectors)
                    row += 1

    def _count(self) -> int:
        with self._environment.begin() as transaction:
            return int(transaction.stat(self._vectors)["entries"])

    def _retry_with_larger_map(self, work: Callable[[], Result]) -> Result:
        """Do `work`, once more with a larger map if it is full, or if another process has made the file larger."""
        with self._lock:
            while True:
                try:
                    return work()
                except lmdb.MapFullError:
                    self._environment.set_mapsize(2 * self._environment.info()["map_size"])
                except lmdb.MapResizedError:
                    self._environment.set_mapsize(0)


_open: dict[Path, EmbeddingCache] = {}
_opening = Lock()


def open_cache(folder: Path, dimension: int) -> EmbeddingCache:
    """The cache in `folder`; LMDB wants each file opened once per process, and anew after a fork.

    Raises `ValueError` where this process has it open with another length of vectors.
    """
    place = folder.resolve()
    with _opening:
        inherited = [path for path, cache in _open.items() if cache.process != os.getpid()]
        for path in inherited:
            _open.pop(path).close()
        if place not in _open:
            _open[place] = EmbeddingCache(folder, dimension)
        cache = _open[place]
    if cache.dimension != dimension:
        raise ValueError(f"the embedding cache {folder} is open for vectors of length {cache.dimension}, not {dimension}")
    return cache


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
