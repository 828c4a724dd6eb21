"""One training of several tasks: the same start and batches for all, and the same numbers each time."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_tasks import study_of
from torch import nn

from equipoise.compare import jobs, models, splits, training
from equipoise.compare.jobs import Job, run_job
from equipoise.compare.tasks import candidates, metrics
from equipoise.compare.tasks.balanced import Balanced
from equipoise.compare.tasks.candidates import single
from equipoise.compare.tasks.jobs import shared_parameters
from equipoise.compare.tasks.study import TaskStudy


@pytest.fixture
def study(tasks_csv: Path) -> TaskStudy:
    return study_of(tasks_csv)


def run(study: TaskStudy, name: str, stage: Any = "final", trial: int = 0, seed: int = 0) -> dict[str, Any]:
    settings = study.candidates[name].tried(study.settings)[trial]
    return run_job(study, Job.of(study, name, seed, settings, stage))[name]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """The weights that trainings start from, and the batches that they see."""
    found: dict[str, list[Any]] = {"start": [], "batches": []}
    build, forward = models.build, Balanced.forward

    def built(*arguments: Any) -> nn.Module:
        model = build(*arguments)
        found["start"].append([value.clone() for value in model.state_dict().values()])
        found["batches"].append([])
        return model

    def forwarded(self: Balanced, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        found["batches"][-1].append(targets.clone())
        return forward(self, scores, targets)

    monkeypatch.setattr(models, "build", built)
    monkeypatch.setattr(Balanced, "forward", forwarded)
    return found


def test_every_candidate_starts_from_the_same_weights_and_sees_the_same_batches(
    study: TaskStudy, seen: dict[str, list[Any]]
) -> None:
    for name in study.candidates:
        run(study, name, "trial")
    assert len(seen["start"]) == len(study.candidates) >= 5
    for start, batches in zip(seen["start"], seen["batches"], strict=True):
        for mine, first in zip(start, seen["start"][0], strict=True):
            assert torch.equal(mine, first)
        for mine, first in zip(batches, seen["batches"][0], strict=True):
            torch.testing.assert_close(mine, first, rtol=0, atol=0, equal_nan=True)


def test_another_seed_starts_from_other_weights(study: TaskStudy, seen: dict[str, list[Any]]) -> None:
    for seed in range(2):
        run(study, candidates.EQUAL, "trial", seed=seed)
    first, second = seen["start"]
    assert not torch.equal(first[0], second[0])


@pytest.mark.parametrize("seed", [0, 1])
def test_each_score_is_of_the_rows_of_its_part_and_seed(
    study: TaskStudy, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    scored: list[tuple[str, Any, Any]] = []
    evaluate = metrics.evaluate

    def recorded(task: Any, predicted: Any, labels: Any) -> Any:
        scored.append((task.name, labels, evaluate(task, predicted, labels)))
        return scored[-1][2]

    monkeypatch.setattr(metrics, "evaluate", recorded)
    result = run(study, candidates.EQUAL, seed=seed)
    cut = splits.split(study.problem, seed, study.order)
    of_task = {task.name: task.labels for task in study.tasks}
    for part, rows in (("validation", cut.validation), ("test", cut.test)):
        for name, found in result[part]["tasks"].items():
            (labels,) = [labels for _, labels, each in scored if each is found]
            np.testing.assert_array_equal(labels, of_task[name][rows])
    assert len(scored) == (2 + 2) * 3, "the curve has two points"
    for name, labels, _ in scored[:6]:
        np.testing.assert_array_equal(labels, of_task[name][cut.validation])


def test_labels_of_other_rows_have_no_part_in_a_training(study: TaskStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in where the scores start, nor in the unit of an amount, nor in the weights."""
    cut = splits.split(study.problem, 0, study.order)
    rows = np.concatenate([cut.validation, cut.test])
    tasks = []
    for task in study.tasks:
        labels = task.labels.copy()
        labels[rows] = 3 * labels[rows] if task.kind == "regression" else np.roll(labels[rows], 1)
        tasks.append(replace(task, labels=labels))
    before = run(study, "dynamic_task_prioritization")
    monkeypatch.setattr(jobs, "_last", None)  # what a process keeps of the last seed
    after = run(replace(study, tasks=tuple(tasks)), "dynamic_task_prioritization")
    monkeypatch.setattr(jobs, "_last", None)
    assert after["test"] != before["test"]
    assert after["curve"]["train_loss"] == before["curve"]["train_loss"]
    assert after["weights"] == before["weights"]


def test_scores_start_at_the_best_constants_and_the_biases_are_the_heads(
    study: TaskStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[torch.Tensor] = []
    train = training.train

    def trained(loss: Any, features: Any, targets: Any, bias: torch.Tensor, *rest: Any) -> Any:
        given.append(bias)
        return train(loss, features, targets, bias, *rest)

    monkeypatch.setattr(training, "train", trained)
    for name in (candidates.EQUAL, single("sort"), "uncertainty_weighting"):
        run(study, name, "trial")
    assert len(given[0]) == study.outputs == 1 + 1 + 3
    assert torch.equal(given[0], given[1])
    assert torch.equal(given[0], given[2])


def test_a_final_training_has_scores_costs_curves_and_weights(
    study: TaskStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []
    train = training.train

    def trained(*arguments: Any) -> Any:
        found = train(*arguments)
        losses[:] = found.losses
        return found

    monkeypatch.setattr(training, "train", trained)
    result = run(study, "uncertainty_weighting")
    assert result["curve"]["train_loss"] == losses
    assert losses[0] != losses[1]
    for part in ("validation", "test"):
        assert list(result[part]["tasks"]) == ["hit", "amount", "sort"]
        assert result[part]["overall"][metrics.RANK] == metrics.rank(study.tasks, result[part]["tasks"]) > 0
    assert result["seconds"] > 0
    assert result["steps"] == study.plan.epochs * 15  # 240 rows in batches of 16
    assert result["curve"]["epoch"] == [1, 2]
    assert len(result["curve"]["validation"]) == len(result["curve"]["train_loss"]) == 2
    assert {name: len(values) for name, values in result["weights"].items()} == {"hit": 2, "amount": 2, "sort": 2}
    assert list(run(study, "uncertainty_weighting", "trial")) == ["validation"]


def test_the_numbers_are_the_same_each_time(study: TaskStudy) -> None:
    for name in study.candidates:
        first, second = run(study, name), run(study, name)
        assert first | {"seconds": 0} == second | {"seconds": 0}


def test_a_study_can_be_sent_to_another_process(study: TaskStudy) -> None:
    sent = pickle.loads(pickle.dumps(study))
    assert sent.identity == study.identity
    assert run(sent, "famo") | {"seconds": 0} == run(study, "famo") | {"seconds": 0}


def test_a_single_task_model_is_trained_by_its_task_alone(study: TaskStudy) -> None:
    result = run(study, single("amount"))
    assert list(result["test"]["tasks"]) == ["amount"]
    assert result["weights"] == {"amount": [1.0, 1.0]}
    assert result["test"]["tasks"]["amount"]["overall"]["rmse"] > 0


def test_labels_of_other_tasks_do_not_change_a_single_task_model(study: TaskStudy, tasks_csv: Path) -> None:
    import pandas as pd

    before = run(study, single("hit"))
    frame = pd.read_csv(tasks_csv)
    frame["amount"] *= 3
    frame.to_csv(tasks_csv, index=False)
    assert run(study_of(tasks_csv), single("hit"))["test"] == before["test"]


def test_equal_weights_are_constant_weights_of_1(study: TaskStudy) -> None:
    equal, constant = run(study, candidates.EQUAL), run(study, candidates.CONSTANT)
    assert equal | {"seconds": 0} == constant | {"seconds": 0}
    assert run(study, candidates.CONSTANT, trial=1)["weights"] != equal["weights"]
    weights = list(dict(study.candidates[candidates.CONSTANT].tried(study.settings)[1].options).values())
    assert [each[0] for each in run(study, candidates.CONSTANT, trial=1)["weights"].values()] == pytest.approx(weights)


def test_a_balancer_is_told_what_kind_of_loss_each_task_has(study: TaskStudy) -> None:
    hit, amount, sort = study.tasks
    assert candidates.kind(replace(amount, loss="absolute_error")) == "laplace"
    make = study.candidates["uncertainty_weighting"].make
    assert make is not None
    built = make([hit, amount, sort], study.settings[0], ())
    assert (built.tasks, built.kinds) == (("task_0", "task_1", "task_2"), ("softmax", "gaussian", "softmax"))


def test_weights_that_are_tried_are_drawn_evenly_and_a_larger_count_keeps_them() -> None:
    few, many = candidates.weights(3, 3), candidates.weights(60, 3)
    assert many[:3] == few
    assert few[0] == (1.0, 1.0, 1.0)
    drawn = np.array(many[1:])
    np.testing.assert_allclose(drawn.sum(axis=1), 3, rtol=0.05)
    largest = np.bincount(drawn.argmax(axis=1), minlength=3)
    assert largest.min() >= 10, "no task is favoured"


def test_the_shared_parameters_are_those_of_the_layer_before_the_heads() -> None:
    mlp = models.build("mlp", 7, 5)
    assert [list(each.shape) for each in shared_parameters(mlp)] == [[64, 7], [64]]
    assert [list(each.shape) for each in shared_parameters(models.build("linear", 7, 5))] == [[5, 7], [5]]


def test_a_model_that_cannot_be_scored_has_no_rank(study: TaskStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = training.predict
    monkeypatch.setattr(training, "predict", lambda *arguments: predict(*arguments) * float("nan"))
    result = run(study, candidates.EQUAL, "trial")
    assert result["validation"]["overall"] == {metrics.RANK: None}
