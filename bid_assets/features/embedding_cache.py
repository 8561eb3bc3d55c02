"""Vectors of texts that have been encoded before: kept for ever, by encoder and text, shared by all processes.

LMDB: readers never wait, writers queue, a killed writer leaves nothing half done. What encodes texts is in `encoder.py`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import lmdb
import numpy as np
import numpy.typing as npt

LARGEST_BYTES = 1 << 38
"""Address space reserved for the file, which itself grows with what is stored: 256 GiB, some 150 million vectors."""

Vectors = npt.NDArray[np.float32]


class EmbeddingCache:
    """Vectors of one length, by the SHA-256 of their text. One object per folder and process (`open_cache`)."""

    def __init__(self, folder: Path, dimension: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.dimension = dimension
        self._environment = lmdb.open(str(folder), map_size=LARGEST_BYTES, subdir=True, readahead=False, max_readers=1024)

    def lookup(self, texts: Sequence[str]) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """The vectors of `texts`, shape (texts, dimension), and which of them are known; the others are zeros."""
        found = np.zeros((len(texts), self.dimension), dtype="<f4")
        known = np.zeros(len(texts), dtype=np.bool_)
        length = 4 * self.dimension
        with self._environment.begin(buffers=True) as transaction:
            get = transaction.get
            for row, text in enumerate(texts):
                value = get(_key(text))
                if value is None:
                    continue
                if len(value) != length:
                    raise ValueError(
                        f"the embedding cache {self.folder} holds a vector of {len(value) // 4} numbers, not {self.dimension}; remove it"
                    )
                found[row] = np.frombuffer(value, dtype="<f4")
                known[row] = True
        return found, known

    def store(self, texts: Sequence[str], vectors: Vectors) -> None:
        """Keep the vectors of `texts`, in one transaction. Texts that are known already keep the vector they have."""
        if vectors.shape != (len(texts), self.dimension):
            raise ValueError(f"expected vectors of shape {(len(texts), self.dimension)}, got {vectors.shape}")
        rows = np.ascontiguousarray(vectors, dtype="<f4")
        with self._environment.begin(write=True) as transaction:
            for text, row in zip(texts, rows, strict=True):
                transaction.put(_key(text), row.tobytes(), overwrite=False)

    def __len__(self) -> int:
        return int(self._environment.stat()["entries"])


_open: dict[tuple[int, Path], EmbeddingCache] = {}


def open_cache(folder: Path, dimension: int) -> EmbeddingCache:
    """The cache in `folder`; LMDB wants each file opened once per process, and anew after a fork."""
    key = (os.getpid(), folder.absolute())
    if key not in _open:
        _open[key] = EmbeddingCache(folder, dimension)
    return _open[key]


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
