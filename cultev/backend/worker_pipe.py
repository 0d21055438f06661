"""What runs between a run and its engine's process: length-prefixed pickles, and errors that cross whole.

Both ends are the same program, started by it: pickle is no way in for anybody else.
"""

from __future__ import annotations

import os
import pickle
import struct
import traceback
from typing import Any

from cultev.errors import CultevError

_LENGTH = struct.Struct("<Q")
_PART = 1 << 20
"""Bytes of one read or write: Windows refuses very large ones on pipes."""

Message = tuple[Any, ...]
"""Its kind, and what belongs to it."""


def write_message(fd: int, message: Message) -> None:
    """Send one message.

    Raises:
        OSError: nobody reads any more.
    """
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    rest = memoryview(_LENGTH.pack(len(data)) + data)
    while rest:
        rest = rest[os.write(fd, rest[:_PART]) :]


def read_message(fd: int) -> Message | None:
    """The next message; None when the other end is gone, even in the middle of one."""
    head = _read(fd, _LENGTH.size)
    if head is None:
        return None
    data = _read(fd, _LENGTH.unpack(head)[0])
    if data is None:
        return None
    message: Message = pickle.loads(data)
    return message


def _read(fd: int, size: int) -> bytes | None:
    parts, missing = [], size
    while missing:
        try:
            part = os.read(fd, min(missing, _PART))
        except OSError:
            return None
        if not part:
            return None
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def error_message(error: Exception) -> Message:
    """An error as a message: one of cultev's own with all it says, any other as its traceback."""
    if isinstance(error, CultevError):
        return ("error", type(error), dict(error.__dict__))
    return ("bug", "".join(traceback.format_exception(error)))


def raised(message: Message) -> Exception:
    """The error that ``error_message`` was given, to be raised on this side."""
    if message[0] == "error":
        kind, state = message[1:]
        # Not by its constructor: some kinds take other words than a sentence and a next step.
        error: CultevError = kind.__new__(kind)
        CultevError.__init__(error, state["message"], state["next_step"])
        error.__dict__.update(state)
        return error
    return RuntimeError(f"A bug in the engine's process:\n{message[1]}")
