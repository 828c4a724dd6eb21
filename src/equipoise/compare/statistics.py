"""What the scores of several seeds say: intervals, paired differences, and a verdict that allows for both.

Each seed draws its own split, but all splits share one table: test rows of one seed are training rows of another, so
that scores of different seeds go together. Student's interval takes them for independent and is too narrow. Nadeau and
Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003, section 3, take the correlation to be the
share of test rows among those of training and test, which turns the variance of the mean of J seeds from
`s² / J` into `s² (1/J + test/train)`. Several losses are compared at once, so their p-values are Holm's ("A Simple
Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6, 1979).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scipy.special import nctdtrinc, stdtr, stdtrit

LEVEL = 0.95
POWER = 0.8
# A spread this small beside the values is rounding: seeds that agree to the last digit tell of a coarse metric, as on
# few test rows, and not of certainty.
ROUNDING = 1e-12

Verdict = Literal["helps", "hurts", "no evidence"]
Values = Sequence[float | None]


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


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference to a reference, and what it says.

    Attributes:
        p: two-sided, of the corrected t test; None where there is no interval.
        p_adjusted: `p` after Holm, over all losses that were compared at once.
        detectable: the smallest difference that would have been called by its name with a probability of 80 %, at this
            number of seeds and losses and at this spread; None where there is no interval.
        verdict: `helps` or `hurts` where `p_adjusted` is below 5 %.
        error: the corrected standard error.
    """

    p: float | None
    p_adjusted: float | None
    detectable: float | None
    verdict: Verdict
    error: float | None = None

    @property
    def sign(self) -> int:
        """1 for helps, -1 for hurts, else 0."""
        return {"helps": 1, "hurts": -1, "no evidence": 0}[self.verdict]


def estimate(values: Values, overlap: float) -> Estimate:
    """The mean over seeds and the half-width of its corrected 95 % interval; seeds without a value do not count.

    Args:
        values: one per seed.
        overlap: test rows per training row; 0 if no row is in two splits.
    """
    defined = [value for value in values if value is not None]
    count = len(defined)
    mean = math.fsum(defined) / count if count else None
    error = _error(defined, overlap)
    return Estimate(mean, None if error is None else float(stdtrit(count - 1, (1 + LEVEL) / 2)) * error, count)


def _error(values: Sequence[float], overlap: float) -> float | None:
    """The corrected standard error of the mean; None for fewer than two values."""
    count = len(values)
    if count < 2:
        return None
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    if math.sqrt(variance) <= ROUNDING * max(map(abs, values)):
        return 0.0
    return math.sqrt(variance * (1 / count + overlap))


def differences(
    values: Mapping[str, Values], reference: Values, overlap: float, larger_is_better: bool = True
) -> dict[str, Difference]:
    """Compare several losses with one reference, seed by seed.

    What a seed's split makes easy or hard for both cancels, so that the interval is narrower than that of two
    unpaired means. Seeds where either has no value do not count. Differences that are the same on all seeds have no
    interval and are no evidence. Nor is there any of a loss without a value where the reference has one: that its
    training diverged on some seeds must not be to its advantage.

    Args:
        values: of each loss, one per seed.
        reference: of the same seeds in the same order.
        overlap: test rows per training row.
        larger_is_better: whether a larger value helps.
    """
    found = {name: _difference(each, reference, overlap) for name, each in values.items()}
    adjusted = holm([each.p for each in found.values()])
    tested = sum(p is not None for p in adjusted)
    return {
        name: replace(
            each,
            p_adjusted=p,
            detectable=None if each.error is None else detectable(each.error, each.seeds, tested),
            verdict=_verdict(each.mean, p, larger_is_better),
        )
        for (name, each), p in zip(found.items(), adjusted, strict=True)
    }


def _difference(values: Values, reference: Values, overlap: float) -> Difference:
    """One paired difference, not adjusted yet."""
    pairs = zip(values, reference, strict=True)
    gaps = [None if a is None or b is None else a - b for a, b in pairs]
    plain = estimate(gaps, overlap)
    defined = [gap for gap in gaps if gap is not None]
    # The scale of rounding is that of the values, as nearly equal ones leave nothing but rounding.
    largest = max((abs(value) for value in (*values, *reference) if value is not None), default=0.0)
    error = _error(defined, overlap)
    if plain.mean is None or error is None or max(defined) - min(defined) <= ROUNDING * largest:
        return Difference(plain.mean, None, plain.seeds, None, None, None, "no evidence")
    if any(value is None and other is not None for value, other in zip(values, reference, strict=True)):
        return Difference(plain.mean, plain.half_width, plain.seeds, None, None, None, "no evidence")
    freedom = plain.seeds - 1
    p = 2 * float(stdtr(freedom, -abs(plain.mean) / error))
    return Difference(plain.mean, plain.half_width, plain.seeds, p, None, None, "no evidence", error)


def detectable(error: float, seeds: int, losses: int = 1) -> float:
    """The difference that a two-sided test finds, on its side, with a probability of 80 %.

    The noncentral t distribution gives it, at Holm's first and strictest level.

    Args:
        error: the corrected standard error of the mean difference.
        seeds: the number of seeds.
        losses: the number of losses that are compared at once.
    """
    critical = float(stdtrit(seeds - 1, 1 - (1 - LEVEL) / (2 * losses)))
    return float(nctdtrinc(seeds - 1, 1 - POWER, critical)) * error


def holm(p: Values) -> list[float | None]:
    """Holm's adjusted p-values; those that are None do not count."""
    order = sorted((value, index) for index, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, index) in enumerate(order):
        largest = max(largest, min(1.0, value * (len(order) - rank)))
        adjusted[index] = largest
    return adjusted


def _verdict(mean: float | None, p: float | None, larger_is_better: bool) -> Verdict:
    if mean is None or p is None or p >= 1 - LEVEL:
        return "no evidence"
    return "helps" if (mean > 0) == larger_is_better else "hurts"
