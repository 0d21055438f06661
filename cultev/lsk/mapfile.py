"""A map as a file of a few kB: to carry to another machine, or to lend to another model as a prior.

The file is JSON with two keys: ``map``, the map as plain data, and ``sha256``, the hash of the map's canonical text.
Canonical is: keys sorted, no spaces, ASCII only, every number that isn't whole rounded to DIGITS and written as the
shortest decimal that reads back as itself. The same fit therefore has the same hash on any machine, unless arithmetic
there differs by enough to move a fourth digit. Centres of clusters are packed as 16-bit integers in base64.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cultev.errors import ResultsError
from cultev.lsk.gate import RUNGS
from cultev.lsk.languagemap import MAP_VERSION, LanguageMap
from cultev.lsk.table import ENGLISH

DIGITS = 4
"""Of every share, posterior and p value: a hundredth of a point."""

MOST_BYTES = 20_000_000
"""No map is larger; what is says it isn't one."""

FORMAT = "cultev-map"


def write_map(found: LanguageMap) -> bytes:
    """A map as the contents of a file."""
    body = _canonical(found)
    return f'{{"format":"{FORMAT}","map":{body},"sha256":"{_hash(body)}"}}\n'.encode()


def map_hash(found: LanguageMap) -> str:
    """The hash that stands in the file: of everything the map says, and of nothing else."""
    return _hash(_canonical(found))


def read_map_file(path: Path) -> LanguageMap:
    """Open a map file; nothing in it is trusted before its hash and every field were checked.

    Raises:
        ResultsError: there is no such file, it is something else, damaged, or of a newer cultev.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ResultsError(f"{path} is too large for a map.", "Export one: cultev lsk export")
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise _no_map(path) from error
    except OSError as error:
        raise ResultsError(
            f"The map {path} can't be read: {error.strerror or error}.", "Export one: cultev lsk export"
        ) from error
    return parse_map(text, path)


def parse_map(text: str, path: Path) -> LanguageMap:
    """A map from a file's text; ``path`` is for messages only.

    Raises:
        ResultsError: see ``read_map_file``.
    """
    try:
        whole = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _no_map(path) from error
    if not isinstance(whole, dict) or whole.get("format") != FORMAT or not isinstance(whole.get("map"), dict):
        raise _no_map(path)
    data: dict[str, Any] = whole["map"]
    version = data.get("version")
    if isinstance(version, int) and version > MAP_VERSION:
        raise ResultsError(
            f"{path} was made by a newer cultev (map version {version}, this one knows {MAP_VERSION}).",
            "Update: pip install -U cultev",
        )
    try:
        if whole.get("sha256") != _hash(_text(data)):
            raise ResultsError(
                f"{path} is damaged or was changed: it hasn't the hash that it states.", "Get the file again."
            )
        return _checked(data)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
        raise ResultsError(f"{path} says something impossible: {error}.", "Export it again.") from error


def check_fits(found: LanguageMap, model: str, suite: str = "", suite_name: str = "") -> None:
    """Refuse a map of another model, or of another version of the suite.

    Args:
        found: the map.
        model: sha256 of the model at hand.
        suite: content hash of the suite at hand; '' where there is none.
        suite_name: its name, for the message.

    Raises:
        ResultsError: it belongs to another.
    """
    as_prior = "Learn a map for it, and lend this one to it: cultev lsk fit MODEL --suite NAME --prior FILE"
    if found.model["sha256"] != model:
        raise ResultsError(
            f"The map is of another model: {found.model['name']} ({found.model['quantization']}, "
            f"{found.model['format']}).",
            as_prior,
        )
    if suite and found.suite["content_hash"] != suite:
        same = found.suite["name"] == suite_name
        what = f"version {found.suite['version']}" if same else f"{found.suite['name']} {found.suite['version']}"
        raise ResultsError(f"The map was learned from another suite: {what}.", as_prior)


def _no_map(path: Path) -> ResultsError:
    return ResultsError(f"{path} is no map of cultev's.", "Export one: cultev lsk export MODEL -o FILE")


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(found: LanguageMap) -> str:
    data = asdict(found)
    if "centres" in data["cells"]:
        data["cells"] = {**data["cells"], "centres": _pack(data["cells"]["centres"])}
    return _text(_rounded(data))


def _text(data: Any) -> str:
    return json.dumps(data, ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _rounded(value: Any) -> Any:
    """Numbers to DIGITS; 0.0 without a sign, so that what is nothing is written in one way."""
    if isinstance(value, float):
        return round(value, DIGITS) + 0.0 if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _pack(centres: Sequence[Sequence[float]]) -> dict[str, Any]:
    values = np.asarray(centres, dtype=np.float64)
    packed = np.rint(np.clip(values, -1.0, 1.0) * 32767).astype("<i2")
    return {"shape": list(values.shape), "int16": base64.b64encode(packed.tobytes()).decode("ascii")}


def _unpack(data: Mapping[str, Any]) -> list[list[float]]:
    rows, columns = map(int, data["shape"])
    packed = np.frombuffer(base64.b64decode(data["int16"], validate=True), dtype="<i2")
    unpacked: list[list[float]] = (packed.reshape(rows, columns) / 32767.0).tolist()
    return unpacked


def _checked(data: Mapping[str, Any]) -> LanguageMap:
    """The map, once every field proved to be what it should be.

    Raises:
        ValueError, TypeError, KeyError, AttributeError, IndexError: a field is something else.
    """
    languages = data["languages"]
    if not (isinstance(languages, list) and languages and languages[0] == ENGLISH):
        raise ValueError("English is not its first language")
    if len(set(languages)) != len(languages) or not all(isinstance(code, str) for code in languages):
        raise ValueError("its languages are no list of codes")
    for part, keys in (("model", ("sha256", "name", "quantization", "format")),
                       ("suite", ("name", "version", "content_hash"))):  # fmt: skip
        if not all(isinstance(data[part][key], str) for key in keys):
            raise ValueError(f"it doesn't say which {part} it is of")
    if data["shipped"] not in RUNGS or data["unseen"] not in languages:
        raise ValueError("it ships nothing that is known")
    for pick in data["picks"]:
        if pick["language"] not in languages or pick["best"] not in languages or not isinstance(pick["cell"], str):
            raise ValueError(f"its cell {pick['cell']!r} has a language that the map lacks")
        for name in ("gain", "error", "chance", "right", "asked"):
            if len(pick[name]) != len(languages):
                raise ValueError(f"its cell {pick['cell']!r} lacks a language's {name}")
        numbers = [*pick["gain"], *pick["error"], *pick["chance"], *pick["asked"], pick["n"]]
        numbers += [share for share in pick["right"] if share is not None]
        if not all(isinstance(v, (int, float)) and abs(v) < 1e9 for v in numbers) or min(pick["error"]) < 0:
            raise ValueError(f"its cell {pick['cell']!r} has figures that are none")
    cells = dict(data["cells"])
    if cells["by"] == "clusters":
        cells["centres"] = _unpack(cells["centres"])
        if len(cells["centres"]) != len(data["picks"]):
            raise ValueError("it has another number of centres than of cells")
    elif cells["by"] not in ("metadata", "all"):
        raise ValueError(f"its cells are told by {cells['by']!r}")
    json.loads(data["protocol"])
    found = LanguageMap.from_json(json.dumps({**data, "cells": cells}))
    found.router()
    return found
