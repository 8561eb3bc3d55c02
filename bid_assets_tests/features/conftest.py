"""Homes with a ready static encoder, and a tiny transformer that loads and distils in no time."""

from __future__ import annotations

from pathlib import Path

import pytest

from bid_assets.features.embeddings.encoder import CachedEncoder, make_encoder

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdefghijklmnopqrstuvwxyz",
    *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"),
]


@pytest.fixture
def static_encoder_home(static_encoder: Path, tmp_path: Path) -> Path:
    """A fresh home that need not distil a static encoder."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "encoders").symlink_to(static_encoder.parent)
    return home


@pytest.fixture
def encoder(static_encoder_home: Path) -> CachedEncoder:
    """The static encoder with an empty cache."""
    return make_encoder("static", static_encoder_home)


@pytest.fixture(scope="session")
def tiny_transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a transformer with random weights, 32 wide, that reads letters."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(7)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=64, **shape)).save_pretrained(folder)
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    return folder
