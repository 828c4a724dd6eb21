"""Times two losses in turn and sums up the ratios."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .contenders import LossFunction

BLOCK = 1e-3  # seconds: shorter steps are timed several at once, for the clock's sake
TOLERANCE = (
    5e-4  # by which float32 results of one formula may differ: sums of millions, elements beside an edge of a bin
)


@dataclass(frozen=True)
class Patience:
    """How long a pair is timed: `seconds`, but between `least` and `most` rounds."""

    seconds: float
    least: int
    most: int


FULL = Patience(4.0, 7, 300)
QUICK = Patience(0.5, 3, 100)


class Side:
    """One loss with its own copy of the scores, so that its gradient is its own too."""

    def __init__(self, loss: LossFunction, scores: Tensor, target: Tensor) -> None:
        self.loss = loss
        self.scores = scores.clone().requires_grad_()
        self.target = target

    def step(self) -> Tensor:
        """Forward and backward, to a fresh gradient."""
        self.scores.grad = None
        value = self.loss(self.scores, self.target)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    def seconds(self, calls: int) -> float:
        """The time of one step, over `calls` of them."""
        start = time.perf_counter()
        for _ in range(calls):
            self.step()
        return (time.perf_counter() - start) / calls


def disagreement(first: Side, second: Side) -> float:
    """How far value and gradient lie apart, each relative to its size; the larger of the two."""
    values = first.step().detach(), second.step().detach()
    return apart([values, (_gradient(first), _gradient(second))])


def _gradient(side: Side) -> Tensor:
    assert side.scores.grad is not None
    return side.scores.grad


def apart(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """How far two of a pair lie apart, relative to the size of the second; the largest, infinite where it is NaN."""
    found = [_relative(first.double(), second.double()) for first, second in pairs]
    return max(math.inf if math.isnan(distance) else distance for distance in found)


def _relative(first: Tensor, second: Tensor) -> float:
    return float(torch.linalg.vector_norm(first - second) / torch.linalg.vector_norm(second))


def time_in_turn(
    first: Callable[[int], float], second: Callable[[int], float], patience: Patience
) -> tuple[list[float], list[float], int]:
    """Seconds of a step of each, A B A B, and how many steps were timed at once.

    Args:
        first: given a number of steps, the seconds that one of them took.
        second: the same of the other side.
        patience: how long to go on.
    """
    for side in (first, second):
        side(2)  # warm-up
    rough = [min(side(1) for _ in range(3)) for side in (first, second)]
    calls = max(1, math.ceil(BLOCK / max(min(rough), 1e-9)))
    rounds = min(patience.most, max(patience.least, round(patience.seconds / (calls * max(sum(rough), 1e-9)))))
    gc.collect()
    gc.disable()
    try:
        timed = [(first(calls), second(calls)) for _ in range(rounds)]
    finally:
        gc.enable()
    return [ours for ours, _ in timed], [peer for _, peer in timed], calls


def summary(ours: list[float], peer: list[float]) -> dict[str, Any]:
    """Median and quartiles of the ratios of neighbours, and the median time of each side in milliseconds."""
    ratios = [mine / theirs for mine, theirs in zip(ours, peer, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {
        "ratio": {"median": median, "low": low, "high": high},
        "ours_ms": 1e3 * statistics.median(ours),
        "peer_ms": 1e3 * statistics.median(peer),
        "rounds": len(ratios),
    }
