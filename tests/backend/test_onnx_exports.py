"""Graphs as optimum exports them, of tiny random models: the real operators, names and shapes."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
pytest.importorskip("jinja2")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("optimum.exporters.onnx")

from cultev.backend.onnx import OnnxBackend  # noqa: E402
from cultev.backend.types import EngineSettings  # noqa: E402
from tests.backend.onnx_models import make_tokenizer  # noqa: E402
from tests.backend.test_onnx import answers, assert_close, expected, questions  # noqa: E402
from tests.backend.test_onnx_generate import generated, naive, requests  # noqa: E402

SIZES: dict[str, Any] = dict(
    vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.3, eos_token_id=33, bos_token_id=32,
)  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("Llama", SIZES, "any length"),
    "qwen2": ("Qwen2", SIZES, "any length"),
    "gemma2": ("Gemma2", {**SIZES, "head_dim": 8, "sliding_window": 16}, "equally long"),
    "gpt2": (
        "GPT2",
        dict(vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=256, initializer_range=0.3,
             eos_token_id=33, bos_token_id=32),
        "any length",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_exports_answer_as_whole_sequences(tmp_path: Path, kind: str) -> None:
    from optimum.exporters.onnx import main_export

    name, sizes, reuse = KINDS[kind]
    torch.manual_seed(0)
    head = "LMHeadModel" if name == "GPT2" else "ForCausalLM"
    model = getattr(transformers, name + head)(getattr(transformers, f"{name}Config")(**sizes))
    source, path = tmp_path / "source", tmp_path / kind
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            model.eval().save_pretrained(source)
            main_export(str(source), path, task="text-generation-with-past", do_validation=False)
        finally:
            logging.disable(logging.NOTSET)
    make_tokenizer(path / "tokenizer.json")
    assert json.loads((path / "config.json").read_text())["model_type"] == kind
    backend = OnnxBackend(path, EngineSettings(parallel=4, threads=1))
    assert reuse in backend.info.extra["reuse"]
    asked = questions(n=6)
    assert_close(answers(backend, asked), expected(path, asked))
    texts = requests(n=6)
    found = generated(backend, texts)
    for r in texts:
        assert list(found[r.key].tokens) == naive(path, r, 33)
