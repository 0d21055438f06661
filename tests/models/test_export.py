"""Exports of tiny random models say what torch says; what can't be exported is refused in one sentence."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("tokenizers")

from cultev.errors import MissingExtra, ModelNotFound, ModelUnsupported, NotAModel, UsageError
from cultev.models import export
from cultev.models.export import check_source, export_folder
from tests.backend.onnx_models import make_tokenizer

needs_optimum = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("torch", "transformers", "optimum", "onnxruntime", "onnx_ir"))),
    reason="the export extra is not installed",
)


def make_source(folder: Path, kind: str) -> Path:
    """A random model of two layers as Hugging Face folders hold them."""
    import torch
    import transformers

    torch.manual_seed(0)
    classes: dict[str, Any] = {
        "llama": transformers.LlamaConfig,
        "qwen2": transformers.Qwen2Config,
        "gemma": transformers.GemmaConfig,
    }
    more = {"head_dim": 32} if kind == "gemma" else {}
    config = classes[kind](
        vocab_size=2048, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=kind != "llama", **more,
    )  # fmt: skip
    model: Any = transformers.AutoModelForCausalLM.from_config(config)
    for weight in model.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    folder.mkdir(parents=True)
    model.save_pretrained(str(folder))
    make_tokenizer(folder / "tokenizer.json")
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}", encoding="utf-8")
    return folder


@needs_optimum
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "to"), [("llama", "fp32"), ("qwen2", "fp16"), ("gemma", "int8"), ("llama", "int4")])
def test_an_export_says_what_torch_says(kind: str, to: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from cultev.backend.load import open_backend
    from cultev.backend.onnx_folder import read_folder

    source = make_source(tmp_path / kind, kind)
    capfd.readouterr()
    said: list[str] = []
    found = export_folder(source, tmp_path / "out", to, say=said.append)
    assert capfd.readouterr() == ("", "")  # torch and optimum talk much
    assert said[0] == "exporting the graph" and said[-1] == "comparing with torch"
    most = {"fp32": 1e-4, "fp16": 0.05, "int8": 0.5, "int4": 4.0}[to]
    assert 0 < found.logits_difference < most < found.largest_logit
    assert found.prompt_tokens > 20 and found.same_top_token > (0.95 if to in ("fp32", "fp16") else 0.3)
    folder = read_folder(tmp_path / "out")
    assert folder.template == "{{ messages[0].content }}" and folder.quantization == to
    assert (tmp_path / "out" / "config.json").read_bytes() == (source / "config.json").read_bytes()
    assert not list(tmp_path.glob("*.part"))
    backend: Any = open_backend(tmp_path / "out")
    try:
        assert backend.info.architecture == kind
    finally:
        backend.close()


@needs_optimum
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_architecture_that_optimum_lacks(tmp_path: Path) -> None:
    source = make_source(tmp_path / "m", "llama")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "model_type": "nosuch"}))
    with pytest.raises(ModelUnsupported, match="'nosuch'"):
        export_folder(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_is_no_hugging_face_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound) as hub:
        check_source("owner/name")
    assert "cultev models pull owner/name" in hub.value.next_step
    with pytest.raises(ModelNotFound) as path:
        check_source(tmp_path / "no" / "such")
    assert "pull" not in path.value.next_step
    with pytest.raises(NotAModel, match=r"config\.json"):
        check_source(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(NotAModel, match="no weights"):
        check_source(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(NotAModel, match=r"tokenizer\.json"):
        check_source(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(NotAModel, match="no valid JSON"):
        check_source(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(NotAModel, match="what kind"):
        check_source(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert check_source(tmp_path) == tmp_path


def test_refusals_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="q4_k_m"):
        export_folder(tmp_path, tmp_path / "out", "q4_k_m")
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        export_folder(tmp_path, tmp_path / "out")
    assert "cultev[export]" in caught.value.next_step
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: True)
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        export_folder(tmp_path, tmp_path / "out")
