"""The engine's own process, seen from outside: start it, talk with it, and say what it died of."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cultev.backend.worker_pipe import Message, read_message, write_message
from cultev.backend.worker_process import OUT_OF_MEMORY

START = "import sys; sys.path[:] = sys.argv[1:]; from cultev.backend.worker_process import main; main()"
"""The child finds modules where we find them, and nothing in the folder that a user happens to stand in."""

POLL_SECONDS = 0.2
"""How long a wait may last without looking at signals, where the system does not break it off for them (Windows)."""

GRACE_SECONDS = 5.0
"""What an ending process gets before it is killed."""

_TAIL = 8192
"""Bytes of the child's standard error that are kept."""

_TELLING = re.compile(r"assert|error|abort|fail|terminate|what\(\)|memory|bad_alloc|exception", re.IGNORECASE)
_MEMORY = re.compile(r"out of memory|bad_alloc|MemoryError|cannot allocate|can't allocate|failed to allocate", re.I)
_WINDOWS_CODES = {
    0xC0000005: "access violation",
    0xC0000017: "out of memory",
    0xC000001D: "illegal instruction",
    0xC00000FD: "stack overflow",
    0xC0000409: "abort",
    0xE0000008: "out of memory",
}


@dataclass(frozen=True, slots=True)
class Death:
    """What a process died of."""

    reason: str
    memory: bool
    """Whether memory seems to have run out."""


class Died(Exception):
    """The process is no more."""

    def __init__(self, death: Death) -> None:
        super().__init__(death.reason)
        self.death = death


class EngineProcess:
    """One process that ``worker_process`` runs in.

    It ends when this one does, whatever happens: its standard input closes then. Ctrl-C does not reach it.
    """

    def __init__(self) -> None:
        _fill_standard_streams()
        path = [entry or str(Path.cwd()) for entry in sys.path]
        windows = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "CREATE_NO_WINDOW", 0)
        with _interrupts_held():
            self._process = subprocess.Popen(
                [sys.executable, "-c", START, *path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                creationflags=windows,
                env={"GGML_NO_BACKTRACE": "1", **os.environ},  # a debugger's view of the stack is no reason
            )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self.pid = self._process.pid
        self._target = self._process.stdin.fileno()
        self._inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._tail = b""
        self._death: Death | None = None
        self._reader = threading.Thread(target=self._read, args=[self._process.stdout.fileno()], daemon=True)
        self._listener = threading.Thread(target=self._listen, args=[self._process.stderr.fileno()], daemon=True)
        self._reader.start()
        self._listener.start()

    def _read(self, fd: int) -> None:
        while (message := read_message(fd)) is not None:
            self._inbox.put(message)
        self._inbox.put(None)

    def _listen(self, fd: int) -> None:
        with contextlib.suppress(OSError):
            while part := os.read(fd, _TAIL):
                self._tail = (self._tail + part)[-_TAIL:]

    @property
    def ended(self) -> bool:
        """Whether it is known to have ended."""
        return self._death is not None

    def open(self, opener: str, arguments: tuple[Any, ...]) -> Message:
        """Have it call 'module:function' with these arguments; its answer.

        Raises:
            Died: it ended over it.
        """
        # Linux ends a child with the thread that started it: only the main thread lives as long as the program.
        parent = os.getpid() if threading.current_thread() is threading.main_thread() else None
        self.send("open", parent, opener, arguments)
        return self.receive()

    def send(self, *message: Any) -> None:
        """Send one message.

        Raises:
            Died: the process has ended.
        """
        if self._death is not None:
            raise Died(self._death)
        try:
            write_message(self._target, message)
        except OSError:
            raise Died(self._bury()) from None
        except BaseException:
            self.kill()  # half a message is no message
            raise

    def receive(self) -> Message:
        """The next message.

        Raises:
            Died: the process has ended, and all it said before has been received.
        """
        if self._death is not None:
            raise Died(self._death)
        while True:
            try:
                message = self._inbox.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if self._process.poll() is None:
                    continue
                # Its pipe may still be open in some process that it started itself.
                self._reader.join(POLL_SECONDS)
                message = None if self._inbox.empty() else self._inbox.get()
            if message is None:
                raise Died(self._bury())
            return message

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._bury()

    def close(self) -> None:
        """Let it end, by itself within ``GRACE_SECONDS``."""
        if self._death is None:
            self._bury()

    def _bury(self) -> Death:
        """Wait for its end (it has no input any more) and find out the reason."""
        if self._death is not None:
            return self._death
        process = self._process
        assert process.stdin and process.stdout and process.stderr
        process.stdin.close()
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        except BaseException:
            process.kill()
            raise
        for thread, pipe in ((self._reader, process.stdout), (self._listener, process.stderr)):
            thread.join(1.0)
            if not thread.is_alive():
                pipe.close()
        self._death = _death(process.returncode, self._tail.decode(errors="replace"))
        return self._death


def _death(code: int, tail: str) -> Death:
    """The reason of a process's end, from its exit code and the last it wrote."""
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.search(line)] or lines
    memory = bool(_MEMORY.search(tail)) or code == OUT_OF_MEMORY
    how = f"exit code {code}"
    if code < 0:
        try:
            how = signal.Signals(-code).name
        except ValueError:
            how = f"signal {-code}"
        if how == "SIGKILL":  # the kernel's way to get memory back
            memory = True
    elif code & 0xFFFFFFFF in _WINDOWS_CODES:
        how = _WINDOWS_CODES[code & 0xFFFFFFFF]
        memory = memory or how == "out of memory"
    if memory and how != "out of memory":
        how = f"{how}, out of memory?"
    return Death(f"{how}: {telling[-1][:200]}" if telling else how, memory)


def _fill_standard_streams() -> None:
    """Put nothing where standard input, output or error is closed: a pipe must not be taken for one of them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Start a child with Ctrl-C blocked, until it ignores it: an interrupt may come while Python starts there."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
