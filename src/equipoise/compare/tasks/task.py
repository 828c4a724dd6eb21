"""What one task is: its labels, which may be missing in any row, its loss, and the metric that it is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor, nn

from equipoise.catalog import CARDS

from .. import candidates, problem
from ..errors import CompareError
from ..readers import near_names
from .target import Kind, Wanted

FEWEST_ROWS = 10

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """One of several targets.

    Attributes:
        name: the column.
        kind: what kind of target it is.
        loss: the name of its loss.
        classes: their names as in a `problem.Problem`; empty for regression.
        counts: the rows of each class.
        labels: float64 [N]: the index of the class, or the amount; NaN where the row has none.
        test_rows: of each class, the fewest on any seed; empty before there are splits.
        counted: the classes that averages over classes count.
    """

    name: str
    kind: Kind
    loss: str
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    labels: Floats
    test_rows: tuple[int, ...] = ()
    counted: tuple[int, ...] = ()

    @property
    def outputs(self) -> int:
        """The number of scores of its head."""
        return len(self.classes) if self.kind == "multiclass" else 1

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which rows have a label."""
        return ~np.isnan(self.labels)

    @property
    def independent(self) -> bool:
        """Whether each class of a `multiclass` task is trained as a question of its own."""
        return self.kind == "multiclass" and candidates.candidates("multiclass")[self.loss].independent


def pose(cells: pd.Series[Any], wanted: Wanted) -> tuple[Task, list[str]]:
    """The task of a column, and what was left out.

    Args:
        cells: the column, of all rows.
        wanted: what was asked for.

    Raises:
        CompareError: where nothing can be learned from such a column, or no such loss trains it.
    """
    loss = _loss_name(wanted)
    labels = np.full(len(cells), np.nan)
    if wanted.kind == "regression":
        labels[:] = _amounts(cells)
        return Task(wanted.column, wanted.kind, loss, (), (), labels), []
    known = np.flatnonzero(cells.map(problem.is_label).to_numpy(bool))
    if not len(known):
        raise CompareError(f"target {wanted.column!r} has no value in any row")
    posed = problem.pose(cells.iloc[known].to_frame(), wanted.kind)
    labels[known[posed.rows]] = posed.labels
    task = Task(wanted.column, wanted.kind, loss, posed.classes, posed.counts, labels)
    return task, [f"{wanted.column}: {note}" for note in posed.notes]


def _amounts(cells: pd.Series[Any]) -> Floats:
    """The numbers of a column, NaN where a cell is empty."""
    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    amounts = np.where(np.isfinite(numbers), numbers, np.nan)
    words = cells[np.isnan(numbers) & cells.map(problem.is_label).to_numpy(bool)]
    if len(words):
        raise CompareError(f"target {str(cells.name)!r} holds {words.iloc[0]!r}, a regression expects numbers")
    if np.isfinite(amounts).sum() < FEWEST_ROWS:
        raise CompareError(f"target {str(cells.name)!r} has fewer than {FEWEST_ROWS} numbers")
    if np.nanmin(amounts) == np.nanmax(amounts):
        raise CompareError(f"target {str(cells.name)!r} is the same number in every row")
    return amounts


def losses(kind: Kind) -> dict[str, str]:
    """The losses that can train a kind of task, and what each is; the default first."""
    if kind == "regression":
        plain = {"squared_error": "the mean squared error", "absolute_error": "the mean absolute error"}
        return plain | {card.name: card.summary for card in CARDS if "regression" in card.problems}
    return {name: each.summary for name, each in candidates.candidates(kind).items() if each.make is not None}


def _loss_name(wanted: Wanted) -> str:
    known = list(losses(wanted.kind))
    if wanted.loss is None:
        return known[0]
    if wanted.loss not in known:
        near = near_names(wanted.loss, known)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"choose from {', '.join(known)}"
        raise CompareError(f"no loss {wanted.loss!r} trains the {wanted.kind} task {wanted.column!r}; {hint}")
    return wanted.loss


def build_loss(task: Task, labels: Tensor) -> nn.Module:
    """The loss of a task from the labels of its training rows, in the form that the loss takes."""
    if task.kind != "regression":
        make = candidates.candidates(task.kind)[task.loss].make
        assert make is not None  # `losses` offers only what is trained
        return make(labels, task.outputs)
    if task.loss in ("squared_error", "absolute_error"):
        return nn.MSELoss() if task.loss == "squared_error" else nn.L1Loss()
    module = next(card.module for card in CARDS if card.name == task.loss)
    return module()


def strata(tasks: Sequence[Task]) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """What a split is to hold in proportion: each class of each task, and the rows with a number for a regression.

    Returns:
        Names, and zeros and ones [N, K].
    """
    names: list[str] = []
    columns: list[NDArray[np.bool_]] = []
    for task in tasks:
        if task.kind == "regression":
            names.append(f"{task.name} known")
            columns.append(task.known)
        for index, each in list(enumerate(task.classes))[task.kind == "binary" :]:
            names.append(f"{task.name} {each}")
            columns.append(task.labels == index)
    return tuple(names), np.stack(columns, axis=1).astype(np.uint8)
