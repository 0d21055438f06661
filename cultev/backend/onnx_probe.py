"""Finds out by trial how rows may share a run of a graph: a way is used once proven equal to whole sequences.

Exported graphs differ in what they do with a masked gap or with several rows after a past, and nothing in
their inputs says so. A small tree with branches of unlike lengths, computed both ways, does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cultev.backend.onnx_binding import Binding
from cultev.backend.onnx_resident import Residents
from cultev.backend.onnx_tree import TreeRunner, Way
from cultev.backend.prefix import TokenTree, build_tree
from cultev.backend.sequences import Wanted
from cultev.backend.types import Continuation, ScoreRequest
from cultev.errors import EngineError

TOLERANCE = 1e-3
"""Nats that two right computations may differ in float32."""

HALF_TOLERANCE = 0.05
"""The same where keys and values are kept in float16: rounded once more than in a whole sequence."""

NOISE_FACTOR = 4.0
"""Graphs that quantize activations as they run differ with what shares a batch; this much more is allowed."""

ROUGH = 0.25
"""What such graphs may differ by at most, as a share of the spread of the log-probabilities: a last bit can tip a
rounding. What counts slots or positions wrongly differs by as much."""

SLIGHT, SINGLE_FACTOR = 0.05, 6.0
"""Hence what is allowed is less: such a share, and so many times what one row at a time differs by. That can leave no
gap and see no other branch, yet takes its sums in another order than whole sequences, and so tips roundings."""

PROBE_TOKENS = 64
"""More than the questions that are tried hold."""

GAP = 3.0
"""A number like those in keys and values. What stands in a masked gap must not matter."""


class Chosen(NamedTuple):
    """How rows are to share a run."""

    way: Way
    branches: bool
    """Whether a row may branch."""
    noise: float
    """The largest difference from whole sequences that was seen, in nats."""
    rounding: float
    """The same of what can differ by rounding only."""


def choose_way(
    make: Callable[[Way, bool], TreeRunner], ways: Sequence[Way], n_vocab: int, *, rounds: bool = False
) -> Chosen:
    """The first of ``ways`` that agrees with whole sequences; rows branch where the graph takes it and that agrees too.

    Args:
        make: a runner for a way, whose rows branch where that can be and is asked. Its context and batch must have
            room for ``PROBE_TOKENS``: rows that were cut short would prove nothing.
        ways: from the fastest; Way.WHOLE needs no mention.
        n_vocab: width of the logits.
        rounds: whether the graph quantizes activations as it runs.

    Raises:
        EngineError: the graph fails at whole sequences already, or gives no numbers.
    """
    trunk, requests = _questions(n_vocab)
    # The same questions after a trunk and without one; both trees have their leaves in the same order.
    tasks: list[_Task] = []
    for held in (trunk, ()):
        tree = build_tree(requests, len(held))
        tasks.append(_Task(held, tree, [(leaf, token) for leaf in tree.leaves for token in _picks(n_vocab)]))
    whole = make(Way.WHOLE, False)
    expected = _one_by_one(whole, tasks[0])
    noise = float(np.abs(_compute(whole, tasks[0]) - expected).max())
    half = any(np.dtype(c.dtype) == np.float16 for c in whole.binding.ports.caches)
    allowed = (HALF_TOLERANCE if half else TOLERANCE) + NOISE_FACTOR * noise

    def difference(runner: TreeRunner) -> float:
        """From whole sequences; infinite where it fails."""
        worst = 0.0
        try:
            for task in tasks:
                got = _compute(runner, task)
                if runner.way is Way.MIXED and not _ignores_gaps(runner, task, got):
                    return np.inf
                worst = max(worst, float(np.abs(got - expected).max()))
        except EngineError:
            return np.inf
        return worst

    rounding = noise
    known: dict[Way, float] = {}
    if rounds and ways:
        spread, single = float(expected.std()), difference(make(Way.SINGLE, False))
        known[Way.SINGLE] = single
        rounding = max(noise, min(single, ROUGH * spread))
        allowed += min(ROUGH * spread, SLIGHT * spread + SINGLE_FACTOR * single)
    for way in ways:
        # Without branches first: with them these few questions would be rows without a gap.
        seen = known[way] if way in known else difference(make(way, False))
        if seen > allowed:
            continue
        branching = make(way, True)
        if branching.branches and (other := difference(branching)) <= allowed:
            return Chosen(way, True, other, rounding)
        return Chosen(way, False, seen, rounding)
    return Chosen(Way.WHOLE, False, noise, rounding)


def takes_packed(binding: Binding, way: Way, n_vocab: int, n_ctx: int, *, rounds: bool = False) -> bool:
    """Whether texts of unlike lengths may grow in one run with their own pasts at the front of each row.

    Operators that count a row's mask instead of reading it (GroupQueryAttention) put a new token's keys right
    behind the row's own. ``way`` is one that the graph is known to do.
    """
    stream = [(5 + i * 7919) % n_vocab for i in range(10)]
    texts = [stream[:7], stream[4:7], stream[2:8]]
    picks = np.array(_picks(n_vocab))

    def grow(residents: Residents) -> NDArray[np.float64]:
        """The logits after two more tokens of each text, fed one by one."""
        rows = []
        for step in range(2):
            tokens = {slot: stream[8 + step] for slot in range(len(texts))}
            joining = {} if step else {slot: pieces[slot] for slot in tokens}
            got = residents.step(tokens, joining)
            rows += [np.asarray(got[slot], np.float64)[picks] for slot in tokens]
        return np.array(rows)

    runner = TreeRunner(binding, way, n_vocab=n_vocab, n_ctx=n_ctx)
    pieces = [runner.read(tuple(text)) for text in texts]
    expected = grow(Residents(binding, Way.SINGLE, packed=False, n_ctx=n_ctx))
    try:
        got = grow(Residents(binding, way, packed=True, n_ctx=n_ctx))
    except EngineError:
        return False
    allowed = HALF_TOLERANCE if any(np.dtype(c.dtype) == np.float16 for c in binding.ports.caches) else TOLERANCE
    if rounds:
        allowed += ROUGH * float(expected.std())
    return bool(np.abs(got - expected).max() <= allowed)


class _Task(NamedTuple):
    """A tree after a trunk, and what is asked of it."""

    trunk: tuple[int, ...]
    tree: TokenTree
    wanted: Wanted


def _picks(n_vocab: int) -> range:
    """Some tokens of the vocabulary."""
    return range(0, n_vocab, max(1, n_vocab // 16))


def _ignores_gaps(runner: TreeRunner, task: _Task, got: NDArray[np.float64]) -> bool:
    """Whether the answers stay when other numbers stand in the gaps."""
    runner.buffers.gap = GAP
    again = _compute(runner, task)
    runner.buffers.gap = 0.0
    return bool(np.abs(again - got).max() <= TOLERANCE / 10)


def _compute(runner: TreeRunner, task: _Task) -> NDArray[np.float64]:
    runner.hold(task.trunk)
    return runner.compute(task.tree, task.wanted)


def _one_by_one(whole: TreeRunner, task: _Task) -> NDArray[np.float64]:
    """Each leaf's path alone, from the first token: what every causal graph must get right."""
    result = np.empty(len(task.wanted))
    for leaf in task.tree.leaves:
        path = (*task.trunk, *(task.tree.tokens[n] for n in task.tree.path(leaf)))
        picks = [i for i, (node, _) in enumerate(task.wanted) if node == leaf]
        alone = build_tree([ScoreRequest("", path, (Continuation("", (0,)),))], 0)
        result[picks] = _compute(whole, _Task((), alone, [(len(path) - 1, task.wanted[i][1]) for i in picks]))
    return result


def _questions(n_vocab: int) -> tuple[tuple[int, ...], list[ScoreRequest]]:
    """A trunk and requests whose tree branches three levels deep at unlike depths."""
    stream = [(7 + i * 7919) % n_vocab for i in range(24)]
    trunk, stream = tuple(stream[:3]), stream[3:]

    def request(prompt: Sequence[int], *ends: Sequence[int]) -> ScoreRequest:
        # The last token of a continuation is asked for, not computed: 0 stands for any.
        texts = tuple(Continuation("", (*end, 0)) for end in ends)
        return ScoreRequest("", (*trunk, *prompt), texts)

    a, b, c, d, e, f, g, h, i, j, k, m, n, o, p = stream[:15]
    return trunk, [
        request([a, b, c], [d, e, f, g], [h, i, j], [h, d]),
        request([k], [m, n, o], [p, a, b, c, d, e, f, g, h, i, j, k, m, n, o, p], [p, n]),
    ]
