"""Pieces of text, by the tokenizers that exported models bring."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("onnx")
tokenizers = pytest.importorskip("tokenizers")

from cultev.backend.onnx_folder import OnnxFolder, read_folder  # noqa: E402
from cultev.backend.onnx_tokens import OnnxTokens  # noqa: E402
from tests.backend.onnx_models import make_folder  # noqa: E402

TEXT = "Hello there, naïve 東京 🦊!"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> OnnxFolder:
    return read_folder(make_folder(tmp_path_factory.mktemp("tokens") / "m"))


def loaded(folder: OnnxFolder, tokenizer: object, path: Path, **facts: object) -> OnnxTokens:
    tokenizer.save(str(path))  # type: ignore[attr-defined]
    return OnnxTokens(dataclasses.replace(folder, tokenizer=path, bos="", eos="", **facts))


def byte_level() -> object:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(["Hello there, hello there, naive"] * 3, trainer)
    tokenizer.add_special_tokens(["<|im_end|>"])
    tokenizer.add_tokens(["<plain>"])
    return tokenizer


def sentence_piece(*, prefix: bool) -> object:
    """Llama's layout: a space before a text, byte tokens for what is in no vocabulary."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    letters = ["<unk>", *(f"<0x{b:02X}>" for b in range(256)), "▁", *"Helothr,naiv!", "▁th", "er"]
    vocab = {piece: i for i, piece in enumerate(letters)}
    merges = [("▁", "t"), ("▁t", "h"), ("e", "r")]
    vocab["▁t"] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True))
    steps = [normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), *steps] if prefix else steps)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def test_byte_level_pieces_are_the_texts_bytes(folder: OnnxFolder, tmp_path: Path) -> None:
    tokens = loaded(folder, byte_level(), tmp_path / "t.json")
    ids = tokens.encode(TEXT)
    assert b"".join(map(tokens.piece, ids)) == TEXT.encode()
    assert tokens.decode(ids) == TEXT == tokens.decode(tokens.encode_onwards(TEXT))
    (end,), (plain,) = tokens.encode("<|im_end|>"), tokens.encode("<plain>")
    assert tokens.piece(end) == b"" and tokens.is_end(end) and not tokens.is_end(plain)
    assert tokens.decode([*ids, end, plain]) == TEXT + "<plain>"
    assert tokens.decode(tokens.encode("🦊")[:2]).endswith("\ufffd")
    assert tokens.piece(10_000) == b""


@pytest.mark.parametrize("prefix", [True, False])
def test_sentence_piece_keeps_spaces_between_tokens(folder: OnnxFolder, tmp_path: Path, prefix: bool) -> None:
    tokens = loaded(folder, sentence_piece(prefix=prefix), tmp_path / "t.json")
    ids = tokens.encode(TEXT)
    assert b"".join(map(tokens.piece, ids)) == (" " if prefix else "").encode() + TEXT.encode()
    assert tokens.decode(tokens.encode_onwards("there")) == "there"
    assert tokens.decode(tokens.encode_onwards(" there")) == " there"
    assert tokens.decode([*tokens.encode("Hello"), *tokens.encode_onwards("there")]).endswith("Hellothere")


def test_ends_come_from_the_configs_and_the_text(folder: OnnxFolder, tmp_path: Path) -> None:
    tokens = loaded(folder, byte_level(), tmp_path / "t.json", ends=(5, 9))
    assert [t for t in range(310) if tokens.is_end(t)] == [5, 9, *tokens.encode("<|im_end|>")]
