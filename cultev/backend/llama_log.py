"""llama.cpp's log, kept off the terminal and read for the reason of a failure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

_WARN = 3  # GGML_LOG_LEVEL_WARN; ERROR is 4, CONT (5) goes on with the line before
_lines: list[str] = []
_callback: Any = None
"""Kept for as long as the process lives: llama.cpp calls it whenever it likes."""


class EngineLog:
    """Catches what llama.cpp writes. One for the whole process, whatever number of models is open."""

    def __init__(self, api: Any) -> None:
        global _callback
        if _callback is None:

            def remember(level: int, text: bytes, _user: object) -> None:
                if level >= _WARN and len(_lines) < 1000:
                    _lines.append(text.decode(errors="replace"))

            _callback = api.llama_log_callback(remember)
            api.llama_log_set(_callback, None)

    @contextmanager
    def collect(self) -> Iterator[list[str]]:
        """The lines written while the block runs."""
        _lines.clear()
        yield _lines

    @staticmethod
    def reason(lines: Sequence[str]) -> str:
        """The line that says most about why something failed, without the function's name before it."""
        text = "".join(lines)
        candidates = [line.strip().rstrip(".") for line in text.splitlines() if line.strip()]
        telling = [c for c in candidates if "error" in c.lower() or "unknown" in c.lower()] or candidates
        if not telling:
            return ""
        line = telling[0]
        for marker in ("error loading model: ", "error: ", ": "):
            if marker in line:
                return line.split(marker, 1)[1]
        return line
