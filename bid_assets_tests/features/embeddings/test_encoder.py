"""Texts to vectors, each text once: the memory around a model, what must not be imported, and that the vectors are right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bid_assets.common.progress import on_progress
from bid_assets.features.embeddings import models
from bid_assets.features.embeddings.cache import Vectors, open_cache
from bid_assets.features.embeddings.encoder import SLICE, CachedEncoder, make_encoder
from bid_assets.features.embeddings.model_files import transformer_folder
from bid_assets.features.embeddings.models import BFLOAT16_PROCESSORS, StaticModel, TransformerModel, processor_flags

TEXTS = [
    "Experienced Python engineer, I will build your data pipeline within two weeks.",
    "I have built many ETL jobs with Python and would love to work on your data platform.",
    "Ich übersetze Ihre Broschüre aus dem Französischen — schnell & günstig! 😀 漢字",
    "x",
    "word " * 700,
]

ENCODE = """
import sys
from pathlib import Path
import pyarrow as pa
from bid_assets.features.embeddings.encoder import make_encoder
encoder = make_encoder(sys.argv[1], Path(sys.argv[2]))
vectors = encoder.encode(pa.array(sys.argv[3:]))
assert vectors.null_count == 0
print(encoder.fingerprint)
print(*sorted({"torch", "sentence_transformers", "transformers"} & set(sys.modules)))
"""


class Counting:
    """A model that writes down what it is asked, and may break on one text."""

    fingerprint = "counting" * 8
    dimension = 3

    def __init__(self, breaks_on: str | None = None) -> None:
        self.asked: list[str] = []
        self.breaks_on = breaks_on

    def vectors(self, texts: list[str]) -> Vectors:
        if self.breaks_on in texts:
            raise RuntimeError("the machine was switched off")
        self.asked += texts
        return np.array([[len(text), ord(text[0]), 1] for text in texts], dtype=np.float32)


def encoded(encoder: CachedEncoder, texts: list[str | None]) -> Vectors:
    return np.stack(encoder.encode(pa.array(texts, pa.string())).to_numpy(zero_copy_only=False))


def encode_elsewhere(name: str, home: Path, *texts: str) -> tuple[str, set[str]]:
    """Encode in a process of its own: the encoder's fingerprint, and which of the heavy libraries were imported."""
    command = [sys.executable, "-c", ENCODE, name, str(home), *texts]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    fingerprint, heavy = done.stdout.splitlines()
    return fingerprint, set(heavy.split())


def test_a_text_is_encoded_once_however_often_it_comes(tmp_path: Path) -> None:
    model = Counting()
    first = CachedEncoder(model, tmp_path).encode(pa.chunked_array([["one", "two", "one"], ["two", "three"]]))
    again = CachedEncoder(model, tmp_path).encode(pa.array(["three", "one"]))
    assert sorted(model.asked) == ["one", "three", "two"]
    assert again.to_pylist() == [first[4].as_py(), first[0].as_py()]


def test_texts_found_and_texts_encoded_are_counted(tmp_path: Path) -> None:
    encoder = CachedEncoder(Counting(), tmp_path)
    encoder.encode(pa.array(["a", "b", "a", None]))
    encoded(encoder, ["a", "c"])
    assert (encoder.hits, encoder.misses) == (1, 3)


def test_a_text_is_encoded_once_across_slices(tmp_path: Path) -> None:
    model = Counting()
    numbers = [f"text {row % 1500}" for row in range(3 * SLICE)]
    vectors = CachedEncoder(model, tmp_path).encode(pa.array(numbers))
    assert len(model.asked) == len(set(numbers))
    assert vectors.to_pylist() == [[len(text), ord("t"), 1] for text in numbers]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.none() | st.text("ab \n\t", max_size=3), max_size=5), max_size=4))
def test_vectors_come_in_the_order_of_the_texts_and_are_missing_where_there_is_no_text(
    tmp_path: Path, chunks: list[list[str | None]]
) -> None:
    texts = pa.chunked_array(chunks, pa.string())
    vectors = CachedEncoder(Counting(), tmp_path).encode(texts)
    expected = [[len(text), ord(text[0]), 1] if text and text.strip() else None for chunk in chunks for text in chunk]
    assert vectors.to_pylist() == expected
    assert vectors.type == pa.list_(pa.float32(), 3)


def test_texts_of_a_slice_of_a_larger_table_are_their_own(tmp_path: Path) -> None:
    texts = pa.array(["first", None, "second", "third"]).slice(1, 2)
    assert CachedEncoder(Counting(), tmp_path).encode(texts).to_pylist() == [None, [6, ord("s"), 1]]


def test_no_texts_at_all_need_no_model(tmp_path: Path) -> None:
    model = Counting()
    vectors = CachedEncoder(model, tmp_path).encode(pa.array([None, "", " \u00a0\n"], pa.string()))
    assert vectors.null_count == 3
    assert len(CachedEncoder(model, tmp_path).encode(pa.array([], pa.string()))) == 0
    assert model.asked == []


def test_a_break_loses_one_slice_at_most_and_the_next_run_goes_on_from_there(tmp_path: Path) -> None:
    texts = pa.array([f"{row}" for row in range(3 * SLICE)])
    broken = Counting(breaks_on=str(2 * SLICE + 5))
    with pytest.raises(RuntimeError, match="switched off"):
        CachedEncoder(broken, tmp_path).encode(texts)
    assert len(broken.asked) == 2 * SLICE
    whole = Counting()
    assert CachedEncoder(whole, tmp_path).encode(texts).null_count == 0
    assert len(whole.asked) == SLICE


def test_the_vector_that_was_kept_first_counts_for_a_slower_process_too(tmp_path: Path) -> None:
    class Slow(Counting):
        def vectors(self, texts: list[str]) -> Vectors:
            open_cache(encoder.cache_folder, 3).store(["a"], np.array([[7, 7, 7]], dtype=np.float32))
            return super().vectors(texts)

    encoder = CachedEncoder(Slow(), tmp_path)
    assert encoder.encode(pa.array(["a", "b"])).to_pylist() == [[7, 7, 7], [1, ord("b"), 1]]


def test_progress_is_told_up_to_the_last_text(tmp_path: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    with on_progress(lambda stage, done, total: heard.append((stage, done, total))):
        CachedEncoder(Counting(), tmp_path).encode(pa.array(["a"] * (SLICE + 1)))
    assert heard == [("encoding texts", SLICE, SLICE + 1), ("encoding texts", SLICE + 1, SLICE + 1)]


def test_the_static_encoder_agrees_with_sentence_transformers(encoder: CachedEncoder, static_encoder: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    theirs = SentenceTransformer(modules=[StaticEmbedding.load(str(static_encoder))], device="cpu")
    expected = theirs.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(encoded(encoder, TEXTS), expected, rtol=0, atol=1e-6)


def test_a_text_of_nothing_that_the_model_reads_is_missing(encoder: CachedEncoder) -> None:
    assert encoder.encode(pa.array(["\u200b", "\u200b\u200d", "a"])).is_null().to_pylist() == [True, True, False]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.lists(st.sampled_from(TEXTS) | st.text(min_size=1, max_size=30), min_size=1, max_size=6))
def test_a_static_vector_does_not_depend_on_the_other_texts(static_encoder: Path, tmp_path: Path, texts: list[str]) -> None:
    model = StaticModel(static_encoder, tmp_path / "models.json")
    together = model.vectors(texts)
    alone = np.concatenate([model.vectors([text]) for text in texts])
    assert together.tobytes() == alone.tobytes()


def test_the_static_encoder_never_imports_torch(static_encoder_home: Path) -> None:
    _, heavy = encode_elsewhere("static", static_encoder_home, "a text that is new")
    assert heavy == set()


@pytest.mark.slow
def test_texts_that_are_known_are_encoded_without_importing_torch(tmp_path: Path) -> None:
    first, heavy = encode_elsewhere("all-MiniLM-L6-v2", tmp_path, "one", "two")
    assert {"torch", "sentence_transformers"} <= heavy
    second, heavy = encode_elsewhere("all-MiniLM-L6-v2", tmp_path, "two", "one", "two")
    assert heavy == set()
    assert second == first


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> CachedEncoder:
    """The real all-MiniLM-L6-v2, as packaged."""
    return make_encoder("all-MiniLM-L6-v2", tmp_path_factory.mktemp("home"))


@pytest.mark.slow
def test_the_default_encoder_agrees_with_sentence_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sentence_transformers import SentenceTransformer

    monkeypatch.setattr(models, "processor_flags", set)
    ours = make_encoder("all-MiniLM-L6-v2", tmp_path)
    theirs = SentenceTransformer(str(transformer_folder("all-MiniLM-L6-v2", tmp_path)), device="cpu")
    expected = theirs.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(encoded(ours, TEXTS), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_default_encoder_puts_texts_of_one_meaning_close_together(minilm: CachedEncoder) -> None:
    vectors = encoded(minilm, TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=0, atol=1e-6)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


@pytest.mark.slow
def test_bfloat16_gives_nearly_the_same_vectors_under_another_fingerprint(
    minilm: CachedEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = {}
    for precision, flags in {"float32": set(), "bfloat16": {"amx_bf16"}}.items():
        monkeypatch.setattr(models, "processor_flags", lambda flags=flags: flags)
        model = TransformerModel(transformer_folder("all-MiniLM-L6-v2", tmp_path), tmp_path / "models.json")
        results[precision] = model.fingerprint, model.vectors(TEXTS)
    (one, exact), (other, rounded) = results.values()
    assert one != other
    np.testing.assert_allclose(np.linalg.norm(rounded, axis=1), 1, rtol=0, atol=1e-6)
    assert ((exact * rounded).sum(axis=1) > 0.999).all()
    assert (exact != rounded).any()


def test_the_processor_is_evaluated_as_torch_evaluates_it() -> None:
    import torch

    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    assert bool(BFLOAT16_PROCESSORS & processor_flags()) == native
