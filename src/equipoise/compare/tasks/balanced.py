"""The total loss of a batch: the tasks' losses, weighed by a balancer that learns beside the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

import equipoise

from .losses import NORMAL, TaskLosses
from .task import Task

# Beside the model's learning rate: a logarithm of a weight has further to go than a weight of the model.
FASTER = 10.0
# Half an interquartile range of a regression that is standardised by it: what the median alone keeps half of the rows
# within.
HALF_RANGE = NORMAL / 2


class Balanced(nn.Module):
    """Called as `total(scores, targets)`, once it knows its balancer.

    Args:
        losses: of all tasks.
        trained: what the balancer calls each task that is trained, by its name.
    """

    balancer: Any

    def __init__(self, losses: TaskLosses, trained: Mapping[str, str]) -> None:
        super().__init__()
        self.losses = losses
        self.trained = dict(trained)
        self.weights: dict[str, list[float | None]] = {name: [] for name in trained}
        self._sums = dict.fromkeys(trained, 0.0)
        self._steps = dict.fromkeys(trained, 0)

    def start(self, balancer: Any, learning_rate: float) -> list[dict[str, Any]]:
        """Take a balancer; its parameters for the optimizer."""
        self.balancer = balancer
        groups: list[dict[str, Any]] = balancer.param_groups(lr=FASTER * learning_rate)
        return groups

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The weighed sum of the losses of the tasks that have a label in the batch; 0 where none has."""
        found = self.losses(scores, targets)
        losses = {key: found[name] for name, key in self.trained.items() if name in found}
        if not losses:
            return scores.sum() * 0.0
        if isinstance(self.balancer, equipoise.DynamicTaskPrioritization):
            total: Tensor = self.balancer(losses, kpis=self._kpis(scores.detach(), targets, losses))
        else:
            total = self.balancer(losses)
        weights = self.balancer.weights
        for name, key in self.trained.items():
            if key in losses:
                self._sums[name] += float(weights[key])
                self._steps[name] += 1
        return total

    def end_epoch(self) -> None:
        """Keep the mean weight of each task, and tell the balancer."""
        for name, steps in self._steps.items():
            self.weights[name].append(self._sums[name] / steps if steps else None)
            self._sums[name], self._steps[name] = 0.0, 0
        if isinstance(self.balancer, equipoise.DynamicWeightAverage):
            self.balancer.end_epoch()

    def _kpis(self, scores: Tensor, targets: Tensor, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """How well each task does on the batch, between 0 and 1; what knows nothing has about the same on all."""
        found = {}
        for index, (task, head) in enumerate(zip(self.losses.tasks, self.losses.heads(), strict=True)):
            key = self.trained.get(task.name, "")
            if key in losses:
                known = ~targets[:, index].isnan()
                found[key] = kpi(task, scores[known, head], self.losses.labels(index, targets)[1])
        return found


def kpi(task: Task, scores: Tensor, labels: Tensor) -> float:
    """The mean recall of the classes of a batch; of a regression the share within half an interquartile range.

    Accuracy would call a task of 2 % positives done before it has begun.

    Args:
        task: the task.
        scores: [N, C].
        labels: as the loss takes them: [N], or [N, 1], a regression's standardised.
    """
    if task.kind == "regression":
        return float(((scores - labels).abs() <= HALF_RANGE).float().mean())
    if task.kind == "binary":
        right, classes, count = (scores > 0) == (labels > 0.5), labels.flatten().long(), 2
    else:
        right, classes, count = scores.argmax(dim=1) == labels, labels, task.outputs
    rows = torch.bincount(classes, minlength=count)
    hits = torch.bincount(classes, right.flatten().double(), minlength=count)
    return float((hits[rows > 0] / rows[rows > 0]).mean())
