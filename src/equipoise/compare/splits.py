"""Cut the rows into training, validation and test parts that each hold every class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .problem import Problem

VALIDATION = 0.2
TEST = 0.2


@dataclass(frozen=True)
class Split:
    """Positions of the rows of each part, in increasing order: int64 arrays that share no row."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split(problem: Problem, seed: int) -> Split:
    """A fresh stratified split: a fifth of the rows each for validation and test, the rest for training.

    Each class has at least one row in each part (for `multilabel`, as far as its rows have not gone elsewhere with
    a rarer label).
    """
    generator = np.random.default_rng(seed)
    part = np.full(len(problem.labels), -1, np.int8)  # 0 train, 1 validation, 2 test
    if problem.kind == "multilabel":
        # Rarest label first, as its rows leave the least choice; the rows without any label come last.
        groups = [problem.labels[:, label] > 0 for label in np.argsort(problem.counts, kind="stable")]
        groups.append(np.ones(len(part), bool))
    else:
        groups = [problem.labels == label for label in range(len(problem.classes))]
    for group in groups:
        _deal(part, np.flatnonzero(group), generator)
    return Split(*(np.flatnonzero(part == index) for index in range(3)))


def _deal(part: NDArray[np.int8], members: NDArray[np.int64], generator: np.random.Generator) -> None:
    """Deal the rows of one class that have no part yet so that all its rows are in proportion."""
    free = generator.permutation(members[part[members] == -1])
    for index, share in ((2, TEST), (1, VALIDATION)):
        wanted = round(share * len(members)) - int((part[members] == index).sum())
        taken, free = np.split(free, [max(0, wanted)])
        part[taken] = index
    part[free] = 0
