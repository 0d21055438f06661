"""Suites: what is asked.

``open_suite`` gives a checked, read-only ``Suite`` whose ``items()`` stream; ``build_suite`` makes its file
from ``suite.toml`` and ``items.jsonl``. This package imports the standard library only.
"""

from cultev.suite.build import BuildReport, build_suite
from cultev.suite.builtin import builtin_names, builtin_suite, builtin_suite_sources, builtin_suites
from cultev.suite.item import (
    KINDS,
    LABEL_SETS,
    LATER_KINDS,
    STATUSES,
    Choice,
    Dialogue,
    Item,
    Label,
    Pair,
    Source,
    Text,
    TrueFalse,
)
from cultev.suite.store import Culture, Suite, Topic, open_suite

__all__ = [
    "KINDS",
    "LABEL_SETS",
    "LATER_KINDS",
    "STATUSES",
    "BuildReport",
    "Choice",
    "Culture",
    "Dialogue",
    "Item",
    "Label",
    "Pair",
    "Source",
    "Suite",
    "Text",
    "Topic",
    "TrueFalse",
    "build_suite",
    "builtin_names",
    "builtin_suite",
    "builtin_suite_sources",
    "builtin_suites",
    "open_suite",
]
