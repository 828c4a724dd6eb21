"""Preprocessing, fitted on training rows alone: numbers are scaled, categories become one column each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import OrdinalEncoder
from torch import Tensor

from .columns import Table

# Categories with fewer training rows than this share one column, as do those beyond the most frequent ones.
FEWEST_ROWS = 10
MOST_CATEGORIES = 200
# One value of 1e30 must not drown a batch; a standard score beyond this says "far out" well enough.
FARTHEST = 10.0

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Features:
    """The features of some rows, kept small: categories as positions, spelled out by `dense` batch by batch.

    Attributes:
        numeric: float32 [N, K], scaled.
        hot: int32 [N, J]: for each categorical column, which of the `width` features is 1; `width` itself for a
            category that no training row has.
        width: the number of features.
    """

    numeric: Tensor
    hot: Tensor
    width: int

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.numeric)

    def of(self, rows: Tensor) -> Features:
        """The features of the given rows, as small."""
        return Features(self.numeric[rows], self.hot[rows], self.width)

    def dense(self, rows: Tensor | slice) -> Tensor:
        """The features of the given rows as float32 [B, width]."""
        numeric, hot = self.numeric[rows], self.hot[rows].long()
        block = torch.zeros(len(numeric), self.width + 1)
        block[:, : numeric.shape[1]] = numeric
        return block.scatter_(1, hot, 1.0)[:, :-1]


@dataclass(frozen=True)
class Preprocessing:
    """What was learned from the training rows.

    Attributes:
        medians: of each numeric column, in place of a missing value.
        marked: which numeric columns have a feature that says where a value is missing.
        means: of each numeric feature, the marks last.
        scales: of each numeric feature.
        positions: of each categorical column, which of its features each level has: by code, the missing value (code
            -1) first; -1 for none.
    """

    medians: Floats
    marked: Ints
    means: Floats
    scales: Floats
    positions: tuple[Ints, ...]

    @property
    def width(self) -> int:
        """The number of features."""
        return len(self.means) + sum(self._widths)

    @property
    def _widths(self) -> list[int]:
        return [int(each.max(initial=-1)) + 1 for each in self.positions]

    @classmethod
    def fit(cls, table: Table, train: Ints) -> Preprocessing:
        """Learn from the training rows.

        Numbers: median in place of a missing one, with a feature that says so; then mean 0 and standard deviation 1.
        Categories: one feature each, a missing value being a category like any other; rare ones share a feature.
        """
        numbers = table.numeric[train]
        missing = np.isnan(numbers)
        known = ~missing.all(axis=0)
        medians = np.zeros(numbers.shape[1])
        medians[known] = np.nanmedian(numbers[:, known], axis=0) if known.any() else 0.0
        marked = np.flatnonzero(missing.any(axis=0))
        filled = _filled(numbers, medians, marked)
        means, scales = filled.mean(axis=0), filled.std(axis=0)
        # A constant is rounding away from having no spread.
        constant = scales <= 10 * np.finfo(np.float64).eps * np.abs(means)
        return cls(medians, marked, means, np.where(constant, 1.0, scales), _fit_positions(table.codes, train))

    def apply(self, table: Table, rows: Ints) -> Features:
        """The features of some rows of a table with the same columns."""
        numbers = (_filled(table.numeric[rows], self.medians, self.marked) - self.means) / self.scales
        numeric = np.clip(numbers, -FARTHEST, FARTHEST).astype(np.float32)
        hot = np.full((len(rows), len(self.positions)), self.width, np.int32)
        start = numeric.shape[1]
        for index, (positions, width) in enumerate(zip(self.positions, self._widths, strict=True)):
            codes = table.codes[rows, index] + 1
            # A code below that of a missing value is a level that the fitted table does not have.
            at = np.where(codes < 0, -1, positions[np.maximum(codes, 0)])
            hot[:, index] = np.where(at < 0, self.width, start + at)
            start += width
        return Features(torch.from_numpy(numeric), torch.from_numpy(hot), self.width)

    def as_json(self) -> dict[str, Any]:
        """In types that JSON has."""
        numbers = {name: getattr(self, name).tolist() for name in ("medians", "marked", "means", "scales")}
        return {**numbers, "positions": [each.tolist() for each in self.positions]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preprocessing:
        """Back from `as_json`."""
        floats = (np.asarray(value[name], np.float64) for name in ("medians", "means", "scales"))
        medians, means, scales = floats
        positions = tuple(np.asarray(each, np.int64) for each in value["positions"])
        return cls(medians, np.asarray(value["marked"], np.int64), means, scales, positions)


def _filled(numbers: Floats, medians: Floats, marked: Ints) -> Floats:
    """Medians in place of missing values, and a mark for each column that may have them."""
    missing = np.isnan(numbers)
    return np.concatenate([np.where(missing, medians, numbers), missing[:, marked]], axis=1)


def _fit_positions(codes: NDArray[np.int32], train: Ints) -> tuple[Ints, ...]:
    """The feature of each level of each column, counted from 0 per column."""
    if not codes.shape[1]:
        return ()
    encoder = OrdinalEncoder(
        dtype=np.int64,
        handle_unknown="use_encoded_value",
        unknown_value=-1,
        # A small table has no category with many rows.
        min_frequency=min(FEWEST_ROWS, max(1, len(train) // 100)),
        max_categories=MOST_CATEGORIES,
    )
    encoder.fit(codes[train])
    levels = int(codes.max(initial=-1)) + 1
    every = np.repeat(np.arange(-1, levels, dtype=np.int32)[:, None], codes.shape[1], axis=1)
    positions = encoder.transform(every)
    return tuple(
        np.ascontiguousarray(positions[: int(codes[:, index].max(initial=-1)) + 2, index])
        for index in range(codes.shape[1])
    )
