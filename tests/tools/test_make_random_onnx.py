"""The random ONNX model of real shape loads, and answers."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("optimum.exporters.onnx")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")

from cultev.backend.onnx import OnnxBackend
from cultev.backend.onnx_sight import BIAS, SEEN
from cultev.backend.types import Continuation, EngineSettings, GenerateRequest, ScoreRequest
from tools.make_random_model import SHAPES
from tools.make_random_onnx import ATTENTION, write_graph, write_tokenizer


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("quant", ["int8", "int4"])
def test_a_random_model_answers(tmp_path: Path, quant: str) -> None:
    shape = SHAPES["tiny-llama"]
    folder = tmp_path / "m"
    folder.mkdir()
    try:
        write_tokenizer(folder, shape, 0)
        write_graph(folder, shape, quant, 0)
    finally:
        logging.disable(logging.NOTSET)
    backend = OnnxBackend(folder, EngineSettings(threads=1))
    assert backend.info.quantization == quant and backend.info.n_vocab == shape.vocab
    assert backend.has_template
    prompt = backend.encode(backend.render([{"role": "user", "content": "Is it polite to arrive late?"}]))
    assert backend.decode(prompt).strip().startswith("user")
    (result,) = (r for batch in backend.generate([GenerateRequest("a", tuple(prompt), 5)]) for r in batch)
    assert 1 <= len(result.tokens) <= 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_fused_attention_says_the_same(tmp_path: Path) -> None:
    shape = SHAPES["tiny-llama"]
    options = [Continuation("x", tuple(range(start, start + 4))) for start in (5, 40, 90)]
    asked = [ScoreRequest(str(i), tuple(range(i, i + 20)), tuple(options)) for i in range(3)]
    found = {}
    for attention in ATTENTION:
        folder = tmp_path / attention
        folder.mkdir()
        try:
            write_tokenizer(folder, shape, 0)
            write_graph(folder, shape, "fp32", 0, attention)
        finally:
            logging.disable(logging.NOTSET)
        backend = OnnxBackend(folder, EngineSettings(threads=1))
        assert backend._binding.ports.sight == {"plain": SEEN, "fused": BIAS}[attention]
        results = {r.key: r for pack in backend.score(asked) for r in pack}
        found[attention] = [score.logprob for r in asked for score in results[r.key].scores]
    assert found["fused"] == pytest.approx(found["plain"], abs=1e-3)
    assert len({round(value, 3) for value in found["plain"]}) == 9
