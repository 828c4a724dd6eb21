"""Turn the results of all trainings into what is shown: one row per candidate, and a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import metrics, remedies, statistics, verdict
from .calibration import Bins
from .engine import Outcome
from .statistics import Difference, Estimate
from .study import Study
from .trials import Settings

CAVEAT = (
    "The intervals are 95 % t intervals over seeds, widened because the seeds' splits share {shared} (Nadeau and Bengio"
    " 2003). The verdicts also allow for comparing several losses at once (Holm 1979): an interval clear of 0 need not"
    " be evidence."
)
GROUPS = ("head", "middle", "tail")


@dataclass(frozen=True)
class Row:
    """One candidate over all seeds, on test rows.

    Attributes:
        name: its name.
        summary: what it is.
        plain: whether nothing is trained for it: plain cross-entropy with something done after training, or no model.
        values: the headline metric, one per seed.
        metrics: each metric's mean and interval.
        difference: the paired difference of the headline metric to the yardstick; None for the yardstick.
        recall: of each class, in the order of the problem.
        groups: the mean recall of the head, middle and tail classes; None for a group without classes.
        seconds: the median time of a training, None where nothing is trained.
        milliseconds_per_step: the median, None where nothing is trained.
        chosen: the settings that won the trials.
        curve: epochs, training loss and headline metric on validation rows, means over seeds; None without training.
        calibration: all test predictions of all seeds by confidence.
        gradient_norms: mean shares over seeds; None without training.
    """

    name: str
    summary: str
    plain: bool
    values: tuple[float | None, ...]
    metrics: Mapping[str, Estimate]
    difference: Difference | None
    recall: tuple[Estimate, ...]
    groups: Mapping[str, Estimate | None]
    seconds: float | None
    milliseconds_per_step: float | None
    chosen: Settings
    curve: Mapping[str, Sequence[Any]] | None
    calibration: Bins
    gradient_norms: Mapping[str, Sequence[float]] | None


@dataclass(frozen=True)
class Comparison:
    """The answer: rows with the yardstick first, then from best to worst; what they say, and which one to use."""

    study: Study
    seeds: int
    workers: int
    rows: tuple[Row, ...]
    verdict: tuple[str, ...]
    winner: str


def summarize(study: Study, outcome: Outcome, workers: int, asked_seeds: int | None = None) -> Comparison:
    """Bring what the trainings gave into a comparison.

    Args:
        study: what was compared.
        outcome: the results of `engine.run`.
        workers: how many processes there were.
        asked_seeds: how many seeds were asked for, where time may have been short.
    """
    values = {
        name: tuple(metrics.value(result["test"], study.metric, study.counted) for result in results)
        for name, results in outcome.results.items()
    }
    reference = values[remedies.YARDSTICK]
    others = {name: each for name, each in values.items() if name != remedies.YARDSTICK}
    compared = statistics.differences(others, reference, study.overlap, study.larger_is_better)
    rows = [_row(study, name, outcome, values[name], compared.get(name)) for name in outcome.results]
    yardstick = rows[0]
    ordered = (yardstick, *sorted(rows[1:], key=lambda row: -verdict.goodness(row, study)))
    sentences, winner = verdict.judge(ordered, study, outcome.seeds, asked_seeds or outcome.seeds)
    return Comparison(study, outcome.seeds, workers, ordered, tuple(sentences), winner)


def caveat(study: Study) -> str:
    """How the intervals and verdicts are to be read."""
    return CAVEAT.format(shared="classes" if study.problem.kind == "retrieval" else "rows")


def group_of(position: int, classes: int) -> str:
    """Whether a class is of the head, the middle or the tail: thirds by rank; of two classes head and tail."""
    return GROUPS[2 * position if classes == 2 else position * 3 // classes]


def by_rank(study: Study) -> list[int]:
    """The positions of the classes from the most frequent to the rarest."""
    counts = study.problem.counts
    return sorted(range(len(counts)), key=lambda position: -counts[position])


def class_groups(study: Study) -> list[str]:
    """The group of each class, in the order of the problem."""
    groups = [""] * len(study.problem.classes)
    for rank, position in enumerate(by_rank(study)):
        groups[position] = group_of(rank, len(groups))
    return groups


def _row(
    study: Study,
    name: str,
    outcome: Outcome,
    values: tuple[float | None, ...],
    difference: Difference | None,
) -> Row:
    """One candidate's line of the table."""
    results = outcome.results[name]
    tests = [result["test"] for result in results]
    recall = [test["by_class"]["recall"] for test in tests]
    trained = [result for result in results if result["seconds"] is not None]
    return Row(
        name=name,
        summary=study.candidates[name].summary,
        plain=study.candidates[name].make is None,
        values=values,
        metrics={
            each: _estimate(study, [metrics.value(test, each, study.counted) for test in tests])
            for each in metrics.names(study.problem.kind)
        },
        difference=difference,
        recall=tuple(_estimate(study, seeds) for seeds in zip(*recall, strict=True)),
        groups=_groups(study, recall),
        seconds=float(np.median([each["seconds"] for each in trained])) if trained else None,
        milliseconds_per_step=(
            float(np.median([1000 * each["seconds"] / each["steps"] for each in trained])) if trained else None
        ),
        chosen=outcome.chosen[name],
        curve=_mean_curve([each["curve"] for each in trained]),
        calibration=Bins.pooled(Bins(**test["bins"]) for test in tests if test["bins"] is not None),
        gradient_norms=_mean_norms([each["gradient_norms"] for each in trained if each["gradient_norms"]]),
    )


def _estimate(study: Study, values: Sequence[float | None]) -> Estimate:
    return statistics.estimate(values, study.overlap)


def _groups(study: Study, recall: Sequence[Sequence[float | None]]) -> dict[str, Estimate | None]:
    """The mean recall of the classes of each group."""
    of = class_groups(study)
    found: dict[str, Estimate | None] = {}
    for group in GROUPS:
        members = [position for position, each in enumerate(of) if each == group]
        means = [_mean([seed[each] for each in members]) for seed in recall]
        found[group] = _estimate(study, means) if members else None
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of the defined values, None if there is none."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _mean_curve(curves: Sequence[Mapping[str, Sequence[Any]]]) -> dict[str, list[Any]] | None:
    if not curves:
        return None
    means = {
        name: [_mean(point) for point in zip(*(curve[name] for curve in curves), strict=True)]
        for name in ("train_loss", "validation")
    }
    return {"epoch": list(curves[0]["epoch"]), **means}


def _mean_norms(norms: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]] | None:
    if not norms:
        return None
    return {name: np.mean([each[name] for each in norms], axis=0).tolist() for name in ("share", "mass")}
