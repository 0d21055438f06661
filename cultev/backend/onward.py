"""Token ids of a text that goes on from others: tokenizers treat a text's beginning in ways of their own."""

from __future__ import annotations

from collections.abc import Callable

ANCHORS = ("\n", ".", "a", " a", "\n\n")
"""Texts to put before it, so that it gets no BOS and no space of its own; the first that stays as it is serves."""


def tokens_onward(encode: Callable[[str], list[int]], text: str) -> list[int] | None:
    """What ``encode`` makes of ``text`` behind an anchor; None where it merges every anchor with the text."""
    for anchor in ANCHORS:
        before, whole = encode(anchor), encode(anchor + text)
        if whole[: len(before)] == before:
            return whole[len(before) :]
    return None
