"""Progress on stderr: a bar on a terminal, a line now and then elsewhere; and stopping at Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import click

PLAIN_SECONDS = 30.0
"""Between two lines where stderr is no terminal."""


@contextlib.contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[int, int], None]]:
    """A function to call with (answers complete, responses computed) after each stored batch.

    Speed and time left count what was computed now, not answers found from an earlier run.
    """
    if sys.stderr.isatty():
        with _bar(total, what) as advance:
            yield advance
    else:
        yield _plain(total, what)


@contextlib.contextmanager
def _bar(total: int, what: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, rate="")
        began, computed = time.monotonic(), 0

        def advance(answers: int, responses: int) -> None:
            nonlocal computed
            computed += answers if responses else 0
            rate = computed / max(1e-9, time.monotonic() - began)
            bar.update(task, advance=answers, rate=f"{rate:,.1f} items/s" if computed else "")

        yield advance


def _plain(total: int, what: str) -> Callable[[int, int], None]:
    done, last = 0, time.monotonic()

    def advance(answers: int, responses: int) -> None:
        nonlocal done, last
        done += answers
        if time.monotonic() - last >= PLAIN_SECONDS:
            last = time.monotonic()
            click.echo(f"{what}: {done} of {total}", err=True)

    return advance


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C (or SIGTERM) finish the batch at hand, so that no answer paid for is lost.

    Yields a function that says whether to stop. A second Ctrl-C interrupts at once.
    """
    asked = False

    def remember(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        # Not through sys.stderr: the signal may have come in the middle of a write to it.
        os.write(2, b"\nStopping after the batch at hand (Ctrl-C again stops at once) ...\n")

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
