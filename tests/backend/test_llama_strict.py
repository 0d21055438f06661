"""Strict mode: an answer depends on its own request alone, to the bit."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from cultev.backend.llama import LlamaBackend
from cultev.backend.types import (
    EngineSettings,
    FollowUp,
    GenerateRequest,
    GenerateResult,
    ScoreRequest,
    ScoreResult,
)
from tests.backend.gguf_models import quantize, write_tiny_gguf
from tests.backend.llama_requests import OPTIONS, generated, parting, requests, scores, texts

pytest.importorskip("llama_cpp")

MODELS = (
    "llama", "qwen2", "gemma2", "olmoe", "mamba", "mamba2", "jamba", "qwen35", "lfm2",
    "llama Q4_0", "llama Q8_0", "llama Q4_K_M", "gemma2 Q8_0", "jamba Q8_0",
)  # fmt: skip
"""Architecture, and what its matrices are quantized to."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("strict")

    @cache
    def make(name: str) -> Path:
        architecture, _, kind = name.partition(" ")
        path = folder / f"{name}.gguf"
        write_tiny_gguf(path, architecture=architecture, embd=256 if kind else 64)  # what k-quants need
        return quantize(path, folder / f"{name}.quantized.gguf", kind) if kind else path

    return make


def strict(path: Path, **more: object) -> LlamaBackend:
    return LlamaBackend(path, EngineSettings(threads=1, strict=True, **more))  # type: ignore[arg-type]


PARTED = parting((0, 65, 70, 100, 127, 129, 150))
"""Prompts that part within a slice, with whole slices after: going on from where they part would cut others."""

QUESTIONS = [
    *requests(4, seed=1, head=70, longest=90),
    *requests(3, seed=2, head=1, longest=140),
    *(ScoreRequest(f"parted-{i}", prompt, OPTIONS) for i, prompt in enumerate(PARTED)),
]
TEXTS = [
    *texts(3, seed=1, head=70, stop=("th", "e")),
    *texts(2, seed=2, head=140),
    *texts(2, seed=3, head=5, temperature=0.9),
    *(GenerateRequest(f"parted-{i}", p, 4, follow_up=FollowUp((5,), OPTIONS)) for i, p in enumerate(PARTED[1:5])),
]


def answers(engine: LlamaBackend, seed: int) -> tuple[dict[str, ScoreResult], dict[str, GenerateResult]]:
    """Some of the questions and texts, which and in which order by ``seed``."""
    pick = random.Random(seed)
    some = pick.sample(QUESTIONS, pick.randrange(1, len(QUESTIONS) + 1))
    prompts = pick.sample(TEXTS, pick.randrange(1, len(TEXTS) + 1))
    if seed % 2:
        told = generated(engine, prompts)
        return scores(engine, some), told
    return scores(engine, some), generated(engine, prompts)


@pytest.mark.parametrize("name", MODELS)
def test_answers_depend_on_their_own_request_alone(name: str, model: Callable[[str], Path]) -> None:
    path = model(name)
    engine = strict(path)
    expected = {r.key: scores(engine, [r])[r.key] for r in QUESTIONS}
    texts_ = {r.key: generated(engine, [r])[r.key] for r in TEXTS}
    assert len({r.tokens for r in texts_.values()}) > 1
    for seed in range(4):
        if seed == 2:  # a fresh one, too
            engine.close()
            engine = strict(path)
        found, told = answers(engine, seed)
        assert all(found[key] == expected[key] for key in found)
        assert all(told[key] == texts_[key] for key in told)
    engine.close()


@pytest.mark.parametrize("way", ["restore", "recompute"])
@pytest.mark.parametrize("name", ["llama", "jamba"])
def test_the_other_ways_are_as_strict(name: str, way: str, model: Callable[[str], Path]) -> None:
    engine = strict(model(name), reuse=way)
    expected = {r.key: scores(engine, [r])[r.key] for r in QUESTIONS}
    texts_ = {r.key: generated(engine, [r])[r.key] for r in TEXTS}
    found, told = answers(engine, 5)
    assert all(found[key] == expected[key] for key in found)
    assert all(told[key] == texts_[key] for key in told)
    engine.close()


def test_a_small_batch_leaves_slices_whole(model: Callable[[str], Path]) -> None:
    path = model("llama")
    small, large = strict(path, batch=16), strict(path)
    assert generated(small, TEXTS) == generated(large, TEXTS)
    assert set(scores(small, QUESTIONS)) == {r.key for r in QUESTIONS}
    small.close()
    large.close()


def test_without_it_what_runs_beside_shows(model: Callable[[str], Path]) -> None:
    """Why there is a strict mode, and that the tests above could fail."""
    engine = LlamaBackend(model("llama Q4_K_M"), EngineSettings(threads=2))
    alone = {r.key: scores(engine, [r])[r.key] for r in QUESTIONS}
    assert scores(engine, QUESTIONS) != alone
    engine.close()
