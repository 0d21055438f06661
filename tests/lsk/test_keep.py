"""Maps: as data and back, kept and found, and told apart from those of other models and suite versions."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cultev.backend.fake import FakeBackend
from cultev.errors import CultevError, ResultsError, UsageError
from cultev.lsk.cells import ByEmbedding, ByMetadata, CellMaker, Everything
from cultev.lsk.gate import Gated
from cultev.lsk.keep import find_map, keep_map, keep_table, map_id, read_map
from cultev.lsk.languagemap import MAP_VERSION, LanguageMap, make_map
from cultev.run.engine import run_suites
from cultev.run.journal import Journal
from cultev.run.protocol import Protocol
from cultev.run.store import open_results
from tests.lsk.tables import drawn, items_of, planted
from tests.worlds import small_suite

TABLE = drawn(planted(12), 8)


def mapped(maker: CellMaker = ByMetadata(), **changes: object) -> LanguageMap:  # noqa: B008 - frozen
    table = TABLE
    if isinstance(maker, ByEmbedding):
        vectors = np.eye(12)[np.repeat(np.arange(12), 8)]
        table = replace(TABLE, items=replace(TABLE.items, embeddings=vectors))
    made = make_map(
        Gated(maker).fit(table), table, model={"sha256": "aa", "name": "m", "quantization": "q", "format": "gguf"},
        suite={"name": "s", "version": "1", "content_hash": "bb"}, run="r1", protocol="{}", held_out=0.5,
        halving=False, tokens_full=10, embedder="ngrams/1",
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("maker", [ByMetadata(), Everything(), ByEmbedding(12)])
def test_a_map_is_the_same_when_read_again(maker: CellMaker) -> None:
    made = mapped(maker)
    again = LanguageMap.from_json(made.to_json())
    assert again.to_json() == made.to_json()
    assert again == made


def test_a_map_routes_as_the_gate_does() -> None:
    probe = items_of(np.arange(12))
    expected = Gated().fit(TABLE).route(probe)
    assert (mapped().router().route(probe) == expected).all()
    picks = mapped().pick_of(probe)
    assert [mapped().languages.index(pick.language) for pick in picks if pick] == expected.tolist()
    stranger = replace(probe, cultures=np.array(["elsewhere"] * 12))
    assert mapped().pick_of(stranger) == [None] * 12


def test_what_a_cell_rests_on() -> None:
    pick = mapped().picks[1]
    at = mapped().languages.index(pick.best)
    assert pick.n == 8
    assert (pick.right[at], pick.right[0], pick.asked) == (1.0, 0.0, (8, 8, 8, 8))
    assert pick.chance[at] > 0.99
    assert (pick.gain[0], pick.error[0]) == (0, 0)


def test_maps_are_found_by_model_and_suite(tmp_path: Path) -> None:
    with small_suite(tmp_path, n=8) as suite:
        path = tmp_path / "r.db"
        with closing(Journal(path)) as journal:
            maps = []
            for name in ("one", "two"):
                backend = FakeBackend(name=name)
                run = run_suites(backend, [suite], Protocol(), journal, n_planned=1)
                model = {**mapped().model, "sha256": backend.info.sha256}
                home = {**mapped().suite, "content_hash": suite.content_hash}
                maps.append(mapped(run=run.id, model=model, suite=home))
                assert keep_map(journal, maps[-1]) == keep_map(journal, maps[-1]) == map_id(maps[-1])
                keep_table(journal, run.id, suite.content_hash, TABLE)
        with closing(open_results(path, write=False)) as db:
            for made in maps:
                name, found, others = find_map(db, path, made.model["sha256"], suite.content_hash)
                assert (name, found, others) == (map_id(made), made, ())
            with pytest.raises(UsageError, match="several maps"):
                find_map(db, path)
            with pytest.raises(ResultsError, match="not of this model"):
                find_map(db, path, "ff")
            with pytest.raises(ResultsError, match="not of this version of the suite"):
                find_map(db, path, maps[0].model["sha256"], "ff")
            assert db.execute("SELECT count(*) FROM lsk_tables").fetchone()[0] == 2 * TABLE.right().size
            rows = db.execute("SELECT cell, gain, n_asked, accuracy FROM v_lsk_cells WHERE sent").fetchall()
    assert len(rows) == 2 * 12
    assert {(gain > 0.5, n, accuracy) for _, gain, n, accuracy in rows} == {(True, 8, 1.0), (False, 8, 1.0)}


def test_a_small_trial_does_not_take_the_place_of_the_full_map(tmp_path: Path) -> None:
    """Of several maps of one model and suite the one of the most items counts; of as many, the latest; or the named."""
    with small_suite(tmp_path, n=8) as suite:
        path = tmp_path / "r.db"
        backend = FakeBackend()
        model = {**mapped().model, "sha256": backend.info.sha256}
        home = {**mapped().suite, "content_hash": suite.content_hash}
        with closing(Journal(path)) as journal:
            maps = []
            for limit, training in ((None, 96), (8, 20), (20, 96)):
                run = run_suites(backend, [suite], Protocol(limit=limit), journal, n_planned=1)
                maps.append(mapped(run=run.id, model=model, suite=home, training=training))
                keep_map(journal, maps[-1])
                if training == 20:
                    with closing(open_results(path, write=False)) as db:
                        assert find_map(db, path)[:2] == (map_id(maps[0]), maps[0])
        first, small, last = map(map_id, maps)
        with closing(open_results(path, write=False)) as db:
            name, found, others = find_map(db, path, backend.info.sha256, suite.content_hash)
            assert (name, found, set(others)) == (last, maps[2], {first, small})
            name, found, others = find_map(db, path, wanted=small[:8])
            assert (name, found, set(others)) == (small, maps[1], {first, last})
            with pytest.raises(UsageError, match="no map's ID"):
                find_map(db, path, wanted="ffff")


def test_a_map_that_leaned_on_another_is_another_map() -> None:
    plain, lent = mapped(), mapped(prior="tiny (F16, gguf)")
    assert len({map_id(plain), map_id(lent), map_id(mapped(prior="other (F16, gguf)"))}) == 3
    assert map_id(lent) == map_id(mapped(prior="tiny (F16, gguf)", shipped="english", training=3)), "what it found"


def test_damaged_and_newer_maps() -> None:
    whole = json.loads(mapped().to_json())
    for text, telling in (
        ("{", "damaged"),
        ("[]", "damaged"),
        (json.dumps({**whole, "picks": 3}), "damaged"),
        (json.dumps({**whole, "version": MAP_VERSION + 1}), "newer cultev"),
    ):
        with pytest.raises(CultevError, match=telling):
            read_map(text)
