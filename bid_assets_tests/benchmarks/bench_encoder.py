"""How fast texts become vectors: sentence-transformers as it comes, our encoders on new texts, and texts that are known.

    python -m bid_assets_tests.benchmarks.bench_encoder --texts 256 --known 100000

The same texts for all, of 20 to 220 words, 120 on average. Models are loaded and have encoded a few texts before the clock
starts. "Known" texts are looked up by their SHA-256, hashing included; the times of `encode` are from Arrow to Arrow.
What is kept is compared with what sentence-transformers gives: the largest difference of two numbers is printed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from bid_assets.features.embeddings.cache import EmbeddingCache, Vectors
from bid_assets.features.embeddings.encoder import CachedEncoder, make_encoder
from bid_assets.features.embeddings.model_files import DEFAULT, silence_libraries, static_model_folder, transformer_folder
from bid_assets_tests.conftest import CHECKOUT

WORDS = [
    "I",
    "you",
    "we",
    "your",
    "our",
    "project",
    "team",
    "experience",
    "with",
    "python",
    "data",
    "pipeline",
    "design",
    "build",
    "deliver",
    "test",
    "deploy",
    "website",
    "mobile",
    "app",
    "translate",
    "article",
    "copy",
    "logo",
    "budget",
    "deadline",
    "week",
    "milestone",
    "client",
    "requirements",
    "quality",
    "reliable",
    "communication",
    "portfolio",
]
HOME = CHECKOUT / ".bid_assets" / "tests"
"""Where the tests keep their static model, which is distilled here if it is not there yet."""


def make_texts(count: int) -> list[str]:
    chance = np.random.default_rng(0)
    return [f"{row} {' '.join(chance.choice(WORDS, chance.integers(20, 221)))}" for row in range(count)]


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """The best of some runs."""

    def once() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return min(once() for _ in range(repeats))


def theirs(name: str, folder: Path) -> Any:
    """A model as sentence-transformers loads it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    with silence_libraries():
        return (
            SentenceTransformer(modules=[StaticEmbedding.load(str(folder))])
            if name == "static"
            else SentenceTransformer(str(folder))
        )


def compare(name: str, folder: Path, texts: list[str], home: Path, rows: list[tuple[str, int, float]]) -> None:
    """Sentence-transformers and ours on the same new texts, then ours again when it knows them."""
    model, few = theirs(name, folder), texts[:8]
    model.encode(few)
    expected: list[Vectors] = []
    rows.append(
        (
            f"{name}: sentence-transformers",
            len(texts),
            seconds(lambda: expected.append(model.encode(texts, normalize_embeddings=True))),
        )
    )
    encoder = make_encoder(name, home)
    encoder.encode(pa.array(few))
    new = pa.array([f"{text} " for text in texts])  # one space makes a new text, and the same tokens
    kept: list[pa.Array] = []
    precision = getattr(encoder.model, "_precision", "float32")
    rows.append((f"{name}: ours, new texts, {precision}", len(texts), seconds(lambda: kept.append(encoder.encode(new)))))
    rows.append((f"{name}: ours, known texts", len(texts), seconds(lambda: encoder.encode(new), 5)))
    difference = np.abs(np.stack(kept[0].to_numpy(zero_copy_only=False)) - expected[0]).max()
    print(f"{name}: largest difference to sentence-transformers {difference:.1e}")


@dataclass(frozen=True)
class Made:
    """A model that makes its vectors up, at no cost."""

    fingerprint: str
    dimension: int

    def vectors(self, texts: list[str]) -> Vectors:
        return np.random.default_rng(0).random((len(texts), self.dimension), dtype=np.float32)


def look_up(known: int, dimension: int, home: Path, rows: list[tuple[str, int, float]]) -> None:
    """Many known texts: the cache alone, and the encoder around it."""

    texts = make_texts(1000)
    many = pa.array([f"{row} {texts[row % 1000]}" for row in range(known)])
    encoder = CachedEncoder(Made(f"made-{dimension}", dimension), home)
    rows.append((f"{dimension} numbers: store {known:,}", known, seconds(lambda: encoder.encode(many))))
    listed, cache = many.to_pylist(), encoder._cache
    rows.append((f"{dimension} numbers: look up {known:,}", known, seconds(lambda: in_slices(cache, listed), 5)))
    rows.append((f"{dimension} numbers: encode {known:,} known", known, seconds(lambda: encoder.encode(many), 5)))


def in_slices(cache: EmbeddingCache, texts: list[str]) -> None:
    for start in range(0, len(texts), 1024):
        assert cache.lookup(texts[start : start + 1024])[1].all()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--texts", type=int, default=256, help="new texts for the full model; sixteen times as many for the static one"
    )
    parser.add_argument("--known", type=int, default=100_000, help="texts to look up")
    options = parser.parse_args()
    rows: list[tuple[str, int, float]] = []
    static = static_model_folder(HOME)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "encoders").symlink_to(static.parent)
        for dimension in (256, 384):
            look_up(options.known, dimension, home / "random", rows)
        compare("static", static, make_texts(16 * options.texts), home, rows)
        compare(DEFAULT, transformer_folder(DEFAULT, home), make_texts(options.texts), home, rows)
    table = Table("", "texts", "seconds", "texts/s", "us/text")
    for name, count, took in rows:
        table.add_row(name, f"{count:,}", f"{took:.2f}", f"{count / took:,.0f}", f"{took / count * 1e6:,.1f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
