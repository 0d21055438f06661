"""What a text needs at least, and whether it can be had at all."""

from __future__ import annotations

from collections.abc import Sequence

from cultev.backend.types import Continuation, FollowUp, GenerateRequest


def nothing_asked(prompt: Sequence[int], continuations: Sequence[Continuation]) -> str:
    """Why a request asks nothing, '' when it asks something."""
    if not prompt:
        return "the prompt is empty"
    return "" if all(c.tokens for c in continuations) else "a continuation is empty"


def follow_length(follow: FollowUp | None) -> int:
    """Tokens that a follow-up's longest path has."""
    if follow is None:
        return 0
    return len(follow.lead) + max((len(c.tokens) for c in follow.continuations), default=0)


def follow_cells(follow: FollowUp | None) -> int:
    """Tokens that a follow-up's paths may take in the cells, all together."""
    if follow is None:
        return 0
    return len(follow.lead) + sum(len(c.tokens) for c in follow.continuations) + 1


def reason_against(request: GenerateRequest, n_ctx: int, cells: int, n_vocab: int) -> str:
    """Why a request can't be answered, '' when it can.

    Args:
        request: asks for one token at least, and for its follow-up.
        n_ctx: tokens that prompt + text + follow-up may have.
        cells: tokens that all sequences may hold together.
        n_vocab: token ids are below it.
    """
    follow = request.follow_up or FollowUp((), ())
    if reason := nothing_asked(request.prompt, follow.continuations):
        return reason
    parts = (request.prompt, follow.lead, *(c.tokens for c in follow.continuations))
    if any(not 0 <= token < n_vocab for part in parts for token in part):
        return f"a token id is none of the model's (0 to {n_vocab - 1})"
    least = len(request.prompt) + 1 + follow_length(request.follow_up)
    if least > n_ctx:
        return f"too long: {least} tokens at least, the context holds {n_ctx}"
    least = len(request.prompt) + 1 + follow_cells(request.follow_up)
    if least > cells:
        return f"too long: {least} tokens at least, the memory for generating holds {cells}"
    return ""
