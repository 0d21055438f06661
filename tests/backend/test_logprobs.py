"""Log-probabilities out of logits: the right numbers at any scale, the same ones by any number of threads."""

from __future__ import annotations

import numpy as np
import pytest

from cultev.backend.logprobs import THREAD_ROWS, gather_logprobs, require_finite
from cultev.errors import EngineError

WORDS = 3001


def expected(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.longdouble)
    top = wide.max(axis=1, keepdims=True)
    return wide - top - np.log(np.exp(wide - top).sum(axis=1, keepdims=True))


def everything(logits: np.ndarray, threads: int = 1) -> np.ndarray:
    n = len(logits)
    rows, tokens = np.repeat(np.arange(n), WORDS), np.tile(np.arange(WORDS), n)
    return gather_logprobs(logits, rows, tokens, threads=threads).reshape(n, WORDS)


@pytest.mark.parametrize("level", [-2000.0, -120.0, -60.0, 0.0, 60.0, 80.0, 95.0, 3000.0])
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
