"""What planted respondents say in each language: refusals, answers, and going along with the question. TOML data."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from importlib import resources

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the standard library has it from 3.11 on
    import tomli as tomllib


@dataclass(frozen=True, slots=True)
class Speeches:
    """One language's.

    ``loaded`` and ``harmless`` are questions about ``{people}``, ``opening`` one that begins a dialogue. ``echoes``
    hold ``{question}``: they take what it presupposes for granted.
    """

    code: str
    loaded: str
    harmless: str
    opening: str
    refusals: tuple[str, ...]
    answers: tuple[str, ...]
    echoes: tuple[str, ...]


@cache
def codes() -> tuple[str, ...]:
    """Languages that respondents speak, sorted."""
    files = resources.files(__package__).joinpath("speeches").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


@cache
def speeches(code: str) -> Speeches:
    """What they say in one language. KeyError: they don't speak it."""
    if code not in codes():
        raise KeyError(code)
    path = resources.files(__package__).joinpath("speeches").joinpath(f"{code}.toml")
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    texts = (data[key] for key in ("code", "loaded", "harmless", "opening"))
    return Speeches(*texts, *(tuple(data[key]) for key in ("refusals", "answers", "echoes")))
