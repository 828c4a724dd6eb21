"""What a comparison looks like in a terminal: progress while it runs, then the table."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from . import metrics, models, profile, splits
from .retrieval import splitting
from .statistics import Difference, Estimate
from .study import Study
from .summary import Comparison, caveat
from .verdict import metric_in_words, signed

BAR = 20
UNBOUNDED = 1000
MOST_LINES = 6
MOST_CLASSES = 12
SHORT = {"average_precision": "AP", "balanced_accuracy": "bal. acc.", "macro_f1": "macro F1"}
# What the table has room for; the report has all.
FURTHER: tuple[metrics.Name, ...] = ("balanced_accuracy", "macro_f1", "average_precision", "log_loss")


def console(file: IO[str], no_color: bool) -> Console:
    """A console that writes plain text where the file is no terminal or colours are not wanted."""
    return Console(file=file, highlight=False, color_system=None if no_color else "auto", soft_wrap=False)


@contextmanager
def progress(to: Console) -> Iterator[Callable[[int, int], None]]:
    """Show live progress with the time left, on a terminal only.

    Yields:
        A function of the numbers of finished and of all trainings.
    """
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("elapsed,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=to, transient=True, disable=not to.is_terminal) as bar:
        task = bar.add_task("training", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def show_study(study: Study, seeds: int, to: Console) -> None:
    """Say what is about to be compared."""
    problem = study.problem
    labels = "labels" if problem.kind == "multilabel" else "classes"
    about = (
        f"target {', '.join(problem.target)} ({study.target_reason}): {problem.kind}, {len(problem.classes)}"
        f" {labels} of {max(problem.counts):,} to {min(problem.counts):,} rows, imbalance"
        f" {max(problem.counts) / min(problem.counts):,.1f} to 1"
    )
    tuned = (
        "learning rate, weight decay and margin or temperature"
        if _retrieves(study)
        else "learning rate and weight decay"
    )
    show_data(study, [about, _class_line(study)], seeds, f"{tuned} per loss", to)


def show_data(study: Study, about: Sequence[str], seeds: int, tuned: str, to: Console) -> None:
    """The table, what is learned from it, what was changed, what to beware of, and the budget.

    Args:
        study: what is compared.
        about: lines on the target.
        seeds: how many there will be.
        tuned: what the trials are of.
        to: where to print.
    """
    plan = study.plan
    kinds = Counter(column.kind for column in study.table.columns)
    parts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    lines = [
        *about,
        *(f"note: {note}" for note in study.notes),
        *_column_lines(study),
        *(f"warning: {warning}" for warning in study.warnings),
        f"{models.describe(plan.model)}, {counted(plan.epochs, 'epoch')} of batches of {plan.batch_size},"
        f" {counted(seeds, 'seed')}, each with its own split {_split(study)};"
        f" {counted(len(study.settings), 'trial')} of {tuned}",
    ]
    missing = sum(column.missing for column in study.table.columns)
    what = (
        f"{study.total_rows:,} rows, {counted(kinds.total(), 'feature')} ({parts}), {counted(missing, 'missing cell')}"
    )
    to.print(Text(f"{study.source_name}: {what}", "bold"))
    for line in lines:
        to.print(line, markup=False)


def _retrieves(study: Study) -> bool:
    return study.problem.kind == "retrieval"


def _split(study: Study) -> str:
    """The shares of training, validation and test; of retrieval the classes."""
    if study.order is not None and study.order.by == "time":
        _, tested = splits.shares(study.problem, study.order)
        return f"of {100 * tested:.0f} % of the rows for test, trained on what was before"
    if not _retrieves(study):
        return "60/20/20"
    train, validation, test = splitting.shares(len(study.problem.classes))
    return f"of classes, {train} for training, {validation} for validation, {test} for test"


def _class_line(study: Study) -> str:
    """The rows of each class, and how many they are worth (the effective number of samples) to a loss of classes."""
    problem = study.problem
    effective = profile.effective_numbers(problem.counts)
    worths = [""] * len(effective) if _retrieves(study) else [f" ({worth:,.0f})" for worth in effective]
    shown = [
        f"{name}: {rows:,}{worth}" for name, rows, worth in zip(problem.classes, problem.counts, worths, strict=True)
    ]
    more = f" and {len(shown) - MOST_CLASSES} more" if len(shown) > MOST_CLASSES else ""
    return f"rows{'' if _retrieves(study) else ' (effective numbers)'} of {', '.join(shown[:MOST_CLASSES])}{more}"


def _column_lines(study: Study) -> list[str]:
    """What was done with columns beyond the usual; the report has them all."""
    lines = [f"column {column.name}: {column.kind}, {column.note}" for column in study.table.columns if column.note]
    more = [f"and {len(lines) - MOST_LINES:,} columns more, see the report"] if len(lines) > MOST_LINES else []
    return lines[:MOST_LINES] + more


def show_comparison(comparison: Comparison, to: Console) -> None:
    """Print the table and the verdict."""
    known = metrics.OF_RETRIEVAL if _retrieves(comparison.study) else FURTHER
    further = [name for name in known if name != comparison.study.metric]
    choices = [_table(comparison, further, bar=True), _table(comparison, further), _table(comparison, further[:1])]
    spread = f"mean ± 95 % interval over {comparison.seeds} seeds; " if comparison.seeds > 1 else ""
    metric = metric_in_words(comparison.study)
    tested = "rows of classes unseen in training" if _retrieves(comparison.study) else "test rows"
    legend = f"{metric} on {tested}, {spread}▲ helps, ▼ hurts"
    show_answer([*choices, _table(comparison, [])], legend, caveat(comparison.study), comparison.verdict, to)


def show_answer(tables: Sequence[Table], legend: str, how: str, verdict: Sequence[str], to: Console) -> None:
    """The first table that the terminal has room for, else the last one; what it shows, and what it says."""
    unbounded = to.options.update(max_width=UNBOUNDED)
    fitting = (each for each in tables if Measurement.get(to, unbounded, each).maximum <= to.width)
    to.print()
    to.print(next(fitting, tables[-1]))
    to.print()
    to.print(legend, style="dim", markup=False)
    to.print(how, style="dim")
    to.print()
    for sentence in verdict:
        to.print(Text(sentence, "bold"))


def _table(comparison: Comparison, further: Sequence[str], bar: bool = False) -> Table:
    """One line per candidate: the headline, its difference to plain cross-entropy, and some further metrics."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(
        "loss", overflow="fold", min_width=10
    )  # the one column that may be folded where the terminal is narrow
    headline_name = comparison.study.metric
    table.add_column(short(headline_name), justify="right", no_wrap=True)
    if bar:
        table.add_column("", no_wrap=True)
    table.add_column("vs plain", justify="right", no_wrap=True)
    for name in further:
        table.add_column(short(name), justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    best = max((row.metrics[headline_name].mean or 0.0) for row in comparison.rows)
    for row in comparison.rows:
        headline = row.metrics[headline_name]
        cells = [Text(row.name), with_interval(headline)]
        if bar:
            cells.append(Text("━" * round(BAR * (headline.mean or 0.0) / best if best else 0.0), "cyan"))
        cells.append(with_verdict(row.difference))
        cells += [Text(number(row.metrics[name].mean)) for name in further]
        cells.append(Text(seconds(row.seconds)))
        table.add_row(*cells)
    return table


def with_interval(estimate: Estimate) -> Text:
    """`0.512 ± 0.014`."""
    if estimate.mean is None or estimate.half_width is None:
        return Text(number(estimate.mean))
    return Text(f"{estimate.mean:.3f} ± {estimate.half_width:.3f}")


def counted(count: int, noun: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def number(value: float | None) -> str:
    """Three digits after the point, or a dash for a value that there is not."""
    return "-" if value is None else f"{value:.3f}"


def seconds(value: float | None) -> str:
    """`<0.1 s`, `1.2 s`, `124 s`, or `none` where nothing was trained."""
    if value is None:
        return "none"
    return "<0.1 s" if value < 0.05 else f"{value:.1f} s" if value < 99.95 else f"{value:.0f} s"


def with_verdict(difference: Difference | None, places: int = 3) -> Text:
    """`+0.012 ± 0.034 ▲`, or nothing for the yardstick."""
    if difference is None or difference.mean is None:
        return Text("")
    mark, style = {1: ("▲", "green"), -1: ("▼", "red"), 0: (" ", "")}[difference.sign]
    return Text(f"{signed(difference, places)} {mark}", style)


def short(metric: str) -> str:
    """A metric's name for the head of a column."""
    return {**metrics.SPELLED, **SHORT}.get(metric, metric.replace("_", " "))


def print_path(path: str) -> None:
    """The path of the report, alone on the last line and never wrapped."""
    sys.stdout.write(f"{path}\n")
