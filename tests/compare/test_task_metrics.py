"""Δm by hand, and what a task is judged by."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, mean_absolute_error, r2_score, root_mean_squared_error

from equipoise.compare.tasks import metrics
from equipoise.compare.tasks.task import Task


def task(kind: Any, loss: str = "cross_entropy", name: str = "t") -> Task:
    classes = {"binary": ("0", "1"), "multiclass": ("a", "b", "c")}.get(kind, ())
    return Task(
        name, kind, loss, classes, (1,) * len(classes), np.zeros(1), (1,) * len(classes), tuple(range(len(classes)))
    )


BINARY, AMOUNT, SORT = task("binary"), task("regression", "squared_error"), task("multiclass")
positive = st.floats(0.01, 100)


def test_delta_of_the_papers_is_the_mean_of_signed_relative_changes() -> None:
    """Maninis et al. 2019 by hand: +10 % average precision, RMSE 5 % larger, balanced accuracy as before."""
    changes = [
        metrics.change(BINARY, 0.22, 0.20),
        metrics.change(AMOUNT, 42.0, 40.0),
        metrics.change(SORT, 0.5, 0.5),
    ]
    assert changes == pytest.approx([10.0, -5.0, 0.0])
    assert metrics.delta(changes) == pytest.approx(5 / 3)


@given(st.lists(st.tuples(positive, positive, st.booleans()), min_size=1, max_size=6))
def test_delta_is_that_of_a_plain_loop(values: list[tuple[float, float, bool]]) -> None:
    expected = 0.0
    for found, reference, smaller in values:
        expected += (-1) ** smaller * (found - reference) / reference
    changes = [metrics.change(AMOUNT if smaller else BINARY, a, b) for a, b, smaller in values]
    assert metrics.delta(changes) == pytest.approx(100 * expected / len(values), rel=1e-9, abs=1e-9)


def test_what_is_not_defined_is_not_made_up() -> None:
    assert metrics.change(BINARY, None, 0.5) is metrics.change(BINARY, 0.5, None) is None
    assert metrics.change(BINARY, 0.5, 0.0) is None
    assert metrics.delta([1.0, None]) is None
    assert metrics.delta([]) is None


@pytest.mark.parametrize(
    ("kind", "loss", "name"),
    [
        ("binary", "cross_entropy", "average_precision"),
        ("multiclass", "softmax_focal", "balanced_accuracy"),
        ("regression", "squared_error", "rmse"),
        ("regression", "absolute_error", "mae"),
        ("regression", "ghm_r", "mae"),
    ],
)
def test_a_task_is_judged_by_what_its_loss_asks_for(kind: str, loss: str, name: str) -> None:
    assert metrics.headline(task(kind, loss)) == name
    assert metrics.names(task(kind, loss))[0] == name


def test_regression_is_scored_in_its_own_unit_as_scikit_learn_does() -> None:
    generator = np.random.default_rng(0)
    labels = generator.normal(50, 20, 100)
    predicted = labels + generator.normal(0, 5, 100)
    labels[::7] = np.nan
    known = ~np.isnan(labels)
    found = metrics.evaluate(AMOUNT, predicted[:, None], labels)["overall"]
    assert found["rmse"] == pytest.approx(root_mean_squared_error(labels[known], predicted[known]))
    assert found["mae"] == pytest.approx(mean_absolute_error(labels[known], predicted[known]))
    assert found["r2"] == pytest.approx(r2_score(labels[known], predicted[known]))


def test_rows_without_a_label_are_no_part_of_the_score() -> None:
    scores = np.array([[2.0], [1.0], [0.0], [-1.0], [9.0]])
    labels = np.array([1.0, 0.0, 1.0, 0.0, np.nan])
    found = metrics.evaluate(BINARY, scores, labels)
    assert metrics.value(BINARY, found) == pytest.approx(average_precision_score(labels[:4], scores[:4, 0]))


def test_classes_that_are_questions_of_their_own_are_scored_as_such() -> None:
    """Their probabilities are sigmoids, brought to the sum of 1."""
    scores, labels = np.array([[2.0, 0.0, -1.0], [0.0, 3.0, 0.5]]), np.array([0.0, 2.0])
    probability = 1 / (1 + np.exp(-scores))
    probability /= probability.sum(axis=1, keepdims=True)
    found = metrics.evaluate(task("multiclass", "class_balanced_sigmoid_focal"), scores, labels)
    assert found["overall"]["log_loss"] == pytest.approx(-np.log(probability[[0, 1], [0, 2]]).mean())
    assert metrics.evaluate(SORT, scores, labels)["overall"]["log_loss"] != found["overall"]["log_loss"]


def test_diverged_predictions_have_no_score() -> None:
    labels = np.array([1.0, 0.0])
    assert metrics.value(AMOUNT, metrics.evaluate(AMOUNT, np.array([[np.nan], [1.0]]), labels)) is None
    assert metrics.value(BINARY, metrics.evaluate(BINARY, np.array([[np.inf], [1.0]]), labels)) is None


@given(st.lists(st.tuples(positive, positive), min_size=3, max_size=3), st.lists(positive, min_size=3, max_size=3))
def test_the_rank_of_two_trials_is_that_of_the_mean_log_ratio_to_any_reference(
    trials: list[tuple[float, float]], reference: list[float]
) -> None:
    tasks = [replace(each, name=str(index)) for index, each in enumerate((BINARY, AMOUNT, SORT))]
    signs = (1, -1, 1)

    def rank(values: list[float]) -> float:
        pairs = zip(tasks, values, strict=True)
        scores = {each.name: {"overall": {metrics.headline(each): value}, "by_class": {}} for each, value in pairs}
        found = metrics.rank(tasks, scores)
        assert found is not None
        return found

    first, second = (list(each) for each in zip(*trials, strict=True))
    ratios = [
        sum(sign * math.log(value / base) for sign, value, base in zip(signs, values, reference, strict=True)) / 3
        for values in (first, second)
    ]
    assert math.log(rank(first)) - math.log(rank(second)) == pytest.approx(ratios[0] - ratios[1], abs=1e-9)


def test_a_metric_of_0_has_no_rank() -> None:
    assert metrics.rank([BINARY], {"t": {"overall": {"average_precision": 0.0}, "by_class": {}}}) is None
