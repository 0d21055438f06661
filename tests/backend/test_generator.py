from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest

from cultev.backend.generated import Growing
from cultev.backend.sampling import BLOCK, Sampler, drawn
from cultev.backend.types import Continuation, FollowUp, GenerateRequest, GenerateResult
from tests.backend.toy import END, VOCAB, ToySequences, alone, encode, logits_after, logprob, make, piece


def request(key: str, prompt: list[int], n: int = 12, **more: object) -> GenerateRequest:
    return GenerateRequest(key, tuple(prompt), n, **more)  # type: ignore[arg-type]


def many(n: int = 40, seed: int = 0, **more: object) -> list[GenerateRequest]:
    """Prompts that share an instruction, some of them a question too."""
    pick = random.Random(seed)
    instruction = [pick.randrange(50) for _ in range(20)]
    questions = [[pick.randrange(50) for _ in range(pick.randrange(3, 30))] for _ in range(n // 4)]
    found = []
    for i in range(n):
        end = [pick.randrange(50) for _ in range(pick.randrange(1, 6))]
        found.append(request(f"r{i}", [*instruction, *pick.choice(questions), *end], pick.randrange(1, 20), **more))
    return found


def run(engine: ToySequences, requests: list[GenerateRequest], **more: object) -> dict[str, GenerateResult]:
    found = [r for batch in make(engine, **more).run(requests) for r in batch]  # type: ignore[arg-type]
    assert len({r.key for r in found}) == len(found)
    assert engine.closed
    return {r.key: r for r in found}


def naive(r: GenerateRequest) -> tuple[list[int], str]:
    """Greedy, token by token, nothing shared."""
    tokens: list[int] = []
    while len(tokens) < r.max_tokens:
        tokens.append(int(logits_after([*r.prompt, *tokens]).argmax()))
        if tokens[-1] == END:
            return tokens, "end"
        text = b"".join(map(piece, tokens))
        if any(s.encode() in text for s in r.stop):
            return tokens, "stop"
    return tokens, "length"


@pytest.mark.parametrize("whole_only", [False, True])
@pytest.mark.parametrize("shares_cells", [False, True])
@pytest.mark.parametrize("parallel", [1, 3, 8])
def test_texts_are_those_of_one_at_a_time(parallel: int, shares_cells: bool, whole_only: bool) -> None:
    requests = many(stop=("AB", "Q"))
    engine = ToySequences(shares_cells=shares_cells, whole_only=whole_only)
    found = run(engine, requests, parallel=parallel)
    assert len(found) == len(requests)
    for r in requests:
        tokens, finish = naive(r)
        assert (list(found[r.key].tokens), found[r.key].finish) == (tokens, finish)
        text = b"".join(map(piece, tokens)).decode(errors="replace")
        cut = min([at for s in r.stop if (at := text.find(s)) >= 0], default=len(text))
        assert found[r.key].text == text[:cut]


def test_what_prompts_share_is_computed_once() -> None:
    requests = many(60)
    engine = ToySequences(slots=20)
    generator = make(engine, parallel=16)
    results = [r for batch in generator.run(requests) for r in batch]
    unique = len({r.prompt[:n] for r in requests for n in range(1, len(r.prompt) + 1)})
    repeated = sum(1 for r, n in itertools.product(requests, [1]) if n)  # a last token is computed for each
    fed_back = sum(max(0, len(r.tokens) - 1) for r in results)
    # What is shared by less than TRUNK_GAIN tokens isn't worth a trunk: at most 3 a request, and its last token.
    assert generator.computed <= unique + fed_back + 4 * repeated
    assert generator.computed < 0.6 * (sum(len(r.prompt) for r in requests) + fed_back)


def test_identical_prompts_are_read_once() -> None:
    prompt = list(range(40))
    requests = [request(f"s{i}", prompt, 5, temperature=1.0, seed=i) for i in range(16)]
    generator = make(ToySequences(slots=20), parallel=16)
    results = [r for batch in generator.run(requests) for r in batch]
    fed_back = sum(max(0, len(r.tokens) - 1) for r in results)
    assert generator.computed == 39 + 16 + fed_back
    assert len({r.tokens for r in results}) > 10


def test_finished_texts_make_room_at_once() -> None:
    """Every step of a long queue feeds as many texts as run in parallel."""
    requests = [request(f"r{i}", [i, i + 1], 1 + i % 7) for i in range(48)]
    engine = ToySequences()
    run(engine, requests, parallel=8)
    full = [len(call) for call in engine.calls[:-12]]
    assert min(full[1:]) >= 7


def test_cells_are_never_exceeded() -> None:
    requests = many(50)
    for shares in (False, True):
        engine = ToySequences(slots=17, cells=150, shares_cells=shares)
        found = run(engine, requests, parallel=16)
        assert engine.most_cells <= 150
        for r in requests:
            assert list(found[r.key].tokens) == naive(r)[0]


def test_a_text_ends_where_the_context_does() -> None:
    found = run(ToySequences(), [request("r", list(range(30)), 100)], n_ctx=40)["r"]
    assert found.finish in ("context", "end")
    assert len(found.tokens) <= 10


@pytest.mark.parametrize("lead", [(), (7, 8)])
@pytest.mark.parametrize("whole_only", [False, True])
@pytest.mark.parametrize("strict", [False, True])
def test_a_follow_up_is_scored_after_the_text(strict: bool, whole_only: bool, lead: tuple[int, ...]) -> None:
    options = (Continuation("A", (1,)), Continuation("B", (2, 3, 4)), Continuation("C", (2, 3)))
    requests = many(30, stop=("AB", "Q", "é"), follow_up=FollowUp(lead, options))
    found = run(ToySequences(whole_only=whole_only), requests, strict=strict)
    assert {r.finish for r in found.values()} >= {"length", "stop"}
    for r in requests:
        result = found[r.key]
        growing = Growing(r.stop)
        kept = [t for t in result.tokens if t != END]
        for token in kept:
            growing.add(piece(token))
        n, rest = growing.kept()
        before = [*r.prompt, *kept[:n], *encode(rest), *lead]
        expected = [logprob(before, c.tokens) for c in options]
        assert [s.logprob for s in result.scores] == pytest.approx(expected, abs=1e-4)
        assert [s.n_tokens for s in result.scores] == [1, 3, 2]


def test_a_text_that_can_not_be_cut_back_is_not_read_again() -> None:
    """Stop texts of several tokens: the copy that was kept where they began is gone on from, and given back."""
    follow = FollowUp((7,), (Continuation("A", (1,)), Continuation("B", (2, 3))))
    plain = many(30, seed=4)
    texts = {r.key: "".join(piece(t).decode("latin-1") for t in naive(r)[0]) for r in plain}
    # The third to the fifth letter of what each would say.
    stopped = [replace(r, stop=(texts[r.key][2:5],), follow_up=follow) for r in plain if texts[r.key][2:5].isascii()]
    stopped = [r for r in stopped if len(r.stop[0]) == 3]
    assert len(stopped) > 9
    computed = {}
    for whole_only in (False, True):
        engine = ToySequences(slots=30, whole_only=whole_only)
        generator = make(engine, parallel=8)
        found = {r.key: r for batch in generator.run(stopped) for r in batch}
        assert {r.finish for r in found.values()} == {"stop"}
        assert found == {r.key: alone(r) for r in stopped}
        computed[whole_only] = generator.computed
        assert len(set(generator._free)) + len(generator._trunks) == 30
    assert computed[True] == computed[False]
    scarce = make(ToySequences(slots=2, whole_only=True), parallel=1)  # a text and its trunk: no slot for copies
    assert {r.key: r for batch in scarce.run(stopped) for r in batch} == found
    assert scarce.computed > computed[True]


def test_strict_texts_depend_on_their_own_request_only() -> None:
    """The same shapes, however the queue looks and whatever was answered before."""

    def shapes(requests: list[GenerateRequest], key: str) -> list[int]:
        engine = ToySequences()
        generator = make(engine, strict=True)
        spans: dict[str, int] = {}
        for batch in generator.run(requests):
            spans[batch[0].key] = len(engine.calls)
        return [len(f.tokens) for call in engine.calls for f in call]

    pick = random.Random(3)
    base = [pick.randrange(50) for _ in range(150)]
    requests = [request(f"r{i}", [*base, *[pick.randrange(50) for _ in range(70)]], 4) for i in range(5)]
    lone = [shapes([r], r.key) for r in requests]
    assert all(len(s) >= 4 and s[:3] == [64, 64, 64] and s[3] == 28 for s in lone)
    together = shapes(requests, "r0")
    assert together.count(64) == 2 + 5  # the shared borders once, then each its own


def test_sampling_follows_the_distribution_and_its_seed() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.2, 1e-9], np.float32))
    counts = np.zeros(4)
    for seed in range(100):
        sampler = Sampler(request("", [1, 2], temperature=1.0, seed=seed))
        for _ in range(100):
            counts[sampler.pick(logits)] += 1
    assert counts[:3] / 10_000 == pytest.approx([0.5, 0.3, 0.2], abs=0.02)
    cold = Sampler(request("", [1], temperature=1e-4))
    assert {cold.pick(logits) for _ in range(20)} == {0}
    one, two = (Sampler(request("", [9], temperature=2.0, seed=5)) for _ in range(2))
    assert [one.pick(logits) for _ in range(50)] == [two.pick(logits) for _ in range(50)]


@pytest.mark.parametrize("n", [3, BLOCK, 5 * BLOCK, 5 * BLOCK + 7])
def test_a_draw_falls_where_a_running_sum_has_it(n: int) -> None:
    random = np.random.default_rng(n)
    weights = random.random(n).astype(np.float32) ** 8
    weights[random.random(n) < 0.3] = 0
    weights[0], weights[n // 2], weights[-1] = 0, 1, 0
    sums = weights.cumsum(dtype=np.float64)
    for chance in (0.0, *random.random(300), float(np.nextafter(1.0, 0.0))):
        found = drawn(weights, chance)
        assert weights[found] > 0
        margin = 1e-6 * sums[-1]
        assert sums[found] - weights[found] - margin <= chance * sums[-1] <= sums[found] + margin


def test_a_draw_depends_on_the_whole_prompt_and_the_seed() -> None:
    logits = np.zeros(1000, np.float32)

    def draws(prompt: list[int], seed: int) -> list[int]:
        sampler = Sampler(request("", prompt, temperature=1.0, seed=seed))
        return [sampler.pick(logits) for _ in range(4)]

    kinds = [([1, 2, 3], 0), ([1, 2, 4], 0), ([0, 2, 3], 0), ([1, 2], 0), ([1, 2, 3], 1)]
    assert len({tuple(draws(*kind)) for kind in kinds}) == len(kinds)


def test_sampled_texts_do_not_depend_on_what_runs_beside_them() -> None:
    requests = many(20, temperature=0.8, seed=3)
    found = run(ToySequences(), requests)
    for r in requests:
        assert found[r.key] == alone(r)


def test_skipped_requests_are_left_out() -> None:
    requests = many(10)
    generator = make(ToySequences())
    keys = [r.key for batch in generator.run(requests, skip={"r1", "r5"}) for r in batch]
    assert sorted(keys) == sorted({r.key for r in requests} - {"r1", "r5"})


def test_a_stop_text_across_tokens_and_broken_characters() -> None:
    growing = Growing(["END", ""])
    assert not growing.add("é".encode()[:1])
    assert growing.text == "\ufffd"
    assert not growing.add("é".encode()[1:] + b"E")
    assert not growing.add(b"N")
    assert growing.add(b"D more")
    assert growing.text == "é"
    assert growing.kept() == (1, "")


def test_options_need_the_context_one_at_a_time() -> None:
    """Eight branches of 25 tokens fit where one of them does: a text is not cut short for all of them together."""
    options = tuple(Continuation("x", tuple((i + j) % 50 for j in range(25))) for i in range(8))
    r = request("r", [i % 50 for i in range(60)], 30, follow_up=FollowUp((1,), options))
    fitting = 60 + 30 + 1 + 25
    wide, exact, narrow = (run(ToySequences(), [r], n_ctx=n)["r"] for n in (512, fitting, fitting - 5))
    assert exact == wide
    assert (len(narrow.tokens), narrow.finish) in ((25, "context"), (len(wide.tokens), wide.finish))
    assert narrow.tokens == wide.tokens[:25]


def test_a_bad_request_is_told_of_and_the_others_go_on() -> None:
    good = many(20)
    option = Continuation("x", (1, 2))
    bad = {
        "empty": (request("empty", []), "the prompt is empty"),
        "alien": (request("alien", [1, VOCAB]), "a token id is none"),
        "below": (request("below", [1, -1]), "a token id is none"),
        "lead": (request("lead", [1], follow_up=FollowUp((VOCAB,), (option,))), "a token id is none"),
        "option": (request("option", [1], follow_up=FollowUp((), (Continuation("", ()),))), "continuation is empty"),
        "long": (request("long", [1] * 200), "too long: 201 tokens at least, the context holds 200"),
        "follow": (request("follow", [1] * 197, follow_up=FollowUp((1,), (option,))), "too long: 201 tokens at least"),
        "cells": (
            request("cells", [1] * 100, follow_up=FollowUp((1,), (option,) * 30)),
            "the memory for generating holds 150",
        ),
    }
    mixed = [r for pair in zip(good, [*(r for r, _ in bad.values()), *good[8:]], strict=False) for r in pair]
    found = run(ToySequences(cells=150, slots=17), list({r.key: r for r in [*mixed, *good]}.values()), n_ctx=200)
    assert set(found) == {*bad, *(r.key for r in good)}
    for key, (_, reason) in bad.items():
        assert found[key].finish == "error" and reason in found[key].error and not found[key].tokens
    for r in good:
        assert found[r.key] == alone(r)
    assert run(ToySequences(), [bad["empty"][0]])["empty"].error
