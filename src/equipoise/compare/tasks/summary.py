"""Turn the results of all trainings of several tasks into what is shown: one row per way to weigh, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import statistics
from ..engine import Outcome
from ..jobs import Result
from ..remedies import REMEDIES
from ..statistics import Difference, Estimate
from ..trials import Settings
from . import candidates, metrics, verdict
from .study import TaskStudy
from .task import Task

CAVEAT = (
    "Δm is the mean over tasks of the relative change of each task's metric against its single-task model, seed by"
    " seed. The intervals are 95 % t intervals over seeds, widened because the seeds' splits share rows (Nadeau and"
    " Bengio 2003). The verdicts also allow for comparing several ways to weigh at once (Holm 1979): an interval clear"
    " of 0 need not be evidence."
)


@dataclass(frozen=True)
class OfTask:
    """What a candidate reaches in one task, on test rows.

    Attributes:
        metrics: each metric's mean and interval, the one that decides first.
        change: the relative change of that one against the single-task model, in per cent, larger for better; of the
            single-task model itself 0.
        recall: of each class; empty for regression.
    """

    metrics: Mapping[str, Estimate]
    change: Estimate
    recall: tuple[Estimate, ...]


@dataclass(frozen=True)
class TaskRow:
    """One candidate over all seeds.

    Attributes:
        name: its name.
        summary: what it is.
        plain: whether it is constant weights, tuned or not.
        values: Δm in per cent, one per seed.
        delta: its mean and interval.
        tasks: by name.
        difference: of Δm to the single-task models; None for these.
        against_constant: of Δm to the better one of constant weights; None for these and for single-task models.
        seconds: the median time of a training; of the single-task models all together.
        milliseconds_per_step: the median; of the single-task models all together.
        chosen: the settings that won the trials; of the single-task models by task.
        curve: epochs, training loss and what ranks trials on validation rows, means over seeds.
        weights: of each task, epoch by epoch: the mean over seeds; None for single-task models.
    """

    name: str
    summary: str
    plain: bool
    values: tuple[float | None, ...]
    delta: Estimate
    tasks: Mapping[str, OfTask]
    difference: Difference | None
    against_constant: Difference | None
    seconds: float
    milliseconds_per_step: float
    chosen: Mapping[str, Settings]
    curve: Mapping[str, Sequence[Any]] | None
    weights: Mapping[str, Sequence[float | None]] | None


@dataclass(frozen=True)
class TaskComparison:
    """The answer: single-task models first, then from best to worst; what they say, and which one to use."""

    study: TaskStudy
    seeds: int
    workers: int
    rows: tuple[TaskRow, ...]
    verdict: tuple[str, ...]
    winner: str


def summarize(study: TaskStudy, outcome: Outcome, workers: int, asked_seeds: int | None = None) -> TaskComparison:
    """Bring what the trainings gave into a comparison.

    Args:
        study: what was compared.
        outcome: the results of `engine.run`.
        workers: how many processes there were.
        asked_seeds: how many seeds were asked for, where time may have been short.
    """
    alone = {task.name: outcome.results[candidates.single(task.name)] for task in study.tasks}
    singles = {candidates.single(task.name) for task in study.tasks}
    together = {name: results for name, results in outcome.results.items() if name not in singles}
    by_task = {candidates.SINGLE: alone} | {
        name: {task.name: results for task in study.tasks} for name, results in together.items()
    }
    changes = {name: _changes(study, results, alone) for name, results in by_task.items()}
    values = {name: _deltas(each) for name, each in changes.items()}
    others = {name: each for name, each in values.items() if name != candidates.SINGLE}
    against_single = statistics.differences(others, values[candidates.SINGLE], study.overlap)
    constant = max((name for name in candidates.PLAIN if name in values), key=lambda name: _mean(values[name]))
    balancers = {name: each for name, each in others.items() if name not in candidates.PLAIN}
    against_constant = statistics.differences(balancers, values[constant], study.overlap)
    rows = [
        TaskRow(
            name=name,
            summary=_summary(study, name),
            plain=name in candidates.PLAIN,
            values=values[name],
            delta=_estimate(study, values[name]),
            tasks={
                task.name: _of_task(study, task, results[task.name], changes[name][task.name]) for task in study.tasks
            },
            difference=against_single.get(name),
            against_constant=against_constant.get(name),
            **_training(study, outcome, name, results),
        )
        for name, results in by_task.items()
    ]
    ordered = (rows[0], *sorted(rows[1:], key=lambda row: -_mean(row.values)))
    sentences, winner = verdict.judge(ordered, constant, study, outcome.seeds, asked_seeds or outcome.seeds)
    return TaskComparison(study, outcome.seeds, workers, ordered, tuple(sentences), winner)


Values = tuple[float | None, ...]


def _changes(
    study: TaskStudy, results: Mapping[str, Sequence[Result]], alone: Mapping[str, Sequence[Result]]
) -> dict[str, Values]:
    """Of each task, the relative change of its metric against its single-task model, seed by seed."""
    return {
        task.name: tuple(
            metrics.change(
                task,
                metrics.value(task, found["test"]["tasks"][task.name]),
                metrics.value(task, reference["test"]["tasks"][task.name]),
            )
            for found, reference in zip(results[task.name], alone[task.name], strict=True)
        )
        for task in study.tasks
    }


def _deltas(changes: Mapping[str, Values]) -> Values:
    """Δm, seed by seed."""
    return tuple(metrics.delta(seed) for seed in zip(*changes.values(), strict=True))


def _mean(values: Values) -> float:
    """The mean of the defined values; what has none comes last."""
    mean = statistics.estimate(values, 0).mean
    return -np.inf if mean is None else mean


def _estimate(study: TaskStudy, values: Sequence[float | None]) -> Estimate:
    return statistics.estimate(values, study.overlap)


def _summary(study: TaskStudy, name: str) -> str:
    if name == candidates.SINGLE:
        return REMEDIES[name].summary
    return study.candidates[name].summary


def _of_task(study: TaskStudy, task: Task, results: Sequence[Result], change: Values) -> OfTask:
    tests = [result["test"]["tasks"][task.name] for result in results]
    recall = [test["by_class"].get("recall", []) for test in tests]
    return OfTask(
        metrics={
            name: _estimate(study, [metrics.value(task, test, name) for test in tests]) for name in metrics.names(task)
        },
        change=_estimate(study, change),
        recall=tuple(_estimate(study, seeds) for seeds in zip(*recall, strict=True)),
    )


def _training(study: TaskStudy, outcome: Outcome, name: str, results: Mapping[str, Sequence[Result]]) -> dict[str, Any]:
    """Cost, settings, curves and weights of a candidate's trainings."""
    if name == candidates.SINGLE:
        medians = [_cost(results[task.name]) for task in study.tasks]
        chosen = {task.name: outcome.chosen[candidates.single(task.name)] for task in study.tasks}
        curve = weights = None
    else:
        trained = results[study.tasks[0].name]
        medians, chosen = [_cost(trained)], {"": outcome.chosen[name]}
        names = ("train_loss", "validation")
        curve = {"epoch": trained[0]["curve"]["epoch"]} | {
            each: _means([result["curve"][each] for result in trained]) for each in names
        }
        weights = {task.name: _means([result["weights"][task.name] for result in trained]) for task in study.tasks}
    return {
        "seconds": sum(seconds for seconds, _ in medians),
        "milliseconds_per_step": sum(step for _, step in medians),
        "chosen": chosen,
        "curve": curve,
        "weights": weights,
    }


def _cost(results: Sequence[Result]) -> tuple[float, float]:
    """The median seconds of a training, and milliseconds of a step."""
    steps = [1000 * each["seconds"] / each["steps"] for each in results]
    return float(np.median([each["seconds"] for each in results])), float(np.median(steps))


def _means(seeds: Sequence[Sequence[float | None]]) -> list[float | None]:
    """The mean over seeds, point by point, of the values that are defined."""
    return [statistics.estimate(point, 0).mean for point in zip(*seeds, strict=True)]
