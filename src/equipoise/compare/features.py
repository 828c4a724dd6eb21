"""Preprocessing, fitted on training rows alone: numbers are scaled, categories become one column each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler
from torch import Tensor

from .columns import Table

# Categories with fewer training rows than this share one column, as do those beyond the most frequent ones.
FEWEST_ROWS = 10
MOST_CATEGORIES = 200
# One value of 1e30 must not drown a batch; a standard score beyond this says "far out" well enough.
FARTHEST = 10.0


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

    def dense(self, rows: Tensor | slice) -> Tensor:
        """The features of the given rows as float32 [B, width]."""
        numeric, hot = self.numeric[rows], self.hot[rows].long()
        block = torch.zeros(len(numeric), self.width + 1)
        block[:, : numeric.shape[1]] = numeric
        return block.scatter_(1, hot, 1.0)[:, :-1]


def prepare(table: Table, train: NDArray[np.int64], *others: NDArray[np.int64]) -> tuple[Features, ...]:
    """Fit the preprocessing on the training rows and apply it to them and to the other parts.

    Numbers: median in place of a missing one, with a feature that says so; then mean 0 and standard deviation 1.
    Categories: one feature each, a missing value being a category like any other; rare ones share a feature.

    Args:
        table: all rows.
        train: the rows to fit on.
        *others: further parts.

    Returns:
        The features of `train` and of each other part.
    """
    numeric = _fit_numeric(table.numeric, train)
    codes, widths = _fit_codes(table.codes, train)
    start = numeric.shape[1] + np.concatenate([[0], np.cumsum(widths)])
    width = int(start[-1])
    hot = np.where(codes < 0, width, codes + start[:-1]).astype(np.int32)
    return tuple(
        Features(torch.from_numpy(numeric[part]), torch.from_numpy(hot[part]), width) for part in (train, *others)
    )


def _fit_numeric(values: NDArray[np.float64], train: NDArray[np.int64]) -> NDArray[np.float32]:
    """Impute, mark and scale the numeric columns of all rows by what the training rows say."""
    if not values.shape[1]:
        return np.empty(values.shape, np.float32)
    imputer = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    pipeline = make_pipeline(imputer, StandardScaler()).fit(values[train])
    scaled = np.asarray(pipeline.transform(values), np.float64)
    return np.clip(scaled, -FARTHEST, FARTHEST).astype(np.float32)


def _fit_codes(codes: NDArray[np.int32], train: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The category of each cell counted from 0 per column (-1: not in training), and the categories per column."""
    if not codes.shape[1]:
        return np.empty(codes.shape, np.int64), np.empty(0, np.int64)
    encoder = OrdinalEncoder(
        dtype=np.int64,
        handle_unknown="use_encoded_value",
        unknown_value=-1,
        # A small table has no category with many rows.
        min_frequency=min(FEWEST_ROWS, max(1, len(train) // 100)),
        max_categories=MOST_CATEGORIES,
    )
    widths = encoder.fit_transform(codes[train]).max(axis=0) + 1
    return encoder.transform(codes), widths
