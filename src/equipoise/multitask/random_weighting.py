"""Random loss weighting. Lin et al., "Reasonable Effectiveness of Random Weighting", TMLR 2022."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import checks
from ..card import Card
from ._balancer import Balancer, Call

BITS_32 = 0xFFFFFFFF
ROUNDS = ((16, 0x21F0AAAD), (15, 0x735A2D97))
"""Shifts and factors below 2^31, with which a product of 32 bits stays within int64."""


class RandomLossWeighting(Balancer):
    r"""Weighs the tasks at random, anew in every step: a litmus test that a balancer should pass.

    $\sum_t \lambda_t L_t$ with $\lambda = \mathrm{softmax}(z)$, z drawn from N(0, 1) for each task. In `eval()` the
    weights are their mean, one over the number of tasks.

    Args:
        tasks: their names.
        seed: chooses the weights. Every rank draws the same. Default: `0`.

    Shape:
        `losses`: a scalar by task, or `[T]`; a scalar comes out.

    Example:
        >>> import torch
        >>> from equipoise import RandomLossWeighting
        >>> balancer = RandomLossWeighting(["depth", "normals"])
        >>> total = balancer({"depth": torch.tensor(2.0), "normals": torch.tensor(0.5)})
        >>> round(sum(balancer.weights.values()).item(), 4)
        1.0

    Differs from:
        The authors' code, which draws from torch's generator: here a draw depends on `seed` and the number of the step
        alone, which is saved, so that a resumed run goes on as if it had not stopped, and ranks agree.

    References:
        Lin et al., "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning", TMLR 2022.
    """

    steps: Tensor

    def __init__(self, tasks: Sequence[str], *, seed: int = 0) -> None:
        super().__init__(tasks)
        self.seed = checks.whole("seed", seed, 0)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def _weights(self, call: Call) -> Tensor:
        size = len(call.tasks)
        if not self.training:
            return torch.full((size,), 1 / size, device=call.seen.device)
        drawn = torch.softmax(normal(self.seed, self.steps, size), 0)
        self.steps.add_(call.finite)
        return drawn


def normal(seed: int, step: Tensor, size: int) -> Tensor:
    """Numbers that look drawn from N(0, 1), `[size]`: a hash of the seed, the step and the place."""
    place = torch.arange(size, device=step.device)
    mixed = _hash(_hash(_hash(torch.zeros_like(step) + (seed & BITS_32)) ^ (step & BITS_32)) ^ place)
    uniform = ((mixed >> 8).to(torch.float32) + 0.5) / 2**24
    drawn: Tensor = torch.special.ndtri(uniform)
    return drawn


def _hash(number: Tensor) -> Tensor:
    """A mixer of 32 bits, in int64: each bit of the result depends on all of the number."""
    number = (number + 0x9E3779B9) & BITS_32  # 0 would stay 0
    for shift, factor in ROUNDS:
        number = ((number ^ (number >> shift)) * factor) & BITS_32
    return number ^ (number >> 15)


CARD = Card(
    name="random_loss_weighting",
    summary="weighs the tasks at random in every step, as a litmus test for the others",
    module=RandomLossWeighting,
    family="Tasks",
    kind="balancer",
    problems=frozenset({"tasks"}),
    op_family="scalars",
    paper='Lin et al., "Reasonable Effectiveness of Random Weighting", TMLR 2022',
    formula=r"\sum_t \lambda_t L_t, \quad \lambda = \mathrm{softmax}(z), \quad z \sim N(0, 1)",
    required={"tasks": ("a", "b", "c")},
    samples=({}, {"seed": 7}),
    use_when="another balancer seems to help: it should beat this one",
    avoid_when="losses differ in scale, or gradients are accumulated over calls: each has weights of its own",
    differs=("a draw depends on the seed and the number of the step alone, so that runs resume and ranks agree",),
)
