"""Generating with ONNX graphs against a loop that computes the whole sequence for every token."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
pytest.importorskip("jinja2")

from cultev.backend.generated import Growing
from cultev.backend.onnx import OnnxBackend
from cultev.backend.onnx_binding import Binding
from cultev.backend.sequences import Feed
from cultev.backend.types import (
    Continuation,
    EngineSettings,
    FollowUp,
    GenerateRequest,
    GenerateResult,
)
from cultev.errors import ModelUnsupported
from tests.backend.onnx_models import EOS, Spec, make_folder
from tests.backend.test_onnx import SPECS, _last_logits, _session, plain

FUSED = Spec(fused=True, positions=False)
COUNTS = Spec(fused=True, positions=False, counts=True)
ALL = {**{name: spec for name, (spec, _) in SPECS.items()}, "fused": FUSED, "counts": COUNTS}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("onnx")
    return {name: make_folder(root / name, spec) for name, spec in ALL.items()}


def requests(seed: int = 0, n: int = 9, **more: object) -> list[GenerateRequest]:
    """Prompts of unlike lengths, most of them after an instruction; texts of unlike lengths."""
    pick = random.Random(seed)
    instruction = [pick.randrange(32) for _ in range(14)]
    found = []
    for i in range(n):
        prompt = [*(instruction if i % 4 else []), *(pick.randrange(32) for _ in range(pick.randrange(1, 14)))]
        found.append(GenerateRequest(f"r{i}", tuple(prompt), pick.choice([1, 5, 9, 14]), **more))  # type: ignore[arg-type]
    return found


def generated(backend: OnnxBackend, asked: list[GenerateRequest]) -> dict[str, GenerateResult]:
    found = [r for batch in backend.generate(asked) for r in batch]
    assert len({r.key for r in found}) == len(found) == len(asked)
    return {r.key: r for r in found}


def naive(path: Path, request: GenerateRequest, end: int) -> list[int]:
    """Greedy, one whole run per token."""
    tokens: list[int] = []
    while len(tokens) < request.max_tokens and end not in tokens:
        tokens.append(int(_last_logits(_session(path), (*request.prompt, *tokens)).argmax()))
    return tokens


@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize("name", ALL)
def test_texts_are_those_of_whole_sequences(models: dict[str, Path], name: str, parallel: int) -> None:
    backend = OnnxBackend(models[name], EngineSettings(parallel=parallel, threads=1))
    (end,) = backend.encode(EOS)
    asked = requests()
    found = generated(backend, asked)
    for r in asked:
        tokens = naive(models[name], r, end)
        assert list(found[r.key].tokens) == tokens
        assert found[r.key].finish == ("end" if tokens[-1] == end else "length")
        assert found[r.key].text == backend.decode(tokens)


def test_the_graphs_own_attention_grows_texts_together(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = OnnxBackend(models["fused"], EngineSettings(parallel=4, threads=1))
    calls: list[int] = []
    run = Binding.run

    def counted(self: Binding, ids: Any, *rest: Any, **more: Any) -> Any:
        calls.append(len(ids))
        return run(self, ids, *rest, **more)

    monkeypatch.setattr(Binding, "run", counted)
    generated(backend, requests(n=8))
    assert max(calls) == 4


@pytest.mark.parametrize("name", ALL)
def test_a_follow_up_is_scored_after_the_text(models: dict[str, Path], name: str) -> None:
    backend = OnnxBackend(models[name], EngineSettings(parallel=3, threads=1))
    (end,) = backend.encode(EOS)
    options = tuple(Continuation("x", t) for t in ((3,), (4, 5, 6), (4, 5), (9, 9, 9, 9)))
    asked = requests(seed=1, n=5, follow_up=FollowUp((7, 8), options), stop=("q", "ab"))
    found = generated(backend, asked)
    for r in asked:
        growing = Growing(r.stop)
        tokens = [t for t in found[r.key].tokens if t != end]
        for token in tokens:
            growing.add(backend._tokens.piece(token))
        n, rest = growing.kept()
        kept = [*tokens[:n], *backend.encode(rest)]
        before = (*r.prompt, *kept, 7, 8)
        want = [plain(models[name], (*before, *c.tokens), len(c.tokens)) for c in options]
        assert [s.logprob for s in found[r.key].scores] == pytest.approx(want, abs=1e-4)


@pytest.mark.parametrize("name", ["grouped", "no-positions", "fused"])
def test_long_queues_overwrite_rows_and_cut_gaps(
    models: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cultev.backend.onnx_resident.SPARE_SLOTS", 2)
    monkeypatch.setattr("cultev.backend.onnx_tree.SLICE", 5)
    backend = OnnxBackend(models[name], EngineSettings(parallel=5, threads=1))
    (end,) = backend.encode(EOS)
    asked = [r for seed in range(4) for r in requests(seed=seed, n=8)]
    asked = [GenerateRequest(f"{i}", r.prompt, r.max_tokens) for i, r in enumerate(asked)]
    found = generated(backend, asked)
    for r in asked:
        assert list(found[r.key].tokens) == naive(models[name], r, end)


@pytest.mark.parametrize("name", ["grouped", "no-positions", "one-row", "fused", "no-cache"])
def test_texts_need_not_grow_at_one_pace(models: dict[str, Path], name: str) -> None:
    """Sequences that a step leaves out stay what they are, beside others that grow on."""
    backend = OnnxBackend(models[name], EngineSettings(threads=1))
    sequences = backend._sequences()
    held = {0: [5, 9, 2], 1: [7, 1, 30]}
    sequences.advance([Feed(slot, tuple(tokens), False) for slot, tokens in held.items()])
    for number, slots in enumerate([(0, 1), (0,), (0,), (1,), (0, 1), (1,)]):
        for slot in slots:
            held[slot].append(11 + 2 * number + slot)
        rows = sequences.advance([Feed(slot, (held[slot][-1],), True) for slot in slots])
        for slot, logits in zip(slots, rows, strict=True):
            assert logits == pytest.approx(_last_logits(_session(models[name]), tuple(held[slot])), abs=1e-4)


def test_little_memory_makes_more_batches(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cultev.backend.onnx_resident.RESIDENT_BYTES", 256 * 70)
    monkeypatch.setattr("cultev.backend.onnx_sequences.CACHE_BYTES", 1)
    backend = OnnxBackend(models["grouped"], EngineSettings(parallel=6, threads=1))
    (end,) = backend.encode(EOS)
    asked = requests(n=12)
    found = generated(backend, asked)
    for r in asked:
        assert list(found[r.key].tokens) == naive(models["grouped"], r, end)


def test_a_text_fills_the_context(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "m", Spec(context=32))
    backend = OnnxBackend(path, EngineSettings(threads=1))
    (end,) = backend.encode(EOS)
    asked = [GenerateRequest(f"r{i}", tuple(range(3 + 5 * i)), 100) for i in range(5)]
    found = generated(backend, asked)
    for r in asked:
        tokens = list(found[r.key].tokens)
        assert found[r.key].finish == "end" or len(r.prompt) + len(tokens) == 32
        assert tokens == naive(path, GenerateRequest("", r.prompt, len(tokens)), end)


def test_a_grammar_is_refused_in_one_sentence(models: dict[str, Path]) -> None:
    backend = OnnxBackend(models["grouped"])
    with pytest.raises(ModelUnsupported, match="grammar"):
        list(backend.generate([GenerateRequest("g", (1, 2), 4, grammar='root ::= "a"')]))


def test_work_is_announced_before_it_begins(models: dict[str, Path]) -> None:
    backend = OnnxBackend(models["grouped"], EngineSettings(parallel=2))
    begun: list[str] = []
    backend.on_start = begun.extend
    for batch in backend.generate(requests(n=5)):
        assert all(r.key in begun for r in batch)
    assert len(begun) == 5


@pytest.mark.parametrize("name", ["grouped", "one-row", "no-cache"])
def test_raw_rates_are_rates(models: dict[str, Path], name: str) -> None:
    backend = OnnxBackend(models[name], EngineSettings(threads=1))
    assert backend.raw_prompt_rate(32) > 0
    assert backend.raw_decode_rate([range(5)] * 3, 4) > 0
