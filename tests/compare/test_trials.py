"""The settings that are tried."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.compare.trials import LARGEST_DECAY, SMALLEST_DECAY, Settings, best, settings


def test_the_first_trial_is_the_default_and_all_differ_in_both() -> None:
    tried = settings("mlp", 8)
    assert tried[0] == Settings(learning_rate=3e-3, weight_decay=1e-4)
    assert len({each.learning_rate for each in tried}) == len({each.weight_decay for each in tried}) == 8


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_more_trials_keep_the_fewer(count: int) -> None:
    assert settings("linear", count) == settings("linear", 40)[:count]


def test_further_trials_fill_the_plane() -> None:
    """Each quarter of it, on a logarithmic scale, has about a quarter of the points."""
    tried = settings("mlp", 65)[1:]
    rates = np.log10([each.learning_rate / 3e-3 for each in tried])
    decays = np.log10([each.weight_decay for each in tried])
    assert (np.abs(rates) <= 1).all()
    assert ((np.log10(SMALLEST_DECAY) <= decays) & (decays <= np.log10(LARGEST_DECAY))).all()
    middle = (np.log10(SMALLEST_DECAY) + np.log10(LARGEST_DECAY)) / 2
    quarters = np.histogram2d(rates > 0, decays > middle, bins=2)[0]
    assert quarters.min() >= 12


def test_three_trials_go_down_and_up_from_the_default() -> None:
    rates = [each.learning_rate for each in settings("mlp", 3)]
    assert rates[1] < rates[0] / 2
    assert rates[2] > rates[0] * 2


@pytest.mark.parametrize(
    ("values", "larger", "winner"),
    [
        ([0.1, 0.3, 0.2], True, 1),
        ([0.1, 0.3, 0.2], False, 0),
        ([0.3, 0.3], True, 0),
        ([None, 0.1], True, 1),
        ([None, 0.9], False, 1),
        ([None, None], True, 0),
    ],
)
def test_the_best_trial(values: list[float | None], larger: bool, winner: int) -> None:
    assert best(values, larger) == winner
