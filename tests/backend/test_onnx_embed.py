"""Vectors of texts from ONNX graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
pytest.importorskip("jinja2")

from cultev.backend.onnx import OnnxBackend  # noqa: E402
from cultev.backend.types import Continuation, EngineSettings, GenerateRequest, ScoreRequest  # noqa: E402
from cultev.errors import ModelUnsupported  # noqa: E402
from tests.backend.onnx_models import Spec, make_embedder, make_folder  # noqa: E402

TEXTS = ["abc", "hello there, you", "abc", "x", "some longer words? no."]


def alone(path: Path, ids: list[int], output: str) -> np.ndarray:
    """What the graph gives for one text."""
    session = onnxruntime.InferenceSession(str(path / "model.onnx"), providers=["CPUExecutionProvider"])
    feeds = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
    feeds["token_type_ids"] = np.zeros((1, len(ids)), np.int64)
    (given,) = session.run([output], feeds)
    return np.asarray(given[0])


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("pooled", [False, True])
def test_an_embedding_model_embeds(tmp_path: Path, pooled: bool, strict: bool) -> None:
    path = make_embedder(tmp_path / "m", pooled=pooled)
    backend = OnnxBackend(path, EngineSettings(strict=strict))
    vectors = backend.embed(TEXTS)
    assert vectors.shape == (5, 24) and vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-6)
    for text, vector in zip(TEXTS, vectors, strict=True):
        ids = backend._tokens.encode_whole(text)
        assert len(ids) == len(text) + 1  # the tokenizer's own BOS
        given = alone(path, ids, "sentence_embedding" if pooled else "last_hidden_state")
        mean = given if pooled else given.mean(axis=0)
        assert vector == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


def test_an_embedding_model_says_what_it_can_not_do(tmp_path: Path) -> None:
    backend = OnnxBackend(make_embedder(tmp_path / "m"))
    assert backend.info.n_vocab == 48 and "embeds" in backend.info.extra["reuse"]
    with pytest.raises(ModelUnsupported, match="only embeds"):
        list(backend.score([ScoreRequest("a", (1, 2), (Continuation("x", (1,)),))]))
    with pytest.raises(ModelUnsupported, match="only embeds"):
        list(backend.generate([GenerateRequest("a", (1, 2), 3)]))
    with pytest.raises(ModelUnsupported, match="only embeds"):
        backend.raw_prompt_rate()


def test_a_decoder_embeds_where_it_gives_hidden_states(tmp_path: Path) -> None:
    backend = OnnxBackend(make_folder(tmp_path / "m", Spec(hidden=True)))
    vectors = backend.embed(TEXTS)
    singles = np.concatenate([backend.embed([text]) for text in TEXTS])
    assert vectors == pytest.approx(singles, abs=1e-5)
    assert vectors[0] == pytest.approx(vectors[2], abs=1e-6)
    assert abs(float(vectors[0] @ vectors[1])) < 0.999
    plain = OnnxBackend(make_folder(tmp_path / "plain"))
    with pytest.raises(ModelUnsupported, match="hidden states"):
        plain.embed(TEXTS)
