"""What the scores of several seeds say: a mean with its interval, and a paired difference with its interval.

The intervals are Student's, over seeds. Each seed draws its own split, but all splits share one table: test rows of one
seed are training rows of another, so that the seeds are not independent and the intervals are narrower than they should
be. Whoever shows them says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: None if no seed has a value.
        half_width: the interval is `mean` plus and minus this; None for fewer than two seeds.
        seeds: the number of seeds that have a value.
    """

    mean: float | None
    half_width: float | None
    seeds: int

    @property
    def low(self) -> float | None:
        """The lower end of the interval."""
        return None if self.mean is None or self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        """The upper end of the interval."""
        return None if self.mean is None or self.half_width is None else self.mean + self.half_width

    @property
    def sign(self) -> int:
        """1 if the whole interval is above 0, -1 if it is below, else 0."""
        if self.low is None or self.high is None:
            return 0
        return int(self.low > 0) - int(self.high < 0)


def estimate(values: Sequence[float | None]) -> Estimate:
    """The mean over seeds and the half-width of its 95 % t interval; seeds without a value do not count."""
    defined = [value for value in values if value is not None]
    count = len(defined)
    if not count:
        return Estimate(None, None, 0)
    mean = math.fsum(defined) / count
    if count == 1:
        return Estimate(mean, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in defined) / (count - 1)
    quantile = float(stdtrit(count - 1, (1 + LEVEL) / 2))
    return Estimate(mean, quantile * math.sqrt(variance / count), count)


def difference(values: Sequence[float | None], reference: Sequence[float | None]) -> Estimate:
    """The mean over seeds of `values - reference`, seed by seed, and its interval.

    What a seed's split makes easy or hard for both cancels, so that the interval is narrower than that of two
    unpaired means.

    Args:
        values: one per seed.
        reference: of the same seeds in the same order.
    """
    pairs = zip(values, reference, strict=True)
    return estimate([None if a is None or b is None else a - b for a, b in pairs])
