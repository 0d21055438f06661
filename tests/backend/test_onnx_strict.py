"""Strict mode: the same bits whatever is asked beside a request, before it, and in whatever order."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
pytest.importorskip("jinja2")

from cultev.backend.onnx import OnnxBackend
from cultev.backend.onnx_past import cut
from cultev.backend.types import (
    Continuation,
    EngineSettings,
    FollowUp,
    GenerateRequest,
    ScoreRequest,
)
from tests.backend.onnx_models import Spec, make_folder
from tests.backend.test_onnx_generate import COUNTS, FUSED

KINDS = {
    "grouped": Spec(),
    "no-positions": Spec(positions=False),
    "fused": FUSED,
    "counts": COUNTS,
    "no-cache": Spec(cache=False),
    "last-only": Spec(last_only=True),
    "half": Spec(half=True),
    "dynamic-int8": Spec(),
}
"""Half precision and dynamic quantization are where a slice cut elsewhere shows most: every number after it moves."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    quantization = pytest.importorskip("onnxruntime.quantization")
    root = tmp_path_factory.mktemp("onnx")
    found = {name: make_folder(root / name, spec) for name, spec in KINDS.items()}
    whole = found["dynamic-int8"] / "model.onnx"
    quantization.quantize_dynamic(whole, whole.with_name("small.onnx"))
    whole.with_name("small.onnx").replace(whole)
    return found


def prompts(n: int) -> list[tuple[int, ...]]:
    """Prompts that share heads of more than one slice, one of them a head of others."""
    pick = random.Random(7)
    head = [pick.randrange(48) for _ in range(140)]
    found = [tuple(head[: pick.choice([66, 100, 130, 140])]) for _ in range(n)]
    return [p + tuple(pick.randrange(48) for _ in range(pick.randrange(0, 30))) for p in found]


def parted(shared: tuple[int, ...] = (0, 65, 70, 100, 127, 129, 150)) -> list[tuple[int, ...]]:
    """Prompts that part within a slice and go on for more than one: reading on from there would cut other slices."""
    pick = random.Random(3)
    whole = [pick.randrange(48) for _ in range(180)]
    return [(*whole[:n], *(pick.randrange(48) for _ in range(180 - n))) for n in shared]


def scored(backend: OnnxBackend, requests: list[ScoreRequest]) -> dict[str, list[str]]:
    return {r.key: [s.logprob.hex() for s in r.scores] for pack in backend.score(requests) for r in pack}


def grown(backend: OnnxBackend, requests: list[GenerateRequest]) -> dict[str, tuple[object, ...]]:
    results = [r for batch in backend.generate(requests) for r in batch]
    return {r.key: (r.tokens, r.text, r.finish, [s.logprob.hex() for s in r.scores]) for r in results}


def fresh(path: Path) -> OnnxBackend:
    return OnnxBackend(path, EngineSettings(strict=True, threads=2))


@pytest.mark.parametrize("kind", KINDS)
def test_scores_depend_on_their_request_alone(models: dict[str, Path], kind: str) -> None:
    options = [(3,), (4, 5, 6, 7), (4, 5), (9, 8)]
    continuations = tuple(Continuation("x", o) for o in options)
    requests = [ScoreRequest(f"q{i}", p, continuations[: 2 + i % 3]) for i, p in enumerate(prompts(8))]
    backend = fresh(models[kind])
    together = scored(backend, requests)
    assert scored(backend, requests[::-1]) == together
    for request in requests[::3]:
        assert scored(fresh(models[kind]), [request]) == {request.key: together[request.key]}
    assert scored(backend, requests[2:5]) == {r.key: together[r.key] for r in requests[2:5]}
    grown(backend, [GenerateRequest("between", requests[0].prompt, 3)])
    assert scored(backend, requests[4:]) == {r.key: together[r.key] for r in requests[4:]}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_held_already_decides_nothing(models: dict[str, Path], kind: str) -> None:
    continuations = (Continuation("x", (3,)), Continuation("x", (4, 5, 6, 7)), Continuation("x", (9, 8)))
    requests = [ScoreRequest(f"q{i}", p, continuations) for i, p in enumerate(parted())]
    together = scored(fresh(models[kind]), requests)
    assert together == {k: v for r in requests for k, v in scored(fresh(models[kind]), [r]).items()}


def test_slices_cut_elsewhere_would_show(models: dict[str, Path]) -> None:
    """What the test above rests on: such a graph's keys and values depend on where a prompt is cut."""
    runner = fresh(models["dynamic-int8"])._decoder()
    one, other = parted((70, 180))
    alone, after = runner.read(other), runner.read(other, cut(runner.read(one), 70))
    ends = [np.concatenate([p.arrays[-1][..., : p.n, :] for p in pieces], axis=-2) for pieces in (alone, after)]
    assert ends[0].shape == ends[1].shape and (ends[0] != ends[1]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_texts_depend_on_their_request_alone(models: dict[str, Path], kind: str) -> None:
    follow = FollowUp((7,), (Continuation("x", (3, 4)), Continuation("y", (5,))))
    requests = [
        GenerateRequest(f"r{i}", p, 4 + i % 4, stop=("q",), temperature=0.7 * (i % 2), seed=i, follow_up=follow)
        for i, p in enumerate(prompts(6))
    ]
    backend = fresh(models[kind])
    together = grown(backend, requests)
    assert grown(backend, requests[::-1]) == together
    for request in requests[::2]:
        assert grown(fresh(models[kind]), [request]) == {request.key: together[request.key]}
    scored(backend, [ScoreRequest("between", requests[1].prompt, (Continuation("x", (1,)),))])
    assert grown(backend, requests[1:4]) == {r.key: together[r.key] for r in requests[1:4]}
