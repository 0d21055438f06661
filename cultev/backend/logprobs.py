"""Log-probabilities out of logits, and from tree nodes back to continuations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cultev.backend.prefix import TokenTree
from cultev.backend.sequences import Wanted
from cultev.backend.types import Continuation, ContinuationScore, ScoreRequest
from cultev.errors import EngineError

LOGITS_BUDGET = 128 * 2**20
"""Bytes of logits that one pack may ask for; bounds ``Limits.reads`` for large vocabularies."""


THREAD_ROWS = 8
"""Rows that each thread has at least: fewer are done before a thread has woken."""

SMALLEST, LARGEST = 1e-12, 1e30
"""Between these a float32 sum of exponentials has lost nothing that counts, of up to a million words."""


def logits_limit(n_vocab: int) -> int:
    """How many float32 rows of logits fit the budget: between 32 and 512."""
    return max(32, min(512, LOGITS_BUDGET // (4 * max(1, n_vocab))))


def gather_logprobs(
    logits: NDArray[np.float32], rows: NDArray[np.intp], tokens: NDArray[np.intp], *, threads: int = 1
) -> NDArray[np.float64]:
    """Log-softmax of ``logits`` (rows x vocabulary) at (rows[i], tokens[i]), without building it whole.

    Every row is summed by itself, in float32 and pairwise, hence independent of how many rows and threads there are.
    Over 152,000 words it took 2.4 % of a run of long answers when one thread subtracted each row's maximum first.
    """
    bounds = np.linspace(0, len(logits), max(1, min(threads, len(logits) // THREAD_ROWS)) + 1).astype(int)
    jobs = [_pool().submit(_normalisers, logits[low:high]) for low, high in pairwise(bounds[1:])]
    normaliser = np.concatenate([_normalisers(logits[: bounds[1]]), *(job.result() for job in jobs)])
    result: NDArray[np.float64] = logits[rows, tokens].astype(np.float64) - normaliser[rows]
    return result


def _normalisers(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log of the sum of each row's exponentials.

    Taken as they are, which saves two passes over the row; where they leave float32's range, less the row's maximum.
    """
    found = np.empty(len(logits), dtype=np.float64)
    room = np.empty(logits.shape[1], dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for i, row in enumerate(logits):
            total = np.exp(row, out=room).sum(dtype=np.float32)
            if SMALLEST < total < LARGEST:
                found[i] = np.log(np.float64(total))
            else:  # NaN comes here too, and stays NaN
                top = row.max()
                np.exp(np.subtract(row, top, out=room), out=room)
                found[i] = top + np.log(np.float64(room.sum(dtype=np.float32)))
    return found


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="logprobs")


def require_finite(logprobs: NDArray[np.float64]) -> None:
    """Refuse scores that are no numbers.

    Raises:
        EngineError: one is NaN or infinite.
    """
    if not np.isfinite(logprobs).all():
        raise EngineError(
            "The model's answers are not finite numbers (NaN or infinity).",
            "The file may be damaged, or a half-precision export that overflows: try another quantization.",
        )


def wanted_of(requests: Sequence[ScoreRequest], tree: TokenTree) -> tuple[Wanted, list[list[list[int]]]]:
    """Each (node, token) that the requests' continuations need, once, and where: places[request][continuation]."""
    wanted: Wanted = []
    place: dict[tuple[int, int], int] = {}
    places: list[list[list[int]]] = []
    for request, rows in zip(requests, tree.reads, strict=True):
        places.append([])
        for continuation, nodes in zip(request.continuations, rows, strict=True):
            pairs = list(zip(nodes, continuation.tokens, strict=True))
            for pair in pairs:
                if pair not in place:
                    place[pair] = len(wanted)
                    wanted.append(pair)
            places[-1].append([place[pair] for pair in pairs])
    return wanted, places


def continuation_score(continuation: Continuation, logprobs: Sequence[float]) -> ContinuationScore:
    """The score of a continuation by the log-probabilities of its tokens."""
    return ContinuationScore(float(sum(logprobs)), len(continuation.tokens), continuation.n_bytes, continuation.n_chars)
