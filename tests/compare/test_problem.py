"""What is to be learned, inferred from the target or as asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from equipoise.compare.errors import CompareError
from equipoise.compare.problem import Problem, pose


def single(cells: Any, kind: Any = None) -> Problem:
    return pose(pd.DataFrame({"y": pd.Series(cells)}), kind)


@pytest.mark.parametrize(
    ("cells", "classes", "positive"),
    [
        ([0, 1] * 5 + [1], ("0", "1"), 1),
        ([-1.0, 1.0] * 5, ("-1", "1"), 1.0),
        ([0.5, 0.25] * 5, ("0.25", "0.5"), 0.5),
        ([True, False, False] * 5, ("False", "True"), True),
        (["yes", "no", "yes"] * 5, ("no", "yes"), "yes"),
        (["TRUE", "false"] * 5, ("false", "TRUE"), "TRUE"),
        (["sick", "well", "well"] * 5, ("well", "sick"), "sick"),
        (["sick", "sick", "well"] * 5, ("sick", "well"), "well"),
        (pd.Categorical(["sick", "sick", "well"] * 5, categories=["unused", "well", "sick"]), ("sick", "well"), "well"),
        (pd.Categorical([2, 2, 1] * 5), ("1", "2"), 2),
    ],
)
def test_two_classes_are_binary_and_the_positive_one_is_the_larger_or_the_rarer(
    cells: Any, classes: Any, positive: Any
) -> None:
    problem = single(cells)
    assert (problem.kind, problem.classes, problem.num_outputs) == ("binary", classes, 1)
    assert problem.labels.tolist() == [int(cell == positive) for cell in cells]
    assert f"the positive class is {classes[1]!r}, the negative {classes[0]!r}" in problem.notes


def test_a_positive_class_that_is_not_the_rare_one_is_pointed_out() -> None:
    assert "the positive class '1' is more than half of the rows, 75.0 %" in single([0, 1, 1, 1] * 3).notes[-1]
    assert not any("half" in note for note in single([0, 1] * 5).notes)
    assert not any("half" in note for note in single([0, 1, 1, 1] * 3, "multiclass").notes)


def test_class_names_that_differ_only_by_case_are_pointed_out() -> None:
    problem = single(["no", "No", "yes", "maybe"] * 3)
    assert problem.classes == ("No", "maybe", "no", "yes")
    assert problem.notes == ("class names that differ only by case are different classes: 'No', 'no'",)
    many = single([name for index in range(6) for name in (f"a{index}", f"A{index}")] * 3)
    assert many.notes[0].endswith("'A4', 'a4' and 2 more")


def test_more_classes_are_multiclass_from_head_to_tail() -> None:
    problem = single(["b"] * 4 + ["a"] * 4 + ["c"] * 9)
    assert (problem.kind, problem.classes, problem.counts) == ("multiclass", ("c", "a", "b"), (9, 4, 4))
    assert problem.labels.tolist() == [2] * 4 + [1] * 4 + [0] * 9
    assert problem.num_outputs == 3


def test_numbers_of_equal_count_stand_in_their_own_order() -> None:
    assert single([10, 9, 2] * 3).classes == ("2", "9", "10")


def test_two_classes_as_multiclass_when_asked() -> None:
    problem = single([0, 1, 1] * 3, "multiclass")
    assert (problem.kind, problem.classes, problem.num_outputs) == ("multiclass", ("1", "0"), 2)


def test_rows_without_a_target_are_left_out_and_counted() -> None:
    problem = single(["a", None, " ", "b", "a", "b", "a", "b", ["list"], np.nan])
    assert problem.rows.tolist() == [0, 3, 4, 5, 6, 7]
    assert problem.notes[0] == "rows without a target were left out: 4"
    assert single([0.0, 1.0, np.inf, np.nan] * 3).rows.tolist() == [0, 1, 4, 5, 8, 9]


def test_classes_too_rare_to_split_are_named_and_left_out() -> None:
    problem = single(["a"] * 5 + ["odd"] + ["b"] * 4 + ["even"] * 2)
    assert (problem.classes, problem.counts) == (("a", "b"), (5, 4))
    assert problem.rows.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert "left out: 'even' (2 rows), 'odd' (1 row)" in problem.notes[0]


@pytest.mark.parametrize(
    ("cells", "kind", "message"),
    [
        ([None, None], None, "target 'y' has no value in any row"),
        (["a"] * 5, None, r"target 'y' has one class, 'a' \(5 rows\); at least two are needed"),
        (["a"] * 5 + ["b"] * 2, None, r"one class, 'a' \(5 rows\) after leaving out 'b' \(2 rows\)"),
        (["a", "b"], None, "target 'y' has no class after leaving out"),
        ([*range(50), 0, 0, 1, 1], "binary", "has 50 classes, most of them with fewer than 3 rows: 89 % of the rows"),
        (["a", "b", "c"] * 3, "binary", "has 3 classes, a binary problem has 2"),
        (range(200), None, "holds 200 different numbers: an amount to predict"),
        (np.arange(30) / 7, None, "holds 30 different numbers: an amount to predict"),
        (["a", "b"] * 3, "multilabel", "label column 'y' holds 'a', expected only 0 and 1"),
        ([0.0, 2.0] * 3, "multilabel", "label column 'y' holds 2.0, expected only 0 and 1"),
    ],
)
def test_targets_that_cannot_be_learned(cells: Any, kind: Any, message: str) -> None:
    with pytest.raises(CompareError, match=message):
        single(cells, kind)


def test_amounts_are_classes_when_asked() -> None:
    assert len(single(list(range(150)) * 3, "multiclass").classes) == 150


def test_large_whole_numbers_stay_apart() -> None:
    assert single([2**60, 2**60 + 1] * 3).classes == (str(2**60), str(2**60 + 1))


def several(**columns: Any) -> Problem:
    return pose(pd.DataFrame(columns))


def test_several_columns_are_multilabel_from_head_to_tail() -> None:
    problem = several(a=[1, 0, 0, 0, 1, 1, 0, 0], b=[True, True, True, True, True, False, False, False])
    assert (problem.kind, problem.target, problem.classes) == ("multilabel", ("a", "b"), ("b", "a"))
    assert (problem.counts, problem.num_outputs) == ((5, 3), 2)
    assert problem.labels[:2].tolist() == [[1, 1], [1, 0]]


def test_exactly_one_label_in_each_row_is_pointed_out() -> None:
    note = "each row has exactly one label: for a multi-class comparison pass one column of class names"
    assert several(a=[1, 0, 0] * 3, b=[0, 1, 0] * 3, c=[0, 0, 1] * 3).notes == (note,)
    assert several(a=[1, 0, 0] * 3, b=[0, 1, 0] * 3, c=[0, 1, 1] * 3).notes == ()
    assert several(a=[1, 0, 0] * 3, b=[0, 1, 0] * 3).notes == ()


def test_labels_may_be_text_and_rows_without_one_of_them_are_left_out() -> None:
    problem = several(a=["1", "0", None, "true", "False", "1", "0"], b=[0, 1, 1, 0, 1, 0, 1])
    assert problem.rows.tolist() == [0, 1, 3, 4, 5, 6]


def test_labels_too_rare_to_split_are_named_and_left_out() -> None:
    problem = several(a=[0, 1] * 4, never=[0] * 8, often=[1] * 7 + [0])
    assert problem.classes == ("a",)
    assert "'never' (0 rows), 'often' (7 rows)" in problem.notes[0]
    with pytest.raises(CompareError, match="no label of 'a', 'b' has 3 rows with it and 3 without"):
        several(a=[0] * 8, b=[1] * 8)


def test_several_columns_cannot_be_one_class() -> None:
    with pytest.raises(CompareError, match="a binary problem has one target column, got 2"):
        pose(pd.DataFrame({"a": [0, 1], "b": [0, 1]}), "binary")
