"""Metrics, against scikit-learn where it has them."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn import metrics as reference

from equipoise.compare.metrics import HEADLINE, NAMES, Name, average_precision, best_threshold, evaluate, value
from equipoise.compare.problem import KINDS, Kind

GENERATOR = np.random.default_rng(0)


def metrics(*arguments: object, counted: range = range(99), **options: object) -> dict[str, float | None]:
    """All metrics by name."""
    scores = asdict(evaluate(*arguments, **options))  # type: ignore[arg-type]
    return {name: value(scores, name, counted) for name in NAMES}


def test_multiclass_equals_scikit_learn() -> None:
    labels, logits = GENERATOR.integers(0, 4, 200), GENERATOR.normal(size=(200, 4))
    predicted, probability = logits.argmax(axis=1), softmax(logits, axis=1)
    found = metrics("multiclass", logits, labels)
    assert found == pytest.approx(
        {
            "balanced_accuracy": reference.balanced_accuracy_score(labels, predicted),
            "macro_f1": reference.f1_score(labels, predicted, average="macro"),
            "average_precision": reference.average_precision_score(np.eye(4)[labels], probability, average="macro"),
            "log_loss": reference.log_loss(labels, probability),
            "brier": ((probability - np.eye(4)[labels]) ** 2).sum(axis=1).mean(),
            "calibration_error": calibration_error(probability.max(axis=1), predicted == labels),
        }
    )
    recall = evaluate("multiclass", logits, labels).by_class["recall"]
    assert recall == pytest.approx(list(reference.recall_score(labels, predicted, average=None)))


def calibration_error(confidence: np.ndarray, hit: np.ndarray) -> float:
    """By its definition, one bin after the other."""
    total = 0.0
    for index in range(10):
        low, high = index / 10, (index + 1) / 10
        inside = (confidence >= low) & ((confidence < high) | (index == 9))
        if inside.any():
            total += inside.mean() * abs(confidence[inside].mean() - hit[inside].mean())
    return total


def test_scores_of_independent_questions_are_scaled_to_sum_to_one() -> None:
    labels, logits = GENERATOR.integers(0, 4, 200), GENERATOR.normal(size=(200, 4))
    probability = expit(logits) / expit(logits).sum(axis=1, keepdims=True)
    found = metrics("multiclass", logits, labels, independent=True)
    assert found["log_loss"] == pytest.approx(reference.log_loss(labels, probability))


@pytest.mark.parametrize("threshold", [0.0, 0.7])
def test_binary_equals_scikit_learn(threshold: float) -> None:
    """The threshold moves decisions and leaves the probabilities alone."""
    labels, logits = GENERATOR.integers(0, 2, 200), GENERATOR.normal(size=(200, 1))
    predicted, probability = (logits[:, 0] > threshold).astype(int), expit(logits[:, 0])
    found = metrics("binary", logits, labels, threshold=threshold)
    assert found == pytest.approx(
        {
            "balanced_accuracy": reference.balanced_accuracy_score(labels, predicted),
            "macro_f1": reference.f1_score(labels, predicted, average="macro"),
            "average_precision": reference.average_precision_score(labels, logits[:, 0]),
            "log_loss": reference.log_loss(labels, probability),
            "brier": reference.brier_score_loss(labels, probability),
            "calibration_error": calibration_error(probability, labels == 1),
        }
    )
    recall = evaluate("binary", logits, labels, threshold=threshold).by_class["recall"]
    assert recall == pytest.approx(list(reference.recall_score(labels, predicted, average=None)))


def test_multilabel_is_the_mean_over_labels() -> None:
    labels, logits = GENERATOR.integers(0, 2, (200, 3)), GENERATOR.normal(size=(200, 3))
    found = metrics("multilabel", logits, labels)
    each = [metrics("binary", logits[:, [index]], labels[:, index]) for index in range(3)]
    assert found["average_precision"] == pytest.approx(
        reference.average_precision_score(labels, logits, average="macro")
    )
    assert found["macro_f1"] == pytest.approx(reference.f1_score(labels, logits > 0, average="macro"))
    for name in ("balanced_accuracy", "log_loss", "brier"):
        assert found[name] == pytest.approx(np.mean([one[name] for one in each]))
    assert found["calibration_error"] == pytest.approx(calibration_error(expit(logits).ravel(), labels.ravel() == 1))
    recall = evaluate("multilabel", logits, labels).by_class["recall"]
    assert recall == pytest.approx(list(reference.recall_score(labels, logits > 0, average=None)))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_average_precision_with_ties_equals_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    scores, positive = np.array([float(score) for score, _ in rows]), np.array([hit for _, hit in rows])
    if positive.any():
        assert average_precision(scores, positive) == pytest.approx(reference.average_precision_score(positive, scores))
    else:
        assert np.isnan(average_precision(scores, positive))


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 1)), min_size=2, max_size=30),
    st.sampled_from(["balanced_accuracy", "macro_f1"]),
)
def test_no_other_threshold_does_better_on_the_rows_it_was_chosen_on(rows: list[tuple[int, int]], name: Name) -> None:
    scores, labels = np.array([float(score) for score, _ in rows]), np.array([label for _, label in rows])

    def at(threshold: float) -> float:
        return metrics("binary", scores[:, None], labels, threshold=threshold)[name] or 0.0

    if 0 < labels.sum() < len(labels):
        best = at(best_threshold(scores, labels, name))
        assert best == pytest.approx(max(at(each) for each in np.arange(-5, 5, 0.5)))


def test_only_classes_that_count_are_averaged() -> None:
    logits, labels = np.eye(3)[[0, 1, 0]], np.array([0, 1, 2])
    assert metrics("multiclass", logits, labels)["balanced_accuracy"] == pytest.approx(2 / 3)
    assert metrics("multiclass", logits, labels, counted=range(2))["balanced_accuracy"] == 1
    assert metrics("multiclass", logits, labels, counted=range(2))["log_loss"] == pytest.approx(
        metrics("multiclass", logits, labels)["log_loss"]
    )


def test_a_label_without_positives_does_not_count() -> None:
    labels = np.array([[1, 0], [0, 0]])
    logits = np.array([[1.0, 1.0], [-1.0, -1.0]])
    assert metrics("multilabel", logits, labels)["average_precision"] == 1
    assert evaluate("multilabel", logits, labels).by_class["recall"] == [1, None]
    assert metrics("binary", np.zeros((2, 1)), np.zeros(2, int))["average_precision"] is None


def test_a_class_without_rows_does_not_count() -> None:
    logits, labels = np.eye(3)[[0, 1, 0]], np.array([0, 1, 1])
    assert evaluate("multiclass", logits, labels).by_class["recall"] == [1, 0.5, None]
    found = metrics("multiclass", logits, labels)
    assert found["balanced_accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx(2 / 3)


def test_large_scores_are_ranked_and_scored_without_overflow() -> None:
    found = metrics("binary", np.array([[900.0], [800.0], [-900.0]]), np.array([1, 0, 0]))
    assert found["average_precision"] == 1
    assert found["log_loss"] == pytest.approx(800 / 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_scores_that_are_not_finite_have_no_metrics(kind: Kind, number: float) -> None:
    shape = (4, 1) if kind == "binary" else (4, 2)
    labels = np.zeros((4, 2), int) if kind == "multilabel" else np.array([0, 1, 0, 1])
    logits = np.full(shape, number)
    assert HEADLINE[kind] in NAMES
    assert set(metrics(kind, logits, labels).values()) == {None}
    assert evaluate(kind, logits, labels).by_class["recall"] == [None, None]
    assert evaluate(kind, logits, labels).bins is None
