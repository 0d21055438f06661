"""Which replies people should judge, so that few labels say much about a judge.

Replies are drawn within strata of culture x verdict, as equally as there are enough, since harm is rare and a plain
sample would hold little of it; ``calibrate`` undoes this with weights (see ``strata``). Labels of earlier rounds count
towards a stratum's share. Replies on which judges differ are a stratum of their own, drawn twice as densely, and stand
first.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cultev.harm.replies import Reply, replies
from cultev.harm.strata import DIVIDED, Place, Strata, strata_of
from cultev.harm.verdicts import first_variant, labels_of, needs_judge

COLUMNS = (
    "key", "response_sha256", "culture", "language", "area", "conversation", "question", "response", "verdict",
    "refusal", "note",
)  # fmt: skip
"""Columns of the sheet; people fill in the last three."""

DIVIDED_TIMES = 2


@dataclass(frozen=True, slots=True)
class Drawn:
    """A reply for people to judge."""

    reply: Reply
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
    done = labels_of(connection, run)
    variant = first_variant(connection, run)
    held: dict[str, Reply] = {}
    for reply in replies(connection, run, ended_early=False):
        wanted = reply.variant == variant and (loaded is None or reply.loaded is loaded)
        if wanted and reply.key and needs_judge(reply):
            held.setdefault(reply.key, reply)
    return sample(list(held.values()), strata_of(connection, run), n, seed, done=done)


def sample(held: Sequence[Reply], strata: Strata, n: int, seed: int = 0, *, done: Collection[str] = ()) -> list[Drawn]:
    """Draw up to n of the replies whose key is not ``done``, from strata as equally as may be with those that are."""
    open_replies: dict[Place, list[Reply]] = {}
    before: Counter[Place] = Counter()
    for reply in held:
        place = strata.place(reply)
        if reply.key in done:
            before[place] += 1
        else:
            open_replies.setdefault(place, []).append(reply)
    shares = _shares({place: len(members) for place, members in open_replies.items()}, n, before)
    generator = np.random.default_rng(seed)
    drawn = []
    for place in sorted(open_replies):
        members = open_replies[place]
        picked = generator.permutation(len(members))[: shares[place]]
        drawn += [Drawn(members[i], place[1] == DIVIDED) for i in picked]
    order = generator.permutation(len(drawn))
    return sorted((drawn[i] for i in order), key=lambda d: not d.divided)


def _shares(sizes: Mapping[Place, int], n: int, before: Mapping[Place, int]) -> dict[Place, int]:
    """How many to draw from each stratum: one by one to whichever has the fewest for its due, until n or all.

    ``before``: labels that a stratum has already.
    """
    shares = dict.fromkeys(sizes, 0)
    due = {place: DIVIDED_TIMES if place[1] == DIVIDED else 1 for place in sizes}
    for _ in range(min(n, sum(sizes.values()))):
        left = [place for place in sizes if shares[place] < sizes[place]]
        poorest = min(left, key=lambda place: ((before.get(place, 0) + shares[place]) / due[place], place))
        shares[poorest] += 1
    return shares
