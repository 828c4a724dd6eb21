"""How good a model's scores are on rows that it has not seen.

What is an average over classes is kept class by class, and averaged where it is shown: over the classes that count
there. A class with a handful of test rows does not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, log_softmax

from .calibration import Bins, calibration_error
from .problem import Kind

Name = Literal[
    "balanced_accuracy",
    "macro_f1",
    "average_precision",
    "log_loss",
    "brier",
    "calibration_error",
    "map_at_r",
    "recall_at_1",
    "recall_at_5",
]
NAMES: tuple[Name, ...] = (
    "balanced_accuracy",
    "macro_f1",
    "average_precision",
    "log_loss",
    "brier",
    "calibration_error",
)
OF_RETRIEVAL: tuple[Name, ...] = ("map_at_r", "recall_at_1", "recall_at_5")
SPELLED: dict[str, str] = {"map_at_r": "MAP@R", "recall_at_1": "Recall@1", "recall_at_5": "Recall@5"}
HEADLINE: dict[Kind, Name] = {
    "binary": "average_precision",
    "multiclass": "balanced_accuracy",
    "multilabel": "average_precision",
    "retrieval": "map_at_r",
}
SMALLER_IS_BETTER: frozenset[Name] = frozenset({"log_loss", "brier", "calibration_error"})
# Those that see decisions, and with them the threshold.
OF_DECISIONS: frozenset[Name] = frozenset({"balanced_accuracy", "macro_f1"})

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
PerClass = list[float | None]


@dataclass(frozen=True)
class Scores:
    """The quality of one model on one part of the rows; None where something is not defined.

    Attributes:
        by_class: `recall`, and what `balanced_accuracy`, `macro_f1` and `average_precision` are averages of: one per
            class in the order of the problem.
        overall: the other metrics, over all rows.
        bins: the calibration of the predictions; None for scores that are not finite.
    """

    by_class: Mapping[str, PerClass]
    overall: Mapping[str, float | None]
    bins: Bins | None


def names(kind: Kind) -> tuple[Name, ...]:
    """The metrics of a kind of problem."""
    return OF_RETRIEVAL if kind == "retrieval" else NAMES


def value(scores: Mapping[str, Mapping[str, object]], name: str, counted: Collection[int]) -> float | None:
    """A metric from scores as they are stored: an average over the `counted` classes, or over all rows."""
    overall = scores["overall"]
    if name in overall:
        return overall[name]  # type: ignore[return-value]
    classes: PerClass = scores["by_class"][name]  # type: ignore[assignment]
    defined = [each for index, each in enumerate(classes) if index in counted and each is not None]
    return sum(defined) / len(defined) if defined else None


def evaluate(kind: Kind, logits: Floats, labels: Ints, independent: bool = False, threshold: float = 0.0) -> Scores:
    """Compare scores with labels.

    Args:
        kind: the kind of problem.
        logits: [N, C], or [N, 1] for `binary`.
        labels: class indices [N], or [N, C] zeros and ones for `multilabel`.
        independent: for `multiclass`, whether each class was trained as its own yes/no question.
        threshold: for `binary`, the logit above which a row is called positive.
    """
    if not np.isfinite(logits).all():
        nothing: PerClass = [None] * (2 if kind == "binary" else logits.shape[1])
        names = ("recall", "balanced_accuracy", "macro_f1", "average_precision")
        return Scores(dict.fromkeys(names, nothing), dict.fromkeys(SMALLER_IS_BETTER), None)
    if kind == "multiclass":
        by_class, log_loss, brier, bins = _multiclass(logits, labels, independent)
    elif kind == "binary":
        by_class, log_loss, brier, bins = _binary(logits[:, 0], labels, threshold)
    else:
        by_class, log_loss, brier, bins = _multilabel(logits, labels)
    overall = {"log_loss": _defined(log_loss), "brier": _defined(brier), "calibration_error": calibration_error(bins)}
    return Scores({name: [_defined(each) for each in values] for name, values in by_class.items()}, overall, bins)


def log_probabilities(logits: Floats, independent: bool) -> Floats:
    """What a multi-class model believes; the scores of yes/no questions are scaled to sum to 1."""
    return np.asarray(log_softmax(log_expit(logits) if independent else logits, axis=1))


Values = tuple[dict[str, Floats], float, float, Bins]


def _multiclass(logits: Floats, labels: Ints, independent: bool) -> Values:
    rows, classes = np.arange(len(labels)), logits.shape[1]
    log_probability = log_probabilities(logits, independent)
    probability = np.exp(log_probability)
    predicted = logits.argmax(axis=1)
    by_class = _decisions(predicted, labels, classes)
    by_class["average_precision"] = np.array(
        [average_precision(log_probability[:, index], labels == index) for index in range(classes)]
    )
    brier = float((probability**2).sum(axis=1).mean() + (1 - 2 * probability[rows, labels]).mean())
    bins = Bins.of(probability[rows, predicted], predicted == labels)
    return by_class, -float(log_probability[rows, labels].mean()), brier, bins


def _binary(scores: Floats, labels: Ints, threshold: float) -> Values:
    by_class = _decisions((scores > threshold).astype(np.int64), labels, 2)
    # The positive class is the one that is looked for.
    by_class["average_precision"] = np.array([np.nan, average_precision(scores, labels == 1)])
    log_loss = -float(log_expit(np.where(labels == 1, scores, -scores)).mean())
    probability = expit(scores)
    return by_class, log_loss, float(((probability - labels) ** 2).mean()), Bins.of(probability, labels == 1)


def _multilabel(logits: Floats, labels: Ints) -> Values:
    each = [_binary(logits[:, index], labels[:, index], 0.0) for index in range(logits.shape[1])]
    by_class = {
        "recall": np.array([values["recall"][1] for values, *_ in each]),
        "balanced_accuracy": np.array([_mean(values["recall"]) for values, *_ in each]),
        "macro_f1": np.array([values["macro_f1"][1] for values, *_ in each]),
        "average_precision": np.array([values["average_precision"][1] for values, *_ in each]),
    }
    log_loss, brier = (float(np.mean([one[index] for one in each])) for index in (1, 2))
    return by_class, log_loss, brier, Bins.of(expit(logits).ravel(), labels.ravel() == 1)


def _decisions(predicted: Ints, labels: Ints, classes: int) -> dict[str, Floats]:
    """Recall and F1 of each class; balanced accuracy is the mean of the recalls."""
    pairs = np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
    hits = np.diag(pairs)
    recall = _ratio(hits, pairs.sum(axis=1))
    f1 = _ratio(2 * hits, pairs.sum(axis=0) + pairs.sum(axis=1))
    return {"recall": recall, "balanced_accuracy": recall, "macro_f1": f1}


def average_precision(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """The mean over positives of the precision at their score, those of one score taken together; NaN without any."""
    if not positive.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(positive[order])
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    return float((np.diff(hits[last], prepend=0) * hits[last] / (last + 1)).sum() / hits[-1])


def best_threshold(scores: Floats, labels: Ints, name: Name) -> float:
    """The logit above which to call a row positive, for the largest `name` on these rows.

    Args:
        scores: [N] logits.
        labels: [N] zeros and ones.
        name: `balanced_accuracy` or `macro_f1`.
    """
    if not np.isfinite(scores).all():
        return 0.0
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    taken = np.arange(len(ranked) + 1)
    hits = np.concatenate([[0], np.cumsum(labels[order] == 1)])
    positives, rows = int(hits[-1]), len(ranked)
    left = rows - taken - positives + hits  # negatives that are called so
    first, second = (
        (_ratio(hits, np.full_like(hits, positives)), _ratio(left, np.full_like(left, rows - positives)))
        if name == "balanced_accuracy"
        else (_ratio(2 * hits, taken + positives), _ratio(2 * left, 2 * rows - taken - positives))
    )
    # Between two equal scores there is no threshold.
    possible = np.concatenate([[True], ranked[1:] != ranked[:-1], [True]])
    cut = int(np.where(possible, np.nan_to_num(first) + np.nan_to_num(second), -1.0).argmax())
    above = ranked[cut - 1] if cut else ranked[0] + 2
    below = ranked[cut] if cut < rows else ranked[-1] - 2
    return float(above + below) / 2


def _ratio(part: Ints, whole: Ints) -> Floats:
    """`part / whole`, NaN where there is no whole."""
    ratio = np.full(len(part), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def _mean(values: Floats) -> float:
    """The mean of the defined values, NaN if there is none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _defined(value: float) -> float | None:
    """A float that JSON can hold, None for NaN."""
    return None if np.isnan(value) else float(value)
