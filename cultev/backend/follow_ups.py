"""Scores the options after a generated text on the text's own cache: nothing of it is read a second time.

A text that ended at a stop string holds tokens too many. Engines that can cut a sequence back do so; for the others a
copy is kept from where a stop string may have begun. Where neither is at hand the text is read again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cultev.backend.held import Held, Mark, Vocabulary
from cultev.backend.logprobs import continuation_score, gather_logprobs, require_finite, wanted_of
from cultev.backend.prefix import STRICT_SLICE, build_tree, common_prefix
from cultev.backend.sequences import Feed, Sequences
from cultev.backend.types import ContinuationScore, FollowUp, GenerateRequest, ScoreRequest


class FollowUps:
    """Follow-ups of one engine's texts.

    Args:
        sequences: the engine's.
        vocabulary: the model's tokens.
        free: sequences that hold nothing; shared with whoever begins texts.
        strict: see ``EngineSettings``.
    """

    def __init__(self, sequences: Sequences, vocabulary: Vocabulary, free: list[int], *, strict: bool) -> None:
        self._engine, self._vocabulary, self._free, self._strict = sequences, vocabulary, free, strict
        self.computed = 0
        """Tokens that were read again."""

    def mark(self, held: Held, n_prompt: int) -> None:
        """Keep a copy where a stop text may have begun with the last token, as long as it may; if there is a slot.

        Not in strict mode: whether there is one depends on what else is asked.
        """
        whole = held.text.pending()
        if whole is None:
            self.unmark(held)
        elif held.mark is None and held.done <= n_prompt + whole and self._free:
            assert held.logits is not None
            held.mark = Mark(self._free.pop(), held.done, held.logits.copy())
            self._engine.fork(held.slot, held.mark.slot)

    def unmark(self, held: Held) -> None:
        """Give up the copy, if there is one."""
        if held.mark is not None:
            self._engine.drop(held.mark.slot)
            self._free.append(held.mark.slot)
            held.mark = None

    def score(
        self, held: Held, request: GenerateRequest, follow: FollowUp, finish: str
    ) -> tuple[ContinuationScore, ...]:
        """Score the follow-up after the text, on the sequence's own cache."""
        if finish == "stop":
            n, rest = held.text.kept()
            kept = [*held.generated[:n], *(self._vocabulary.encode(rest) if rest else [])]
        else:
            kept = held.generated[:-1] if finish == "end" else list(held.generated)
        prefix = [*request.prompt, *kept, *follow.lead]
        length = common_prefix(prefix, held.tokens[: held.done])
        if length < held.done and not self._engine.trim(held.slot, length):
            length = self._go_back(held, length) or self._read_again(held, prefix)
        first = held.logits if length == held.done and length == len(prefix) else None
        if first is None and length == len(prefix):  # the logits after it are gone: its last token once more
            length = length - 1 if self._engine.trim(held.slot, length - 1) else self._read_again(held, prefix)
        tree = build_tree([ScoreRequest("", tuple(prefix), follow.continuations)], length)
        wanted, places = wanted_of([ScoreRequest("", (), follow.continuations)], tree)
        logprobs = np.full(len(wanted), np.nan)
        here = [i for i, (node, _) in enumerate(wanted) if node < 0]
        below = [i for i, (node, _) in enumerate(wanted) if node >= 0]
        if here:
            assert first is not None
            tokens = np.array([wanted[i][1] for i in here], np.intp)
            logprobs[here] = gather_logprobs(first[None], np.zeros(len(here), np.intp), tokens)
        if below:
            logprobs[below] = self._engine.branch(held.slot, length, tree, [wanted[i] for i in below])
        require_finite(logprobs)
        return tuple(
            continuation_score(c, [logprobs[i] for i in at])
            for c, at in zip(follow.continuations, places[0], strict=True)
        )

    def _go_back(self, held: Held, length: int) -> int:
        """Go on from the copy that was made before the stop text; how many tokens it has, 0 where there is none."""
        mark = held.mark
        if mark is None or mark.length > length:
            return 0
        self._engine.drop(held.slot)
        self._free.append(held.slot)
        held.slot, held.done, held.logits, held.mark = mark.slot, mark.length, mark.logits, None
        return mark.length

    def _read_again(self, held: Held, prefix: Sequence[int]) -> int:
        """Everything but the last token once more; how many tokens then stand.

        Where memory can't be cut back and no copy was kept: strict mode, all slots in use, prefixes recomputed.
        """
        self._engine.drop(held.slot)
        length = len(prefix) - 1
        step = STRICT_SLICE if self._strict else self._engine.batch
        for start in range(0, length, step):
            part = tuple(prefix[start : min(length, start + step)])
            self._engine.advance([Feed(held.slot, part, False)])
            self.computed += len(part)
        return length
