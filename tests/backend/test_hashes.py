"""A model file is hashed once a run, by whichever process comes first, and again when it has changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cultev.backend import hashes
from cultev.backend.load import identify, open_knowing
from cultev.backend.types import EngineSettings
from tests.backend.gguf_models import write_tiny_gguf
from tests.backend.onnx_models import Spec, make_folder


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "_known", {})


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("format", ["gguf", "onnx"])
def test_what_is_known_is_not_computed_again(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip({"gguf": "llama_cpp", "onnx": "onnxruntime"}[format])
    path = write_tiny_gguf(tmp_path / "m.gguf") if format == "gguf" else make_folder(tmp_path / "m", Spec())
    true = identify(path)
    known = hashes.known()
    assert list(known.values()) == [true]
    monkeypatch.setattr(hashes, "_known", {})
    said = {seen: "ab" * 32 for seen in known}
    engine = open_knowing(path, said, EngineSettings(threads=1))
    engine.close()
    assert engine.info.sha256 == "ab" * 32  # what it was told, and nothing of its own
    file = path if path.is_file() else next(path.glob("*.onnx"))
    os.utime(file, ns=(1, 1))
    assert identify(path) == true


@pytest.mark.usefixtures("forgetful")
def test_what_lies_beside_a_file_counts(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("a")
    assert hashes.once([file], lambda: "1", b"x") == "1" == hashes.once([file], lambda: "2", b"x")
    assert hashes.once([file], lambda: "3", b"y") == "3"
    with pytest.raises(FileNotFoundError):
        hashes.once([tmp_path / "none"], lambda: "4")
