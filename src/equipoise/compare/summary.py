"""Turn the results of all trainings into what is shown: one row per candidate, and a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import candidates, metrics, statistics
from .statistics import Estimate
from .study import Study

CAVEAT = (
    "The intervals are over seeds whose splits share rows, and make no allowance for comparing several losses:"
    " they are narrower than they should be."
)


@dataclass(frozen=True)
class Row:
    """One candidate over all seeds, on test rows.

    Attributes:
        name: its name.
        summary: what it is.
        values: the headline metric, one per seed.
        metrics: each metric's mean and interval.
        difference: the paired difference of the headline metric to the yardstick; None for the yardstick.
        recall: of each class, in the order of the problem.
        seconds: the median time of a training, None where nothing is trained.
    """

    name: str
    summary: str
    values: tuple[float | None, ...]
    metrics: Mapping[str, Estimate]
    difference: Estimate | None
    recall: tuple[Estimate, ...]
    seconds: float | None


@dataclass(frozen=True)
class Comparison:
    """The answer: rows with the yardstick first, then from best to worst; and what they say."""

    study: Study
    seeds: int
    workers: int
    metric: str
    rows: tuple[Row, ...]
    verdict: tuple[str, ...]


def summarize(study: Study, seeds: int, workers: int, results: Mapping[str, Sequence[Mapping[str, Any]]]) -> Comparison:
    """Bring the results of `engine.run` into a comparison."""
    metric = metrics.HEADLINE[study.problem.kind]
    reference = _values(results[candidates.YARDSTICK], metric)
    rows = [_row(study, name, each, metric, reference) for name, each in results.items()]
    yardstick, *others = rows
    others.sort(key=lambda row: _mean(row, metric) or 0.0, reverse=True)
    verdict = tuple(_verdict(yardstick, others, metric, study, seeds))
    return Comparison(study, seeds, workers, metric, (yardstick, *others), verdict)


def _row(
    study: Study, name: str, results: Sequence[Mapping[str, Any]], metric: str, reference: Sequence[float | None]
) -> Row:
    """One candidate's line of the table."""
    tests = [result["test"] for result in results]
    values = _values(results, metric)
    seconds = [result["seconds"] for result in results if result["seconds"] is not None]
    return Row(
        name=name,
        summary=study.candidates[name].summary,
        values=values,
        metrics={each: statistics.estimate([test["metrics"][each] for test in tests]) for each in tests[0]["metrics"]},
        difference=None if name == candidates.YARDSTICK else statistics.difference(values, reference),
        recall=tuple(statistics.estimate(seeds) for seeds in zip(*(test["recall"] for test in tests), strict=True)),
        seconds=float(np.median(seconds)) if seconds else None,
    )


def _values(results: Sequence[Mapping[str, Any]], metric: str) -> tuple[float | None, ...]:
    return tuple(result["test"]["metrics"][metric] for result in results)


def _mean(row: Row, metric: str) -> float | None:
    return row.metrics[metric].mean


def _verdict(yardstick: Row, others: Sequence[Row], metric: str, study: Study, seeds: int) -> list[str]:
    """What the numbers say, and no more: a difference counts where its paired interval is clear of 0."""
    if not others:
        return ["Plain cross-entropy alone was run: there is nothing to compare it with."]
    if seeds < 2:
        return ["One seed gives no interval: these numbers show what one split gave, not which loss is better."]
    above = [row for row in others if row.difference is not None and row.difference.sign > 0]
    if above:
        names = ", ".join(f"{row.name} ({row.difference.mean:+.3f})" for row in above if row.difference)
        first = f"Above plain cross-entropy in {metric}, the paired interval of the difference clear of 0: {names}."
    else:
        first = f"These seeds show no loss above plain cross-entropy in {metric}: no paired interval lies above 0."
    below = ", ".join(row.name for row in others if row.difference is not None and row.difference.sign < 0)
    sentences = [
        first,
        *([f"Below it, the interval clear of 0: {below}."] if below else []),
        *_about_prior(yardstick, others, metric, study),
    ]
    failed = [row.name for row in (yardstick, *others) if None in row.values]
    if failed:
        sentences.append(f"Without a {metric} on some seeds (not defined, or training diverged): {', '.join(failed)}.")
    return sentences


def _about_prior(yardstick: Row, others: Sequence[Row], metric: str, study: Study) -> list[str]:
    """Whether prior correction, which costs no training, does as well as the best trained loss."""
    prior = next((row for row in others if row.name == candidates.PRIOR_CORRECTED), None)
    if prior is None or _mean(prior, metric) is None:
        return []
    if study.problem.kind != "multiclass":
        return [f"Prior correction only moves the threshold, which {metric} does not see."]
    trained = [yardstick, *(row for row in others if row is not prior)]
    best = max(trained, key=lambda row: _mean(row, metric) or 0.0)
    if best is yardstick:
        return []  # the first sentence has compared the two
    gap = statistics.difference(best.values, prior.values)
    if gap.half_width is None:
        return []
    if gap.sign > 0:
        return [
            f"Prior correction, which costs no training, reaches {_mean(prior, metric):.3f};"
            f" {best.name} is above it by {gap.mean:.3f} ± {gap.half_width:.3f}."
        ]
    if gap.sign < 0:
        return [f"Prior correction, which costs no training, is better than the best trained loss ({best.name})."]
    return [
        f"Prior correction, which costs no training, reaches {_mean(prior, metric):.3f}; the best trained loss,"
        f" {best.name}, {_mean(best, metric):.3f}. Their difference, {abs(gap.mean or 0.0):.3f} ± {gap.half_width:.3f},"
        " is not clear of 0."
    ]
