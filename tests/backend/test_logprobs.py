"""Log-probabilities out of logits: the right numbers at any scale, the same ones by any number of threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from cultev.backend.llama import LlamaBackend
from cultev.backend.logprobs import THREAD_ROWS, gather_logprobs, require_finite
from cultev.backend.onnx import OnnxBackend
from cultev.backend.types import Continuation, EngineSettings, ScoreRequest
from cultev.errors import EngineError
from tests.backend.gguf_models import write_tiny_gguf
from tests.backend.onnx_models import make_folder

WORDS = 3001


def expected(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.longdouble)
    top = wide.max(axis=1, keepdims=True)
    return wide - top - np.log(np.exp(wide - top).sum(axis=1, keepdims=True))


def everything(logits: np.ndarray, threads: int = 1) -> np.ndarray:
    n = len(logits)
    rows, tokens = np.repeat(np.arange(n), WORDS), np.tile(np.arange(WORDS), n)
    return gather_logprobs(logits, rows, tokens, threads=threads).reshape(n, WORDS)


@pytest.mark.parametrize(
    "level", [-2000.0, -120.0, -105.0, -101.0, -95.0, -88.0, -60.0, 0.0, 60.0, 80.0, 85.0, 95.0, 3000.0]
)
@pytest.mark.parametrize("spread", [0.01, 3.0, 40.0])
def test_logits_of_any_height(level: float, spread: float) -> None:
    draw = np.random.default_rng(0)
    logits = (level + spread * draw.standard_normal((4, WORDS))).astype(np.float32)
    assert np.allclose(everything(logits), expected(logits).astype(float), rtol=0, atol=2e-6)


def test_rows_of_unlike_heights_do_not_touch_each_other() -> None:
    draw = np.random.default_rng(1)
    logits = draw.standard_normal((3, WORDS)).astype(np.float32)
    logits[1] += 500
    alone = [everything(logits[i : i + 1])[0] for i in range(3)]
    assert np.array_equal(everything(logits), np.stack(alone))


@pytest.mark.parametrize("n", [0, 1, THREAD_ROWS, 2 * THREAD_ROWS, 5 * THREAD_ROWS + 3])
@pytest.mark.parametrize("threads", [2, 3, 16])
def test_threads_change_no_bit(n: int, threads: int) -> None:
    logits = np.random.default_rng(2).standard_normal((n, WORDS)).astype(np.float32)
    assert np.array_equal(everything(logits), everything(logits, threads))


def test_rows_are_shared_out_over_as_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []

    class Pool:
        def submit(self, work: Callable[..., np.ndarray], part: np.ndarray) -> Future[np.ndarray]:
            rows.append(len(part))
            done: Future[np.ndarray] = Future()
            done.set_result(work(part))
            return done

    monkeypatch.setattr("cultev.backend.logprobs._pool", Pool)
    logits = np.zeros((4 * THREAD_ROWS, WORDS), np.float32)
    everything(logits, threads=4)
    assert rows == [THREAD_ROWS] * 3  # the first part is this thread's own
    rows.clear()
    everything(logits, threads=1)
    everything(logits[: 2 * THREAD_ROWS - 1], threads=4)
    assert rows == []


@pytest.mark.parametrize("threads", [1, 3])
def test_engines_share_out_over_their_own_threads(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()

    def counting(*args: np.ndarray, threads: int = 1) -> np.ndarray:
        seen.add(threads)
        return gather_logprobs(*args, threads=threads)

    monkeypatch.setattr("cultev.backend.llama_reuse.gather_logprobs", counting)
    monkeypatch.setattr("cultev.backend.onnx_tree.gather_logprobs", counting)
    request = ScoreRequest("a", (1, 2, 3), (Continuation("x", (4, 5)), Continuation("y", (6,))))
    settings = EngineSettings(threads=threads)
    for engine in (
        LlamaBackend(write_tiny_gguf(tmp_path / "tiny.gguf"), settings),
        OnnxBackend(make_folder(tmp_path / "onnx"), settings),
    ):
        seen.clear()
        assert [len(batch) for batch in engine.score([request])] == [1]
        assert seen == {threads}
        engine.close()


def test_words_ruled_out_are_minus_infinity_and_move_nothing() -> None:
    logits = np.zeros((1, WORDS), np.float32)
    logits[0, 2:] = -np.inf
    found = everything(logits)[0]
    assert found[:2] == pytest.approx(-np.log(2))
    assert np.all(np.isneginf(found[2:]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_stay_none(bad: float) -> None:
    logits = np.zeros((1, WORDS), np.float32)
    logits[0, 5] = bad
    with pytest.raises(EngineError, match="finite"):
        require_finite(everything(logits)[0])


def test_what_asks_nothing_has_no_score_and_ends_nothing(tmp_path: Path) -> None:
    asked = (Continuation("x", (4, 5)),)
    some = [
        ScoreRequest("empty", (), asked), ScoreRequest("sound", (1, 2), asked),
        ScoreRequest("nothing", (1, 2), (*asked, Continuation("", ()))),
    ]  # fmt: skip
    for strict in (False, True):
        settings = EngineSettings(threads=1, strict=strict)
        for engine in (
            LlamaBackend(write_tiny_gguf(tmp_path / "tiny.gguf"), settings),
            OnnxBackend(make_folder(tmp_path / "onnx"), settings),
        ):
            found = {r.key: r for batch in engine.score(some) for r in batch}
            engine.close()
            assert {key: r.error for key, r in found.items()} == {
                "empty": "the prompt is empty", "nothing": "a continuation is empty", "sound": "",
            }  # fmt: skip
            assert found["sound"].scores[0].logprob < 0
