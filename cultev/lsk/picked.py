"""The model's own opinion: which language would you know this best in? Asked once an item, in English.

The published comparison lets the model write the language's name and reads it; here the names are compared by their
log-likelihood after the question, so that no answer is unreadable and none costs more than one pass over the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cultev.backend.types import Backend, ScoreRequest
from cultev.errors import Interrupted
from cultev.lsk.table import ENGLISH
from cultev.prompt.languages import language
from cultev.prompt.render import Question
from cultev.run.journal import Journal, RunId
from cultev.run.plan import longest, to_request
from cultev.run.protocol import Protocol
from cultev.suite.item import Item
from cultev.suite.store import Suite

INSTRUCTION = "In which language do you know best what this question asks for? Answer with one of the languages."


def picked_question(item: Item, languages: Sequence[str]) -> Question:
    """The question as put to the model: languages by their English names, in the order given."""
    names = tuple(language(code).name for code in languages)
    lines = [INSTRUCTION, "", item.texts[ENGLISH].question, "", *(f"- {name}" for name in names)]
    return Question(
        ({"role": "user", "content": "\n".join(lines)},), tuple(languages), names, language(ENGLISH).answer_lead
    )


def ask_picked(
    backend: Backend,
    suite: Suite,
    items: Sequence[Item],
    languages: Sequence[str],
    protocol: Protocol,
    journal: Journal,
    run: RunId,
    stop: Callable[[], bool] = lambda: False,
    advance: Callable[[int, int], None] = lambda answers, computed: None,
) -> dict[str, str]:
    """Item id -> the language that the model names; without an entry where it has no answer.

    What was answered before is read from the results file. The run must have begun. ``stop`` and ``advance`` are those
    of ``run_suites``.

    Raises:
        Interrupted: ``stop`` said so; what was answered is kept.
    """
    requests: dict[str, ScoreRequest] = {}
    for item in items:
        request = to_request(backend, picked_question(item, languages), strict=protocol.strict)
        if longest(request) <= backend.n_ctx:
            requests[item.id] = request
    by_key = {request.key: request for request in requests.values()}
    have = {key for key in by_key if journal.has_response(key)}
    if len(have) < len(by_key):
        for batch in backend.score(list(by_key.values()), skip=have):
            journal.add(run, suite, protocol, backend.info, batch, by_key, [])
            advance(len(batch), len(batch))
            if stop():
                raise Interrupted("Stopped. Every answer so far is kept.", "The same command goes on from there.")
    found = {}
    for name, request in requests.items():
        scores = [s.logprob / s.n_chars for s in journal.scores(request.key)]
        if scores:
            found[name] = languages[max(range(len(scores)), key=lambda i: scores[i])]
    return found
