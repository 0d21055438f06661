"""The planner loses nothing, respects its limits, and depends on the set of requests only."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from cultev.backend.prefix import TRUNK_COST, Limits, Pack, _continuation_cost, build_tree, common_prefix, plan
from cultev.backend.types import Continuation, ScoreRequest

TOKENS = st.integers(0, 3)

LIMITS = Limits(tokens=512, leaves=63, reads=220)


@st.composite
def requests(draw: st.DrawFn) -> list[ScoreRequest]:
    prompts = draw(st.lists(st.lists(TOKENS, min_size=1, max_size=30), min_size=1, max_size=25))
    return [
        ScoreRequest(
            str(i),
            tuple(prompt),
            tuple(
                Continuation("x", tuple(c))
                for c in draw(st.lists(st.lists(TOKENS, min_size=1, max_size=5), min_size=1, max_size=4))
            ),
        )
        for i, prompt in enumerate(prompts)
    ]


def cost(pack: Pack) -> tuple[int, int, int]:
    tree = build_tree(pack.requests, len(pack.trunk))
    return len(tree.tokens), len(tree.leaves), len({n for rows in tree.reads for nodes in rows for n in nodes})


@given(requests())
def test_every_request_is_in_one_pack(some: list[ScoreRequest]) -> None:
    packs = list(plan(some, Limits(tokens=40, leaves=5, reads=12)))
    assert sorted(r.key for p in packs for r in p.requests) == sorted(r.key for r in some)


@given(requests())
def test_packs_keep_within_limits_unless_a_request_is_alone(some: list[ScoreRequest]) -> None:
    limits = Limits(tokens=40, leaves=5, reads=12)
    for pack in plan(some, limits):
        tokens, leaves, reads = cost(pack)
        if len(pack.requests) > 1:
            assert tokens <= limits.tokens
            assert leaves <= limits.leaves
            assert reads <= limits.reads


@given(requests())
def test_a_trunk_begins_every_prompt_and_ends_before_it(some: list[ScoreRequest]) -> None:
    for pack in plan(some, Limits(tokens=8, leaves=3, reads=9)):
        for request in pack.requests:
            assert request.prompt[: len(pack.trunk)] == pack.trunk
            assert len(pack.trunk) < len(request.prompt)


@given(requests(), st.randoms())
def test_the_order_of_requests_does_not_matter(some: list[ScoreRequest], shuffler: random.Random) -> None:
    shuffled = list(some)
    shuffler.shuffle(shuffled)
    assert list(plan(some, Limits(20, 4, 9))) == list(plan(shuffled, Limits(20, 4, 9)))


@given(requests())
def test_a_tree_spells_every_continuation(some: list[ScoreRequest]) -> None:
    trunk = min(len(r.prompt) for r in some) - 1
    trunk = min([trunk, *(common_prefix(some[0].prompt, r.prompt) for r in some)])
    tree = build_tree(some, trunk)
    for request, rows in zip(some, tree.reads, strict=True):
        for continuation, nodes in zip(request.continuations, rows, strict=True):
            path = [tree.tokens[n] for n in tree.path(nodes[-1])]
            assert [*request.prompt[:trunk], *path] == [*request.prompt, *continuation.tokens[:-1]]
            assert len(nodes) == len(continuation.tokens)
            assert [tree.depths[n] for n in nodes] == [len(request.prompt) - 1 + i for i in range(len(nodes))]


@given(requests())
def test_a_tree_holds_each_prefix_once(some: list[ScoreRequest]) -> None:
    tree = build_tree(some, 0)
    paths = [tuple(tree.tokens[n] for n in tree.path(i)) for i in range(len(tree.tokens))]
    assert len(set(paths)) == len(paths)
    assert all(tree.parents[i] < i for i in range(len(tree.tokens)))
    assert set(tree.leaves) == set(range(len(paths))) - set(tree.parents)


@given(st.lists(TOKENS), st.lists(TOKENS))
@settings(max_examples=300)
def test_common_prefix_is_the_longest(a: list[int], b: list[int]) -> None:
    n = common_prefix(a, b)
    assert a[:n] == b[:n]
    assert n == min(len(a), len(b)) or a[n] != b[n]


def test_almost_nothing_is_computed_twice() -> None:
    """A suite as real ones are: one instruction, stories of 60 tokens, four contexts, three options."""
    generator = random.Random(7)
    instruction = tuple(generator.randrange(1000) for _ in range(40))
    some = []
    for story in range(300):
        text = tuple(generator.randrange(1000) for _ in range(60))
        for context in range(4):
            prompt = (*instruction, 2000 + context, *(generator.randrange(9) for _ in range(8)), *text, 7)
            options = tuple(Continuation("o", (o, *range(o, o + 7))) for o in range(3))
            some.append(ScoreRequest(f"{story}-{context}", prompt, options))
    unique = len(build_tree(some, 0).tokens)
    computed, trunk = 0, ()
    for pack in plan(some, Limits(tokens=512, leaves=63, reads=512)):
        if pack.trunk != trunk:
            computed, trunk = computed + len(pack.trunk), pack.trunk
        computed += cost(pack)[0]
    assert computed <= 1.05 * unique


def test_a_large_group_gets_a_trunk_of_its_own() -> None:
    """Two languages, an instruction each: both are trunks, computed once."""
    some = [
        ScoreRequest(f"{code}-{i}", (*(code,) * 50, i, *range(100)), (Continuation("x", (1,)),))
        for code in (1, 2)
        for i in range(100)
    ]
    packs = list(plan(some, Limits()))
    assert {pack.trunk for pack in packs} == {(1,) * 50, (2,) * 50}


def test_deep_nesting_needs_no_deep_recursion() -> None:
    some = [ScoreRequest(str(i), (1,) * (20 * i + 1) + (2,) * 30, (Continuation("x", (1,)),)) for i in range(400)]
    assert sum(len(p.requests) for p in plan(some, Limits(tokens=64))) == 400


def pairs(n: int, prefix: int) -> list[ScoreRequest]:
    """Requests that share a few tokens and fill a pack each by what is read."""
    return [
        ScoreRequest(
            f"{i:03}",
            (*range(prefix), 100 + i, 7, 8),
            tuple(Continuation("x", (1000 * i + c, *(range(20)))) for c in (1, 2)),
        )
        for i in range(n)
    ]


def computed(packs: list[Pack]) -> int:
    """Tokens, each trunk once as long as it stays."""
    total, held = 0, None
    for pack in packs:
        total += len(pack.trunk) * (pack.trunk != held) + cost(pack)[0]
        held = pack.trunk
    return total


def test_a_short_prefix_of_many_packs_is_computed_once() -> None:
    some = pairs(20, prefix=5)
    packs = list(plan(some, Limits(tokens=512, leaves=64, reads=60)))
    assert len(packs) == 20
    assert computed(packs) == len(build_tree(some, 0).tokens)


def after(prefix: Sequence[int], n: int, own: int = 16) -> list[ScoreRequest]:
    """Requests after a prefix: each goes on with tokens of its own and four options of one token."""
    options = tuple(Continuation("x", (c,)) for c in range(4))
    return [ScoreRequest(f"{prefix[:1]}{i:03}", (*prefix, 1000 + i, *range(own - 1)), options) for i in range(n)]


@settings(deadline=None)
@given(st.integers(0, 1100), st.integers(2, 70), st.integers(2, 40))
def test_no_prefix_of_any_length_is_computed_in_pack_after_pack(prefix: int, n: int, own: int) -> None:
    some = after(range(prefix), n, own)
    packs = list(plan(some, LIMITS))
    assert computed(packs) <= len(build_tree(some, 0).tokens) + TRUNK_COST * len(packs)


@settings(deadline=None)
@given(st.integers(0, 150), st.integers(0, 550), st.integers(1, 5), st.integers(2, 40))
def test_nor_one_within_another(outer: int, inner: int, groups: int, n: int) -> None:
    some = [r for g in range(groups) for r in after((*range(outer), 2000 + g, *range(inner)), n)]
    packs = list(plan(some, LIMITS))
    once = len(build_tree(some, 0).tokens)
    again = groups * (2 * outer + 3 * TRUNK_COST)  # a group's trunk begins with the outer one, which is gone back to
    assert computed(packs) <= once + again + TRUNK_COST * len(packs)
    assert Counter(r.key for p in packs for r in p.requests) == Counter(r.key for r in some)


def test_an_inner_prefix_of_which_little_is_saved_is_no_trunk() -> None:
    """Going back to a long outer trunk would cost more than two packs save."""
    some = [*after((*range(300), 9, *range(20)), 24), *after((*range(300), 8), 60)]
    assert {len(p.trunk) for p in plan(some, Limits(tokens=512, leaves=64, reads=60))} == {300}


def test_packs_that_leaves_bound_share_a_trunk() -> None:
    some = after(range(6), 60, own=1)
    assert {len(p.trunk) for p in plan(some, Limits(tokens=512, leaves=4, reads=500))} == {6}


def test_prompts_that_each_begin_the_next_are_planned_all_the_same() -> None:
    some = [ScoreRequest(f"{i:04}", tuple(range(10 * i + 1)), (Continuation("x", (1,)),)) for i in range(400)]
    packs = list(plan(some, LIMITS))
    assert [r.key for p in packs for r in p.requests] == [r.key for r in some]


def test_a_prefix_that_few_packs_share_is_no_trunk() -> None:
    packs = list(plan(pairs(3, prefix=5), Limits(tokens=512, leaves=64, reads=60)))
    assert [p.trunk for p in packs] == [()] * 3


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=8))
def test_a_requests_cost_is_that_of_its_tree(ends: list[list[int]]) -> None:
    request = ScoreRequest("q", (7, 8), tuple(Continuation("x", tuple(end)) for end in ends))
    tree = build_tree([request], 0)
    nodes, leaves, reads = _continuation_cost(request)
    assert nodes == len(tree.tokens) - 2 and leaves == len(tree.leaves) and reads == 1 + nodes
