"""Random requests for the GGUF engine's tests, and what is compared of their answers."""

from __future__ import annotations

import random
from collections.abc import Container, Sequence

from cultev.backend.llama import LlamaBackend
from cultev.backend.types import (
    Continuation,
    FollowUp,
    GenerateRequest,
    GenerateResult,
    ScoreRequest,
    ScoreResult,
)

OPTIONS = (Continuation("a", (1,)), Continuation("b", (2, 3, 4)), Continuation("c", (2, 3)))


def requests(n: int = 30, seed: int = 1, head: int = 20, longest: int = 40, options: int = 4) -> list[ScoreRequest]:
    """Questions that share a head of ``head`` tokens."""
    generator = random.Random(seed)
    start = [generator.randrange(200) for _ in range(head)]
    return [
        ScoreRequest(
            f"{seed}-{i}",
            (*start, *(generator.randrange(200) for _ in range(generator.randrange(1, longest)))),
            tuple(
                Continuation("abc", tuple(generator.randrange(200) for _ in range(generator.randrange(1, 9))))
                for _ in range(options)
            ),
        )
        for i in range(n)
    ]


def parting(shared: Sequence[int], length: int = 200, seed: int = 9) -> list[tuple[int, ...]]:
    """Prompts of ``length`` tokens that begin as one does, each for so many tokens."""
    generator = random.Random(seed)
    whole = [generator.randrange(200) for _ in range(length)]
    return [(*whole[:n], *(generator.randrange(200) for _ in range(length - n))) for n in shared]


def texts(n: int = 20, seed: int = 1, head: int = 20, **more: object) -> list[GenerateRequest]:
    """Prompts that share a head, some of them a question too; each with a follow-up."""
    generator = random.Random(seed)
    start = [generator.randrange(200) for _ in range(head)]
    questions = [[generator.randrange(200) for _ in range(generator.randrange(3, 40))] for _ in range(1 + n // 3)]
    follow = FollowUp((5, 6), OPTIONS)
    return [
        GenerateRequest(
            f"{seed}-{i}",
            (
                *start,
                *generator.choice(questions),
                *(generator.randrange(200) for _ in range(generator.randrange(1, 5))),
            ),
            generator.randrange(1, 20),
            **{"follow_up": follow, **more},  # type: ignore[arg-type]
        )
        for i in range(n)
    ]


def scores(
    backend: LlamaBackend, some: Sequence[ScoreRequest], skip: Container[str] = frozenset()
) -> dict[str, ScoreResult]:
    """Each request's result."""
    return {r.key: r for batch in backend.score(some, skip=skip) for r in batch}


def generated(backend: LlamaBackend, some: Sequence[GenerateRequest]) -> dict[str, GenerateResult]:
    """Each request's result."""
    found = [r for batch in backend.generate(some) for r in batch]
    assert sorted(r.key for r in found) == sorted(r.key for r in some)
    return {r.key: r for r in found}
