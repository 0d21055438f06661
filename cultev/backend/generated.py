"""A text as it grows: bytes from tokens, stop texts found across token borders."""

from __future__ import annotations

from collections.abc import Sequence


class Growing:
    """The bytes of the tokens generated so far, and where a stop text cuts them.

    Args:
        stop: texts before which the generated text ends; empty ones are ignored.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = [s.encode() for s in stop if s]
        self._reach = max(map(len, self._stop), default=1) - 1
        self._data = bytearray()
        self._ends: list[int] = []
        """Bytes after each token."""
        self.cut: int | None = None
        """Bytes before the first stop text, once one came."""

    def add(self, piece: bytes) -> bool:
        """Append one token's bytes; True when a stop text is complete with it."""
        start = max(0, len(self._data) - self._reach)
        self._data += piece
        self._ends.append(len(self._data))
        found = [at for s in self._stop if (at := self._data.find(s, start)) >= 0]
        self.cut = min(found, default=None)
        return bool(found)

    def pending(self) -> int | None:
        """How many of the tokens lie whole before what may yet become a stop text; None where nothing may."""
        for at in range(max(0, len(self._data) - self._reach), len(self._data)):
            if any(s.startswith(self._data[at:]) for s in self._stop):
                return sum(end <= at for end in self._ends)
        return None

    @property
    def text(self) -> str:
        """The text before the stop text; broken UTF-8 reads as U+FFFD."""
        return bytes(self._data[: self.cut]).decode(errors="replace")

    def kept(self) -> tuple[int, str]:
        """How many of the tokens lie whole within the text, and the rest of the text, which ends inside the next."""
        if self.cut is None:
            return len(self._ends), ""
        n = sum(end <= self.cut for end in self._ends)
        return n, bytes(self._data[self._ends[n - 1] if n else 0 : self.cut]).decode(errors="ignore")
