"""How good each task is, and what all tasks together gained: the mean relative change against single-task models.

`Δm = 1/T Σ ± (M - M_single) / M_single` (Maninis, Radosavovic and Kokkinos, "Attentive Single-Tasking of Multiple
Tasks", CVPR 2019; Vandenhende et al., "Multi-Task Learning for Dense Prediction Tasks", TPAMI 2021), the sign
such that more is better. A relative change says something only of a metric that is above 0 and whose 0 means something.
Average precision, balanced accuracy, and the errors of a regression in its own unit are such; R² is none (it may be 0
or less), so it is shown and decides nothing. A regression is judged by the error that its loss asks for: the root of
the mean squared error, or the mean absolute error.

Trials are ranked by the geometric mean of the metrics, errors by their inverse. It needs no single-task model: it
orders as the mean of `± log (M / M_single)` does, and that is Δm for small changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

import numpy as np

from .. import metrics
from .task import Floats, Task

# What the trials are ranked by, under a name of its own among the metrics of a training's result.
RANK = cast(metrics.Name, "geometric_mean")
OF_REGRESSION = ("rmse", "mae", "r2")
SMALLER_IS_BETTER = frozenset({"rmse", "mae", *metrics.SMALLER_IS_BETTER})
IN_WORDS = {"rmse": "RMSE", "mae": "mean absolute error", "r2": "R²", "macro_f1": "macro F1", "brier": "Brier score"}

TaskScores = Mapping[str, Any]


def headline(task: Task) -> str:
    """The metric that a task is judged by."""
    if task.kind == "regression":
        return "rmse" if task.loss == "squared_error" else "mae"
    return metrics.HEADLINE[task.kind]


def names(task: Task) -> tuple[str, ...]:
    """All metrics of a task, the one that decides first."""
    every = OF_REGRESSION if task.kind == "regression" else metrics.NAMES
    first = headline(task)
    return (first, *(name for name in every if name != first))


def in_words(name: str) -> str:
    """`average precision`, `RMSE`."""
    return IN_WORDS.get(name, name.replace("_", " "))


def evaluate(task: Task, predicted: Floats, labels: Floats) -> TaskScores:
    """Compare predictions with labels, where there are labels.

    Args:
        task: the task.
        predicted: scores [N, C] of a classification, amounts [N, 1] of a regression.
        labels: [N], NaN where missing.

    Returns:
        What `compare.metrics.Scores` holds, as JSON can hold it.
    """
    known = ~np.isnan(labels)
    predicted, labels = predicted[known], labels[known]
    if task.kind != "regression":
        scores = metrics.evaluate(task.kind, predicted, labels.astype(np.int64), task.independent)
        return asdict(scores)
    return {"by_class": {}, "overall": _of_regression(predicted[:, 0], labels), "bins": None}


def _of_regression(predicted: Floats, labels: Floats) -> dict[str, float | None]:
    if not len(labels) or not np.isfinite(predicted).all():
        return dict.fromkeys(OF_REGRESSION)
    errors = predicted - labels
    squared = float((errors**2).mean())
    spread = float(labels.var())
    return {
        "rmse": math.sqrt(squared),
        "mae": float(np.abs(errors).mean()),
        "r2": 1 - squared / spread if spread else None,
    }


def value(task: Task, scores: TaskScores, name: str | None = None) -> float | None:
    """A metric of a task from its scores; the one that decides unless another is named."""
    return metrics.value(scores, name or headline(task), task.counted)


def rank(tasks: Sequence[Task], scores: Mapping[str, TaskScores]) -> float | None:
    """The geometric mean of the tasks' metrics, errors by their inverse; None where a metric is not above 0."""
    total = 0.0
    for task in tasks:
        found = value(task, scores[task.name])
        if found is None or found <= 0:
            return None
        total += sign(task) * math.log(found)
    return math.exp(total / len(tasks))


def sign(task: Task) -> int:
    """1 where a larger metric is the better one, else -1."""
    return -1 if headline(task) in SMALLER_IS_BETTER else 1


def change(task: Task, found: float | None, reference: float | None) -> float | None:
    """By how much per cent a task's metric is better than the reference; None where either is missing or 0 is."""
    if found is None or not reference:
        return None
    return 100 * sign(task) * (found - reference) / reference


def delta(changes: Sequence[float | None]) -> float | None:
    """Δm: the mean of the tasks' changes; None where one is missing."""
    defined = [each for each in changes if each is not None]
    return math.fsum(defined) / len(defined) if defined and len(defined) == len(changes) else None
