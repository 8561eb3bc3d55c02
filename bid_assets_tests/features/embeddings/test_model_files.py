"""Finding a model's files, making them once, and telling one model from another without loading it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest

from bid_assets.features.embeddings import model_files
from bid_assets.features.embeddings.encoder import make_encoder
from bid_assets.features.embeddings.model_files import (
    DEFAULT,
    EncoderUnavailableError,
    declared_dimension,
    static_model_folder,
    transformer_folder,
)

MAKE_SLOWLY = """
import sys, time
from pathlib import Path
from bid_assets.features.embeddings.model_files import _create_atomically
def make(folder):
    print("making", flush=True)
    (folder / "one").write_text(sys.argv[2])
    sys.stdin.readline()
    (folder / "two").write_text(sys.argv[2])
print(_create_atomically(Path(sys.argv[1]), make))
"""

FETCH = """
import sys
from pathlib import Path
from bid_assets.features.embeddings.encoder import make_encoder
try:
    encoder = make_encoder(sys.argv[1], Path(sys.argv[2]))
    print(encoder.fingerprint, encoder.dimension)
except Exception as error:
    print(type(error).__name__, error)
print(*sorted({"torch", "sentence_transformers"} & set(sys.modules)))
"""


def model_folder(folder: Path, modules: dict[str, dict[str, object] | None]) -> Path:
    """A folder with the configuration files of a sentence-transformers model, and something for weights."""
    listed = []
    for place, (kind, settings) in enumerate(modules.items()):
        path = "" if place == 0 else f"{place}_{kind}"
        (folder / path).mkdir(parents=True, exist_ok=True)
        if settings is not None:
            (folder / path / "config.json").write_bytes(orjson.dumps(settings))
        listed.append({"idx": place, "path": path, "type": f"sentence_transformers.models.{kind}"})
    (folder / "modules.json").write_bytes(orjson.dumps(listed))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "model", {"Transformer": {"hidden_size": 8}, "Pooling": {"word_embedding_dimension": 8}})


@pytest.fixture
def fingerprint(tmp_path: Path) -> Callable[[Path], str]:
    return lambda folder: model_files.fingerprint(folder, "settings", tmp_path / "memory" / "models.json")


def test_the_same_files_elsewhere_are_the_same_model(model: Path, fingerprint: Callable[[Path], str]) -> None:
    shutil.copytree(model, model.with_name("copy"))
    assert fingerprint(model) == fingerprint(model.with_name("copy"))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "modules.json", "1_Pooling/config.json"])
def test_one_changed_byte_makes_another_model(model: Path, fingerprint: Callable[[Path], str], name: str) -> None:
    before, file = fingerprint(model), model / name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert fingerprint(model) != before


def test_a_renamed_file_makes_another_model(model: Path, fingerprint: Callable[[Path], str]) -> None:
    before = fingerprint(model)
    (model / "1_Pooling").rename(model / "2_Pooling")
    assert fingerprint(model) != before


def test_settings_that_change_the_vectors_make_another_model(model: Path, tmp_path: Path) -> None:
    memory = tmp_path / "models.json"
    assert model_files.fingerprint(model, "bfloat16", memory) != model_files.fingerprint(model, "float32", memory)


def test_what_is_said_about_a_model_and_its_other_formats_are_not_the_model(
    model: Path, fingerprint: Callable[[Path], str]
) -> None:
    before = fingerprint(model)
    (model / "README.md").write_text("a fine model")
    (model / ".cache").mkdir()
    (model / ".cache" / "download.json").write_text("{}")
    (model / "onnx").mkdir()
    (model / "onnx" / "model.onnx").write_bytes(b"weights")
    assert fingerprint(model) == before


def test_weights_are_hashed_once_while_size_and_time_stay(
    model: Path, fingerprint: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, hashed = fingerprint(model), []
    monkeypatch.setattr(model_files, "_digest", lambda folder, files: hashed.append(folder) or "again")
    assert fingerprint(model) == before
    assert hashed == []
    os.utime(model / "model.safetensors", ns=(0, 1))
    assert fingerprint(model) != before
    assert hashed == [model]


@pytest.mark.parametrize("rubbish", [b"", b"{", b"[1]", b'{"PLACE": 3}'])
def test_a_damaged_memory_of_hashes_is_made_anew(
    model: Path, fingerprint: Callable[[Path], str], tmp_path: Path, rubbish: bytes
) -> None:
    before = fingerprint(model)
    memory = tmp_path / "memory" / "models.json"
    memory.write_bytes(rubbish.replace(b"PLACE", str(model).encode()))
    assert fingerprint(model) == before
    assert orjson.loads(memory.read_bytes())[str(model)]["sha256"]


@pytest.mark.parametrize(
    ("modules", "dimension"),
    [
        ({"Transformer": {"hidden_size": 8}, "Pooling": {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True}}, 8),
        ({"Transformer": {}, "Pooling": {"embedding_dimension": 8, "pooling_mode": "cls"}, "Normalize": None}, 8),
        ({"Transformer": {}, "Pooling": {"embedding_dimension": 8, "pooling_mode": ["cls", "mean"]}}, 16),
        (
            {
                "Transformer": {},
                "Pooling": {
                    "word_embedding_dimension": 8,
                    "pooling_mode_cls_token": True,
                    "pooling_mode_mean_tokens": True,
                    "pooling_mode_max_tokens": False,
                },
            },
            16,
        ),
        ({"Transformer": {}, "Pooling": {"word_embedding_dimension": 8}, "Dense": {"out_features": 4}, "Normalize": None}, 4),
        ({"Transformer": {}, "Pooling": {}}, None),
        ({"StaticEmbedding": None}, None),
        ({"Transformer": {}, "Pooling": {"word_embedding_dimension": 8}, "SomethingNew": {}}, None),
    ],
)
def test_the_length_of_vectors_is_read_from_configuration_files(
    tmp_path: Path, modules: dict[str, dict[str, object] | None], dimension: int | None
) -> None:
    assert declared_dimension(model_folder(tmp_path / "model", modules)) == dimension


@pytest.mark.slow
def test_the_declared_length_is_the_true_one(tiny_transformer: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer

    assert declared_dimension(tiny_transformer) == SentenceTransformer(str(tiny_transformer)).encode("a").shape[0] == 32
    reading = Transformer(str(tiny_transformer))
    for name, more in {"two": [Pooling(32, ["cls", "mean"])], "dense": [Pooling(32), Dense(32, 12)]}.items():
        made = SentenceTransformer(modules=[reading, *more])
        made.save(str(tmp_path / name))
        assert declared_dimension(tmp_path / name) == made.encode("a").shape[0]


@pytest.mark.slow
def test_a_folder_whose_files_do_not_state_the_length_is_asked_itself(static_encoder: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    SentenceTransformer(modules=[StaticEmbedding.load(str(static_encoder))]).save(str(tmp_path / "model"))
    assert make_encoder(str(tmp_path / "model"), tmp_path).dimension == 256


def test_the_default_model_is_the_packaged_one_under_both_of_its_names(tmp_path: Path) -> None:
    folder = transformer_folder(DEFAULT, tmp_path)
    assert folder == transformer_folder(f"sentence-transformers/{DEFAULT}", tmp_path)
    assert (folder / "model.safetensors").stat().st_size > 80_000_000
    assert declared_dimension(folder) == 384


@pytest.mark.parametrize("name", ["./no/such", "/no/such", "~/no/such", "models/of/mine"])
def test_a_folder_that_does_not_exist_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(EncoderUnavailableError, match=f"names the folder {name}, and there is none"):
        make_encoder(name, tmp_path)


def fetch(name: str, home: Path, hub: Path) -> list[str]:
    """What comes of a name in a process without network, with this folder as the hub's cache."""
    environment = {**os.environ, "HF_HOME": str(hub), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", FETCH, name, str(home)], capture_output=True, text=True, env=environment)
    return done.stdout.splitlines()


def test_without_a_network_an_unknown_name_is_a_clear_error(tmp_path: Path) -> None:
    error, _ = fetch("someone/some-model", tmp_path, tmp_path / "hub")
    assert error.startswith("EncoderUnavailableError the setting `encoder` names 'someone/some-model': that is no folder here")
    assert "Without a network set BID_ASSETS_ENCODER to" in error
    assert not (tmp_path / "encoders" / "someone--some-model").exists()


def test_a_model_in_the_hubs_cache_is_copied_once_and_is_the_same_model(tmp_path: Path) -> None:
    snapshots = tmp_path / "hub" / "hub" / "models--someone--mini"
    (snapshots / "refs").mkdir(parents=True)
    (snapshots / "refs" / "main").write_text("abc123")
    packaged = transformer_folder(DEFAULT, tmp_path)
    shutil.copytree(packaged, snapshots / "snapshots" / "abc123")
    first, heavy = fetch("someone/mini", tmp_path, tmp_path / "hub")
    assert first == f"{make_encoder(DEFAULT, tmp_path).fingerprint} 384"
    assert heavy == ""
    shutil.rmtree(tmp_path / "hub")
    assert fetch("someone/mini", tmp_path, tmp_path / "hub") == [first, ""]


@pytest.mark.slow
def test_distilling_twice_gives_the_same_model(
    tiny_transformer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(model_files, "transformer_folder", lambda name, home: tiny_transformer)
    encoders = [make_encoder("static", tmp_path / home) for home in ("one", "two")]
    assert encoders[0].fingerprint == encoders[1].fingerprint
    assert encoders[0].dimension == 32
    assert capfd.readouterr() == ("", "")


def test_a_first_load_in_a_fresh_process_says_nothing_either(tiny_transformer: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(tiny_transformer, tmp_path / "tiny")
    weights = load_file(folder / "model.safetensors")
    unexpected = {"embeddings.position_ids": np.arange(64)[None]}  # as in the packaged weights: worth a report to transformers
    save_file({**weights, **unexpected}, folder / "model.safetensors", {"format": "pt"})
    load = "import sys; from pathlib import Path; from bid_assets.features.embeddings.models import TransformerModel as T; "
    encode = "T(Path(sys.argv[1]), Path(sys.argv[2])).vectors(['abc'])"
    done = subprocess.run(
        [sys.executable, "-c", load + encode, str(folder), str(tmp_path / "models.json")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_a_model_that_is_there_is_not_distilled_again(static_encoder_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(model_files, "_distil")
    assert (static_model_folder(static_encoder_home) / "model.safetensors").exists()


@pytest.fixture
def distilling(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where models are distilled to, by a distillation that takes no time."""
    targets: list[Path] = []

    def distil(source: Path, target: Path) -> None:
        targets.append(target)
        (target / "model.safetensors").touch(0o644)

    monkeypatch.setattr(model_files, "_distil", distil)
    return targets


def test_homes_of_a_user_share_one_distilled_model_that_is_private(tmp_path: Path, distilling: list[Path]) -> None:
    cache = tmp_path / "cache" / "bid-assets"
    folders = {static_model_folder(tmp_path / home, cache) for home in ("one", "two")}
    assert folders == {cache / "static-256"}
    assert len(distilling) == 1
    shared = (cache, *cache.rglob("*"))
    assert {path.stat().st_mode & 0o077 for path in shared} == {0}


def test_a_home_that_has_a_model_of_its_own_keeps_it(tmp_path: Path, distilling: list[Path]) -> None:
    own = static_model_folder(tmp_path / "home")
    assert static_model_folder(tmp_path / "home", tmp_path / "cache") == own
    assert not (tmp_path / "cache").exists()


def test_where_the_cache_cannot_be_written_to_the_home_keeps_the_model_and_a_line_says_so(
    tmp_path: Path, distilling: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").touch()
    assert static_model_folder(tmp_path / "home", tmp_path / "cache") == tmp_path / "home" / "encoders" / "static-256"
    (line,) = caplog.messages
    assert "for this home only" in line
    assert "BID_ASSETS_ENCODER_CACHE" in line


def test_of_two_processes_that_make_a_model_at_once_the_first_is_kept_whole(tmp_path: Path) -> None:
    target = tmp_path / "encoders" / "made"
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE_SLOWLY, str(target), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("first", "second")
    ]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "making\n"
    assert not target.exists(), "half a model is visible"
    for maker in makers:
        assert maker.communicate("\n")[0] == f"{target}\n"
    assert {file.name: file.read_text() for file in target.iterdir()} == {"one": "first", "two": "first"}
    assert list(target.parent.iterdir()) == [target]


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "one").write_text("half")
        raise RuntimeError("no space")

    with pytest.raises(RuntimeError, match="no space"):
        model_files._create_atomically(tmp_path / "encoders" / "made", make)
    assert list((tmp_path / "encoders").iterdir()) == []
