from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from cultev.backend.fake import FakeBackend
from cultev.errors import CultevError, UsageError
from cultev.lsk.cells import ByEmbedding, Clusters, Everything
from cultev.lsk.choose import clusters, loss
from cultev.lsk.embed import NGRAMS, Nearest, embedder_name, grams, ngrams, open_embedder, with_embeddings
from cultev.lsk.gate import Gated
from cultev.lsk.table import Items, OutcomeTable
from tests.backend.gguf_models import write_tiny_gguf

FOOD = [f"Which {dish} do people cook for the {feast} dinner?" for dish in ("soup", "stew", "rice", "bread", "cake")
        for feast in ("harvest", "wedding", "new year", "spring", "birthday", "winter")]  # fmt: skip
MUSIC = [f"Who plays the {tool} when the {kind} is sung?" for tool in ("drum", "flute", "harp", "violin", "horn")
         for kind in ("lullaby", "hymn", "ballad", "march", "serenade", "chant")]  # fmt: skip
TEXTS = FOOD + MUSIC


def items(texts: list[str] = TEXTS) -> Items:
    ids = np.array([f"i{i:03d}" for i in range(len(texts))])
    same = np.array(["x"] * len(texts))
    return Items(ids, ids, same, same)


def table(by_kind: bool, seed: int = 0) -> OutcomeTable:
    """Three languages; where kinds matter, the second is best for food and the third for music."""
    generator = np.random.default_rng(seed)
    chance = np.full((len(TEXTS), 3), 0.4)
    if by_kind:
        chance[: len(FOOD), 1] = 0.95
        chance[len(FOOD) :, 2] = 0.95
    with open_embedder("ngrams") as embedder:
        known = with_embeddings(items(), TEXTS, embedder)
    return OutcomeTable.of_right(known, ("en", "es", "hi"), generator.random(chance.shape) < chance)


def test_ngrams_are_the_same_on_every_machine() -> None:
    rows = ngrams(["Which fruit opens the meal?", "新年宴席最先上哪种水果？", "कौन सा फल?"])
    assert hashlib.sha256(json.dumps(np.round(rows, 4).tolist()).encode()).hexdigest()[:16] == "56b8c74a1789e6e2"
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0)
    assert not ngrams([""]).any() and not ngrams(["?!"]).any()


def test_grams_know_scripts_without_spaces() -> None:
    assert list(grams("ab")) == [" ab", "ab ", " ab ", " ab "]
    assert set(grams("水果")) == {"水", "果", "水果"}
    assert "ฟ" in set(grams("ผลไฟ"))
    assert list(grams("Ａb, ")) == list(grams("ab"))


def test_like_texts_are_near() -> None:
    rows = ngrams(TEXTS)
    likeness = rows @ rows.T
    inside = (likeness[:30, :30].sum() - 30) / (30 * 29)
    assert inside > likeness[:30, 30:].mean() + 0.2


def test_clusters_of_ngrams_part_the_kinds() -> None:
    cells = ByEmbedding(2).make(table(by_kind=False))
    cell = cells.assign(table(by_kind=False).items)
    assert len(set(cell[:30].tolist())) == 1 and len(set(cell[30:].tolist())) == 1 and cell[0] != cell[-1]


def test_validation_chooses_k_one_where_cells_say_nothing_and_more_where_they_do() -> None:
    plain = clusters((2, 4)).make(table(by_kind=False))
    assert isinstance(plain, Everything)
    parted = clusters((2, 4)).make(table(by_kind=True))
    assert isinstance(parted, Clusters) and len(parted.names) >= 2
    assert loss(table(by_kind=True), ByEmbedding(2)) < loss(table(by_kind=True), Everything())


def test_the_gate_ships_clusters() -> None:
    learned = table(by_kind=True)
    router = Gated(clusters((2, 4))).fit(learned)
    assert router.shipped == "cells"
    sent = router.route(learned.items)
    assert (sent[:30] == 1).mean() > 0.9 and (sent[30:] == 2).mean() > 0.9
    with open_embedder("ngrams") as embedder:
        new = with_embeddings(
            items(["Which stew do people cook for the harvest?"]), ["Which stew do people cook?"], embedder
        )
    assert router.route(new).tolist() == [1]


def test_the_models_own_embeddings() -> None:
    backend = FakeBackend()
    with open_embedder("self", backend) as embedder:
        assert embedder.name == backend.info.sha256
        known = with_embeddings(items(), TEXTS, embedder)
    assert known.embeddings is not None and known.embeddings.dtype == np.float64
    cells = ByEmbedding(4).make(OutcomeTable.of_right(known, ("en", "es"), np.ones((len(TEXTS), 2))))
    assert len(set(cells.assign(known).tolist())) == 4


def test_an_embedding_model_by_path(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf")
    with open_embedder(str(path)) as embedder:
        rows = embedder.embed(["one", "another text"])
        assert embedder.name == embedder_name(str(path), path) == embedder_name("self", path)
    assert rows.shape[0] == 2 and np.allclose(np.linalg.norm(rows, axis=1), 1.0)
    assert embedder_name("ngrams", path) == NGRAMS


def test_words_that_name_nothing(tmp_path: Path) -> None:
    with pytest.raises(CultevError, match="no embedding model"):
        open_embedder(str(tmp_path / "none"))
    with pytest.raises(UsageError, match="need embeddings"):
        ByEmbedding(2).make(OutcomeTable.of_right(items(), ("en",), np.ones((len(TEXTS), 1))))
    with pytest.raises(ValueError, match="one text per item"), open_embedder("ngrams") as embedder:
        with_embeddings(items(), TEXTS[:3], embedder)


def test_nearest() -> None:
    near = Nearest(TEXTS)
    found = near.similarity("who plays the harp in a march")
    assert "harp" in TEXTS[int(found.argmax())]
    assert np.allclose(near.similarity(TEXTS[3])[3], 1.0)
    assert not near.similarity("").any() and not near.similarity("東京").any()
    assert Nearest([]).similarity("x").shape == (0,)
