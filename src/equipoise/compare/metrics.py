"""How good a model's scores are on rows that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, log_softmax
from sklearn.metrics import average_precision_score

from .problem import Kind

HEADLINE: dict[Kind, str] = {
    "binary": "average precision",
    "multiclass": "balanced accuracy",
    "multilabel": "macro average precision",
}


@dataclass(frozen=True)
class Scores:
    """The quality of one model on one part of the rows.

    Attributes:
        metrics: by name; None where it is not defined, as for scores that are not finite.
        recall: of each class, in the order of the problem; None for a class without rows.
    """

    metrics: dict[str, float | None]
    recall: list[float | None]


def evaluate(kind: Kind, logits: NDArray[np.float64], labels: NDArray[np.int64], independent: bool = False) -> Scores:
    """Compare scores with labels.

    Args:
        kind: the kind of problem.
        logits: [N, C], or [N, 1] for `binary`.
        labels: class indices [N], or [N, C] zeros and ones for `multilabel`.
        independent: for `multiclass`, whether each class was trained as its own yes/no question.
    """
    names = ["balanced accuracy", "macro F1", "log loss"]
    if kind != "multiclass":
        names.insert(0, HEADLINE[kind])
    if not np.isfinite(logits).all():
        classes = 2 if kind == "binary" else logits.shape[1]
        return Scores(dict.fromkeys(names), [None] * classes)
    evaluator = {"binary": _binary, "multiclass": _multiclass, "multilabel": _multilabel}[kind]
    values, recall = evaluator(logits, labels, independent)
    return Scores(
        {name: _defined(value) for name, value in zip(names, values, strict=True)}, [_defined(each) for each in recall]
    )


Values = tuple[list[float], NDArray[np.float64]]


def _multiclass(logits: NDArray[np.float64], labels: NDArray[np.int64], independent: bool) -> Values:
    predicted = logits.argmax(axis=1)
    matrix = np.zeros((logits.shape[1],) * 2, np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    hits = np.diag(matrix)
    recall = _ratio(hits, matrix.sum(axis=1))
    f1 = _ratio(2 * hits, matrix.sum(axis=0) + matrix.sum(axis=1))
    # Scores of yes/no questions are log-sigmoids; scaled to sum to 1, they are what such a model believes.
    log_probability = log_softmax(log_expit(logits) if independent else logits, axis=1)
    log_loss = -float(log_probability[np.arange(len(labels)), labels].mean())
    return [_mean(recall), _mean(f1), log_loss], recall


def _binary(logits: NDArray[np.float64], labels: NDArray[np.int64], _: bool) -> Values:
    scores = logits[:, 0]
    both = np.stack([-scores, scores], axis=1)
    (balanced, f1, _log_loss), recall = _multiclass(both, labels, False)
    log_loss = -float(log_expit(np.where(labels == 1, scores, -scores)).mean())
    return [_average_precision(scores, labels), balanced, f1, log_loss], recall


def _multilabel(logits: NDArray[np.float64], labels: NDArray[np.int64], _: bool) -> Values:
    columns = [_binary(logits[:, [index]], labels[:, index], False) for index in range(logits.shape[1])]
    precision, balanced, _f1, log_loss = (
        _mean(np.array(each)) for each in zip(*(values for values, _ in columns), strict=True)
    )
    found = logits > 0
    f1 = _ratio(2 * (found & (labels == 1)).sum(axis=0), found.sum(axis=0) + labels.sum(axis=0))
    return [precision, balanced, _mean(f1), log_loss], np.array([recall[1] for _, recall in columns])


def _average_precision(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    # Not defined without positives; scikit-learn would warn and return 0.
    return float(average_precision_score(labels, scores)) if labels.any() else float("nan")


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """`part / whole`, NaN where there is no whole."""
    ratio = np.full(len(part), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def _mean(values: NDArray[np.float64]) -> float:
    """The mean of the defined values, NaN if there is none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _defined(value: float) -> float | None:
    """A float that JSON can hold, None for NaN."""
    return None if np.isnan(value) else float(value)
