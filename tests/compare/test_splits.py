"""Stratified splits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.compare.problem import Problem, pose
from equipoise.compare.splits import Split, split


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
