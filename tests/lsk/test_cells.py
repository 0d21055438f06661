"""Cells by name and by embedding, and how many."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cultev.errors import UsageError
from cultev.lsk.cells import UNKNOWN, ByEmbedding, ByMetadata, Clusters, Everything, seeds
from cultev.lsk.choose import clusters
from cultev.lsk.table import Items, OutcomeTable
from tests.lsk.tables import CODES, drawn, items_of, planted


def blobs(cell: NDArray[np.intp], spread: float = 0.15, seed: int = 0) -> NDArray[np.float64]:
    """Unit vectors around one axis per cell."""
    generator = np.random.default_rng(seed)
    points = np.eye(8)[cell] + generator.normal(0, spread, (len(cell), 8))
    unit: NDArray[np.float64] = points / np.linalg.norm(points, axis=1, keepdims=True)
    return unit


def embedded(truth: NDArray[np.float64], per_cell: int) -> OutcomeTable:
    cell = np.repeat(np.arange(len(truth)), per_cell)
    plain = drawn(truth, per_cell)
    items = plain.items
    with_vectors = Items(items.ids, items.groups, items.cultures, items.topics, blobs(cell))
    return OutcomeTable.of_right(with_vectors, CODES, plain.right())


def test_metadata_cells_know_only_what_training_had() -> None:
    table = drawn(planted(4), 3)
    cells = ByMetadata().make(table)
    assert cells.names == ("c0 / t0", "c0 / t1", "c1 / t0", "c1 / t1")
    assert cells.assign(items_of(np.array([3, 0, 9]))).tolist() == [3, 0, UNKNOWN]
    assert ByMetadata(("topic",)).make(table).names == ("t0", "t1")


def test_everything_is_one_cell() -> None:
    assert Everything().make(drawn(planted(4), 3)).assign(items_of(np.arange(5))).tolist() == [0] * 5


def test_clusters_find_the_blobs() -> None:
    table = embedded(planted(4), 20)
    cell = np.repeat(np.arange(4), 20)
    found = ByEmbedding(4, seed=1).make(table).assign(table.items)
    assert len({(a, b) for a, b in zip(cell, found, strict=True)}) == 4


def test_the_papers_centres_are_items() -> None:
    table = embedded(planted(4), 20)
    made = ByEmbedding(12, 512, iterations=0).make(table)
    assert isinstance(made, Clusters)
    assert table.items.embeddings is not None
    assert all((np.abs(table.items.embeddings - centre).sum(axis=1) < 1e-12).any() for centre in made.centres)


def test_the_order_of_rows_decides_nothing() -> None:
    table = embedded(planted(4), 20)
    order = np.random.default_rng(5).permutation(len(table))
    one, other = ByEmbedding(6).make(table), ByEmbedding(6).make(table.take(order))
    assert isinstance(one, Clusters) and isinstance(other, Clusters)
    assert one.centres == pytest.approx(other.centres)


def test_seeds_are_different_points_and_not_more_than_there_are() -> None:
    points = np.repeat(np.eye(3), 5, axis=0)
    chosen = seeds(points, 7, np.random.default_rng(0))
    assert sorted(points[chosen].argmax(axis=1).tolist()) == [0, 1, 2]


def test_seeds_lie_far_apart() -> None:
    """Two far blobs of very unequal size: k-means++ takes one of each, uniform drawing would in 18 % of cases."""
    points = np.concatenate([np.zeros((90, 2)), np.full((10, 2), 50.0)]) + np.linspace(0, 1, 100)[:, None]
    for seed in range(20):
        assert (points[seeds(points, 2, np.random.default_rng(seed)), 0] > 25).sum() == 1


def test_clusters_need_embeddings() -> None:
    with pytest.raises(UsageError, match="embeddings"):
        ByEmbedding(4).make(drawn(planted(4), 5))


def test_validation_chooses_one_cell_where_cells_mean_nothing() -> None:
    same = np.tile([0.5, 0.7, 0.4, 0.3], (4, 1))
    assert len(clusters((4, 8)).make(embedded(same, 40)).names) == 1


def test_validation_chooses_cells_where_they_matter() -> None:
    assert len(clusters((4, 8)).make(embedded(planted(4, 0.9, 0.3), 40)).names) >= 4
