"""Every kind of memory that llama.cpp knows: each way of reuse equals computing again, and the right one is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from cultev.backend.llama import LlamaBackend
from cultev.backend.llama_context import LlamaContext
from cultev.backend.prefix import build_tree, plan
from cultev.backend.proof import prove_reuse
from cultev.backend.types import Continuation, EngineSettings, GenerateRequest, GenerateResult, ScoreRequest
from cultev.errors import EngineError, ModelUnsupported
from tests.backend.gguf_models import WINDOW, write_tiny_gguf
from tests.backend.llama_requests import generated, requests, scores, texts

pytest.importorskip("llama_cpp")

KINDS = {
    "llama": "copy", "qwen2": "copy", "gemma2": "copy", "olmoe": "copy",
    "mamba": "restore", "mamba2": "restore", "jamba": "restore", "qwen35": "restore", "lfm2": "restore",
}  # fmt: skip
"""Architecture -> the way that its memory allows."""

TOLERANCE = {"mamba": 5e-3, "mamba2": 5e-3}
"""Nats per token: recurrent states are float32."""

HALF = 0.02
"""Where there is a cache of keys and values, which is float16: its rounding shows in another order of sums."""

Maker = Callable[[str], Path]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    folder = tmp_path_factory.mktemp("kinds")

    @cache
    def make(architecture: str) -> Path:
        return write_tiny_gguf(folder / f"{architecture}.gguf", architecture=architecture)

    return make


def opened(path: Path, **more: object) -> LlamaBackend:
    return LlamaBackend(path, EngineSettings(threads=1, **more))  # type: ignore[arg-type]


def test_prompts_are_longer_than_the_sliding_window() -> None:
    assert min(len(p) for p in [*(r.prompt for r in requests()), *(r.prompt for r in texts())]) > WINDOW


@pytest.mark.parametrize("architecture", KINDS)
def test_the_models_remember(architecture: str, model: Maker) -> None:
    """Else the tests below could not fail: what lies 20 tokens back moves a score by more than their tolerance."""
    engine = opened(model(architecture))
    (request,) = requests(1, longest=2)
    other = ScoreRequest("other", (request.prompt[0] + 1, *request.prompt[1:]), request.continuations)
    found = scores(engine, [request, other])
    moved = [abs(a.logprob - b.logprob) / a.n_tokens for a, b in zip(*(r.scores for r in found.values()), strict=True)]
    assert max(moved) > 5 * TOLERANCE.get(architecture, HALF)
    engine.close()


@pytest.mark.parametrize("architecture", KINDS)
def test_the_best_way_is_chosen_and_proves_right(architecture: str, model: Maker) -> None:
    engine = opened(model(architecture))
    assert engine.info.extra["reuse"] == KINDS[architecture]
    proof = prove_reuse(engine, requests(8))
    assert proof.holds
    assert proof.worst_per_token < TOLERANCE.get(architecture, HALF)
    engine.close()


@pytest.mark.parametrize("way", ["copy", "restore"])
@pytest.mark.parametrize("architecture", KINDS)
def test_every_way_equals_computing_again(architecture: str, way: str, model: Maker) -> None:
    if way == "copy" and KINDS[architecture] != "copy":
        with pytest.raises(ModelUnsupported, match="can't copy parts of a sequence") as caught:
            opened(model(architecture), reuse=way)
        assert caught.value.next_step
        return
    tolerance = TOLERANCE.get(architecture, HALF)
    again, engine = opened(model(architecture), reuse="recompute"), opened(model(architecture), reuse=way)
    assert engine.info.extra["reuse"] == way
    some = requests(20)
    expected, found = scores(again, some), scores(engine, some)
    for r in some:
        for a, b in zip(found[r.key].scores, expected[r.key].scores, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=tolerance * a.n_tokens)
    prompts = texts()
    ours, theirs = generated(engine, prompts), generated(again, prompts)
    same = 0
    for prompt in prompts:
        one, two = ours[prompt.key], theirs[prompt.key]
        if one.tokens != two.tokens:
            assert near_tie(again, prompt, one, two) < 2 * tolerance
            continue
        same += 1
        for x, y in zip(one.scores, two.scores, strict=True):
            assert x.logprob == pytest.approx(y.logprob, abs=tolerance * x.n_tokens)
    assert same >= 0.9 * len(prompts)
    engine.close()
    again.close()


def near_tie(backend: LlamaBackend, prompt: GenerateRequest, a: GenerateResult, b: GenerateResult) -> float:
    """By how many nats the two tokens differ where two texts part."""
    n = next(i for i, (x, y) in enumerate(zip(a.tokens, b.tokens, strict=False)) if x != y)
    options = tuple(Continuation("", (r.tokens[n],)) for r in (a, b))
    (result,) = scores(backend, [ScoreRequest("", (*prompt.prompt, *a.tokens[:n]), options)]).values()
    return abs(result.scores[0].logprob - result.scores[1].logprob)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "mamba", "jamba"])
def test_nothing_common_is_computed_twice(architecture: str, model: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(model(architecture))
    counted = count_tokens(monkeypatch)
    some = requests(60, head=50)
    scores(engine, some)
    packs = list(plan(some, engine.limits))
    trunks = [p.trunk for i, p in enumerate(packs) if i == 0 or p.trunk != packs[i - 1].trunk]
    unique = sum(map(len, trunks)) + sum(len(build_tree(p.requests, len(p.trunk)).tokens) for p in packs)
    assert sum(counted) == unique
    engine.close()


@pytest.mark.parametrize("architecture", ["llama", "mamba", "jamba"])
def test_texts_share_what_their_prompts_do(architecture: str, model: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(model(architecture))
    counted = count_tokens(monkeypatch)
    prompt = texts(1, head=90)[0].prompt
    some = [GenerateRequest(f"{i}", prompt, 3, temperature=1.0, seed=i) for i in range(12)]
    found = generated(engine, some)
    fed_back = sum(len(r.tokens) - 1 for r in found.values())
    assert sum(counted) == len(prompt) - 1 + 12 + fed_back
    assert len({r.tokens for r in found.values()}) > 6
    engine.close()


def count_tokens(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of every decode call from now on."""
    counted: list[int] = []
    plain = LlamaContext.decode

    def decode(self: LlamaContext, tokens: Sequence[int], *more: object) -> object:
        counted.append(len(tokens))
        return plain(self, tokens, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(LlamaContext, "decode", decode)
    return counted


@pytest.mark.parametrize("architecture", ["llama", "mamba", "jamba"])
def test_more_branches_than_sequences(architecture: str, model: Maker) -> None:
    """A follow-up with many options, which go through in slices."""
    (text,) = texts(1)
    options = tuple(Continuation("x", (i % 60, i, i + 1)) for i in range(100))
    request = GenerateRequest("r", text.prompt, 1, follow_up=type(text.follow_up)((7,), options))  # type: ignore[misc]
    engine, again = opened(model(architecture), n_ctx=256), opened(model(architecture), reuse="recompute")
    a, b = generated(engine, [request])["r"], generated(again, [request])["r"]
    assert a.tokens == b.tokens
    assert [s.logprob for s in a.scores] == pytest.approx([s.logprob for s in b.scores], abs=3 * HALF)
    engine.close()
    again.close()


def test_an_unknown_way_is_refused(model: Maker) -> None:
    with pytest.raises(EngineError, match="'magic'"):
        opened(model("llama"), reuse="magic")


def test_an_embedding_model_embeds_and_does_no_more(model: Maker) -> None:
    engine = opened(model("bert"))
    assert engine.info.extra["reuse"] == "none"
    for ask in (
        lambda: scores(engine, requests(1)), lambda: generated(engine, texts(1)),
        lambda: engine.raw_prompt_rate(8), lambda: engine.raw_decode_rate([(1, 2), (3, 4)], 2),
    ):  # fmt: skip
        with pytest.raises(ModelUnsupported, match="embedding model"):
            ask()
    vectors = engine.embed(["bread", "rice and beans", "bread"])
    assert vectors.shape == (3, 64)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[0] == pytest.approx(vectors[2], abs=1e-3)
    assert float(vectors[0] @ vectors[1]) < 0.999
    engine.close()


@pytest.mark.parametrize("architecture", ["mamba", "jamba", "qwen35", "lfm2"])
def test_a_stopped_reasoning_is_not_read_again(
    architecture: str, model: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where a stop text of several tokens has to be taken back out of a state."""

    def read_again(*_: object) -> int:
        raise AssertionError("read again")

    monkeypatch.setattr("cultev.backend.follow_ups.FollowUps._read_again", read_again)
    engine = opened(model(architecture))
    plain = [replace(r, max_tokens=12, grammar="root ::= [a-z]+") for r in texts(12)]
    written = generated(engine, plain)
    some, kept = [], {}
    for r in plain:
        text, tokens = written[r.key].text, written[r.key].tokens
        ends = [0, *(len(engine.decode(tokens[: n + 1])) for n in range(len(tokens)))]
        at = text.find(text[4:7])
        if at in ends and at + 2 in ends:
            some.append(replace(r, stop=(text[4:7],)))
            kept[r.key] = tokens[: ends.index(at)]
    assert len(some) > 5
    found = generated(engine, some)
    # Near ties fall otherwise where other texts end earlier beside them.
    stopped = [r for r in some if found[r.key].finish == "stop" and found[r.key].text == engine.decode(kept[r.key])]
    assert len(stopped) > 3
    for r in stopped:
        follow = r.follow_up
        assert follow is not None
        asked = ScoreRequest("", (*r.prompt, *kept[r.key], *follow.lead), follow.continuations)
        (expected,) = scores(engine, [asked]).values()
        for a, b in zip(found[r.key].scores, expected.scores, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=TOLERANCE.get(architecture, HALF) * a.n_tokens)
    engine.close()
