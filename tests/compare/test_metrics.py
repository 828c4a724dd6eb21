"""Metrics, against scikit-learn where it has them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn import metrics as reference

from equipoise.compare.metrics import HEADLINE, evaluate
from equipoise.compare.problem import KINDS, Kind

GENERATOR = np.random.default_rng(0)


def test_multiclass_equals_scikit_learn() -> None:
    labels, logits = GENERATOR.integers(0, 4, 200), GENERATOR.normal(size=(200, 4))
    scores = evaluate("multiclass", logits, labels)
    predicted = logits.argmax(axis=1)
    assert scores.metrics == pytest.approx(
        {
            "balanced accuracy": reference.balanced_accuracy_score(labels, predicted),
            "macro F1": reference.f1_score(labels, predicted, average="macro"),
            "log loss": reference.log_loss(labels, softmax(logits, axis=1)),
        }
    )
    assert scores.recall == pytest.approx(list(reference.recall_score(labels, predicted, average=None)))


def test_scores_of_independent_questions_are_scaled_to_sum_to_one() -> None:
    labels, logits = GENERATOR.integers(0, 4, 200), GENERATOR.normal(size=(200, 4))
    probability = expit(logits) / expit(logits).sum(axis=1, keepdims=True)
    scores = evaluate("multiclass", logits, labels, independent=True)
    assert scores.metrics["log loss"] == pytest.approx(reference.log_loss(labels, probability))


def test_binary_equals_scikit_learn() -> None:
    labels, logits = GENERATOR.integers(0, 2, 200), GENERATOR.normal(size=(200, 1))
    scores = evaluate("binary", logits, labels)
    predicted = (logits[:, 0] > 0).astype(int)
    assert scores.metrics == pytest.approx(
        {
            "average precision": reference.average_precision_score(labels, logits[:, 0]),
            "balanced accuracy": reference.balanced_accuracy_score(labels, predicted),
            "macro F1": reference.f1_score(labels, predicted, average="macro"),
            "log loss": reference.log_loss(labels, expit(logits[:, 0])),
        }
    )
    assert scores.recall == pytest.approx(list(reference.recall_score(labels, predicted, average=None)))


def test_multilabel_is_the_mean_over_labels() -> None:
    labels, logits = GENERATOR.integers(0, 2, (200, 3)), GENERATOR.normal(size=(200, 3))
    scores = evaluate("multilabel", logits, labels)
    each = [evaluate("binary", logits[:, [index]], labels[:, index]) for index in range(3)]
    assert scores.metrics["macro average precision"] == pytest.approx(
        reference.average_precision_score(labels, logits, average="macro")
    )
    assert scores.metrics["macro F1"] == pytest.approx(reference.f1_score(labels, logits > 0, average="macro"))
    for name in ("balanced accuracy", "log loss"):
        assert scores.metrics[name] == pytest.approx(np.mean([one.metrics[name] for one in each]))
    assert scores.recall == pytest.approx([one.recall[1] for one in each])


def test_a_label_without_positives_does_not_count() -> None:
    labels = np.array([[1, 0], [0, 0]])
    scores = evaluate("multilabel", np.array([[1.0, 1.0], [-1.0, -1.0]]), labels)
    assert scores.metrics["macro average precision"] == 1
    assert scores.recall == [1, None]
    assert evaluate("binary", np.zeros((2, 1)), np.zeros(2, int)).metrics["average precision"] is None


def test_a_class_without_rows_does_not_count() -> None:
    scores = evaluate("multiclass", np.eye(3)[[0, 1, 0]], np.array([0, 1, 1]))
    assert scores.recall == [1, 0.5, None]
    assert scores.metrics["balanced accuracy"] == 0.75
    assert scores.metrics["macro F1"] == pytest.approx(2 / 3)


def test_large_scores_are_ranked_and_scored_without_overflow() -> None:
    scores = evaluate("binary", np.array([[900.0], [800.0], [-900.0]]), np.array([1, 0, 0]))
    assert scores.metrics["average precision"] == 1
    assert scores.metrics["log loss"] == pytest.approx(800 / 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_have_no_metrics(kind: Kind, value: float) -> None:
    shape = (4, 1) if kind == "binary" else (4, 2)
    labels = np.zeros((4, 2), int) if kind == "multilabel" else np.array([0, 1, 0, 1])
    scores = evaluate(kind, np.full(shape, value), labels)
    assert HEADLINE[kind] in scores.metrics
    assert set(scores.metrics.values()) == {None}
    assert scores.recall == [None, None]
