"""The memory of encoded texts: what it keeps, how fast, and what several processes and sudden deaths do to it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.features.embeddings.cache import EmbeddingCache, Vectors, open_cache

SMALL = 1 << 16
"""A first size that a few hundred vectors fill, so that the map must grow."""

numbers = st.floats(width=32, allow_nan=False)
any_text = st.text(st.characters(exclude_categories=()), max_size=20)

WRITER = """
import sys
from pathlib import Path
import numpy as np
from bid_assets.features.embeddings.cache import EmbeddingCache
folder, first, last, mark, dimension, slice_, initial_bytes = Path(sys.argv[1]), *map(int, sys.argv[2:])
cache = EmbeddingCache(folder, dimension, initial_bytes)
print("ready", flush=True)
sys.stdin.readline()
for start in range(first, last, slice_):
    texts = [f"text {number}" for number in range(start, min(start + slice_, last))]
    vectors = np.full((len(texts), dimension), mark, dtype=np.float32)
    vectors[:, 0] = range(start, start + len(texts))
    cache.store(texts, vectors)
    print(start + len(texts), flush=True)
"""


class Writer:
    """A process that stores the texts `first` to `last`: vectors of its own mark, the text's number in front."""

    def __init__(self, folder: Path, first: int, last: int, mark: int, dimension: int = 64, slice_: int = 50) -> None:
        numbers = map(str, (first, last, mark, dimension, slice_, SMALL))
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), *numbers], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def start(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def next_stored(self) -> int:
        """The number of the text up to which it has stored all; 0 after the last."""
        assert self.process.stdout is not None
        return int(self.process.stdout.readline() or 0)

    def finish(self) -> None:
        self.process.communicate("\n")  # for one that has not been told to start
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def vectors_for(count: int, dimension: int = 3) -> Vectors:
    return np.random.default_rng(count).random((count, dimension), dtype=np.float32)


@given(st.dictionaries(any_text, st.tuples(numbers, numbers, numbers)), st.lists(any_text))
def test_what_is_stored_is_found_bit_for_bit_and_nothing_else(known: dict[str, tuple[float, ...]], others: list[str]) -> None:
    with TemporaryDirectory() as folder:
        cache = EmbeddingCache(Path(folder), 3)
        cache.store(list(known), np.array(list(known.values()), dtype=np.float32).reshape(-1, 3))
        texts = [*known, *others]
        vectors, found = cache.lookup(texts)
    assert found.tolist() == [text in known for text in texts]
    expected = np.array([known.get(text, (0.0, 0.0, 0.0)) for text in texts], dtype=np.float32).reshape(-1, 3)
    assert vectors.tobytes() == expected.tobytes()


def test_a_text_keeps_the_vector_that_it_got_first(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 3)
    first, second = vectors_for(2), vectors_for(3)
    cache.store(["a", "b"], first)
    cache.store(["c", "b", "a"], second)
    vectors, _ = cache.lookup(["a", "b", "c"])
    np.testing.assert_array_equal(vectors, [first[0], first[1], second[0]])
    assert len(cache) == 3


def test_texts_alike_but_for_normalisation_or_white_space_are_different_texts(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 3)
    cache.store(["é"], vectors_for(1))
    assert not cache.lookup(["e\u0301", "é ", "É", ""])[1].any()


def test_vectors_of_another_shape_are_not_stored(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 3)
    with pytest.raises(ValueError, match=r"takes vectors of shape \(2, 3\), not \(2, 4\)"):
        cache.store(["a", "b"], vectors_for(2, dimension=4))
    assert len(cache) == 0


def test_a_vector_of_another_length_on_disk_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    Writer(tmp_path / "cache", 0, 1, mark=1, dimension=5).finish()
    with pytest.raises(ValueError, match=r"/cache holds a vector of 5 numbers where the encoder makes 3; remove that folder"):
        open_cache(tmp_path / "cache", 3).lookup(["text 0"])


def test_one_folder_cannot_be_open_for_two_lengths_of_vectors(tmp_path: Path) -> None:
    open_cache(tmp_path, 3)
    with pytest.raises(ValueError, match="is open for vectors of length 3, not 4"):
        open_cache(tmp_path, 4)


def test_a_folder_is_opened_once_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    assert open_cache(tmp_path / "cache", 3) is open_cache(tmp_path / "link", 3)


def test_the_map_grows_when_it_is_full(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 256, initial_bytes=SMALL)
    texts, vectors = [str(number) for number in range(1000)], vectors_for(1000, 256)
    for start in range(0, 1000, 300):
        cache.store(texts[start : start + 300], vectors[start : start + 300])
    np.testing.assert_array_equal(cache.lookup(texts)[0], vectors)
    assert (tmp_path / "data.mdb").stat().st_size > 1000 * 256 * 4 > SMALL


def test_a_map_that_another_process_has_outgrown_is_followed(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 64, initial_bytes=SMALL)
    cache.store(["here"], vectors_for(1, 64))
    Writer(tmp_path, 0, 2000, mark=1).finish()
    vectors, found = cache.lookup([f"text {number}" for number in range(2000)])
    assert found.all()
    np.testing.assert_array_equal(vectors[:, 0], np.arange(2000))
    cache.store(["there"], vectors_for(1, 64))
    assert cache.lookup(["here", "there"])[1].all()


def test_processes_that_write_overlapping_texts_at_once_lose_and_mix_nothing(tmp_path: Path) -> None:
    writers = [Writer(tmp_path, 300 * mark, 300 * mark + 900, mark) for mark in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.finish()
    cache = EmbeddingCache(tmp_path, 64)
    vectors, found = cache.lookup([f"text {number}" for number in range(1800)])
    assert found.all()
    assert len(cache) == 1800
    np.testing.assert_array_equal(vectors[:, 0], np.arange(1800))
    marks = vectors[:, 1]
    assert (vectors[:, 1:] == marks[:, None]).all(), "a vector of two writers"
    candidates = np.array([[300 * mark <= number < 300 * mark + 900 for mark in range(4)] for number in range(1800)])
    assert candidates[np.arange(1800), marks.astype(int)].all(), "a vector of a writer that never had the text"


def test_a_writer_killed_at_any_moment_leaves_all_that_it_had_finished(tmp_path: Path) -> None:
    chance = Random(7)
    for attempt in range(4):
        writer = Writer(tmp_path / str(attempt), 0, 1_000_000, mark=1)
        writer.start()
        for _ in range(chance.randrange(5, 40)):
            stored = writer.next_stored()
        time.sleep(chance.random() / 100)
        writer.kill()
        cache = EmbeddingCache(tmp_path / str(attempt), 64)
        vectors, found = cache.lookup([f"text {number}" for number in range(stored)])
        assert found.all()
        np.testing.assert_array_equal(vectors[:, 0], np.arange(stored))
        assert len(cache) % 50 == 0, "half a slice is visible"
        cache.store(["after"], vectors_for(1, 64))
        assert cache.lookup(["after"])[1].all()


def test_threads_read_and_write_while_the_map_grows(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 64, initial_bytes=SMALL)

    def work(thread: int) -> bool:
        for start in range(0, 1000, 100):
            texts = [f"{thread} {number}" for number in range(start, start + 100)]
            cache.store(texts, vectors_for(100, 64))
            vectors, found = cache.lookup(texts)
            if not found.all() or (vectors != vectors_for(100, 64)).any():
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert len(cache) == 4000


def test_a_forked_child_opens_the_cache_anew(tmp_path: Path) -> None:
    parents = open_cache(tmp_path, 3)
    parents.store(["a"], vectors_for(1))
    child = os.fork()
    if child == 0:
        ours = open_cache(tmp_path, 3)
        ours.store(["b"], vectors_for(1))
        os._exit(0 if ours is not parents and ours.lookup(["a", "b"])[1].all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert parents.lookup(["a", "b"])[1].all()


def test_readers_that_were_killed_do_not_use_up_the_places(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 64)
    reader = "import lmdb, sys; e = lmdb.open(sys.argv[1]); t = e.begin(); print(1, flush=True); sys.stdin.read()"
    dead = subprocess.Popen([sys.executable, "-c", reader, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert dead.stdout is not None
    dead.stdout.readline()
    dead.kill()
    dead.communicate()
    Writer(tmp_path, 0, 1, mark=1).finish()  # opening is what frees the places
    assert cache._environment.reader_check() == 0
