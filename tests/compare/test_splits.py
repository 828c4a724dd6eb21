"""Stratified splits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.compare.problem import Problem, pose
from equipoise.compare.splits import Order, Split, overlap, split
from equipoise.compare.statistics import differences


def parts(cut: Split) -> list[np.ndarray]:
    return [cut.train, cut.validation, cut.test]


def single(counts: list[int]) -> Problem:
    return pose(pd.DataFrame({"y": np.repeat([f"c{index}" for index in range(len(counts))], counts)}))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(3, 60), min_size=2, max_size=6), st.integers(0, 1000))
def test_parts_share_no_row_hold_all_rows_and_every_class_in_proportion(counts: list[int], seed: int) -> None:
    problem = single(counts)
    cut = split(problem, seed)
    assert np.sort(np.concatenate(parts(cut))).tolist() == list(range(sum(counts)))
    for label, count in enumerate(problem.counts):
        train, validation, test = (int((problem.labels[part] == label).sum()) for part in parts(cut))
        assert validation == test == round(0.2 * count) >= 1
        assert train >= 1


def test_the_smallest_classes_have_a_row_in_each_part() -> None:
    problem = single([50, 3, 4])
    cut = split(problem, 0)
    for label, wanted in ((1, (2, 1, 1)), (2, (1, 1, 1))):
        assert tuple(int((problem.labels[part] == label).sum()) for part in parts(cut)) == wanted


def test_a_seed_repeats_its_split_and_another_draws_a_fresh_one() -> None:
    problem = single([50, 20])
    assert split(problem, 1).test.tolist() == split(problem, 1).test.tolist()
    assert split(problem, 1).test.tolist() != split(problem, 2).test.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_each_label_is_in_proportion_in_each_part(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = (generator.random((500, 4)) < [0.5, 0.2, 0.05, 0.02]).astype(int)
    problem = pose(pd.DataFrame(labels, columns=list("abcd")))
    cut = split(problem, seed)
    assert np.sort(np.concatenate(parts(cut))).tolist() == list(range(500))
    assert [len(part) for part in parts(cut)] == pytest.approx([300, 100, 100], abs=15)
    for label, count in enumerate(problem.counts):
        for part, share in zip(parts(cut), (0.6, 0.2, 0.2), strict=True):
            assert problem.labels[part][:, label].sum() == pytest.approx(share * count, abs=max(2.0, 0.1 * count))


def shares(problem: Problem, part: np.ndarray) -> np.ndarray:
    """The share of each class's rows that a part holds."""
    return np.bincount(problem.labels[part], minlength=len(problem.counts)) / np.array(problem.counts)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(5, 60))
def test_rows_of_one_group_stay_together_and_all_rows_are_there(seed: int, groups: int) -> None:
    generator = np.random.default_rng(seed)
    problem = single([120, 40])
    order = Order("group", "case", np.unique(generator.integers(0, groups, 160), return_inverse=True)[1], 5)
    cut = split(problem, seed, order)
    assert np.sort(np.concatenate(parts(cut))).tolist() == list(range(160))
    found = [set(order.ranks[part]) for part in parts(cut)]
    assert not found[0] & found[1] | found[0] & found[2] | found[1] & found[2]


@pytest.mark.parametrize("seed", range(4))
def test_small_groups_are_dealt_in_proportion_of_each_class_and_afresh(seed: int) -> None:
    problem = single([900, 240, 60])
    ranks = np.random.default_rng(0).integers(0, 500, 1200)
    order = Order("group", "case", np.unique(ranks, return_inverse=True)[1], 5)
    cut = split(problem, seed, order)
    for part, share in zip(parts(cut), (0.6, 0.2, 0.2), strict=True):
        assert shares(problem, part) == pytest.approx([share] * 3, abs=0.05)
    assert set(cut.test) != set(split(problem, seed + 1, order).test)
    assert cut.test.tolist() == split(problem, seed, order).test.tolist()


def test_groups_of_a_multilabel_problem_stay_together_too() -> None:
    generator = np.random.default_rng(0)
    problem = pose(pd.DataFrame((generator.random((400, 3)) < [0.5, 0.2, 0.1]).astype(int), columns=list("abc")))
    order = Order("group", "case", np.repeat(np.arange(100), 4), 5)
    cut = split(problem, 0, order)
    for part, share in zip(parts(cut), (0.6, 0.2, 0.2), strict=True):
        assert len(set(order.ranks[part])) * 4 == len(part)
        assert problem.labels[part].sum(axis=0) / problem.counts == pytest.approx([share] * 3, abs=0.1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 20), st.integers(5, 200))
def test_by_time_training_comes_before_validation_before_test(seed: int, moments: int) -> None:
    problem = single([150, 150])
    ranks = np.random.default_rng(seed).integers(0, moments, 300)
    seeds = 1 + seed % 7
    cut = split(problem, seed % seeds, Order("time", "when", ranks, seeds))
    train, validation, test = (ranks[part] for part in parts(cut))
    # Strictly: rows of one moment are never on both sides.
    if len(validation):
        assert train.max(initial=-1) < validation.min()
        assert validation.max() < test.min(initial=moments)
    assert train.max(initial=-1) < test.min(initial=moments)


def test_by_time_the_seeds_share_out_the_last_half_and_no_row_is_tested_twice() -> None:
    problem = single([500, 500])
    ranks = np.random.default_rng(0).permutation(1000)
    cuts = [split(problem, seed, Order("time", "when", ranks, 5)) for seed in range(5)]
    assert [int(ranks[cut.test].max()) for cut in cuts] == [999, 899, 799, 699, 599]
    assert [len(cut.test) for cut in cuts] == [100] * 5
    assert [len(cut.train) for cut in cuts] == [720, 640, 560, 480, 400]
    assert len(np.unique(np.concatenate([cut.test for cut in cuts]))) == 500
    one = split(problem, 0, Order("time", "when", ranks, 1))
    assert (len(one.train), len(one.validation), len(one.test)) == (640, 160, 200)


@pytest.mark.parametrize("seeds", [5, 20])
def test_exchangeable_predictors_seldom_differ_by_time(seeds: int) -> None:
    """Two fixed predictors of one quality, on the tool's own splits: more seeds must not make sure of nothing."""
    problem, rows = single([1000, 1000]), 2000
    order = Order("time", "when", np.arange(rows), seeds)
    tests = [split(problem, seed, order).test for seed in range(seeds)]
    generator = np.random.default_rng(0)
    found = []
    for _ in range(1500):
        one, other = generator.random((2, rows)) < 0.7
        scores = [[float(hits[test].mean()) for test in tests] for hits in (one, other)]
        found.append(differences({"one": scores[0]}, scores[1], overlap(problem, order))["one"].verdict)
    assert sum(verdict != "no evidence" for verdict in found) <= 0.05 * len(found)


def test_the_overlap_of_splits_by_groups_is_what_they_are() -> None:
    problem = single([1000, 1000])
    groups = np.repeat(np.arange(6), [1500, 100, 100, 100, 100, 100])
    order = Order("group", "who", groups, 5)
    cuts = [split(problem, seed, order) for seed in range(5)]
    expected = np.mean([len(cut.test) / len(cut.train) for cut in cuts])
    assert overlap(problem, order) == pytest.approx(expected)
    assert overlap(problem, order) > overlap(problem)
