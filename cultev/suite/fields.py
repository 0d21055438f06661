"""Reading tables and objects field by field, with complaints that gather instead of stopping at the first.

Standard library only: the package's own build loads this before anything is installed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cultev.errors import SuiteSourceError

MAX_PROBLEMS = 20

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
ID_WORDS = "letters, digits, '.', '_' and '-'"

# Overrides and embeddings reorder what a reader sees; byte order marks, U+FFFD and their like are accidents.
_UNWANTED = frozenset("\u202a\u202b\u202c\u202d\u202e\u2028\u2029\ufeff\ufffd\ufffe\uffff")

Complain = Callable[[str], None]


class Problems:
    """Complaints about one source, up to ``MAX_PROBLEMS``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: list[str] = []
        self.normalised = 0
        """Texts that were not in NFC."""

    def add(self, file: str, line: int, text: str) -> None:
        """Note one; raises when there are too many to go on."""
        self.found.append(f"{self.folder / file}:{line}: {text}")
        if len(self.found) >= MAX_PROBLEMS:
            raise self.error()

    def error(self) -> SuiteSourceError:
        """All of them as one error."""
        many = len(self.found)
        count = "1 problem" if many == 1 else f"{many} problems" + (" or more" if many >= MAX_PROBLEMS else "")
        message = f"The suite's source has {count}:\n" + "\n".join(f"  {text}" for text in self.found)
        return SuiteSourceError(message, "Mend them and build again; nothing was written.")

    def check(self) -> None:
        """Raise if there are any."""
        if self.found:
            raise self.error()


@dataclass
class Fields:
    """One table or object: hands its fields out, and complains of missing, unknown and mistyped ones."""

    data: Mapping[str, Any]
    complain: Complain
    within: str = ""
    problems: Problems | None = None
    seen: set[str] = field(default_factory=set)

    def take(self, key: str, kind: type, default: Any = None) -> Any:
        """A field of one type; without a default it must be there. After a complaint it is empty."""
        self.seen.add(key)
        if key not in self.data:
            if default is None:
                self.complain(f"{self.within}{key!r} is missing")
            return kind() if default is None else default
        value = self.data[key]
        if type(value) is not kind:
            self.complain(f"{self.within}{key!r} must be {_WORDS[kind]}, not {shown(value)}")
            return kind()
        return value

    def text(self, key: str, default: str | None = None, pattern: re.Pattern[str] | None = None, like: str = "") -> str:
        """A text without accidents; a pattern must fit it whole."""
        value = self.take(key, str, default)
        if key not in self.data or type(self.data[key]) is not str or (value == "" and default == ""):
            return str(value)
        value = clean(value, f"{self.within}{key!r}", self.complain, self.problems)
        if pattern and value and not pattern.fullmatch(value):
            self.complain(f"{self.within}{key!r} must be {like}, not {shown(value)}")
        return value

    def texts(self, key: str, default: dict[str, Any] | None = None) -> dict[str, str]:
        """A table of texts, such as names by language."""
        inner = Fields(self.take(key, dict, default), self.complain, f"{self.within}{key}.", self.problems)
        return {name: inner.text(name) for name in inner.data}

    def end(self) -> None:
        """Complain of what nobody asked for."""
        for key in self.data:
            if key not in self.seen:
                self.complain(f"{self.within}{key!r} is not a field that cultev knows")


_WORDS = {str: "a text", list: "a list", dict: "a table of fields", bool: "true or false", int: "a whole number"}


def clean(text: str, what: str, complain: Complain, problems: Problems | None = None) -> str:
    """A text in NFC, after complaining of what must not stand in it. Line feeds are allowed."""
    normal = unicodedata.normalize("NFC", text)
    if problems is not None and normal != text:
        problems.normalised += 1
    if not normal.strip():
        complain(f"{what} is empty")
    elif normal != normal.strip():
        complain(f"{what} has blanks around it")
    if normal.isprintable() and not _UNWANTED.intersection(normal) and "{" not in normal and "}" not in normal:
        return normal  # nearly all texts: the loop below is slow
    for char in normal:
        if char in "{}":
            complain(f"{what} holds a brace, as if a template had not been filled in")
            break
        if char != "\n" and (char in _UNWANTED or unicodedata.category(char) in ("Cc", "Cs", "Co")):
            complain(f"{what} holds the character U+{ord(char):04X}, which no text needs")
            break
    return normal


def shown(value: object) -> str:
    """A value as a complaint shows it: on one line, not too long."""
    shown = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
