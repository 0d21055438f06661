"""Texts of files nobody here wrote, made fit for a terminal."""

from __future__ import annotations

import unicodedata

# These reorder the text around them on a terminal; marks such as U+200F and joiners are part of real words.
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """A text that can't steer a terminal: control and reordering characters become U+FFFD."""
    if text.isprintable():
        return text
    return "".join("\ufffd" if _is_unsafe(char) else char for char in text)


def _is_unsafe(char: str) -> bool:
    return char != "\n" and (char in _REORDERING or unicodedata.category(char) in ("Cc", "Cs"))
