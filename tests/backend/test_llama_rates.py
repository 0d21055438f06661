"""The engine's own rates are measured on what our texts would have in the cache, no more and no less."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cultev.backend.llama import LlamaBackend
from cultev.backend.llama_context import LlamaContext
from cultev.backend.llama_rates import decode_rate, prompt_rate
from cultev.backend.prefix import build_tree
from cultev.backend.types import EngineSettings, GenerateRequest, ScoreRequest
from tests.backend.gguf_models import write_tiny_gguf


class Recorder:
    """Stands for a LlamaContext: keeps what its sequences hold, and counts cells."""

    batch = 16

    def __init__(self) -> None:
        self.held: dict[int, list[int]] = {}
        self.steps: list[list[int]] = []
        self.cells = 0

    def clear(self, *, data: bool = False) -> None:
        self.held, self.cells = {}, 0

    def copy(self, source: int, target: int, length: int = -1) -> None:
        assert target not in self.held
        self.held[target] = list(self.held.get(source, []))

    def decode(
        self, tokens: Sequence[int], positions: Sequence[int], sequences: Sequence[Sequence[int]], asked: Sequence[bool]
    ) -> Any:
        assert 0 < len(tokens) <= self.batch
        if all(asked):
            self.steps.append([len(self.held[s]) for (s,) in sequences])
        for token, position, (sequence,) in zip(tokens, positions, sequences, strict=True):
            assert position == len(self.held.setdefault(sequence, []))
            self.held[sequence].append(token)
        self.cells += len(tokens)
        return np.empty((sum(asked), 4), np.float32)


def prompts(seed: int, n: int = 12) -> list[tuple[int, ...]]:
    """With nested heads, one of them whole prompts too, and twins."""
    pick = random.Random(seed)
    head = tuple(pick.randrange(9) for _ in range(20))
    found = []
    for _ in range(n):
        start = head[: pick.choice([5, 12, 20, 20])]
        found.append((*start, *(pick.randrange(9) for _ in range(pick.randrange(1, 20)))))
    return [*found, found[0], found[0], head, found[1][:-1]]


def cells(some: Sequence[tuple[int, ...]]) -> int:
    """Those that are needed where prefixes are shared, each text with a last token of its own."""
    tree = build_tree([ScoreRequest(str(i), (*p[:-1], 100 + i), ()) for i, p in enumerate(some)], 0)
    return len(tree.tokens)


@pytest.mark.parametrize("seed", range(6))
def test_what_prompts_share_lies_in_the_cache_once(seed: int) -> None:
    some = prompts(seed)
    for shared, expected in ((True, cells(some)), (False, sum(map(len, some)))):
        context: Any = Recorder()
        assert decode_rate(context, some, 3, 9, shared=shared) > 0
        assert [tuple(context.held[i][:-3]) for i in range(len(some))] == some
        assert context.steps == [[len(p) + step for p in some] for step in range(3)]
        assert context.cells == expected + 3 * len(some)


@pytest.mark.parametrize(("architecture", "way"), [("llama", "copy"), ("jamba", "restore"), ("llama", "recompute")])
def test_ours_and_the_engine_own_attend_to_as_many_cells(
    architecture: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", architecture=architecture)
    some = prompts(1)
    counted = [0]
    decode = LlamaContext.decode

    def counting(self: LlamaContext, tokens: Sequence[int], *rest: Any) -> Any:
        counted[0] += len(tokens)
        return decode(self, tokens, *rest)

    engine = LlamaBackend(path, EngineSettings(threads=1, reuse=way))
    monkeypatch.setattr(LlamaContext, "decode", counting)
    for _ in engine.generate([GenerateRequest(str(i), p, 1) for i, p in enumerate(some)]):
        pass
    ours, counted[0] = counted[0], 0
    engine.raw_decode_rate(some, 1)
    engine.close()
    raw = counted[0] - len(some)
    # What fewer than TRUNK_GAIN tokens save is shared there and not by us, which makes us no faster.
    assert raw <= ours <= raw + 4 * len(some)
    if way == "recompute":
        assert raw == sum(map(len, some))


@pytest.mark.parametrize(("share", "n", "asked"), [(0.0, 100, 1), (0.25, 128, 32), (0.8, 115, 92), (1.0, 114, 114)])
def test_a_plain_prompt_asks_for_as_many_logits_as_it_is_told(share: float, n: int, asked: int) -> None:
    calls = _calls_of_a_prompt(share, cells=256)
    assert sum(tokens for tokens, _ in calls) == n
    assert abs(sum(wanted for _, wanted in calls) - asked) <= 1
    assert all(tokens <= 64 and wanted <= 20 for tokens, wanted in calls)
    if share:
        assert len({tokens for tokens, _ in calls}) == 1  # no small last call, which would be slow


def test_a_plain_prompt_of_whole_calls_keeps_within_the_cache() -> None:
    assert sum(tokens for tokens, _ in _calls_of_a_prompt(0.8, cells=100)) == 92
    assert sum(tokens for tokens, _ in _calls_of_a_prompt(0.25, cells=100)) == 64


def _calls_of_a_prompt(share: float, cells: int) -> list[tuple[int, int]]:
    """(tokens, logits asked for) of each decode call that a plain prompt of 100 tokens makes."""
    calls: list[tuple[int, int]] = []

    class Context:
        batch, outputs = 64, 20

        def clear(self) -> None: ...

        def decode(self, tokens: Any, positions: Any, ids: Any, wanted: Sequence[bool]) -> None:
            calls.append((len(tokens), sum(wanted)))

    context = Context()
    context.cells = cells  # type: ignore[attr-defined]
    assert prompt_rate(cast(LlamaContext, context), 100, 9, read_share=share) > 0
    return calls
