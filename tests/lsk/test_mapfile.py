from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cultev.errors import ResultsError
from cultev.lsk.cells import ByEmbedding, ByMetadata, CellMaker
from cultev.lsk.embed import NGRAMS, ngrams
from cultev.lsk.gate import Gated
from cultev.lsk.languagemap import LanguageMap, make_map
from cultev.lsk.mapfile import check_fits, map_hash, parse_map, read_map_file, write_map
from cultev.lsk.table import Items, OutcomeTable
from tests.lsk.tables import drawn, planted

MODEL = {"sha256": "ab" * 32, "name": "small", "quantization": "Q4_0", "format": "gguf"}
SUITE = {"name": "invented", "version": "0.1.0", "content_hash": "cd" * 32}


def a_map(maker: CellMaker | None = None, embed: bool = False) -> LanguageMap:
    table = drawn(planted(), 20)
    if embed:
        items = table.items
        vectors = ngrams(
            [f"{topic} {culture} question" for topic, culture in zip(items.topics, items.cultures, strict=True)]
        )
        items = Items(items.ids, items.groups, items.cultures, items.topics, vectors)
        table = OutcomeTable.of_right(items, table.languages, table.right())
    router = Gated(maker or ByMetadata()).fit(table)
    return make_map(
        router, table, model=MODEL, suite=SUITE, run="r1", protocol='{"mode":"text"}', held_out=0.5, halving=False,
        tokens_full=1000, embedder=NGRAMS if embed else "",
    )  # fmt: skip


def changed(edit: Any, *, rehash: bool = True) -> str:
    """The file's text after an edit of its map, with a hash that fits unless told otherwise."""
    whole = json.loads(write_map(a_map()))
    edit(whole["map"])
    if rehash:
        text = json.dumps(whole["map"], ensure_ascii=True, sort_keys=True, separators=(",", ":"))
        whole["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps(whole)


def test_there_and_back(tmp_path: Path) -> None:
    found = a_map()
    path = tmp_path / "map.json"
    path.write_bytes(write_map(found))
    back = read_map_file(path)
    assert write_map(back) == write_map(found)
    assert map_hash(back) == map_hash(found) == json.loads(path.read_bytes())["sha256"]
    assert back.languages == found.languages and back.shipped == found.shipped == "cells"
    assert [pick.language for pick in back.picks] == [pick.language for pick in found.picks]
    assert np.allclose([p.gain for p in back.picks], [p.gain for p in found.picks], atol=1e-4)
    items = drawn(planted(), 20).items
    assert back.router().route(items).tolist() == found.router().route(items).tolist()
    assert path.stat().st_size < 20_000


def test_clusters_go_with_it() -> None:
    found = a_map(ByEmbedding(4), embed=True)
    back = parse_map(write_map(found).decode(), Path("m"))
    assert back.cells["embedder"] == NGRAMS
    assert np.allclose(back.cells["centres"], found.cells["centres"], atol=1e-4)
    assert write_map(back) == write_map(found)
    assert len(write_map(found)) < 20_000


def test_the_hash_is_of_what_it_says_and_not_of_noise_in_the_last_digits() -> None:
    found = a_map()
    noisy = replace(found, p_any=found.p_any + 1e-9, picks=tuple(
        replace(p, gain=tuple(-0.0 if g == 0 else g + 1e-12 for g in p.gain)) for p in found.picks
    ))  # fmt: skip
    assert map_hash(noisy) == map_hash(found)
    assert map_hash(replace(found, reason="another")) != map_hash(found)
    assert map_hash(replace(found, picks=found.picks[::-1])) != map_hash(found)


def test_a_file_that_was_changed_is_refused() -> None:
    def louder(data: dict[str, Any]) -> None:
        data["picks"][1]["language"] = "en"

    with pytest.raises(ResultsError, match="hasn't the hash"):
        parse_map(changed(louder, rehash=False), Path("m"))
    assert parse_map(changed(louder), Path("m")).picks[1].language == "en"


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", "7", '"map"', '{"format": "cultev-map"}', '{"format": "cultev-map", "map": []}',
    '{"format": "other", "map": {}}', "[" * 100_000, '{"format": "cultev-map", "map": NaN}',
])  # fmt: skip
def test_what_is_no_map(text: str) -> None:
    with pytest.raises(ResultsError, match="no map"):
        parse_map(text, Path("m"))


def impossible() -> dict[str, Any]:
    def at(*keys: Any, value: Any) -> Any:
        def edit(data: dict[str, Any]) -> None:
            place: Any = data
            for key in keys[:-1]:
                place = place[key]
            place[keys[-1]] = value

        return edit

    def without(key: str) -> Any:
        return lambda data: data.pop(key)

    return {
        "no languages": at("languages", value=[]),
        "no English": at("languages", 0, value="xx"),
        "twice": at("languages", 2, value="en"),
        "languages as text": at("languages", value="english"),
        "unknown rung": at("shipped", value="all"),
        "unknown language": at("picks", 0, "language", value="tlh"),
        "short": at("picks", 0, "gain", value=[0.0]),
        "text for a figure": at("picks", 0, "gain", 1, value="much"),
        "endless": at("picks", 0, "gain", 1, value=1e300),
        "negative error": at("picks", 0, "error", 1, value=-1.0),
        "cells": at("cells", "by", value="stars"),
        "clusters": at("cells", value={"by": "clusters", "centres": {"shape": [1, 2], "int16": "AAAA"}}),
        "base64": at("cells", value={"by": "clusters", "centres": {"shape": [1, 2], "int16": "?"}}),
        "model": at("model", value={"name": "x"}),
        "suite": at("suite", "content_hash", value=None),
        "protocol": at("protocol", value="{"),
        "picks": at("picks", value=7),
        "more": at("surprise", value=1),
        "missing": without("unseen"),
    }


@pytest.mark.parametrize("name", impossible())
def test_what_says_something_impossible(name: str) -> None:
    with pytest.raises(ResultsError, match="impossible"):
        parse_map(changed(impossible()[name]), Path("m"))


def test_a_newer_map(tmp_path: Path) -> None:
    def newer(data: dict[str, Any]) -> None:
        data["version"] = 99

    with pytest.raises(ResultsError, match="newer cultev"):
        parse_map(changed(newer), Path("m"))
    with pytest.raises(ResultsError, match="can't be read"):
        read_map_file(tmp_path / "none.json")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe" + base64.b64decode("AAAA"))
    with pytest.raises(ResultsError, match="no map"):
        read_map_file(tmp_path / "bytes")
    with pytest.raises(ResultsError, match="can't be read"):
        read_map_file(tmp_path)


def test_a_map_of_another_model_or_suite_version_is_refused() -> None:
    found = a_map()
    check_fits(found, MODEL["sha256"])
    check_fits(found, MODEL["sha256"], SUITE["content_hash"], SUITE["name"])
    with pytest.raises(ResultsError, match="another model: small") as error:
        check_fits(found, "00" * 32)
    assert "--prior" in error.value.next_step
    with pytest.raises(ResultsError, match=r"version 0\.1\.0"):
        check_fits(found, MODEL["sha256"], "00" * 32, "invented")
    with pytest.raises(ResultsError, match=r"invented 0\.1\.0"):
        check_fits(found, MODEL["sha256"], "00" * 32, "other")
