"""The losses of one batch, task by task, as a balancer takes them; a task without a label in the batch is absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from .. import training
from .task import Task, build_loss

# The spread of a normal distribution as a share of its interquartile range.
NORMAL = 1.349


class TaskLosses(nn.Module):
    """Each task's loss over the rows that have its label.

    Args:
        tasks: in the order of the heads and of the targets' columns.
        targets: of the training rows: [N, T], NaN where missing. They decide what losses take from labels, and the
            center (median) and scale (interquartile range) by which a regression is standardised.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, tasks: Sequence[Task], targets: Tensor) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        spreads = [
            _spread(targets[:, index]) if task.kind == "regression" else (0.0, 1.0)
            for index, task in enumerate(self.tasks)
        ]
        self.register_buffer("center", torch.tensor([center for center, _ in spreads], dtype=torch.float64))
        self.register_buffer("scale", torch.tensor([scale for _, scale in spreads], dtype=torch.float64))
        self.losses = nn.ModuleList()
        for index, task in enumerate(self.tasks):
            _, labels = self.labels(index, targets)
            self.losses.append(build_loss(task, labels))

    @property
    def outputs(self) -> int:
        """The number of scores of all heads together."""
        return sum(task.outputs for task in self.tasks)

    def heads(self) -> list[slice]:
        """Which of the scores belong to each task."""
        ends = [0]
        for task in self.tasks:
            ends.append(ends[-1] + task.outputs)
        return [slice(*pair) for pair in pairwise(ends)]

    def forward(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The loss of each task that has a label among the rows.

        Args:
            scores: [N, outputs].
            targets: [N, T], NaN where missing.
        """
        found = {}
        for index, (task, head, loss) in enumerate(zip(self.tasks, self.heads(), self.losses, strict=True)):
            known, labels = self.labels(index, targets)
            if len(labels):
                found[task.name] = loss(scores[known, head], labels)
        return found

    def labels(self, index: int, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Which rows have a task's label, and their labels in the form that its loss takes."""
        column = targets[:, index]
        known = ~column.isnan()
        labels = column[known]
        if self.tasks[index].kind == "multiclass":
            return known, labels.long()
        return known, ((labels - self.center[index]) / self.scale[index]).float()[:, None]

    def best_constants(self, targets: Tensor) -> Tensor:
        """The scores [outputs] that minimise each task's loss if every row gets the same ones."""
        found = []
        for index, (task, loss) in enumerate(zip(self.tasks, self.losses, strict=True)):
            _, labels = self.labels(index, targets)
            found.append(training.best_constant(loss, labels, task.outputs))
        return torch.cat(found)

    def predicted(self, scores: Tensor) -> Mapping[str, Tensor]:
        """The scores of each task's head in float64 [N, C]; of a regression the amounts in their own unit."""
        parts = {}
        for index, (task, head) in enumerate(zip(self.tasks, self.heads(), strict=True)):
            part = scores[:, head].double()
            parts[task.name] = part * self.scale[index].cpu() + self.center[index].cpu()
        return parts


def _spread(column: Tensor) -> tuple[float, float]:
    """The median, and the interquartile range as the spread that it would be of a normal distribution.

    Where a quarter of the rows or more share one value the standard deviation takes its place.
    """
    known = column[~column.isnan()].double()
    low, middle, high = (float(each) for each in torch.quantile(known, torch.tensor([0.25, 0.5, 0.75]).double()))
    scale = (high - low) / NORMAL or float(known.std(correction=0))
    return middle, scale or 1.0
