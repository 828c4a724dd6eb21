"""What a comparison of several tasks says in words, the answer first, and no more than its numbers do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import verdict
from ..statistics import Difference, Estimate
from . import metrics
from .study import TaskStudy

if TYPE_CHECKING:
    from .summary import TaskRow

VERDICTS = ("helps", "hurts", "no evidence")


def judge(
    rows: Sequence[TaskRow], constant: str, study: TaskStudy, seeds: int, asked_seeds: int
) -> tuple[list[str], str]:
    """The sentences, and the name of the candidate to use.

    A balancer is worth its while where it does better than single-task models and than constant weights.

    Args:
        rows: the single-task models first, then from best to worst.
        constant: the name of the better one of constant weights.
        study: what was compared.
        seeds: how many seeds count.
        asked_seeds: how many were asked for.
    """
    single, *others = rows
    short = [f"The time budget ended after {seeds} of {asked_seeds} seeds."] if seeds < asked_seeds else []
    if seeds < 2:
        one = "One seed gives no interval: these numbers show what one split gave, not which way to weigh is better."
        return [one, *short, *_left_out(study)], single.name
    first, winner = _answer(others, next(row for row in others if row.name == constant))
    failed = [row.name for row in rows if None in row.values]
    undefined = f"Without a Δm on some seeds (not defined, or training diverged): {', '.join(failed)}."
    sentences = [
        first,
        *_by_task(winner or others[0], study),
        *_against("single-task models", others, [row.difference for row in others]),
        *_against(f"constant weights ({constant})", others, [row.against_constant for row in others]),
        *_power(others),
        *([undefined] if failed else []),
    ]
    return [*sentences, *short, *_left_out(study)], (winner or single).name


def _answer(others: Sequence[TaskRow], constant: TaskRow) -> tuple[str, TaskRow | None]:
    """The first sentence, and the candidate to use; None for single-task models."""
    balancers = [row for row in others if not row.plain]
    helping = [row for row in balancers if _sign(row.difference) > 0]
    better = [row for row in helping if _sign(row.against_constant) > 0]
    if better:
        best, *more = better
        so_do = f"; so {'does' if len(more) == 1 else 'do'} {', '.join(row.name for row in more)}" if more else ""
        return (
            f"{best.name} helps: over all tasks it does {signed(best.delta)} better than single-task models (Δm), and"
            f" {signed(best.against_constant)} better than constant weights{so_do}.",
            best,
        )
    beside = _beside(balancers)
    if _sign(constant.difference) > 0:
        return (
            f"Constant weights will do: no balancer is shown to do better. One network with {constant.name} does"
            f" {signed(constant.delta)} better than single-task models (Δm){beside}.",
            constant,
        )
    if helping:
        best = helping[0]
        return (
            f"{best.name} does {signed(best.delta)} better than single-task models (Δm), but is not shown to do better"
            f" than constant weights: {constant.name} has {signed(constant.delta)} (difference"
            f" {signed(best.against_constant)}).",
            best,
        )
    return (
        "Single-task models will do: no way of training the tasks together is shown to do better. Constant weights"
        f" ({constant.name}) have a Δm of {signed(constant.delta)}{beside}.",
        None,
    )


def _beside(balancers: Sequence[TaskRow]) -> str:
    """The best balancer, for comparison."""
    if not balancers:
        return ""
    best = balancers[0]
    return f"; the best balancer, {best.name}, {signed(best.delta)} (difference {signed(best.against_constant)})"


def _by_task(row: TaskRow, study: TaskStudy) -> list[str]:
    """What became of each task."""
    parts = []
    for task in study.tasks:
        name = metrics.headline(task)
        mean = row.tasks[task.name].metrics[name].mean
        shown = "-" if mean is None else f"{mean:.3f}" if mean < 10 else f"{mean:.1f}"
        parts.append(f"{task.name} {signed(row.tasks[task.name].change)} ({metrics.in_words(name)} {shown})")
    return [f"Task by task, {row.name} against single-task models, larger for better: {', '.join(parts)}."]


def _against(what: str, rows: Sequence[TaskRow], differences: Sequence[Difference | None]) -> list[str]:
    """Which candidates help or hurt against something."""
    judged = [(row.name, each.verdict) for row, each in zip(rows, differences, strict=True) if each is not None]
    if not judged:
        return []
    found = {said: [name for name, each in judged if each == said] for said in VERDICTS}
    if not found["helps"] and not found["hurts"]:
        return [f"Against {what}, no evidence that any of them helps or hurts."]
    parts = [f"{said}: {', '.join(names)}" for said, names in found.items() if names]
    return [f"Against {what}, {'; '.join(parts)}."]


def _power(rows: Sequence[TaskRow]) -> list[str]:
    """How small a Δm could have been found."""
    found = [row.difference.detectable for row in rows if row.difference and row.difference.detectable is not None]
    if not found:
        return []
    least, most = f"{min(found):.1f} %", f"{max(found):.1f} %"
    size = least if least == most else f"{least} to {most}, depending on the way to weigh"
    return [f"The smallest Δm that this run would have found in 8 of 10 cases is {size}; more seeds find less."]


def _left_out(study: TaskStudy) -> list[str]:
    """The classes that the averages leave out, by name."""
    sentences = []
    for task in study.tasks:
        names = [name for position, name in enumerate(task.classes) if position not in task.counted]
        if names:
            shown = ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
            sentences.append(f"Left out of averages over {task.name}, with fewer than 20 test rows: {shown}.")
    return sentences


def _sign(difference: Difference | None) -> int:
    return 0 if difference is None else difference.sign


def signed(estimate: Estimate | None) -> str:
    """`+1.2 ± 0.4 %`."""
    return "not defined" if estimate is None or estimate.mean is None else f"{verdict.signed(estimate, 1)} %"
