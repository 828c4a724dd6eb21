"""Verdicts of made-up results: who helps whom, and what the first sentence says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_tasks import study_of

from equipoise.compare.engine import Outcome
from equipoise.compare.tasks import candidates
from equipoise.compare.tasks.candidates import TaskCandidate, single
from equipoise.compare.tasks.study import TaskStudy
from equipoise.compare.tasks.summary import TaskComparison, TaskRow, summarize

SEEDS = 5
# Of the metric of one task, seed by seed; the mean is 0.
NOISE = (0.004, -0.006, 0.001, 0.003, -0.002)
THIRD_NOISE = (0.001, 0.004, -0.004, -0.005, 0.004)
OTHER_NOISE = (-0.003, 0.002, 0.005, -0.004, 0.0)
BALANCER = "uncertainty_weighting"


@pytest.fixture
def study(tasks_csv: Path) -> TaskStudy:
    """With three ways to weigh, whichever balancers there are."""
    study = study_of(tasks_csv)
    names = (*(single(task.name) for task in study.tasks), candidates.EQUAL, candidates.CONSTANT, BALANCER, "famo")
    return replace(
        study, candidates={name: TaskCandidate(name, f"what {name} is", torch.nn.Identity) for name in names}
    )


def scores(hit: float | None, rmse: float | None, sort: float | None) -> dict[str, Any]:
    """The scores of one training, as a job stores them."""
    none = dict.fromkeys(("macro_f1", "log_loss", "brier", "calibration_error"))
    tasks = {
        "hit": {"overall": none, "by_class": {"average_precision": [None, hit], "recall": [0.9, 0.4]}},
        "amount": {"overall": {"rmse": rmse, "mae": rmse, "r2": 0.5}, "by_class": {}},
        "sort": {"overall": none, "by_class": {"balanced_accuracy": [sort, sort, 0.0], "recall": [sort, sort, 0.0]}},
    }
    for name in ("hit", "sort"):
        for metric in ("balanced_accuracy", "average_precision", "macro_f1"):
            tasks[name]["by_class"].setdefault(metric, [None] * 3)
    return {"tasks": tasks}


def results(gain: float, noise: tuple[float, ...] = NOISE, broken: int | None = None) -> list[dict[str, Any]]:
    """Trainings whose average precision is that share above 0.4, with noise; the other tasks are as ever."""
    found = []
    for seed, each in enumerate(noise):
        value = None if seed == broken else 0.4 * (1 + gain) * (1 + each)
        curve = {"epoch": [1, 2], "train_loss": [2.0, 1.0 + each], "validation": [None, 0.3]}
        weights = {name: [1.0, 1.0 + seed] for name in ("hit", "amount", "sort")}
        test = scores(value, 20.0, 0.6)
        found.append({"test": test, "seconds": 1.0 + seed, "steps": 100, "curve": curve, "weights": weights})
    return found


def verdict(study: TaskStudy, asked: int = SEEDS, **gains: Any) -> TaskComparison:
    """The comparison of candidates whose gain is given; constant weights have none unless said otherwise."""
    gains = {candidates.EQUAL: 0.0, candidates.CONSTANT: 0.0, **gains}
    found = {single(task.name): results(0.0, OTHER_NOISE) for task in study.tasks}
    found |= {name: gain if isinstance(gain, list) else results(gain) for name, gain in gains.items()}
    chosen = dict.fromkeys(found, study.settings[1])
    return summarize(study, Outcome(found, chosen, len(found[candidates.EQUAL])), 2, asked)  # type: ignore[arg-type]


def row(comparison: TaskComparison, name: str) -> TaskRow:
    return next(each for each in comparison.rows if each.name == name)


def test_delta_is_the_mean_over_tasks_of_the_change_against_single_task_models(study: TaskStudy) -> None:
    comparison = verdict(study, uncertainty_weighting=0.12)
    found = row(comparison, BALANCER)
    expected = [
        100 * (1.12 * (1 + mine) / (1 + theirs) - 1) / 3 for mine, theirs in zip(NOISE, OTHER_NOISE, strict=True)
    ]
    assert found.values == pytest.approx(expected)
    assert found.tasks["amount"].change.mean == 0
    assert found.tasks["hit"].change.mean == pytest.approx(sum(expected) * 3 / 5)
    assert found.tasks["sort"].metrics["balanced_accuracy"].mean == pytest.approx(0.6), "the thin class is left out"
    single_task = comparison.rows[0]
    assert single_task.name == candidates.SINGLE
    assert single_task.values == (0.0,) * SEEDS
    assert single_task.difference is single_task.against_constant is None


def test_a_larger_error_is_a_loss(study: TaskStudy) -> None:
    worse = results(0.0)
    for each in worse:
        each["test"]["tasks"]["amount"]["overall"]["rmse"] = 25.0
    found = row(verdict(study, famo=worse), "famo")
    assert found.tasks["amount"].change.mean == pytest.approx(-25)


def test_a_balancer_that_beats_both_is_the_first_sentence(study: TaskStudy) -> None:
    comparison = verdict(study, uncertainty_weighting=0.2, famo=0.15)
    first = comparison.verdict[0]
    assert first.startswith(f"{BALANCER} helps: over all tasks it does +6.7 ± ")
    assert "better than single-task models (Δm), and +6.7 ± " in first
    assert first.endswith("better than constant weights; so does famo.")
    assert comparison.winner == BALANCER
    assert "Against constant weights (equal_weights), helps: uncertainty_weighting, famo." in comparison.verdict


def test_constant_weights_that_are_as_good_are_the_first_sentence(study: TaskStudy) -> None:
    comparison = verdict(study, constant_weighting=0.2, uncertainty_weighting=results(0.2, THIRD_NOISE))
    first = comparison.verdict[0]
    assert first.startswith("Constant weights will do: no balancer is shown to do better. One network with")
    assert f"the best balancer, {BALANCER}, +6.7" in first
    assert comparison.winner == candidates.CONSTANT
    found = row(comparison, BALANCER)
    assert (found.difference.verdict, found.against_constant.verdict) == ("helps", "no evidence")  # type: ignore[union-attr]
    assert row(comparison, candidates.CONSTANT).against_constant is None
    assert row(comparison, candidates.EQUAL).against_constant is None


def test_single_task_models_that_are_as_good_are_the_first_sentence(study: TaskStudy) -> None:
    comparison = verdict(study, uncertainty_weighting=0.0, famo=-0.3)
    assert comparison.verdict[0].startswith(
        "Single-task models will do: no way of training the tasks together is shown to do better. Constant weights"
        " (equal_weights) have a Δm of +0.0 ± "
    )
    assert comparison.winner == candidates.SINGLE
    assert "hurts: famo" in comparison.verdict[2]


def test_a_balancer_that_beats_single_task_models_alone_is_told_so(study: TaskStudy) -> None:
    unsure = results(0.18, tuple(30 * each for each in OTHER_NOISE))
    comparison = verdict(study, equal_weights=unsure, constant_weighting=0.0, uncertainty_weighting=0.2)
    assert comparison.verdict[0].startswith(f"{BALANCER} does +6.7 ± ")
    assert "but is not shown to do better than constant weights: equal_weights has +6" in comparison.verdict[0]
    assert comparison.winner == BALANCER


def test_a_balancer_that_beats_constant_weights_alone_is_not_the_answer(study: TaskStudy) -> None:
    comparison = verdict(study, equal_weights=-0.3, constant_weighting=-0.3, uncertainty_weighting=0.0)
    assert row(comparison, BALANCER).against_constant.verdict == "helps"  # type: ignore[union-attr]
    assert comparison.verdict[0].startswith("Single-task models will do")
    assert comparison.winner == candidates.SINGLE


def test_how_small_a_gain_would_have_been_found_is_told_of_the_change_against_single_task_models(
    study: TaskStudy,
) -> None:
    comparison = verdict(study, uncertainty_weighting=results(0.1, tuple(5 * each for each in NOISE)), famo=0.1)
    found = [each.difference.detectable for each in comparison.rows[1:] if each.difference]
    assert max(found) > 2 * min(found)  # type: ignore[type-var, operator]
    shown = f"is {min(found):.1f} % to {max(found):.1f} %, depending on the way to weigh"  # type: ignore[type-var]
    assert any(shown in sentence for sentence in comparison.verdict)


def test_without_balancers_constant_weights_are_compared_alone(study: TaskStudy) -> None:
    comparison = verdict(study)
    assert comparison.verdict[0].endswith("(equal_weights) have a Δm of +0.0 ± 0.5 %.")
    assert not [sentence for sentence in comparison.verdict if sentence.startswith("Against constant")]


def test_without_any_evidence_nobody_is_named(study: TaskStudy) -> None:
    said = verdict(study, uncertainty_weighting=0.0, famo=0.0).verdict
    assert "Against single-task models, no evidence that any of them helps or hurts." in said


def test_what_became_of_each_task_is_told(study: TaskStudy) -> None:
    sentence = verdict(study, uncertainty_weighting=0.12).verdict[1]
    assert sentence.startswith(f"Task by task, {BALANCER} against single-task models, larger for better: hit +12.0 ± ")
    assert "amount +0.0 ± 0.0 % (RMSE 20.0), sort +0.0 ± 0.0 % (balanced accuracy 0.600)." in sentence


def test_one_seed_says_nothing_and_a_short_time_and_divergence_are_named(study: TaskStudy) -> None:
    found = {name: [results(0.0)[0]] for name in study.candidates}
    one = summarize(study, Outcome(found, dict.fromkeys(found, study.settings[0]), 1), 1)
    assert one.verdict[0].startswith("One seed gives no interval")
    assert one.winner == candidates.SINGLE
    comparison = verdict(study, 9, famo=results(0.0, broken=2))
    assert "Without a Δm on some seeds (not defined, or training diverged): famo." in comparison.verdict
    assert "The time budget ended after 5 of 9 seeds." in comparison.verdict
    assert row(comparison, "famo").delta.seeds == 4
    assert comparison.verdict[-1] == "Left out of averages over sort, with fewer than 20 test rows: 'odd'."


def test_rows_come_from_best_to_worst_with_what_they_cost_and_weighed(study: TaskStudy) -> None:
    comparison = verdict(study, uncertainty_weighting=0.1, famo=-0.1)
    assert [each.name for each in comparison.rows] == [
        candidates.SINGLE,
        BALANCER,
        candidates.EQUAL,
        candidates.CONSTANT,
        "famo",
    ]
    first = comparison.rows[1]
    assert first.weights == {name: [1.0, 3.0] for name in ("hit", "amount", "sort")}
    assert first.curve == {"epoch": [1, 2], "train_loss": [2.0, pytest.approx(1.0)], "validation": [None, 0.3]}
    assert (first.seconds, comparison.rows[0].seconds) == (3.0, 9.0)
    assert list(comparison.rows[0].chosen) == ["hit", "amount", "sort"]
