"""The engine's own process, seen from inside: opens an engine, does as it is told, ends when its parent does.

Started by ``backend.worker_child``. Messages come on what was standard input and go to what was standard output;
both are put out of reach of native libraries first, whose prints end on standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cultev.backend.types import Backend, GenerateRequest, ScoreRequest, ignore_start
from cultev.backend.worker_pipe import Message, error_message, read_message, write_message

OUT_OF_MEMORY = 73
"""Exit code of a process whose Python ran out of memory: nothing it holds can be trusted then."""

_PR_SET_PDEATHSIG = 1


class _Stop(BaseException):
    """The parent wants no more of a stream."""


def main() -> None:
    """Serve one parent until it goes."""
    _ignore_signals()
    _Server(*_take_pipes()).serve()


def _ignore_signals() -> None:
    """Ctrl-C goes to the whole group: the parent decides what comes of it, and its end is ours."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)  # the parent blocked them until we were here


def _take_pipes() -> tuple[int, int]:
    """The parent's pipes as descriptors of our own; standard input is empty now, standard output is the error's."""
    source, target = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(source, os.O_BINARY)
        msvcrt.setmode(target, os.O_BINARY)
    return source, target


def _die_with(parent: int) -> None:
    """Have Linux end this process with its parent, even where a native call holds all threads up."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


class _Server:
    """One engine behind one pair of pipes."""

    def __init__(self, source: int, target: int) -> None:
        self._source, self._target = source, target
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._backend: Any = None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        """Take messages in while the engine computes: above all the news that there is no parent any more."""
        while (message := read_message(self._source)) is not None:
            self._inbox.put(message)
        os._exit(0)

    def _send(self, *message: Any) -> None:
        try:
            write_message(self._target, message)
        except OSError:
            os._exit(0)

    def serve(self) -> None:
        """Do what comes."""
        while True:
            self._do(self._inbox.get())

    def _await(self, kind: str) -> Message:
        """The next message of a kind. Meanwhile the parent may ask other things, to make its next request, say."""
        while True:
            message = self._inbox.get()
            if message[0] == kind:
                return message
            if message[0] == "stop":
                raise _Stop
            self._do(message)

    def _do(self, message: Message) -> None:
        try:
            match message:
                case ("open", parent, opener, arguments):
                    self._open(parent, opener, arguments)
                case ("call", name, arguments):
                    self._send("value", getattr(self._backend, name)(*arguments))
                case ("stream", name, requests, skip, last):
                    self._stream(name, requests, skip, last)
                case _:
                    pass  # a 'stop' or 'next' for a stream that ended in an error
        except MemoryError as error:
            with contextlib.suppress(BaseException):
                os.write(2, f"MemoryError: {error}\n".encode())
            os._exit(OUT_OF_MEMORY)
        except Exception as error:
            self._send(*error_message(error))

    def _open(self, parent: int | None, opener: str, arguments: Sequence[Any]) -> None:
        if parent is not None:
            _die_with(parent)
        module, function = opener.split(":")
        backend: Backend = getattr(importlib.import_module(module), function)(*arguments)
        self._backend = backend
        self._send("opened", backend.info, backend.n_ctx, backend.has_template, backend.parallel)

    def _stream(
        self, name: str, requests: list[ScoreRequest] | list[GenerateRequest], skip: Sequence[str], last: bool
    ) -> None:
        """Run ``score`` or ``generate``: a batch of results each time the parent asks for the next."""
        skipped = set(skip)

        def pulled() -> Iterator[ScoreRequest | GenerateRequest]:
            chunk, end = requests, last
            while True:
                yield from chunk
                if end:
                    return
                self._send("more")
                _, chunk, more_skip, end = self._await("requests")
                skipped.update(more_skip)

        self._backend.on_start = self._started
        compute: Callable[..., Iterator[list[Any]]] = getattr(self._backend, name)
        batches = compute(pulled(), skip=skipped)
        try:
            for batch in batches:
                self._send("results", list(batch))
                self._await("next")
        except _Stop:
            pass
        finally:
            self._backend.on_start = ignore_start
            close = getattr(batches, "close", None)
            if close is not None:
                close()
        self._send("done")

    def _started(self, keys: Sequence[str]) -> None:
        self._send("started", list(keys))
