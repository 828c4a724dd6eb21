"""Whether what a model believes comes true as often as it believes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10


@dataclass(frozen=True)
class Bins:
    """Predictions by confidence, in ten bins of equal width.

    The confidence is the probability of the predicted class (multi-class), or of the positive class (binary) or label
    (multi-label, each label of each row counting as one prediction).

    Attributes:
        rows: predictions per bin.
        confidence: the sum of their confidences.
        hits: how many came true.
    """

    rows: list[int]
    confidence: list[float]
    hits: list[int]

    @classmethod
    def of(cls, confidence: NDArray[np.float64], hit: NDArray[np.bool_]) -> Bins:
        """Sort predictions into bins."""
        index = np.clip((confidence * BINS).astype(np.int64), 0, BINS - 1)
        rows, sums, hits = (np.bincount(index, weights, BINS) for weights in (None, confidence, hit))
        return cls(rows.tolist(), sums.tolist(), hits.astype(np.int64).tolist())

    @classmethod
    def pooled(cls, several: Iterable[Bins]) -> Bins:
        """All predictions together."""
        parts = list(several)
        columns = ([getattr(each, name) for each in parts] for name in ("rows", "confidence", "hits"))
        return cls(*([sum(values) for values in zip(*column, strict=True)] or [0] * BINS for column in columns))


def calibration_error(bins: Bins) -> float | None:
    """The mean gap between confidence and accuracy, each bin weighing as much as it has predictions."""
    total = sum(bins.rows)
    gaps = (abs(belief - hits) for belief, hits in zip(bins.confidence, bins.hits, strict=True))
    return sum(gaps) / total if total else None
