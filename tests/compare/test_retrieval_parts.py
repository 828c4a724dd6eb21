"""Whole classes in each part, and batches of some rows of some classes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from many_classes import things

from equipoise.compare.columns import encode
from equipoise.compare.errors import CompareError
from equipoise.compare.preparation import prepare
from equipoise.compare.problem import Problem, pose, sample
from equipoise.compare.profile import warnings
from equipoise.compare.retrieval import batches, splitting
from equipoise.compare.retrieval.batches import Balanced
from equipoise.compare.splits import overlap, shares, split
from equipoise.compare.study import Request

COUNTS = st.lists(st.integers(2, 30), min_size=splitting.FEWEST_CLASSES, max_size=60)


def retrieval(counts: list[int]) -> Problem:
    names = np.repeat([f"c{index}" for index in range(len(counts))], counts)
    return pose(pd.DataFrame({"y": np.random.default_rng(0).permutation(names)}), "retrieval")


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.integers(0, 1000))
def test_no_class_is_in_two_parts_and_no_row_is_lost(counts: list[int], seed: int) -> None:
    problem = retrieval(counts)
    cut = split(problem, seed)
    parts = [cut.train, cut.validation, cut.test]
    assert np.sort(np.concatenate(parts)).tolist() == list(range(sum(counts)))
    held = [set(problem.labels[part].tolist()) for part in parts]
    assert sum(map(len, held)) == len(set.union(*held)) == len(counts)
    assert tuple(map(len, held)) == splitting.shares(len(counts))


@pytest.mark.parametrize(
    ("classes", "parts"), [(8, (3, 2, 3)), (9, (4, 2, 3)), (10, (4, 3, 3)), (20, (10, 4, 6)), (1000, (500, 200, 300))]
)
def test_about_half_of_the_classes_are_for_training_and_three_tenths_for_test(
    classes: int, parts: tuple[int, int, int]
) -> None:
    assert splitting.shares(classes) == parts
    problem = retrieval([2] * classes)
    assert shares(problem) == (parts[1] / classes, parts[2] / classes)
    assert overlap(problem) == pytest.approx(parts[2] / parts[0])


def test_test_classes_are_of_all_sizes_and_fresh_for_each_seed() -> None:
    problem = retrieval([4 * each for each in range(1, 31)])
    drawn = [np.unique(problem.labels[split(problem, seed).test]) for seed in range(50)]
    for classes in drawn:  # in the order of their sizes: one of each three or four
        assert (np.diff(classes) <= 7).all()
    assert len({tuple(classes) for classes in drawn}) == 50
    assert split(problem, 3).test.tolist() == split(problem, 3).test.tolist()
    assert set(np.concatenate(drawn)) == set(range(30))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 40), min_size=2, max_size=40), st.integers(8, 128), st.integers(0, 1000))
def test_a_batch_holds_pairs_of_rows_of_some_classes_and_no_row_twice(counts: list[int], size: int, seed: int) -> None:
    labels = torch.from_numpy(np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts)))
    torch.manual_seed(seed)
    sampler = Balanced(labels, size)
    for _ in range(3):
        drawn = list(sampler)
        assert len(drawn) == -(-len(labels) // size)
        for rows in drawn:
            assert len(rows.unique()) == len(rows) <= size
            classes = labels[rows]
            assert (classes[0::2] == classes[1::2]).all()
            held = classes.unique(return_counts=True)[1]
            assert (held >= 2).all()
            assert len(held) == min(len(counts), max(2, size // 4))


def test_every_class_and_every_row_has_its_turn() -> None:
    counts = [2, 3, 40, 7, 12, 5, 9, 30, 4, 6]
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    torch.manual_seed(0)
    sampler = Balanced(labels, 16)  # four classes of four rows
    drawn = [rows for _ in range(40) for rows in sampler]
    seen = torch.bincount(torch.cat(drawn), minlength=len(labels))
    assert (seen > 0).all()
    turns = torch.stack([torch.bincount(labels[rows], minlength=len(counts)) > 0 for rows in drawn]).sum(dim=0)
    assert turns.max() - turns.min() <= 1


def test_batches_are_a_quarter_of_a_small_table_and_bounded() -> None:
    assert [batches.batch_size(rows) for rows in (0, 40, 500, 10**6)] == [32, 32, 128, 256]


def test_classes_of_one_row_are_left_out_by_name() -> None:
    frame = things(12, 4)
    frame.loc[len(frame)] = [*[0.0] * 24, "odd one"]
    problem = pose(frame[["thing"]], "retrieval")
    assert len(problem.classes) == 12
    (note,) = problem.notes
    assert note == "classes with fewer than 2 rows have nothing to find and were left out: 'odd one' (1 row)"


def refusal(tmp_path: Any, frame: pd.DataFrame, **options: Any) -> str:
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(CompareError) as caught:
        prepare(Request(data=str(tmp_path / "t.csv"), problem="retrieval", **options))
    return str(caught.value)


def test_too_few_classes_are_said_in_one_line(tmp_path: Any) -> None:
    assert refusal(tmp_path, things(7, 5)) == (
        "target 'thing' has 7 classes of 2 rows or more; retrieval needs at least 8: 3 to train on, 2 to tune on and 3"
        " to test on, no class twice"
    )


@pytest.mark.parametrize("option", ["group", "time"])
def test_splits_of_rows_are_refused(tmp_path: Any, option: str) -> None:
    message = refusal(tmp_path, things(10, 4), **{option: "x0"})
    assert re.match(rf"--{option} splits rows, and --problem retrieval splits classes", message)


def test_several_targets_and_metrics_of_scores_are_refused(tmp_path: Any) -> None:
    assert "a retrieval problem has one target column, got 2" in refusal(tmp_path, things(10, 4), target="x0,thing")
    message = refusal(tmp_path, things(10, 4), metric="log_loss")
    assert message == (
        "--metric log_loss does not measure a retrieval problem; choose from map_at_r, recall_at_1, recall_at_5"
    )


def test_metrics_of_retrieval_are_refused_elsewhere(csv: Any) -> None:
    with pytest.raises(
        CompareError, match="--metric recall_at_1 does not measure a multiclass problem; choose from bal"
    ):
        prepare(Request(data=str(csv), metric="recall_at_1"))


def test_few_test_classes_and_copies_are_warned_of(tmp_path: Any) -> None:
    frame = things(10, 6)
    pd.concat([frame, frame.iloc[:20]]).assign(day="2020-01-01", case_id=np.arange(80) // 3).to_csv(
        tmp_path / "t.csv", index=False
    )
    study = prepare(Request(data=str(tmp_path / "t.csv"), target="thing", problem="retrieval"))
    found = " ".join(study.warnings)
    assert "each seed tests on 3 classes, as there are 10 in all" in found
    assert "--group" not in found
    assert "--time" not in found
    copies = frame.assign(y=frame["thing"])
    doubled = pd.concat([copies, copies.iloc[:20]])
    table = encode(doubled.drop(columns=["thing", "y"]))
    (warning,) = warnings(table, pose(doubled[["thing"]], "retrieval"), doubled.drop(columns=["thing", "y"]), False)
    assert warning.startswith("20 rows (25.0 %) repeat an earlier one")
    assert "a search finds them first" in warning


def test_a_sample_of_many_small_classes_holds_whole_ones() -> None:
    problem = retrieval([5] * 100)
    fewer = sample(problem, 203)
    assert fewer.counts == (5,) * 40
    assert len(fewer.rows) == len(fewer.labels) == 200
    assert set(fewer.labels.tolist()) == set(range(40))
    names = np.array(problem.classes)[problem.labels[np.isin(problem.rows, fewer.rows)]]
    assert sorted(set(names)) == sorted(fewer.classes)
    assert "40 of 100 classes, whole" in fewer.notes[-1]
    assert sample(problem, 450).counts == (4,) * 100 or len(sample(problem, 450).classes) == 100
