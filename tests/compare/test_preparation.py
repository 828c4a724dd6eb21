"""What is decided before the first training: splits, classes that count, samples, models and warnings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_table import table

from equipoise.compare.errors import CompareError
from equipoise.compare.preparation import prepare
from equipoise.compare.profile import effective_numbers
from equipoise.compare.splits import split
from equipoise.compare.study import Request, Study


def study(path: Path, frame: pd.DataFrame, **request: Any) -> Study:
    frame.to_csv(path / "t.csv", index=False)
    return prepare(Request(data=str(path / "t.csv"), **request))


def rows(count: int = 600) -> pd.DataFrame:
    """Numbers without any secret, and two classes."""
    generator = np.random.default_rng(0)
    return pd.DataFrame({"x": generator.normal(size=count), "y": np.where(generator.random(count) < 0.3, "a", "b")})


def test_thin_classes_are_named_and_left_out(tmp_path: Path) -> None:
    found = study(tmp_path, table(1000))
    assert [found.problem.classes[index] for index in found.counted] == ["common", "rarer"]
    assert found.test_rows[2] < 20
    assert any(
        re.search(r"fewer than 20 test rows: 'rare' \(\d+\); shown, but left out", each) for each in found.warnings
    )


def test_where_too_few_classes_would_be_left_all_count(tmp_path: Path) -> None:
    found = study(tmp_path, table(240))
    assert found.counted == (0, 1, 2)
    assert any("chance has a large say" in each for each in found.warnings)


def test_a_label_of_several_may_stand_alone(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.arange(500) ** 2 % 17, "u": np.arange(500) % 2, "v": (np.arange(500) % 20 == 0) * 1})
    found = study(tmp_path, frame, target="u,v")
    assert [found.problem.classes[index] for index in found.counted] == ["u"]


def test_groups_stay_together_and_their_column_is_no_feature(tmp_path: Path) -> None:
    frame = rows().assign(case=np.arange(600) // 3)
    found = study(tmp_path, frame, target="y", group="case")
    assert [column.name for column in found.table.columns] == ["x"]
    assert "rows of one 'case' stay together (200 of them); the column is no feature" in found.notes
    cut = split(found.problem, 0, found.order)
    assert not set(cut.train // 3) & set(cut.test // 3)
    plain = study(tmp_path, frame, target="y")
    assert found.key("cross_entropy", 0) != plain.key("cross_entropy", 0)


def test_rows_without_a_group_are_one_each(tmp_path: Path) -> None:
    cases = [None if row % 2 else f"g{row // 60}" for row in range(600)]
    found = study(tmp_path, rows().assign(case=cases), target="y", group="case")
    assert found.order is not None
    assert len(set(found.order.ranks)) == 10 + 300


@pytest.mark.parametrize("form", ["number", "date"])
def test_by_time_test_rows_are_the_latest(tmp_path: Path, form: str) -> None:
    when = np.random.default_rng(1).permutation(600)
    cells = when if form == "number" else pd.Timestamp("2020-01-01") + pd.to_timedelta(when, unit="D")
    found = study(tmp_path, rows().assign(when=cells), target="y", time="when")
    cut = split(found.problem, 0, found.order)
    assert when[cut.test].min() > when[cut.validation].max() > when[cut.validation].min() > when[cut.train].max()
    assert "test rows are later than training rows by 'when' (600 moments); the column is no feature" in found.notes


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"group": "x", "time": "x"}, "give --group or --time, not both"),
        ({"group": "z"}, "no column 'z' in t.csv"),
        ({"time": "y"}, "column 'y' is the target, and cannot say how to split the rows"),
        ({"group": "few"}, "column 'few' has 2 groups, at least 5 are needed to split"),
        ({"time": "few"}, "column 'few' has 2 moments, at least 5 are needed to split"),
        ({"time": "word"}, "column 'word' has 600 cells that are neither a date nor a number"),
        ({"time": "sorted"}, "hold fewer than two classes: too few groups or times"),
        ({"device": "abacus"}, "--device abacus cannot be used: "),
        ({"model": "forest"}, "--model 'forest' is none of linear, mlp, and not of the form module:factory"),
        ({"model": "no_such_module:make"}, "cannot import no_such_module"),
        ({"model": "math:nothing"}, "math has no callable 'nothing'"),
        ({"model": "math:hypot"}, "--model math:hypot gave float, expected a torch.nn.Module"),
        ({"model": "math:sqrt"}, "--model math:sqrt, called with (4, 1), failed: TypeError"),
        ({"model": "torch.nn:Identity"}, "--model torch.nn:Identity gave scores [3, 4] for 3 rows, expected [3, 1]"),
    ],
)
def test_requests_that_cannot_be_met(tmp_path: Path, request_: dict[str, Any], message: str) -> None:
    frame = rows().assign(few=lambda each: each.index % 2, word=lambda each: each.index.map(lambda row: "ab"[row % 2]))
    frame = frame.sort_values("y").assign(sorted=range(600))
    with pytest.raises(CompareError, match=re.escape(message)):
        study(
            tmp_path, frame.drop(columns=[] if request_.get("time") == "sorted" else ["sorted"]), target="y", **request_
        )


def test_a_sample_keeps_the_classes_in_proportion(tmp_path: Path) -> None:
    whole, found = study(tmp_path, table(1000)), study(tmp_path, table(1000), rows=300)
    assert len(found.problem.rows) == len(found.problem.labels) == sum(found.problem.counts) == 299
    assert np.array(found.problem.counts) / 300 == pytest.approx(np.array(whole.problem.counts) / 1000, abs=0.003)
    assert "a sample of 299 of 1,000 rows, as asked" in found.notes
    assert found.key("cross_entropy", 0) != whole.key("cross_entropy", 0)
    again = study(tmp_path, table(1000), rows=300)
    assert again.problem.rows.tolist() == found.problem.rows.tolist()
    assert study(tmp_path, table(1000), rows=5000).notes == whole.notes


def test_copies_of_rows_are_warned_of(tmp_path: Path) -> None:
    frame = pd.concat([rows(), rows().iloc[:50]])
    (warning,) = study(tmp_path, frame).warnings
    assert warning.startswith("50 rows (7.7 %) repeat an earlier one in every feature and the target")
    assert not study(tmp_path, rows()).warnings


@pytest.mark.parametrize(
    ("name", "per_group", "warned"),
    [
        ("case_id", 3, True),
        ("PATIENT", 4, True),
        ("accident number", 2, True),
        ("customer", 300, False),
        ("width", 3, False),
        ("idea", 3, False),
        ("id", 1, False),
    ],
)
def test_a_column_that_numbers_groups_is_warned_of(tmp_path: Path, name: str, per_group: int, warned: bool) -> None:
    frame = rows()
    frame.insert(0, name, np.random.default_rng(0).permutation(600) // per_group)
    found = [each for each in study(tmp_path, frame).warnings if "looks like the number of a group" in each]
    assert bool(found) == warned
    if warned:
        assert f"--group {name}" in found[0]
        assert not study(tmp_path, frame, group=name, target="y").warnings


def test_dates_are_warned_of(tmp_path: Path) -> None:
    frame = rows()
    frame.insert(0, "day", pd.date_range("2020-01-01", periods=600).strftime("%Y-%m-%d"))
    (warning,) = study(tmp_path, frame).warnings
    assert warning.startswith("column 'day' is a date")
    assert not study(tmp_path, frame, time="day", seeds=2).warnings


@pytest.mark.parametrize("kind", ["number", "word"])
def test_a_column_that_gives_the_answer_away_is_warned_of(tmp_path: Path, kind: str) -> None:
    frame = rows()
    frame.insert(0, "outcome", frame["y"].map({"a": 1, "b": 2} if kind == "number" else {"a": "died", "b": "lived"}))
    (warning,) = study(tmp_path, frame).warnings
    assert warning.startswith("column 'outcome' alone tells the class of nearly every row")
    frame.loc[:9, "outcome"] = frame["outcome"].iloc[::-1].to_numpy()[:10]
    assert not study(tmp_path, frame).warnings


def test_the_effective_number_by_its_definition() -> None:
    assert effective_numbers([1, 2, 10**6]) == pytest.approx([1, 1.999, 1000])


def test_another_metric_is_another_set_of_trainings(csv: Path) -> None:
    found = [prepare(Request(data=str(csv), metric=metric)) for metric in ("macro_f1", "log_loss")]
    assert found[0].key("cross_entropy", 0) != found[1].key("cross_entropy", 0)
    assert [each.larger_is_better for each in found] == [True, False]
