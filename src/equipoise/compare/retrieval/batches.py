"""Batches for losses that compare the rows of a batch: some rows of each of some classes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

SMALLEST, LARGEST = 32, 256
FEWEST_PER_CLASS = 4


def batch_size(rows: int) -> int:
    """For a number of training rows: about a quarter of a small table, `LARGEST` for others."""
    return int(min(LARGEST, max(SMALLEST, 2 ** round(math.log2(max(rows, 1) / 4)))))


def shape(classes: int, size: int) -> tuple[int, int]:
    """How many classes a batch of about so many rows holds, and how many rows of each."""
    per_batch = min(classes, max(2, size // FEWEST_PER_CLASS))
    return per_batch, max(2, size // per_batch // 2 * 2)


class Balanced:
    """Rows of P classes, K of each, from torch's global generator.

    The classes come in turn, all of them before one comes again, and so do the rows of a class. A class of fewer than
    K rows gives all that it has, so that no row is twice in a batch. The rows of a class are side by side and even in
    number, as some losses take them two by two.

    Args:
        labels: of the training rows [N], counted from 0; each class has two rows or more.
        size: the rows of a batch, about.
    """

    def __init__(self, labels: Tensor, size: int) -> None:
        order = torch.argsort(labels, stable=True)
        self._members: list[Tensor] = list(torch.split(order, torch.bincount(labels).tolist()))
        self._places = [len(each) for each in self._members]  # at the end, so that each is shuffled before its first
        self._classes: list[int] = []
        self._batches = math.ceil(len(labels) / size)
        self._per_batch, self._per_class = shape(len(self._members), size)

    def __iter__(self) -> Iterator[Tensor]:
        """The batches of one epoch, as positions of rows."""
        for _ in range(self._batches):
            yield torch.cat([self._rows(each) for each in self._next_classes()])

    def _next_classes(self) -> list[int]:
        if len(self._classes) < self._per_batch:
            held = set(self._classes)
            drawn = torch.randperm(len(self._members)).tolist()
            # Those that are left come first, and not a second time in the same batch.
            later = [each for each in drawn if each in held]
            self._classes += [each for each in drawn if each not in held] + later
        taken, self._classes = self._classes[: self._per_batch], self._classes[self._per_batch :]
        return taken

    def _rows(self, label: int) -> Tensor:
        members = self._members[label]
        count = min(self._per_class, len(members) // 2 * 2)
        start = self._places[label]
        if start + count > len(members):
            self._members[label] = members = members[torch.randperm(len(members))]
            start = 0
        self._places[label] = start + count
        return members[start : start + count]
