"""A model for as long as a command needs it, and the run that it answers: what memory does to it is in the run's id."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from cultev.backend.fit import Fitted
    from cultev.backend.types import Backend, EngineSettings, Fault
    from cultev.backend.worker import WorkerBackend
    from cultev.harm.pairs import PairProtocol
    from cultev.harm.protocol import HarmProtocol
    from cultev.lsk.ask import Design
    from cultev.run.journal import Journal, RunId
    from cultev.run.protocol import Protocol
    from cultev.suite.store import Suite

PROBE = "What do cultev's questions look like?"
"""Must come through a chat template unharmed."""

Asked = TypeVar("Asked", "Protocol", "HarmProtocol", "PairProtocol")
"""What decides what a run asks, and so its id."""

Contextual = TypeVar("Contextual", "Protocol", "HarmProtocol", "PairProtocol", "Design")
"""What says of how many tokens the context is, in ``n_ctx``; None for as many as engine and model have."""


@contextlib.contextmanager
def open_engine(path: Path, fitted: Fitted) -> Iterator[WorkerBackend]:
    """The model, in a process of its own for as long as the block lasts; says what was made smaller."""
    from cultev.backend.worker import open_worker
    from cultev.cli.output import note

    backend = open_worker(path, on_fault=_tell, note=note, fitted=fitted)
    try:
        yield backend
    finally:
        backend.close()


def _tell(fault: Fault) -> None:
    from cultev.cli.output import note

    note(f"The engine died ({fault.reason}): {fault.consequence}.")


def within_memory(asked: Contextual, fitted: Fitted) -> Contextual:
    """What is asked, as the model can be asked it: with the context in it where memory has shortened that.

    What is too long then hangs on what is free just now, so it must be another run's answer than that of the whole
    context: else a file would call a run complete that this machine could answer better in an hour.
    """
    return replace(asked, n_ctx=fitted.settings.n_ctx) if fitted.shortened else asked


def answer_run(
    path: Path,
    settings: EngineSettings,
    suites: Sequence[Suite],
    protocol: Asked,
    journal: Journal,
    ask: Callable[[Backend, Asked], object],
    *,
    needs: Callable[[Sequence[Suite], Asked], int],
    generate: bool = False,
    retry: bool = False,
) -> RunId:
    """The run of a model, suites and a protocol, once it is complete; the model is loaded only if it isn't.

    Args:
        path: the model.
        settings: how it is opened.
        suites: what it is asked.
        protocol: how, with memory to spare; see ``within_memory``.
        journal: the results file.
        ask: asks what has no answer yet, of an open model, under the protocol that it is given.
        needs: tokens that suffice for every question.
        generate: whether texts are generated as well as scored.
        retry: whether what the engine died of is asked again.

    Raises:
        CultevError: whatever ``fit``, ``open_worker`` and ``ask`` raise.
    """
    from cultev.backend.fit import fit
    from cultev.backend.load import identify
    from cultev.run.journal import RunId

    run = RunId.of(identify(path), suites, protocol)
    if _is_complete(journal, run, retry):
        return run
    fitted = fit(path, settings, generate=generate, needs=partial(needs, suites, protocol))
    if fitted.shortened:
        protocol = within_memory(protocol, fitted)
        run = RunId.of(identify(path), suites, protocol)
        if _is_complete(journal, run, retry):
            return run
    with open_engine(path, fitted) as backend:
        if retry:
            journal.forget_errors(run)
        ask(backend, protocol)
    return run


def _is_complete(journal: Journal, run: RunId, retry: bool) -> bool:
    """Whether nothing is left to ask in a run; says so."""
    from cultev.cli.output import note

    if journal.status(run) != "done" or (retry and journal.engine_errors(run)):
        return False
    note(f"Run {run.id} is complete in {journal.path}: nothing to ask again.")
    return True


def check_template(backend: Backend) -> None:
    """Say that a model has no chat template, and refuse one that leaves the question out.

    Raises:
        ModelUnsupported: such a template.
    """
    from cultev.errors import ModelUnsupported

    if PROBE not in backend.render([{"role": "user", "content": PROBE}]):
        raise ModelUnsupported(
            "The model's chat template leaves the question out of what the model reads.",
            "Ask whoever made the model file, or remove its template.",
        )
    if not backend.has_template:
        click.echo("The model has no chat template: it is asked in plain text.", err=True)
