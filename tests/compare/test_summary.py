"""The verdict: it says what the paired intervals say, and no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from equipoise.compare.study import Study
from equipoise.compare.summary import Comparison, summarize

PLAIN = [0.50, 0.52, 0.51, 0.49, 0.53]
NOISE = [0.012, -0.011, 0.008, -0.009, 0.0]


def results(*values: float | None) -> list[dict[str, Any]]:
    """Results of a candidate with these balanced accuracies."""
    return [
        {"seconds": 1.5, "test": {"metrics": {"balanced accuracy": value, "log loss": 0.3}, "recall": [1, value, None]}}
        for value in values
    ]


def shifted(by: float) -> list[dict[str, Any]]:
    return results(*(value + by + noise for value, noise in zip(PLAIN, NOISE, strict=True)))


def verdict(study: Study, **candidates: list[dict[str, Any]]) -> Comparison:
    """The comparison of plain cross-entropy with the candidates."""
    seeds = len(candidates.get("cross_entropy", PLAIN))
    return summarize(study, seeds, 1, {"cross_entropy": results(*PLAIN)} | candidates)


def test_a_loss_is_above_only_where_its_paired_interval_is_clear_of_zero(study: Study) -> None:
    comparison = verdict(study, softmax_focal=shifted(0.1))
    assert "Above plain cross-entropy in balanced accuracy" in comparison.verdict[0]
    assert "softmax_focal (+0.100)" in comparison.verdict[0]
    comparison = verdict(study, softmax_focal=shifted(0.005))
    assert comparison.rows[1].difference.mean == pytest.approx(0.005)
    assert comparison.verdict == (
        "These seeds show no loss above plain cross-entropy in balanced accuracy: no paired interval lies above 0.",
    )


def test_rows_come_with_the_yardstick_first_then_from_best_to_worst(study: Study) -> None:
    comparison = verdict(study, softmax_focal=shifted(-0.1), prior_corrected=shifted(0.1))
    assert [row.name for row in comparison.rows] == ["cross_entropy", "prior_corrected", "softmax_focal"]
    assert [row.difference and row.difference.sign for row in comparison.rows] == [None, 1, -1]
    assert comparison.rows[2].metrics["balanced accuracy"].mean == pytest.approx(0.41)
    assert [each.mean for each in comparison.rows[0].recall] == [1, pytest.approx(0.51), None]


@pytest.mark.parametrize(
    ("trained", "sentence"),
    [
        (0.3, "Prior correction, which costs no training, reaches 0.610; softmax_focal is above it by 0.200 ± 0.000."),
        (
            0.1,
            "Prior correction, which costs no training, reaches 0.610; the best trained loss, softmax_focal, 0.610."
            " Their difference, 0.000 ± 0.000, is not clear of 0.",
        ),
        (0.05, "Prior correction, which costs no training, is better than the best trained loss (softmax_focal)."),
    ],
)
def test_prior_correction_is_held_against_the_best_trained_loss(study: Study, trained: float, sentence: str) -> None:
    comparison = verdict(study, softmax_focal=shifted(trained), prior_corrected=shifted(0.1))
    assert sentence in comparison.verdict


def test_prior_correction_is_not_held_against_the_yardstick_twice(study: Study) -> None:
    comparison = verdict(study, softmax_focal=shifted(-0.1), prior_corrected=shifted(0.1))
    assert len(comparison.verdict) == 2
    assert comparison.verdict[1] == "Below it, the interval clear of 0: softmax_focal."


def test_prior_correction_cannot_change_a_ranking(study: Study) -> None:
    binary = replace(study, problem=replace(study.problem, kind="binary"))
    metrics = {"metrics": {"average precision": 0.5}, "recall": [1, 1]}
    seeds = [{"seconds": None, "test": metrics}] * 3
    comparison = summarize(binary, 3, 1, {"cross_entropy": seeds, "prior_corrected": seeds})
    assert comparison.verdict[-1] == "Prior correction only moves the threshold, which average precision does not see."


def test_one_seed_says_nothing(study: Study) -> None:
    (sentence,) = verdict(study, cross_entropy=results(0.5), softmax_focal=results(0.9)).verdict
    assert sentence.startswith("One seed gives no interval")


def test_cross_entropy_alone_says_nothing(study: Study) -> None:
    (sentence,) = verdict(study).verdict
    assert "nothing to compare it with" in sentence


def test_a_diverged_training_is_named(study: Study) -> None:
    comparison = verdict(study, softmax_focal=results(0.6, 0.62, None, 0.59, 0.63))
    assert comparison.verdict[-1].endswith("(not defined, or training diverged): softmax_focal.")
    assert comparison.rows[1].metrics["balanced accuracy"].seeds == 4
