"""A study of several targets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..study import Study
from .task import Task


@dataclass(frozen=True)
class TaskStudy(Study):
    """A table, several tasks, the ways to weigh them and the budget of each training.

    Its `problem` is what a split holds in proportion (`task.strata`), its `metric` what ranks the trials.

    Attributes:
        tasks: in the order in which they were asked for.
    """

    tasks: tuple[Task, ...]

    @property
    def outputs(self) -> int:
        """The number of scores of all heads together."""
        return sum(task.outputs for task in self.tasks)

    @cached_property
    def _determinants(self) -> dict[str, Any]:
        about = [[task.name, task.kind, task.loss, list(task.classes), list(task.counted)] for task in self.tasks]
        return {**super()._determinants, "tasks": about}

    def targets(self, rows: NDArray[np.int64]) -> Tensor:
        """The labels of some rows, float64 [N, T]: indices of classes and amounts, NaN where missing."""
        return torch.from_numpy(np.stack([task.labels[rows] for task in self.tasks], axis=1))
