"""Where a graph computes, and what is said when that is not where it was asked to."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
pytest.importorskip("jinja2")

from cultev.backend.onnx import OnnxBackend
from cultev.backend.onnx_binding import Binding
from cultev.backend.onnx_session import CPU, CUDA, open_session, trim
from cultev.backend.types import EngineSettings
from cultev.errors import EngineError, MissingExtra
from tests.backend.onnx_models import Spec, make_folder
from tests.backend.test_onnx import answers, questions
from tests.backend.test_onnx_generate import generated, requests


def runtime(offered: list[str], works: bool | Exception) -> Any:
    """An onnxruntime of which only loading is asked."""

    def load(path: str, options: object, providers: list[str]) -> object:
        if CUDA in providers and isinstance(works, Exception):
            raise works
        return SimpleNamespace(get_providers=lambda: providers if works is True else [CPU])

    return SimpleNamespace(
        get_available_providers=lambda: offered, SessionOptions=SimpleNamespace, InferenceSession=load
    )


GRAPH = Path("model.onnx")


def test_cuda_is_chosen_where_it_is() -> None:
    both = runtime([CUDA, CPU], True)
    assert open_session(both, GRAPH, 1, "auto")[1:] == ("cuda", "")
    assert open_session(both, GRAPH, 1, "gpu")[1:] == ("cuda", "")
    assert open_session(both, GRAPH, 1, "cpu")[1:] == ("cpu", "")
    assert open_session(runtime([CPU], True), GRAPH, 1, "auto")[1:] == ("cpu", "")


@pytest.mark.parametrize("works", [False, RuntimeError("no cuDNN\nmore")])
def test_cuda_that_does_not_start_is_said(works: bool | Exception) -> None:
    broken = runtime([CUDA, CPU], works)
    opened = open_session(broken, GRAPH, 1, "auto")
    assert opened.device == "cpu" and "offers CUDA" in opened.why
    with pytest.raises(EngineError, match="The GPU can't be used"):
        open_session(broken, GRAPH, 1, "gpu")


def test_a_gpu_without_the_extra(tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match=r"cultev\[gpu\]"):
        open_session(runtime([CPU], True), GRAPH, 1, "gpu")
    assert OnnxBackend(make_folder(tmp_path / "m"), EngineSettings(device="cpu")).info.extra["device"] == "cpu"


@pytest.mark.parametrize("spec", [Spec(), Spec(positions=False), Spec(fused=True, positions=False)])
def test_memory_out_of_reach_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: Spec) -> None:
    """On a device a row can't be overwritten in place, and what is read is a copy."""
    path = make_folder(tmp_path / "m", spec)
    settings = EngineSettings(parallel=4, threads=1)
    asked = requests(n=16)
    backend = OnnxBackend(path, settings)
    texts, scores = generated(backend, asked), answers(backend, questions(n=5))
    host = Binding.host
    monkeypatch.setattr(Binding, "writable", lambda self, values: None)
    monkeypatch.setattr(Binding, "host", lambda self, value: host(self, value).copy())
    backend = OnnxBackend(path, settings)
    assert {k: r.tokens for k, r in generated(backend, asked).items()} == {k: r.tokens for k, r in texts.items()}
    assert answers(backend, questions(n=5)) == scores


def test_memory_that_loading_freed_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[int] = []
    library = SimpleNamespace(malloc_trim=trimmed.append)
    monkeypatch.setattr("cultev.backend.onnx_session.ctypes.CDLL", lambda name: library)
    monkeypatch.setattr(sys, "platform", "linux")
    trim()
    assert trimmed == [0]
    monkeypatch.setattr(sys, "platform", "darwin")
    trim()
    assert trimmed == [0], "glibc's alone"
    monkeypatch.setattr(sys, "platform", "linux")
    del library.malloc_trim  # as in musl
    trim()
