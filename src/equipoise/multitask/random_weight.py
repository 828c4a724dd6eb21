"""Random loss weighting. Lin et al., "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task
Learning", TMLR 2022, section 3.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import checks
from ..card import Card
from ._balancer import Balancer, Call

# The constants of SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
STEP = 0x9E3779B97F4A7C15 - 2**64
ROUNDS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
LAST = 31


class RandomLossWeighting(Balancer):
    r"""New random weights at every step: what a method that claims to weigh tasks well has to beat.

    $w = \mathrm{softmax}(z)$ over the tasks that are there, with $z_t \sim N(0, 1)$; they add up to 1. In `eval()` all
    are equal.

    Args:
        tasks: their names.
        seed: where the numbers start. They depend on it, on the step and on the task's name alone: not on torch's
            generator, and are the same on all ranks. Default: `0`.

    Shape:
        `losses`: a scalar by task, or `[T]`; a scalar comes out.

    Example:
        >>> import torch
        >>> from equipoise import RandomLossWeighting
        >>> balancer = RandomLossWeighting(["depth", "normals"])
        >>> balancer(torch.tensor([3.0, 3.0]))
        tensor(3.)

    References:
        Lin et al., TMLR 2022, section 3: the normal distribution under a softmax.
    """

    steps: Tensor
    streams: Tensor

    def __init__(self, tasks: Sequence[str], *, seed: int = 0) -> None:
        super().__init__(tasks)
        self.seed = checks.whole("seed", seed)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        streams = torch.tensor([zlib.crc32(name.encode()) for name in self.tasks]) << 20
        self.register_buffer("streams", hashed(streams + self.seed), persistent=False)

    @torch.no_grad()
    def _weigh(self, call: Call) -> tuple[Tensor, Tensor | float]:
        z = (
            normal(self.streams + 2 * self.steps)
            if self.training
            else torch.zeros_like(self.streams, dtype=torch.float32)
        )
        if self.training:
            self.steps.add_(call.moves.any())
        return torch.where(call.here, z, -torch.inf).softmax(0), 0.0


def normal(counter: Tensor) -> Tensor:
    """Standard normal numbers, one for each counter, which it and the next decide. Box and Muller."""
    radius = (-2 * _uniform(counter).log()).sqrt()
    return radius * (2 * math.pi * _uniform(counter + 1)).cos()


def _uniform(counter: Tensor) -> Tensor:
    """Numbers in (0, 1) of 24 bits."""
    return (hashed(counter) & (2**24 - 1)).to(torch.float32).add(0.5).div(2**24)


def hashed(counter: Tensor) -> Tensor:
    """SplitMix64 of whole numbers: each bit depends on each bit of the counter."""
    x = counter * STEP
    for shift, factor in ROUNDS:
        x = (x ^ _right(x, shift)) * factor
    return x ^ _right(x, LAST)


def _right(x: Tensor, places: int) -> Tensor:
    """Shifted to the right, zeros coming in: a signed shift would bring in ones."""
    kept = (1 << (64 - places)) - 1
    return (x >> places) & kept


CARD = Card(
    name="random_loss_weighting",
    summary="draws new weights at every step: the bar for all other methods",
    module=RandomLossWeighting,
    family="Tasks",
    kind="balancer",
    problems=frozenset({"tasks"}),
    op_family="scalars",
    paper='Lin et al., "Reasonable Effectiveness of Random Weighting", TMLR 2022, section 3',
    formula=r"w = \mathrm{softmax}(z), \quad z_t \sim N(0, 1)",
    required={"tasks": ["a", "b", "c"]},
    samples=({}, {"seed": 3}),
    use_when="a baseline is wanted that a clever method has to beat",
    avoid_when="losses differ in scale: the largest still rules",
    differs=("the numbers come from a counter that is saved with the state, not from torch's generator",),
)
