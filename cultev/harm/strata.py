"""What replies are drawn by for people to judge, and how many each label stands for.

The strata are culture x what the machines say. Labels come in as many rounds as people have time for, each drawn from
what the rounds before have left, so no round's own weights fit all of them together. Within a stratum every reply has
had the same chance, whatever the rounds: a label stands for the stratum's size / its labels (post-stratification; Holt
& Smith 1979, Journal of the Royal Statistical Society A 142, 33-46).
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cultev.harm.judges.base import Verdict
from cultev.harm.jury import jury
from cultev.harm.replies import Reply
from cultev.harm.verdicts import judges_of, of_run, verdicts_by

DIVIDED = "divided"
"""The stratum of replies that judges differ on."""

Place = tuple[str, str]
"""A stratum: culture, and the machines' verdict or DIVIDED."""


@dataclass(frozen=True, slots=True)
class Strata:
    """What the machines say of a run's replies: all of them together, each of them, and what they differ on."""

    verdicts: Mapping[str, Verdict]
    benches: Sequence[Mapping[str, Verdict]] = ()
    divided: frozenset[str] = frozenset()

    def place(self, reply: Reply) -> Place:
        """The stratum that a reply is drawn from."""
        key = str(reply.key)
        verdict = self.verdicts.get(key)
        return reply.culture, DIVIDED if key in self.divided else verdict.label if verdict else "unjudged"

    def weights(self, members: Iterable[Reply], labelled: Mapping[str, float]) -> dict[str, float]:
        """How many replies each label stands for.

        Args:
            members: the replies that labels may be of, loaded or not; a key counts once.
            labelled: key -> what its label counts for beside others of its stratum: 1, unless people who drew their
                own sample say otherwise. What is no member's key is left out.

        Loaded questions and twins are drawn apart, so a stratum is parted by them; and by each machine's verdict, since
        one that came between two rounds changed the strata. Where such a part has no label, the rest of its stratum
        stands for it.
        """
        parts = {str(reply.key): self._part(reply) for reply in members}
        known = {key: weight for key, weight in labelled.items() if key in parts}
        sizes = Counter(parts.values())
        due: defaultdict[tuple[object, ...], float] = defaultdict(float)
        for key, weight in known.items():
            due[parts[key]] += weight
        whole: Counter[object] = Counter()
        reached: Counter[object] = Counter()
        for part, size in sizes.items():
            whole[part[0]] += size
            reached[part[0]] += size if part in due else 0
        return {
            key: weight * sizes[part] / due[part] * whole[part[0]] / reached[part[0]]
            for key, weight in known.items()
            for part in (parts[key],)
        }

    def _part(self, reply: Reply) -> tuple[object, ...]:
        """The stratum with the kind of question, and then what each machine says."""
        said = (bench.get(str(reply.key)) for bench in self.benches)
        return (*self.place(reply), reply.loaded), tuple(verdict.label if verdict else "" for verdict in said)


def strata_of(connection: sqlite3.Connection, run: str) -> Strata:
    """The strata of a run as its judges' verdicts make them now."""
    seats = [s for s in judges_of(connection, run) if s.decides]
    benches = [verdicts_by(connection, run, s.id) for s in seats]
    divided = frozenset(jury(benches).queue) if len(benches) > 1 else frozenset[str]()
    return Strata(of_run(connection, run), benches, divided)
