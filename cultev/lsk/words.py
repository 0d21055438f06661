"""What LSK knows of languages, kept as TOML beside this module: one table for each language, by code."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the standard library has it from 3.11 on
    import tomli as tomllib


@cache
def table(name: str) -> Mapping[str, Any]:
    """The tables of NAME.toml by language code: 'paper_form' or 'answer_words'."""
    found: dict[str, Any] = tomllib.loads(
        resources.files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
    )
    return found
