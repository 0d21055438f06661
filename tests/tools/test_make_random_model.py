"""The random-model maker: sizes of real models, a tokenizer that works, the same file twice."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cultev.backend.gguf_read import read_gguf

pytest.importorskip("gguf")
pytest.importorskip("tokenizers")

ROOT = Path(__file__).parents[2]
TEXT = ["It is polite to greet the elders first. ", "Пожалуйста, снимите обувь. ", "请先向长辈问好。"] * 3
WORDS = [f" {a}o{b}" for a in "bdfgklmnpr" for b in "bdgklmnprt"] * 2


def load() -> ModuleType:
    """The tool as a module; tools/ is no package."""
    name = "make_random_model"
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


tool = load()


@pytest.mark.parametrize(
    ("shape", "n_params"),
    [("qwen2.5-0.5b", 494_032_768), ("smollm2-135m", 134_515_008), ("tinyllama-1.1b", 1_100_048_384)],
)
def test_shapes_have_the_published_number_of_weights(shape: str, n_params: int) -> None:
    assert tool.SHAPES[shape].n_params == n_params


def test_vocabulary_has_exactly_the_size_asked_and_every_merge_makes_a_token() -> None:
    tokens, merges = tool.make_vocabulary(TEXT + WORDS, 2_000, seed=1)
    assert len(tokens) == len(set(tokens)) == 2_000
    assert tuple(tokens[-3:]) == tool.SPECIAL
    known = set(tokens)
    for merge in merges:
        left, right = merge.split(" ")
        assert {left, right, left + right} <= known
    assert len(merges) == 2_000 - 256 - 3


def test_made_up_merges_leave_text_alone() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    def count(n_vocab: int) -> int:
        tokens, merges = tool.make_vocabulary(TEXT + WORDS, n_vocab, seed=1)
        ids = {token: k for k, token in enumerate(tokens)}
        model = models.BPE(ids, [tuple(merge.split(" ")) for merge in merges])
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return len(tokenizer.encode("".join(TEXT)).ids)

    assert count(1_000) == count(3_000)


def test_too_little_text_is_refused() -> None:
    with pytest.raises(ValueError, match="too little text"):
        tool.make_vocabulary(["one two", "one two"], 100_000, seed=0)


def test_too_small_a_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 259"):
        tool.make_vocabulary(TEXT, 200, seed=0)


def test_the_quantized_model_loads_decodes_and_is_the_same_twice(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    first, second = tmp_path / "a.gguf", tmp_path / "b.gguf"
    for path, threads in ((first, 1), (second, 2)):
        tool.make_model(path, "tiny-llama", "q4_k_m", seed=3, threads=threads)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gguf", "b.gguf"]
    header = read_gguf(first)
    assert header.quantization == "Q4_K_M"
    assert header.n_params == tool.SHAPES["tiny-llama"].n_params
    found = tool.probe(first, "Is it polite to arrive an hour late when a friend invites you to dinner?")
    assert 2 < found["characters a token"] < 6
    assert 1 < found["deviation of the logits"] < 10
    assert found["largest probability"] < 0.99


def test_f16_needs_no_quantizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "run_quantizer", None)
    said: list[str] = []
    path = tmp_path / "deep" / "f16.gguf"
    tool.make_model(path, "tiny-llama", "f16", say=said.append)
    assert read_gguf(path).quantization == "F16"
    assert said and said[0].startswith("2,")


def test_a_failed_quantization_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llama_cpp")

    def fail(source: Path, target: Path, quant: str, *, threads: int) -> None:
        target.write_bytes(b"half")
        raise RuntimeError("no")

    monkeypatch.setattr(tool, "run_quantizer", fail)
    with pytest.raises(RuntimeError, match="no"):
        tool.make_model(tmp_path / "out.gguf", "tiny-llama", "q4_0")
    assert not list(tmp_path.iterdir())
