"""Adam for a balancer's own numbers. Kingma, Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, alg. 1.

Its state is the balancer's, so that it is saved with it, and each task has steps of its own: an absent one rests.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._balancer import Balancer, Call

BETAS = (0.9, 0.999)
EPSILON = 1e-8


def prepare(balancer: Balancer) -> None:
    """Gives the balancer the buffers of its optimiser: `first` and `second` moments, and `steps`."""
    size = len(balancer.tasks)
    balancer.register_buffer("first", torch.zeros(size))
    balancer.register_buffer("second", torch.zeros(size))
    balancer.register_buffer("steps", torch.zeros(size, dtype=torch.int64))


def step(balancer: Balancer, call: Call, gradient: Tensor, moves: Tensor, rate: float) -> Tensor:
    """How far each task's number goes, `[k]`, and the moments moved; 0 where it does not move.

    Args:
        balancer: whose state it is.
        call: the tasks that are there.
        gradient: `[k]`.
        moves: `[k]`, boolean.
        rate: the learning rate.
    """
    first, second, steps = (call.pick(balancer.get_buffer(name)) for name in ("first", "second", "steps"))
    later = steps + moves
    fresh_first = torch.where(moves, BETAS[0] * first + (1 - BETAS[0]) * gradient, first)
    fresh_second = torch.where(moves, BETAS[1] * second + (1 - BETAS[1]) * gradient.square(), second)
    call.put(balancer.get_buffer("first"), fresh_first)
    call.put(balancer.get_buffer("second"), fresh_second)
    call.put(balancer.get_buffer("steps"), later)
    unbiased = [
        moment / (1 - beta ** later.clamp_min(1))
        for moment, beta in zip((fresh_first, fresh_second), BETAS, strict=True)
    ]
    return torch.where(moves, -rate * unbiased[0] / (unbiased[1].sqrt() + EPSILON), 0.0)
