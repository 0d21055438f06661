"""Token trees cut into rows: chains, and rows that branch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cultev.backend.onnx_rows import Row, Shape, bushes, chains
from cultev.backend.prefix import TokenTree, build_tree
from cultev.backend.types import Continuation, ScoreRequest


def shape(*, one_row: bool = False, n_ctx: int = 4096, first_branches: bool = True) -> Shape:
    return Shape(
        mixed_past=True, mixed_length=True, one_row=one_row, cells=512, slots=4096, n_ctx=n_ctx,
        first_branches=first_branches,
    )  # fmt: skip


def tree_of(*prompts: tuple[Sequence[int], Sequence[Sequence[int]]], trunk: int = 0) -> TokenTree:
    """A tree of (prompt, what follows it) pairs; prompts hold the trunk's tokens too."""
    # The last token of a continuation is asked for, not computed.
    return build_tree(
        [
            ScoreRequest(str(i), tuple(prompt), tuple(Continuation("x", (*end, 0)) for end in ends))
            for i, (prompt, ends) in enumerate(prompts)
        ],
        trunk,
    )


def numbers(n: int, start: int) -> list[int]:
    return list(range(start, start + n))


def check(tree: TokenTree, levels: Sequence[Sequence[Row]]) -> None:
    """Each token is computed once, after what it follows in the tree, and sees that and nothing else."""
    kept: dict[int, Row] = {}
    done: set[int] = set()
    for level in levels:
        for row in level:
            assert row.parent < 0 or row.parent in kept, "later rows continue what was kept"
            above = tree.path(row.parent)
            assert row.past == (tree.depths[row.nodes[0]] if row.parent < 0 else tree.depths[row.parent] + 1)
            length = len(row.tokens) + 3
            seen = row.seen(length)
            assert seen.shape == (length, length) and seen.diagonal().all()
            assert not np.triu(seen, 1).any(), "no token sees what comes later"
            for i, (node, offset) in enumerate(zip(row.nodes, row.offsets, strict=True)):
                assert row.tokens[i] == tree.tokens[node] and row.past + offset == tree.depths[node]
                assert above + [row.nodes[j] for j in np.flatnonzero(seen[i])] == tree.path(node)
                assert node not in done
                done.add(node)
        for row in level:
            kept.update((node, row) for node in row.nodes[: row.keep])
            # What is kept is a chain from the row's beginning, as a later row's past must be.
            assert row.offsets[: row.keep] == list(range(row.keep))
    assert done == set(range(len(tree.tokens)))


TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=12)
ASKED = st.lists(st.tuples(TOKENS, st.lists(TOKENS, min_size=1, max_size=4)), min_size=1, max_size=8)


@given(ASKED, st.sampled_from([3, 8, 512]), st.booleans(), st.booleans())
def test_every_token_once_and_it_sees_what_it_follows(
    asked: list[tuple[list[int], list[list[int]]]], longest: int, one_row: bool, first: bool
) -> None:
    tree = tree_of(*asked)
    plain = chains(tree, longest)
    check(tree, plain)
    levels = bushes(plain, longest, shape(one_row=one_row, first_branches=first))
    check(tree, levels)
    rows = [row for level in levels for row in level]
    assert all(len(row.tokens) <= longest for row in rows)
    assert first or not any(row.before for row in rows if not row.past)


def question(start: int, size: int, n_options: int, option: int) -> tuple[list[int], list[list[int]]]:
    trunk = numbers(64, 0)
    options = [numbers(option, start + 1000 + 100 * i) for i in range(n_options)]
    return [*trunk, *numbers(size, start)], options


def test_a_questions_options_stand_in_its_row() -> None:
    tree = tree_of(*(question(10_000 * (i + 1), 32, 4, 7) for i in range(5)), trunk=64)
    levels = bushes(chains(tree, 512), 512, shape())
    assert [len(row.tokens) for level in levels for row in level] == [60] * 5
    assert all(row.keep == 0 and row.past == 64 for row in levels[0])


def test_where_each_row_is_a_run_short_questions_share_one() -> None:
    tree = tree_of(*(question(10_000 * (i + 1), 32, 4, 7) for i in range(6)), trunk=64)
    rows = [row for level in bushes(chains(tree, 512), 512, shape(one_row=True)) for row in level]
    assert len(rows) < 6 and sum(len(row.tokens) for row in rows) == 360
    check(tree, [rows])


def test_long_branches_keep_rows_of_their_own() -> None:
    """All tokens of a row are compared with all its slots: two long answers side by side would cost more."""
    tree = tree_of(question(10_000, 40, 2, 200), trunk=64)
    levels = bushes(chains(tree, 512), 512, shape())
    assert [[len(row.tokens) for row in level] for level in levels] == [[240], [200]]
    assert levels[0][0].keep == 40


def test_short_answers_of_a_long_question_share_a_row() -> None:
    """They share its past, which is copied once."""
    tree = tree_of(question(10_000, 500, 5, 30), trunk=64)
    levels = bushes(chains(tree, 512), 512, shape())
    sizes = [[len(row.tokens) for row in level] for level in levels]
    assert sum(map(sum, sizes)) == 650 and max(map(len, sizes)) < 4
    check(tree, levels)


@pytest.mark.parametrize("n_ctx", [72, 4096])
def test_rows_keep_within_the_context(n_ctx: int) -> None:
    tree = tree_of(question(10_000, 2, 4, 5), trunk=64)
    levels = bushes(chains(tree, 512), 512, shape(n_ctx=n_ctx))
    assert all(row.past + len(row.tokens) <= n_ctx for level in levels for row in level)
    check(tree, levels)


def test_a_branch_is_weighed_with_the_past_that_it_would_copy() -> None:
    """Of a long question's row all would be copied for it, not only what the row itself continues."""
    trunk, stem = numbers(64, 0), numbers(390, 1_000)
    tree = tree_of(([*trunk, *stem], [numbers(10, 2_000), numbers(9, 3_000)]), trunk=64)
    levels = bushes(chains(tree, 512), 512, shape())
    assert [len(row.tokens) for level in levels for row in level] == [409]


def test_a_row_that_others_continue_is_taken_in_by_none() -> None:
    """Later rows copy its keys and values from the beginning of a row."""
    trunk = numbers(64, 0)
    long = [*trunk, *numbers(100, 1_000)], [numbers(300, 2_000), numbers(250, 3_000)]
    tree = tree_of(([*trunk, 5], [[6]]), long, trunk=64)
    levels = bushes(chains(tree, 512), 512, shape())
    assert [len(row.tokens) for level in levels for row in level] == [2, 400, 250]
    check(tree, levels)
