"""Text encoder with a cache: each distinct text is encoded once per model; after that its vector is looked up.

`make_encoder` takes the setting `encoder`: a sentence-transformers model by name or folder, or `static`, a model of token
vectors distilled once from the default. The models are in `models.py`, their files in `model_files.py`. torch and
sentence-transformers are imported only when a text is new to a full model, or the static one has to be distilled.

A vector may differ in its last bits with the batch that its text was encoded in; since the first one is kept for ever, all
that reads the same cache sees the same numbers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.common.progress import report_progress
from bid_assets.features.embeddings.cache import EmbeddingCache, Vectors, open_cache
from bid_assets.features.embeddings.model_files import static_model_folder, transformer_folder
from bid_assets.features.embeddings.models import StaticModel, TextModel, TransformerModel
from bid_assets.features.inputs import Vector

STATIC = "static"
SLICE = 1024
"""Texts looked up, encoded and written to the cache at a time: the memory needed beside the answer, and what a crash loses."""

MAX_RECENT = 4096
"""Vectors of texts given a few at a time that stay in memory, so that a service need not read them from disk again."""


def make_encoder(name: str, home: Path, models: Path | None = None) -> CachedEncoder:
    """The encoder that the setting `encoder` names, with its cache of vectors under `home`.

    `models`: the folder of the distilled model that homes share (setting `encoder_cache`); None: the home keeps its own.
    Raises `EncoderUnavailableError` where there is no such model here, and none could be fetched.
    """
    caches = home / "embeddings"
    digest_cache = caches / "models.json"
    if name == STATIC:
        return CachedEncoder(StaticModel(static_model_folder(home, models), digest_cache), caches)
    return CachedEncoder(TransformerModel(transformer_folder(name, home), digest_cache), caches)


class CachedEncoder:
    """A text model with a persistent cache of vectors. Implements `features.family.Encoder`."""

    def __init__(self, model: TextModel, caches: Path) -> None:
        self.model = model
        self.hits = self.misses = 0
        """Texts whose vectors were cached, and texts that had to be encoded."""
        self._caches = caches
        self._opened: EmbeddingCache | None = None
        self._recent_vectors: dict[str | None, Vector | None] = {}

    @property
    def fingerprint(self) -> str:
        """Of the model."""
        return self.model.fingerprint

    @property
    def dimension(self) -> int:
        """Of the model."""
        return self.model.dimension

    @cached_property
    def cache_folder(self) -> Path:
        """Where this model's vectors are kept."""
        return self._caches / self.fingerprint[:32]

    def encode(self, texts: pa.ChunkedArray | pa.Array) -> pa.FixedSizeListArray:
        """One vector per text, in order; null where the text is missing, blank, or has nothing that the model reads.

        Slice by slice, each kept before the next: run again after a crash, it goes on where it was.
        """
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for start in range(0, len(texts), SLICE):
            part = texts.slice(start, SLICE)
            self._encode_slice(part, vectors[start : start + len(part)])
            report_progress("encoding texts", start + len(part), len(texts))
        missing = pa.array(~vectors.any(axis=1))
        return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), self.dimension, mask=missing)

    def vectors(self, texts: Sequence[str | None]) -> list[Vector | None]:
        """As `encode`, for a few texts: one array per text. The most recent ones are in memory."""
        recent = self._recent_vectors
        new = [text for text in dict.fromkeys(texts) if text not in recent]
        self.hits += len(texts) - len(new)
        pairs = zip(new, self.encode(pa.array(new, pa.string())), strict=True) if new else ()
        encoded = {text: vector.values.to_numpy().copy() if vector.is_valid else None for text, vector in pairs}
        if len(recent) + len(encoded) > MAX_RECENT:
            self._recent_vectors = {}  # begun anew rather than thinned out: another thread may be reading it
        self._recent_vectors.update(encoded)
        return [encoded[text] if text in encoded else recent[text] for text in texts]

    def _encode_slice(self, texts: pa.ChunkedArray | pa.Array, vectors: Vectors) -> None:
        """Write the vectors of these texts into `vectors`; rows of missing texts stay as they are."""
        values = texts.to_pylist()
        present = [row for row, text in enumerate(pc.utf8_trim_whitespace(texts).to_pylist()) if text]
        place: dict[str, int] = {}
        index = [place.setdefault(values[row], len(place)) for row in present]
        if place:
            vectors[present] = self._distinct(list(place))[index]

    def _distinct(self, texts: list[str]) -> Vectors:
        """Look the texts up and encode the new ones. The stored vector counts: another process may have been first."""
        vectors, known = self._cache.lookup(texts)
        hits = int(known.sum())
        self.hits += hits
        self.misses += len(texts) - hits
        if hits < len(texts):
            new = [texts[row] for row in np.flatnonzero(~known)]
            self._cache.store(new, self.model.vectors(new))
            vectors[~known], _ = self._cache.lookup(new)
        return vectors

    @property
    def _cache(self) -> EmbeddingCache:
        if self._opened is None or self._opened.process != os.getpid():  # after a fork it must be opened anew
            self._opened = open_cache(self.cache_folder, self.dimension)
        return self._opened
