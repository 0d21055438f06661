"""What llama.cpp does by itself, with next to nothing of cultev's around it: the rates that ours are compared with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from cultev.backend.llama_context import LlamaContext
from cultev.backend.prefix import common_prefix, spread


def prompt_rate(context: LlamaContext, n_tokens: int, n_vocab: int, *, read_share: float = 0.0) -> float:
    """Tokens per second of one random prompt in an empty cache, with the logits after a share of its tokens.

    As many tokens a call as the batch and its room for logits allow. With a share, the prompt is as much longer as
    whole calls need, where the cache has room (else as much shorter): a small last call would lower the rate that ours
    is compared with. Leaves the cache empty.
    """
    step = context.batch
    if read_share:
        step = min(step, max(1, int((context.outputs - 1) / read_share)))
        whole = -(-n_tokens // step) * step
        n_tokens = whole if whole <= context.cells else n_tokens // step * step or n_tokens
    tokens = np.random.default_rng(0).integers(0, n_vocab, n_tokens).tolist()
    context.clear()
    began = time.perf_counter()
    asked = spread(n_tokens, read_share)
    for start in range(0, n_tokens, step):
        end = min(n_tokens, start + step)
        context.decode(tokens[start:end], range(start, end), [[0]] * (end - start), asked[start:end])
    seconds = time.perf_counter() - began
    context.clear()
    return n_tokens / seconds


def decode_rate(
    context: LlamaContext, prompts: Sequence[Sequence[int]], n_tokens: int, n_vocab: int, *, shared: bool
) -> float:
    """Tokens per second of sequences that each decode ``n_tokens`` after a prompt, one decode call a step.

    ``shared``: whether a prefix that prompts have in common lies in the cache once, as where texts grow: a step's
    cost depends on the cells that are attended to. Leaves the sequences in the cache.
    """
    context.clear()
    if shared:  # each keeps a last token of its own, as a text that grows does
        _lay(context, prompts, sorted(((*p[:-1], -1 - i), i) for i, p in enumerate(prompts)), 0)
    else:
        for i, prompt in enumerate(prompts):
            _read(context, i, prompt, 0, len(prompt))
    fed = np.random.default_rng(0).integers(0, n_vocab, (n_tokens, len(prompts))).tolist()
    ids, asked = [[i] for i in range(len(prompts))], [True] * len(prompts)
    began = time.perf_counter()
    for step, tokens in enumerate(fed):
        context.decode(tokens, [len(p) + step for p in prompts], ids, asked)
    return n_tokens * len(prompts) / (time.perf_counter() - began)


def _lay(
    context: LlamaContext, prompts: Sequence[Sequence[int]], group: Sequence[tuple[tuple[int, ...], int]], done: int
) -> None:
    """Read prompts, what they share once.

    ``group``: (tokens, the last one unlike any other; number of prompt and sequence), sorted. The first one's
    sequence holds ``done`` tokens, which all begin with.
    """
    (first, i), (last, _) = group[0], group[-1]
    common = common_prefix(first, last) if len(group) > 1 else len(first)
    _read(context, i, prompts[i], done, common)
    if len(group) == 1:
        return
    parts = [list(part) for _, part in groupby(group, key=lambda member: member[0][common])]
    for part in parts[1:]:
        context.copy(i, part[0][1])
    for part in parts:
        _lay(context, prompts, part, common)


def _read(context: LlamaContext, sequence: int, tokens: Sequence[int], start: int, end: int) -> None:
    for begin in range(start, end, context.batch):
        part = tokens[begin : min(end, begin + context.batch)]
        context.decode(part, range(begin, begin + len(part)), [[sequence]] * len(part), [False] * len(part))
