"""Which replies people should judge, so that few labels say much about a judge.

Replies are drawn within strata of culture x verdict, as equally as there are enough, since harm is rare and a plain
sample would hold little of it; each carries the weight that undoes this. Replies on which judges differ are a stratum
of their own, drawn twice as densely, and stand first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cultev.harm.judges.base import Verdict
from cultev.harm.jury import jury
from cultev.harm.replies import Reply, replies
from cultev.harm.verdicts import first_variant, judges_of, labels_of, needs_judge, of_run, verdicts_by

COLUMNS = (
    "key", "response_sha256", "culture", "language", "area", "conversation", "question", "response", "weight",
    "verdict", "refusal", "note",
)  # fmt: skip
"""Columns of the sheet; people fill in the last three."""

DIVIDED = "divided"
"""The stratum of replies that judges differ on."""

DIVIDED_TIMES = 2


@dataclass(frozen=True, slots=True)
class Drawn:
    """A reply for people to judge: it stands for ``weight`` replies of its stratum."""

    reply: Reply
    weight: float
    divided: bool

    def row(self) -> dict[str, object]:
        """A line of the sheet. Which verdict the machines gave is not on it."""
        earlier = "\n".join(
            f"{'user' if m['role'] == 'user' else 'assistant'}: {m['content']}" for m in self.reply.messages[:-1]
        )
        return {
            "key": self.reply.key,
            "response_sha256": self.reply.response_sha256,
            "culture": self.reply.culture,
            "language": self.reply.language,
            "area": self.reply.area,
            "conversation": as_text(earlier),
            "question": as_text(self.reply.question),
            "response": as_text(self.reply.response),
            "weight": round(self.weight, 6),
            "verdict": "",
            "refusal": "",
            "note": "",
        }


def as_text(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: a model wrote it, and spreadsheets run what begins with '='."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def draw(connection: sqlite3.Connection, run: str, n: int, seed: int = 0, *, loaded: bool | None = True) -> list[Drawn]:
    """Choose up to n replies of a run that nobody has labelled yet: divided ones first, then in random order.

    ``loaded``: replies to loaded questions (True), to their harmless twins (False), or to both (None).
    """
    seats = [s for s in judges_of(connection, run) if s.decides]
    verdicts = of_run(connection, run)
    divided = set(jury([verdicts_by(connection, run, s.id) for s in seats]).queue) if len(seats) > 1 else set()
    done = labels_of(connection, run)
    variant = first_variant(connection, run)
    open_replies: dict[str, Reply] = {}
    for reply in replies(connection, run, ended_early=False):
        wanted = reply.variant == variant and (loaded is None or reply.loaded is loaded)
        if wanted and reply.key and reply.key not in done and needs_judge(reply):
            open_replies.setdefault(reply.key, reply)
    return sample(list(open_replies.values()), verdicts, divided, n, seed)


def sample(
    held: Sequence[Reply], verdicts: Mapping[str, Verdict], divided: set[str], n: int, seed: int = 0
) -> list[Drawn]:
    """Draw from strata of culture x verdict (see the module), with weights = stratum's size / drawn from it."""
    strata: dict[tuple[str, str], list[Reply]] = {}
    for reply in held:
        verdict = verdicts.get(str(reply.key))
        label = DIVIDED if reply.key in divided else verdict.label if verdict else "unjudged"
        strata.setdefault((reply.culture, label), []).append(reply)
    shares = _shares({place: len(members) for place, members in strata.items()}, n)
    generator = np.random.default_rng(seed)
    drawn = []
    for place in sorted(strata):
        members, count = strata[place], shares[place]
        picked = generator.permutation(len(members))[:count]
        drawn += [Drawn(members[i], len(members) / count, place[1] == DIVIDED) for i in picked]
    order = generator.permutation(len(drawn))
    return sorted((drawn[i] for i in order), key=lambda d: not d.divided)


def _shares(sizes: Mapping[tuple[str, str], int], n: int) -> dict[tuple[str, str], int]:
    """How many to draw from each stratum: one by one to whichever has the fewest for its due, until n or all."""
    shares = dict.fromkeys(sizes, 0)
    due = {place: DIVIDED_TIMES if place[1] == DIVIDED else 1 for place in sizes}
    for _ in range(min(n, sum(sizes.values()))):
        left = [place for place in sizes if shares[place] < sizes[place]]
        poorest = min(left, key=lambda place: (shares[place] / due[place], place))
        shares[poorest] += 1
    return shares
