"""Recall@k and MAP@R against their definitions, spelled out in loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.compare.retrieval import measures
from equipoise.compare.retrieval.measures import Search, measure


def whole(labels: np.ndarray) -> Search:
    """A search in which every row is a query, in the order given."""
    return Search(np.arange(len(labels)), labels, len(labels))


def by_definition(embedding: np.ndarray, labels: np.ndarray, queries: int) -> dict[str, float]:
    """Musgrave et al. 2020, section 3.2, one query after the other."""
    unit = embedding / np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12)
    found: dict[str, list[float]] = {"map_at_r": [], "recall_at_1": [], "recall_at_5": []}
    for query in range(queries):
        others = [each for each in range(len(labels)) if each != query]
        ranked = sorted(others, key=lambda each: -float(unit[query] @ unit[each]))
        right = [bool(labels[each] == labels[query]) for each in ranked]
        relevant = sum(right)
        precisions = [sum(right[: place + 1]) / (place + 1) for place in range(relevant) if right[place]]
        found["map_at_r"].append(sum(precisions) / relevant)
        found["recall_at_1"].append(float(right[0]))
        found["recall_at_5"].append(float(any(right[:5])))
    return {name: float(np.mean(values)) for name, values in found.items()}


SIZES = st.lists(st.integers(2, 9), min_size=1, max_size=7)


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(0, 10_000), st.integers(1, 6), st.data())
def test_all_metrics_are_what_their_definitions_say(
    sizes: list[int], seed: int, width: int, data: st.DataObject
) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    embedding = generator.normal(size=(len(labels), width + 1))
    queries = data.draw(st.integers(1, len(labels)))
    found = measure(torch.from_numpy(embedding), Search(np.arange(len(labels)), labels, queries), len(sizes))
    assert found.overall == pytest.approx(by_definition(embedding, labels, queries))


def test_map_at_r_of_the_example_in_the_paper() -> None:
    """R = 10 (table 1): right are the first alone, the first and the tenth, the first two, all ten."""
    angles = np.linspace(0, 1, 40)
    embedding = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # the query first, the others ever further away

    def with_right_at(places: list[int]) -> float | None:
        labels = np.ones(len(angles), np.int64)
        labels[[0, *places]] = 0
        return measure(torch.from_numpy(embedding), Search(np.arange(len(labels)), labels, 1), 2).overall["map_at_r"]

    late = list(range(30, 39))
    assert with_right_at([1, *late]) == pytest.approx(0.1)
    assert with_right_at(list(range(1, 11))) == pytest.approx(1.0)
    assert with_right_at([1, 10, *late[:8]]) == pytest.approx(0.12)
    assert with_right_at([1, 2, *late[:8]]) == pytest.approx(0.2)


@pytest.mark.parametrize("tile", [1, 7, 50, 10_000])
def test_the_size_of_a_tile_changes_nothing(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 5, 60)
    embedding = torch.from_numpy(generator.normal(size=(60, 8)))
    expected = measure(embedding, whole(labels), 5)
    monkeypatch.setattr(measures, "TILE", tile)
    assert measure(embedding, whole(labels), 5) == expected


def test_recall_of_each_class_is_that_of_its_queries() -> None:
    labels = np.array([0, 0, 2, 2, 2])
    embedding = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [1.0, 0.06]])
    found = measure(embedding, whole(labels), 4)
    assert found.by_class["recall"] == [0.0, None, pytest.approx(2 / 3), None]
    assert found.overall["recall_at_1"] == pytest.approx(2 / 5)


def test_classes_on_one_point_are_found_by_chance_though_the_table_is_sorted() -> None:
    """Ties are broken by the order of rows, so that the order must tell nothing."""
    labels = np.repeat(np.arange(20), 10)
    found = []
    for seed in range(40):
        search = Search.of(labels, seed)
        assert np.array_equal(search.labels, labels[search.rows])
        found.append(measure(torch.ones(len(search.rows), 3), search, 20).by_class["recall"])
    by_class = np.mean(np.array(found, float), axis=0)
    assert by_class == pytest.approx(np.full(20, 9 / 199), abs=0.12)


def test_what_is_not_finite_has_no_value() -> None:
    embedding = torch.tensor([[1.0], [torch.nan], [2.0]])
    found = measure(embedding, whole(np.array([0, 0, 0])), 1)
    assert set(found.overall.values()) == {None}
    assert found.by_class["recall"] == [None]
    assert found.bins is None


def test_a_row_that_is_zero_is_as_far_from_all() -> None:
    found = measure(torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.1]]), whole(np.array([0, 0, 0])), 1)
    assert found.overall["recall_at_1"] == 1


def test_large_classes_are_sampled_and_so_are_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [3, 70, 30]))
    monkeypatch.setattr(measures, "MOST_PER_CLASS", 20)
    monkeypatch.setattr(measures, "MOST_QUERIES", 25)
    search = Search.of(labels, 0)
    assert np.bincount(search.labels).tolist() == [3, 20, 20]
    assert len(set(search.rows.tolist())) == 43
    assert search.queries == 25
    assert Search.of(labels, 0).rows.tolist() == search.rows.tolist()
    assert Search.of(labels, 1).rows.tolist() != search.rows.tolist()
