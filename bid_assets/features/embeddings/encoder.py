"""Texts to vectors. Each distinct text is encoded once per encoder, for ever; after that it is looked up.

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

from bid_assets.common.progress import report
from bid_assets.features.embeddings.cache import EmbeddingCache, Vectors, open_cache
from bid_assets.features.embeddings.model_files import distilled, transformer_folder
from bid_assets.features.embeddings.models import StaticModel, TextModel, TransformerModel
from bid_assets.features.inputs import Vector

STATIC = "static"
SLICE = 1024
"""Texts looked up, encoded and written to the cache at a time: the memory needed beside the answer, and what a crash loses."""

RECENT = 4096
"""Texts asked about a few at a time whose vectors stay at hand, so that a service need not look on disk for them again."""


def make_encoder(name: str, home: Path, models: Path | None = None) -> CachedEncoder:
    """The encoder that the setting `encoder` names, with its cache of vectors under `home`.

    `models`: the folder of the distilled model that homes share (setting `encoder_cache`); None: the home keeps its own.
    Raises `EncoderUnavailableError` where there is no such model here, and none could be fetched.
    """
    caches = home / "embeddings"
    memory = caches / "models.json"
    if name == STATIC:
        return CachedEncoder(StaticModel(distilled(home, models), memory), caches)
    return CachedEncoder(TransformerModel(transformer_folder(name, home), memory), caches)


class CachedEncoder:
    """A model with the memory of all texts that it has ever encoded. Implements `features.base.Encoder`."""

    def __init__(self, model: TextModel, caches: Path) -> None:
        self.model = model
        self.hits = self.misses = 0
        """Texts that were known when they were looked up, and those that had to be encoded."""
        self._caches = caches
        self._opened: EmbeddingCache | None = None
        self._recent: dict[str | None, Vector | None] = {}

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
            report("encoding texts", start + len(part), len(texts))
        missing = pa.array(~vectors.any(axis=1))
        return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), self.dimension, mask=missing)

    def vectors(self, texts: Sequence[str | None]) -> list[Vector | None]:
        """As `encode`, of a few texts, as arrays; those of late are at hand."""
        at_hand = self._recent
        new = [text for text in dict.fromkeys(texts) if text not in at_hand]
        self.hits += len(texts) - len(new)
        encoded = zip(new, self.encode(pa.array(new, pa.string())), strict=True) if new else ()
        found = {text: vector.values.to_numpy().copy() if vector.is_valid else None for text, vector in encoded}
        if len(at_hand) + len(found) > RECENT:
            self._recent = {}  # begun anew rather than thinned out: another thread may be reading it
        self._recent.update(found)
        return [found[text] if text in found else at_hand[text] for text in texts]

    def _encode_slice(self, texts: pa.ChunkedArray | pa.Array, vectors: Vectors) -> None:
        """Put in the vectors of a few texts, each distinct one dealt with once; rows of missing texts stay as they are."""
        given = texts.to_pylist()
        told = [row for row, text in enumerate(pc.utf8_trim_whitespace(texts).to_pylist()) if text]
        place: dict[str, int] = {}
        index = [place.setdefault(given[row], len(place)) for row in told]
        if place:
            vectors[told] = self._distinct(list(place))[index]

    def _distinct(self, texts: list[str]) -> Vectors:
        """Look all of them up; encode those that are new. What is kept counts: another process may have been quicker."""
        vectors, known = self._cache.lookup(texts)
        found = int(known.sum())
        self.hits += found
        self.misses += len(texts) - found
        if found < len(texts):
            new = [texts[row] for row in np.flatnonzero(~known)]
            self._cache.store(new, self.model.vectors(new))
            vectors[~known], _ = self._cache.lookup(new)
        return vectors

    @property
    def _cache(self) -> EmbeddingCache:
        if self._opened is None or self._opened.process != os.getpid():  # after a fork it must be opened anew
            self._opened = open_cache(self.cache_folder, self.dimension)
        return self._opened
