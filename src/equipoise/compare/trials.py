"""The hyperparameters that are tried: the same ones for every loss, plain cross-entropy included."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .models import default_learning_rate

WEIGHT_DECAY = 1e-4
# The further trials lie this many times below and above the default learning rate, and between these weight decays.
SPAN = 10.0
SMALLEST_DECAY, LARGEST_DECAY = 1e-6, 1e-1


@dataclass(frozen=True)
class Settings:
    """What is tuned.

    Attributes:
        learning_rate: AdamW's, at its peak; it falls to 0 on a half cosine.
        weight_decay: AdamW's.
        options: of the loss, by name.
    """

    learning_rate: float
    weight_decay: float
    options: tuple[tuple[str, float], ...] = ()

    def as_json(self) -> dict[str, float]:
        """By name, the options of the loss among them."""
        return {"learning_rate": self.learning_rate, "weight_decay": self.weight_decay, **dict(self.options)}


def settings(model: str, count: int) -> list[Settings]:
    """The default and further points that fill the plane evenly, on a logarithmic scale: Halton's sequence.

    A larger count keeps the points of a smaller one.
    """
    default = default_learning_rate(model)
    decades = math.log10(LARGEST_DECAY / SMALLEST_DECAY)
    return [
        Settings(default, WEIGHT_DECAY),
        *(
            Settings(
                rounded(default * SPAN ** (2 * halton(index, 2) - 1)),
                rounded(SMALLEST_DECAY * 10 ** (decades * halton(index, 3))),
            )
            # The first point of the sequence has the default learning rate again.
            for index in range(2, count + 1)
        ),
    ]


def spread(default: float, span: float, count: int) -> list[float]:
    """The default of an option and further values, evenly from `default / span` to `default * span` on a log scale.

    Halton's digits of base 5 are doubled modulo 5, or its first points would all lie near the default.
    """
    points = (halton(index, 5, times=2) for index in range(2, count + 1))
    return [default, *(rounded(default * span ** (2 * point - 1)) for point in points)]


def best(values: Sequence[float | None], larger_is_better: bool) -> int:
    """Which trial won: the first of the best values; one without a value, as of a diverged training, comes last."""
    worst = -math.inf
    sign = 1 if larger_is_better else -1
    ranked = [worst if value is None else sign * value for value in values]
    return ranked.index(max(ranked))


def halton(index: int, base: int, times: int = 1) -> float:
    """The digits of `index` in a base, each multiplied modulo the base, mirrored at the point."""
    value, place = 0.0, 1.0
    while index:
        place /= base
        index, digit = divmod(index, base)
        value += times * digit % base * place
    return value


def rounded(value: float) -> float:
    """Two significant digits: what a person can type."""
    return float(f"{value:.1e}")
