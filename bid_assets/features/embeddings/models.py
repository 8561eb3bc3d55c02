"""Text models: a sentence-transformers model, or a static one. Neither caches anything (`encoder.py` does).

Vectors are float32 of length 1. Nothing heavy is imported, and no weights are read, before the first text is encoded.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bid_assets.features.embeddings.cache import Vectors
from bid_assets.features.embeddings.model_files import declared_dimension, fingerprint, silence_libraries

CODE_VERSION = "1"
"""To be raised when this code gives other vectors for the same model and text."""

BATCH_SIZE = 32
BFLOAT16_PROCESSORS = {"amx_bf16", "avx512_bf16"}
"""Flags of processors that multiply bfloat16 natively, which is when it is faster than float32."""

_WEIGHTS = "embedding.weight"  # name of the static model's only tensor


class TextModel(Protocol):
    """Encodes texts, without a cache of its own."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that the vectors depend on."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    def vectors(self, texts: list[str]) -> Vectors:
        """One vector of length 1 per text, shape (texts, dimension); zeros for a text that has no tokens."""


class StaticModel:
    """The mean of token vectors, as sentence-transformers' `StaticEmbedding` computes it, without torch."""

    def __init__(self, folder: Path, digest_cache: Path) -> None:
        self.folder = folder
        self._digest_cache = digest_cache

    @cached_property
    def fingerprint(self) -> str:
        """Of the distilled files."""
        return fingerprint(self.folder, f"static, normalised, code {CODE_VERSION}", self._digest_cache)

    @cached_property
    def dimension(self) -> int:
        """Of the token vectors; read from the head of the file."""
        with self._open_weights() as file:
            return int(file.get_slice(_WEIGHTS).get_shape()[1])

    def vectors(self, texts: list[str]) -> Vectors:
        """Token vectors, averaged per text."""
        tokens = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        means = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(tokens):
            if text.ids:
                means[row] = self._weights[text.ids].mean(axis=0)
        return _normalize(means)

    @cached_property
    def _weights(self) -> Vectors:
        """The token vectors, about 30 MB."""
        with self._open_weights() as file:
            weights: Vectors = file.get_tensor(_WEIGHTS)
        return weights.astype(np.float32, copy=False)

    def _open_weights(self) -> Any:
        from safetensors import safe_open

        return safe_open(str(self.folder / "model.safetensors"), framework="numpy")

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        tokenizer.no_padding()
        return tokenizer


class TransformerModel:
    """A sentence-transformers model, on a GPU where there is one.

    It computes in bfloat16 where the processor does so natively, otherwise in float32. That belongs to the fingerprint, so
    the processor alone decides: asking for a GPU would take torch. A vector may differ in its last bits with the batch that
    its text was in, for batches are padded to their longest text.
    """

    def __init__(self, folder: Path, digest_cache: Path) -> None:
        self.folder = folder
        self._digest_cache = digest_cache

    @cached_property
    def fingerprint(self) -> str:
        """Of the model's files, which say the maximal length too, and of the precision."""
        return fingerprint(self.folder, f"transformer, normalised, {self._precision}, code {CODE_VERSION}", self._digest_cache)

    @cached_property
    def dimension(self) -> int:
        """From the configuration files; where these do not say it, from the loaded model."""
        return declared_dimension(self.folder) or int(self._model.get_embedding_dimension())

    def vectors(self, texts: list[str]) -> Vectors:
        """Encode in batches of similar length (sentence-transformers sorts the texts)."""
        encoded = self._model.encode(texts, batch_size=BATCH_SIZE, convert_to_tensor=True, show_progress_bar=False)
        return _normalize(encoded.float().cpu().numpy())

    @cached_property
    def _precision(self) -> str:
        return "bfloat16" if BFLOAT16_PROCESSORS & processor_flags() else "float32"

    @cached_property
    def _model(self) -> Any:
        with silence_libraries():
            import torch
            from sentence_transformers import SentenceTransformer

            return SentenceTransformer(str(self.folder)).to(getattr(torch, self._precision))


def processor_flags() -> set[str]:
    """The processor's flags in /proc/cpuinfo; empty where there is no such file (then float32 is used)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def _normalize(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1), dtype=np.float32)
