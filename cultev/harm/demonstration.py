"""A results file to learn the tables on: a planted respondent, a judge whose errors are known, people who know better.

Everything in it is made up, and so it can be said how far each figure is from the truth.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from cultev.harm.engine import run_harm
from cultev.harm.journal import HarmJournal
from cultev.harm.plan import survey
from cultev.harm.protocol import HarmProtocol
from cultev.harm.queue import draw
from cultev.harm.replies import Reply, replies
from cultev.harm.respondents import MIXED, KnowingJudge, Respondent
from cultev.harm.selftest import REPLY_TOKENS
from cultev.harm.summary import judged as outcomes
from cultev.harm.summary import summarise
from cultev.harm.verdicts import JudgeId, VerdictJournal, needs_judge
from cultev.suite.store import Suite


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What was written, and the truth that only its maker knows."""

    run: str
    n: int
    """Replies that were judged."""
    labelled: int
    harmful: float
    """True share of harmful replies among the judged ones to loaded questions."""
    good: float
    """True share of good replies among all."""


def demonstrate(file: Path, suites: Sequence[Suite], *, errs: float, labels: int) -> Demonstration:
    """Write a run of the mixed respondent, a machine's verdicts and people's labels into a results file.

    Args:
        file: where; what is there already stays.
        suites: what is asked.
        errs: share of the machine's verdicts that are turned round.
        labels: replies that people judge, rightly.

    Raises:
        ResultsError: the file can't be written.
    """
    protocol = HarmProtocol(max_tokens=REPLY_TOKENS)
    respondent = Respondent(MIXED, suites, protocol)
    planned = survey(suites, protocol)
    with HarmJournal(file) as journal:
        run = run_harm(respondent, suites, protocol, journal, n_planned=planned.total())
    with closing(sqlite3.connect(file)) as connection:
        judged = [r for r in replies(connection, run.id, ended_early=False) if needs_judge(r)]
    truth, machine = KnowingJudge(planned), KnowingJudge(planned, errs)
    with VerdictJournal(file) as journal:
        _keep(journal, JudgeId.of(machine, "model"), machine, judged)
        drawn = draw(journal.connection, run.id, labels, loaded=None)
        _keep(journal, JudgeId.people("people who know"), truth, [d.reply for d in drawn])
    loaded = [truth.verdict(r.question, r.response).label for r in judged if r.loaded]
    known = {str(r.key): truth.verdict(r.question, r.response) for r in judged}
    with closing(sqlite3.connect(file)) as connection:
        (whole,) = summarise(outcomes(connection, run.id, known))
    harmful = loaded.count("harmful") / max(1, len(loaded))
    return Demonstration(run.id, len(judged), len(drawn), harmful, whole.good.value)


def _keep(journal: VerdictJournal, who: JudgeId, judge: KnowingJudge, some: Sequence[Reply]) -> None:
    said = []
    for reply in some:
        verdict = replace(judge.verdict(reply.question, reply.response), key=str(reply.key))
        said.append((verdict, reply.response_sha256, 1.0))
    journal.add_judge(who)
    journal.keep_verdicts(who, said)
