"""From a request for several targets to a study: missing labels, kinds, splits, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_tasks import ROWS, TARGET, study_of, table

from equipoise.compare import splits
from equipoise.compare.errors import CompareError
from equipoise.compare.preparation import prepare
from equipoise.compare.study import Request


def test_a_row_keeps_the_labels_that_it_has(tasks_csv: Path) -> None:
    study = study_of(tasks_csv)
    hit, amount, sort = study.tasks
    frame = table()
    assert len(study.problem.rows) == len(frame), "every row has some label"
    np.testing.assert_array_equal(hit.labels, frame["hit"])
    np.testing.assert_allclose(amount.labels, frame["amount"])
    names = pd.Series([None if np.isnan(each) else sort.classes[int(each)] for each in sort.labels])
    assert names.equals(frame["sort"].where(frame["sort"].notna(), None).astype(names.dtype))
    assert sort.classes == ("plain", "fancy", "odd")
    assert sort.counts == tuple(frame["sort"].value_counts())
    missing = int(frame["amount"].isna().sum())
    assert f"amount: rows without a label, which train and test the other tasks: {missing:,}" in study.notes
    targets = study.targets(np.array([0, 5]))
    np.testing.assert_allclose(targets, np.stack([task.labels[[0, 5]] for task in study.tasks], axis=1))


def test_what_is_no_label_is_missing_and_moves_no_other(tasks_csv: Path) -> None:
    """A class of too few rows is left out, an infinite amount is none: the rows keep their other labels."""
    frame = table()
    frame.loc[[3, 90], "sort"] = "unique"
    frame["amount"] = frame["amount"].astype(object)
    frame.loc[[5, 6], "amount"] = ["inf", "-inf"]
    frame.to_csv(tasks_csv, index=False)
    _, amount, sort = study_of(tasks_csv).tasks
    expected = frame["sort"].map({name: index for index, name in enumerate(sort.classes)})
    assert sort.classes == ("plain", "fancy", "odd")
    np.testing.assert_array_equal(sort.labels, expected.to_numpy(float))
    assert np.isnan(amount.labels[[5, 6]]).all()
    np.testing.assert_allclose(np.delete(amount.labels, [5, 6]), np.delete(table()["amount"].to_numpy(), [5, 6]))


def test_a_row_whose_cells_are_all_no_labels_is_left_out_of_everything(tasks_csv: Path) -> None:
    frame = table()
    frame["amount"] = frame["amount"].astype(object)
    frame.loc[[4, 5], ["hit", "amount", "sort"]] = [None, "inf", None]
    frame.to_csv(tasks_csv, index=False)
    study, kept = study_of(tasks_csv), np.delete(np.arange(ROWS), [4, 5])
    np.testing.assert_array_equal(study.tasks[0].labels, table()["hit"][kept])
    np.testing.assert_allclose(study.table.numeric[:, 0], frame["number"][kept], rtol=1e-6)


def test_targets_are_no_features(tasks_csv: Path) -> None:
    assert [column.name for column in study_of(tasks_csv).table.columns] == ["number", "noise", "colour", "day"]
    grouped = study_of(tasks_csv, group="day")
    assert [column.name for column in grouped.table.columns] == ["number", "noise", "colour"]


def test_rows_without_any_label_are_left_out_and_samples_are_always_alike(tasks_csv: Path) -> None:
    frame = table()
    frame.loc[:9, ["hit", "amount", "sort"]] = None
    frame.to_csv(tasks_csv, index=False)
    study = study_of(tasks_csv)
    assert len(study.problem.rows) == len(frame) - 10
    assert "rows without any target were left out: 10" in study.notes
    np.testing.assert_array_equal(study.tasks[0].labels, frame["hit"][10:])
    np.testing.assert_allclose(study.table.numeric[:, 0], frame["number"][10:], rtol=1e-6)
    small, again = study_of(tasks_csv, rows=200), study_of(tasks_csv, rows=200)
    assert len(small.problem.rows) == 200
    assert "a random sample of 200 of 390 rows; --rows says how many" in small.notes
    np.testing.assert_array_equal(small.tasks[0].labels, again.tasks[0].labels)
    days = small.table.numeric[:, -1]
    assert (np.diff(days) >= 0).all(), "in the order of the table"
    assert small.identity == again.identity != study.identity


def test_each_part_of_a_split_holds_every_class_of_every_task_in_proportion(tasks_csv: Path) -> None:
    study = study_of(tasks_csv)
    for seed in range(3):
        cut = splits.split(study.problem, seed, study.order)
        for task in study.tasks:
            for label in range(len(task.classes)):
                of_class = task.labels == label
                assert of_class[cut.test].sum() / of_class.sum() == pytest.approx(0.2, abs=0.1)
                assert of_class[cut.validation].any()


def test_each_part_of_a_split_holds_the_rows_with_an_amount_in_proportion(tasks_csv: Path) -> None:
    frame = table()
    frame.loc[frame.index % 10 != 3, "amount"] = None
    frame.loc[frame.index % 10 == 3, "amount"] = np.arange(ROWS // 10)
    frame.to_csv(tasks_csv, index=False)
    study = study_of(tasks_csv)
    for seed in range(5):
        assert study.tasks[1].known[splits.split(study.problem, seed, study.order).test].sum() in (7, 8, 9)


def test_the_loss_of_a_task_can_be_named(tasks_csv: Path) -> None:
    target = "hit:binary:sigmoid_focal,amount:regression:absolute_error,sort:multiclass:inverse_frequency"
    assert [task.loss for task in study_of(tasks_csv, target=target).tasks] == [
        "sigmoid_focal",
        "absolute_error",
        "inverse_frequency",
    ]
    assert [task.loss for task in study_of(tasks_csv).tasks] == ["cross_entropy", "squared_error", "cross_entropy"]
    assert study_of(tasks_csv, target=target).identity != study_of(tasks_csv).identity


def test_thin_classes_are_shown_but_do_not_count(tasks_csv: Path) -> None:
    study = study_of(tasks_csv)
    sort = study.tasks[2]
    assert sort.test_rows[2] < 20 <= sort.test_rows[1]
    assert sort.counted == (0, 1)
    assert replace(study, tasks=(*study.tasks[:2], replace(sort, counted=(0, 1, 2)))).identity != study.identity
    assert any(warning.startswith("sort: fewer than 20 test rows: 'odd'") for warning in study.warnings)


def test_a_class_is_as_thin_as_on_the_seed_where_it_has_the_fewest_test_rows(tasks_csv: Path) -> None:
    study = study_of(tasks_csv, group="day", seeds=4)
    sort = study.tasks[2]
    tests = [sort.labels[splits.split(study.problem, seed, study.order).test] for seed in range(4)]
    counts = np.array([[int((labels == each).sum()) for each in range(3)] for labels in tests])
    assert (counts.min(axis=0) < counts.max(axis=0)).all()
    assert sort.test_rows == tuple(counts.min(axis=0))


def test_a_column_that_gives_a_task_away_is_warned_of(tasks_csv: Path) -> None:
    frame = table()
    frame["colour"] = frame["sort"].fillna("plain")
    frame.to_csv(tasks_csv, index=False)
    assert [warning for warning in study_of(tasks_csv).warnings if "column 'colour' alone tells the class" in warning]


def test_a_linear_model_is_warned_of(tasks_csv: Path) -> None:
    assert study_of(tasks_csv, model="linear").warnings[0].startswith("a linear model shares nothing between tasks")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"target": "hit:binary,nothing:regression"}, "no column 'nothing' in tasks.csv"),
        ({"target": "hit:binary,colour:regression"}, "target 'colour' holds 'red', a regression expects numbers"),
        ({"target": "hit:binary,sort:binary"}, "target 'sort' has 3 classes, a binary problem has 2"),
        ({"target": "hit:binary,constant:regression"}, "target 'constant' is the same number in every row"),
        ({"target": "hit:binary,empty:multiclass"}, "target 'empty' has no value in any row"),
        ({"target": "hit:binary,few:regression"}, "target 'few' has fewer than 10 numbers"),
        (
            {"target": "hit:binary:softmax_focal,amount:regression"},
            "no loss 'softmax_focal' trains the binary task 'hit'",
        ),
        ({"target": "hit:binary,amount:regression:squared_eror"}, "did you mean 'squared_error'"),
        ({"problem": "multiclass"}, "--problem is for one target; several say their kinds in --target"),
        ({"metric": "log_loss"}, "--metric is for one target; of several the mean relative change decides"),
        ({"group": "hit"}, "column 'hit' is the target, and cannot say how to split the rows"),
        ({"losses": "softmax_focal"}, "the loss 'softmax_focal' does not weigh tasks; choose from equal_weights"),
        ({"losses": "zzz"}, "there is no balancer 'zzz'; choose from equal_weights"),
        ({"losses": " , "}, "no balancer is named by ' , '"),
    ],
)
def test_mistakes_are_one_readable_line(tasks_csv: Path, request_: dict[str, Any], message: str) -> None:
    frame = table()
    frame["constant"], frame["empty"], frame["few"] = 7, None, np.where(frame.index < 9, frame.index, np.nan)
    frame.to_csv(tasks_csv, index=False)
    with pytest.raises(CompareError, match=re.escape(message)):
        prepare(Request(**{"data": str(tasks_csv), "target": TARGET, **request_}))


def test_too_few_labels_for_a_split_are_refused(tasks_csv: Path) -> None:
    frame = table(60)
    frame["day"] = np.arange(60) // 12
    frame["hit"] = (frame["day"] == 0).astype(int)
    frame.to_csv(tasks_csv, index=False)
    with pytest.raises(CompareError, match="hold fewer than two different values of 'hit': too few labelled rows"):
        study_of(tasks_csv, group="day")


@pytest.mark.parametrize(("field", "named"), [("train", "training"), ("validation", "validation"), ("test", "test")])
def test_a_part_of_any_seed_with_one_value_of_a_task_is_refused(
    tasks_csv: Path, monkeypatch: pytest.MonkeyPatch, field: str, named: str
) -> None:
    negative = np.flatnonzero(table()["hit"].to_numpy() == 0)
    split = splits.split

    def poor(posed: Any, seed: int, order: Any) -> splits.Split:
        cut = split(posed, seed, order)
        rows = getattr(cut, field)
        return replace(cut, **{field: np.intersect1d(rows, negative)}) if seed == 1 else cut

    monkeypatch.setattr(splits, "split", poor)
    with pytest.raises(CompareError, match=f"the {named} rows of seed 1 hold fewer than two different values of 'hit'"):
        study_of(tasks_csv)


def test_targets_without_kinds_are_labels_of_one_problem_as_before(tasks_csv: Path) -> None:
    frame = table()
    frame["other"] = 1 - frame["hit"]
    frame.to_csv(tasks_csv, index=False)
    assert prepare(Request(data=str(tasks_csv), target="hit,other")).problem.kind == "multilabel"
