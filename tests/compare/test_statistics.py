"""Means, intervals and paired differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from equipoise.compare.statistics import Estimate, difference, estimate

VALUES = [0.61, 0.64, 0.60, 0.66, 0.63]
REFERENCE = [0.50, 0.53, 0.50, 0.54, 0.53]


def test_the_interval_is_students() -> None:
    found = estimate(VALUES)
    low, high = stats.t.interval(0.95, len(VALUES) - 1, loc=np.mean(VALUES), scale=stats.sem(VALUES))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(VALUES), low, high))
    assert found.seeds == 5


def test_the_difference_is_paired() -> None:
    found = difference(VALUES, REFERENCE)
    test = stats.ttest_rel(VALUES, REFERENCE)
    interval = test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.half_width < estimate(VALUES).half_width  # the seeds move both alike


def test_coverage_on_independent_normal_seeds_is_95_percent() -> None:
    draws = np.random.default_rng(0).normal(size=(4000, 5))
    covered = np.mean([abs(found.mean) <= found.half_width for found in map(estimate, draws.tolist())])
    assert covered == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / 4000) ** 0.5)


@pytest.mark.parametrize(
    ("values", "sign"), [([1, 1.1, 1.2], 1), ([-1, -1.1, -1.2], -1), ([1, -1, 1], 0), ([0, 0, 0], 0), ([5], 0), ([], 0)]
)
def test_a_sign_needs_an_interval_clear_of_zero(values: list[float], sign: int) -> None:
    assert estimate(values).sign == sign


def test_seeds_without_a_value_do_not_count_and_only_whole_pairs_do() -> None:
    assert estimate([None, 1.0, 3.0]) == estimate([1.0, 3.0])
    assert difference([1.0, None, 3.0, 9.0], [0.0, 1.0, 2.0, None]) == Estimate(1.0, 0.0, 2)


def test_one_seed_has_no_interval_and_none_no_mean() -> None:
    assert estimate([0.5]) == Estimate(0.5, None, 1)
    assert estimate([None]) == Estimate(None, None, 0)
    assert estimate([0.5]).low is estimate([]).high is None
