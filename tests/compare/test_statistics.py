"""Corrected intervals, paired differences, and what they claim: on simulated seeds with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from equipoise.compare.statistics import Difference, Estimate, detectable, differences, estimate, holm

VALUES = [0.61, 0.64, 0.60, 0.66, 0.63]
REFERENCE = [0.50, 0.53, 0.50, 0.54, 0.53]
OVERLAP = 1 / 3
RUNS = 2000


def difference(values: list[float | None], reference: list[float | None], overlap: float = OVERLAP) -> Difference:
    return differences({"loss": values}, reference, overlap)["loss"]


def correlated(generator: np.random.Generator, *shape: int) -> NDArray[np.float64]:
    """Standard normal seeds along the last axis that go together as Nadeau and Bengio take splits of one table to."""
    rho = OVERLAP / (1 + OVERLAP)
    common = generator.normal(size=(*shape[:-1], 1))
    return np.sqrt(rho) * common + np.sqrt(1 - rho) * generator.normal(size=shape)


def standard_error(seeds: int) -> float:
    """Of the mean of seeds from `correlated`."""
    rho = OVERLAP / (1 + OVERLAP)
    return float(np.sqrt((1 - rho) / seeds + rho))


def test_the_interval_is_students_where_no_row_is_shared() -> None:
    found = estimate(VALUES, 0)
    low, high = stats.t.interval(0.95, len(VALUES) - 1, loc=np.mean(VALUES), scale=stats.sem(VALUES))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(VALUES), low, high))
    assert found.seeds == 5


def test_shared_rows_widen_the_interval_by_the_factor_of_nadeau_and_bengio() -> None:
    ratio = estimate(VALUES, OVERLAP).half_width / estimate(VALUES, 0).half_width
    assert ratio == pytest.approx(np.sqrt((1 / 5 + 1 / 3) * 5))


def test_the_difference_is_paired() -> None:
    found = difference(VALUES, REFERENCE, 0)
    test = stats.ttest_rel(VALUES, REFERENCE)
    interval = test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p == pytest.approx(test.pvalue)
    assert found.half_width < estimate(VALUES, 0).half_width  # the seeds move both alike


def test_the_interval_covers_95_percent_of_the_time_although_the_seeds_go_together() -> None:
    draws = correlated(np.random.default_rng(0), RUNS, 5).tolist()
    covered = np.mean([abs(found.mean) <= found.half_width for found in (estimate(each, OVERLAP) for each in draws)])
    assert covered == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / RUNS) ** 0.5)
    naive = np.mean([abs(found.mean) <= found.half_width for found in (estimate(each, 0) for each in draws)])
    assert naive < 0.9


@pytest.mark.parametrize("losses", [1, 2, 6])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_of_exchangeable_losses_one_helps_in_at_most_5_percent_of_runs(losses: int, seeds: int) -> None:
    generator = np.random.default_rng(losses * 100 + seeds)
    draws = correlated(generator, RUNS, losses + 1, seeds)
    helped = any_verdict = 0
    for reference, *others in draws.tolist():
        verdicts = {each.verdict for each in differences(dict(enumerate(others)), reference, OVERLAP).values()}
        helped += "helps" in verdicts
        any_verdict += len(verdicts - {"no evidence"}) > 0
    assert any_verdict / RUNS <= 0.05 + 3 * (0.05 * 0.95 / RUNS) ** 0.5
    assert helped / RUNS <= 0.05


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("losses", [1, 4])
def test_a_planted_effect_of_the_detectable_size_is_found_in_80_percent_of_runs(seeds: int, losses: int) -> None:
    """The other losses do nothing, so that Holm's first level decides."""
    generator = np.random.default_rng(seeds)
    noise = correlated(generator, RUNS, losses, seeds)
    noise[:, 0] += detectable(standard_error(seeds), seeds, losses)
    found = np.mean(
        [differences(dict(enumerate(draw)), [0.0] * seeds, OVERLAP)[0].verdict == "helps" for draw in noise.tolist()]
    )
    assert found == pytest.approx(0.8, abs=0.01 * (losses > 1) + 3 * (0.8 * 0.2 / RUNS) ** 0.5)


def test_half_the_detectable_effect_is_found_as_often_as_the_noncentral_t_says() -> None:
    size = detectable(standard_error(5), 5) / 2
    draws = (correlated(np.random.default_rng(1), RUNS, 5) + size).tolist()
    found = np.mean([difference(draw, [0.0] * 5).verdict == "helps" for draw in draws])
    power = stats.nct.sf(stats.t.ppf(0.975, 4), 4, size / standard_error(5))
    assert found == pytest.approx(power, abs=3 * (power * (1 - power) / RUNS) ** 0.5)


def test_the_detectable_difference_uses_the_spread_that_was_seen_and_the_number_of_losses() -> None:
    alone = difference(VALUES, REFERENCE)
    both = differences({"a": VALUES, "b": REFERENCE[::-1]}, REFERENCE, OVERLAP)["a"]
    error = alone.half_width / stats.t.ppf(0.975, 4)
    assert alone.detectable == pytest.approx(detectable(error, 5))
    assert both.detectable == pytest.approx(detectable(error, 5, 2))
    assert both.detectable > alone.detectable > alone.half_width


@pytest.mark.parametrize(
    ("shift", "larger_is_better", "verdict", "sign"),
    [(0.1, True, "helps", 1), (-0.1, True, "hurts", -1), (0.1, False, "hurts", -1), (-0.1, False, "helps", 1)],
)
def test_the_verdict_knows_which_way_is_up(shift: float, larger_is_better: bool, verdict: str, sign: int) -> None:
    noise = [0.01, -0.01, 0.005, -0.004, 0.0]
    found = differences({"loss": [shift + each for each in noise]}, [0.0] * 5, OVERLAP, larger_is_better)["loss"]
    assert (found.verdict, found.sign) == (verdict, sign)


@pytest.mark.parametrize("gap", [0.0, 0.05, -0.05, 1e-3])
@pytest.mark.parametrize("seeds", [2, 5, 30])
def test_differences_that_are_the_same_on_all_seeds_are_no_evidence(gap: float, seeds: int) -> None:
    """Rounding makes their spread 1e-17 rather than 0, which would be a very narrow interval."""
    reference = np.random.default_rng(seeds).random(seeds)
    found = difference((reference + gap).tolist(), reference.tolist())
    assert found.mean == pytest.approx(gap, abs=1e-15)
    assert found.half_width is found.low is found.high is found.p is found.p_adjusted is found.detectable is None
    assert found.verdict == "no evidence"


def test_an_interval_clear_of_zero_is_no_evidence_where_it_is_one_of_many() -> None:
    values = [0.035, 0.025, 0.04, 0.02, 0.03]
    alone = difference(values, [0.0] * 5)
    generator = np.random.default_rng(0)
    nothing = {index: generator.normal(size=5).tolist() for index in range(9)}
    among = differences({"loss": values, **nothing}, [0.0] * 5, OVERLAP)["loss"]
    assert alone.verdict == "helps"
    assert (among.low, among.high, among.p) == (alone.low, alone.high, alone.p)
    assert among.low > 0
    assert among.p_adjusted == pytest.approx(10 * alone.p)
    assert among.verdict == "no evidence"


def test_holm_by_hand() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_the_plain_and_bonferronis(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(a <= b <= min(1, a * len(p)) or b == pytest.approx(a) for a, b in zip(p, adjusted, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_seeds_without_a_value_do_not_count_and_only_whole_pairs_do() -> None:
    assert estimate([None, 1.0, 3.0], 0) == estimate([1.0, 3.0], 0)
    found = difference([1.0, None, 3.0, 9.0, 5.0], [0.0, 1.0, 2.5, None, 3.0])
    assert (found.mean, found.seeds) == (pytest.approx(3.5 / 3), 3)


def test_one_seed_has_no_interval_and_none_no_mean() -> None:
    assert estimate([0.5], OVERLAP) == Estimate(0.5, None, 1)
    assert estimate([None], OVERLAP) == Estimate(None, None, 0)
    assert estimate([0.5], 0).low is estimate([], 0).high is None
    assert difference([0.5], [0.1]) == Difference(0.4, None, 1, None, None, None, "no evidence")
