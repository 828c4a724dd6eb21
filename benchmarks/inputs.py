"""Made-up inputs of every size at which the losses are timed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["binary", "classes", "real"]
POSITIVES = 0.1  # the share of ones in a binary target


@dataclass(frozen=True)
class Task:
    """What both sides of a pair are given.

    Attributes:
        kind: the target: `binary` zeros and ones in the shape of the scores, `classes` one index a row, `real` numbers.
        shape: the shape of the scores, `[N, C]`.
    """

    kind: Kind
    shape: tuple[int, int]

    @property
    def elements(self) -> int:
        """How many scores there are."""
        return math.prod(self.shape)


ELEMENTS = {
    "256": (32, 8),
    "[1024, 20]": (1024, 20),
    "1 M": (1000, 1000),
    "4 M": (4000, 1000),
    "32 M": (32000, 1000),
}
"""Sizes of the elementwise and histogram losses: name and shape."""

ROWS = {
    "[32, 8]": (32, 8),
    "[1024, 20]": (1024, 20),
    "[65536, 10]": (65536, 10),
    "[16384, 100]": (16384, 100),
    "[4096, 1000]": (4096, 1000),
    "[1024, 32000]": (1024, 32000),
}
"""Sizes of the softmax losses."""


def make(task: Task) -> tuple[Tensor, Tensor]:
    """Scores of a half-trained model and a target, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(task.shape, generator=generator) * 2
    if task.kind == "classes":
        return scores, torch.randint(task.shape[1], task.shape[:1], generator=generator)
    if task.kind == "real":
        return scores, torch.randn(task.shape, generator=generator)
    return scores, (torch.rand(task.shape, generator=generator) < POSITIVES).float()


def long_tail(classes: int) -> list[int]:
    """Training samples of each class, from 5000 down to 5 in equal ratios."""
    return [round(5 * 1000 ** (1 - place / max(classes - 1, 1))) for place in range(classes)]
