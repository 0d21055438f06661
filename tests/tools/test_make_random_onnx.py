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
from cultev.backend.types import EngineSettings, GenerateRequest
from tools.make_random_model import SHAPES
from tools.make_random_onnx import write_graph, write_tokenizer


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
