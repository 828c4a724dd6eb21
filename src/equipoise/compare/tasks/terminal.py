"""What a comparison of several tasks looks like in a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import profile, terminal
from . import metrics
from .study import TaskStudy
from .summary import CAVEAT, TaskComparison, TaskRow
from .task import Task

ARROWS = {1: "↑", -1: "↓"}


def show_study(study: TaskStudy, seeds: int, to: Console) -> None:
    """Say what is about to be compared."""
    about = [f"{len(study.tasks)} targets ({study.target_reason}):", *(_line(task) for task in study.tasks)]
    tuned = "learning rate and weight decay per way to weigh, and of weights where they are constant"
    terminal.show_data(study, about, seeds, tuned, to)


def _line(task: Task) -> str:
    """One task in a line: its rows, its classes or amounts, its loss and its metric."""
    known = task.labels[task.known]
    judged = f"trained by {task.loss}, judged by {metrics.in_words(metrics.headline(task))}"
    what = f"  {task.name}: {task.kind} of {len(known):,} labelled rows"
    if task.kind == "regression":
        return f"{what}, {known.min():g} to {known.max():g}, median {np.median(known):g}; {judged}"
    worth = profile.effective_numbers(task.counts)
    shown = [
        f"{name}: {rows:,} ({number:,.0f})" for name, rows, number in zip(task.classes, task.counts, worth, strict=True)
    ]
    more = f" and {len(shown) - terminal.MOST_CLASSES} more" if len(shown) > terminal.MOST_CLASSES else ""
    classes = f"{', '.join(shown[: terminal.MOST_CLASSES])}{more}"
    return f"{what}; {judged}; rows (effective numbers) of {classes}"


def show_comparison(comparison: TaskComparison, to: Console) -> None:
    """Print the table and the verdict."""
    choices = (("beside", "tasks", "time"), ("tasks", "time"), ("tasks",), ("time",))
    spread = f"mean ± 95 % interval over {comparison.seeds} seeds; " if comparison.seeds > 1 else ""
    legend = f"Δm in per cent against single-task models, on test rows, {spread}▲ helps, ▼ hurts"
    tables = [_table(comparison, parts) for parts in choices]
    terminal.show_answer(tables, legend, CAVEAT, comparison.verdict, to)


def _table(comparison: TaskComparison, parts: Collection[str]) -> Table:
    """One line per candidate: Δm, and what else there is room for.

    Args:
        comparison: the answer.
        parts: `beside` the difference to constant weights, `tasks` the metric of each, and `time`.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("weights", overflow="fold", min_width=10)
    table.add_column("Δm %", justify="right", no_wrap=True)
    if "beside" in parts:
        table.add_column("vs constant", justify="right", no_wrap=True)
    for task in comparison.study.tasks if "tasks" in parts else ():
        table.add_column(_head(task), justify="right", overflow="fold")
    if "time" in parts:
        table.add_column("time", justify="right", no_wrap=True)
    for row in comparison.rows:
        table.add_row(*_cells(row, comparison.study.tasks, parts))
    return table


def _head(task: Task) -> str:
    name = metrics.headline(task)
    words = terminal.short(name) if name in terminal.SHORT else metrics.in_words(name)
    return f"{task.name}\n{words} {ARROWS[metrics.sign(task)]}"


def _cells(row: TaskRow, tasks: Sequence[Task], parts: Collection[str]) -> list[Text]:
    """What stands in a line."""
    cells = [Text(row.name), terminal.with_verdict(row.difference, 1)]
    if "beside" in parts:
        cells.append(terminal.with_verdict(row.against_constant, 1))
    for task in tasks if "tasks" in parts else ():
        mean = row.tasks[task.name].metrics[metrics.headline(task)].mean
        cells.append(Text("-" if mean is None else f"{mean:.3f}" if mean < 10 else f"{mean:.2f}"))
    return [*cells, Text(terminal.seconds(row.seconds))] if "time" in parts else cells
