"""FAMO. Liu, Feng, Stone, Liu, "FAMO: Fast Adaptive Multitask Optimization", NeurIPS 2023, algorithm 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .. import checks
from ..card import Card
from ._balancer import Balancer, Call, per_task

# Adam's, by which the authors move the logits.
BETAS, EPSILON = (0.9, 0.999), 1e-8
# What the authors add to a loss under the logarithm.
ABOVE_ZERO = 1e-8


class FAMO(Balancer):
    r"""Lets all losses fall at the same relative rate.

    $w_t = \frac{z_t}{c D_t}$ with $D_t = L_t - m_t$, $z = \mathrm{softmax}(\xi)$ over the tasks that are there and $c =
    \sum_t z_t / D_t$, so that the weights add up to 1. The logits $\xi$ move, by Adam, against how much
    $\log D$ fell since the call before: the losses of the next call are taken for those after the step.

    Args:
        tasks: their names.
        lr: Adam's learning rate of the logits. Default: `0.025`.
        gamma: Adam's weight decay of the logits, which draws the weights together. Default: `0.01`.
        lowest: $m_t$, the smallest value that each loss can take; one number, a mapping, or a list. Default: `0.0`.
        sync: whether the losses are those of all ranks, each scaled so that their average is that of the joined
            batch, as those of this package are with `sync=True`. Default: `False`.

    Shape:
        `losses`: a scalar by task, or `[T]`, above `lowest`; a scalar comes out.

    Example:
        >>> import torch
        >>> from equipoise import FAMO
        >>> balancer = FAMO(["depth", "normals"])
        >>> _ = balancer({"depth": torch.tensor(3.0), "normals": torch.tensor(1.0)})
        >>> {name: round(weight.item(), 3) for name, weight in balancer.weights.items()}
        {'depth': 0.25, 'normals': 0.75}

    Differs from:
        The authors compute the losses a second time after the step, on the same batch. The total is the weighed sum;
        theirs, of logarithms, has the same gradient. Adam's state is part of this module's.

    References:
        Liu, Feng, Stone, Liu, NeurIPS 2023, algorithm 1; defaults of the authors' code.
    """

    lowest: Tensor
    logits: Tensor
    first_moment: Tensor
    second_moment: Tensor
    steps: Tensor
    previous: Tensor
    had_previous: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        lr: float = 0.025,
        gamma: float = 0.01,
        lowest: float | Mapping[str, float] | Sequence[float] = 0.0,
        sync: bool = False,
    ) -> None:
        super().__init__(tasks, sync=sync)
        self.lr = checks.number("lr", lr, 0)
        self.gamma = checks.number("gamma", gamma, 0)
        self.register_buffer(
            "lowest", torch.tensor(per_task("lowest", lowest, self.tasks, -torch.inf)), persistent=False
        )
        for name in ("logits", "first_moment", "second_moment", "previous"):
            self.register_buffer(name, torch.zeros(len(self.tasks)))
        self.register_buffer("steps", torch.zeros(len(self.tasks), dtype=torch.int64))
        self.register_buffer("had_previous", torch.zeros(len(self.tasks), dtype=torch.bool))

    @torch.no_grad()
    def _weigh(self, call: Call) -> tuple[Tensor, Tensor | float]:
        above = (call.seen.to(torch.float32) - self.lowest).clamp_min(0) + ABOVE_ZERO
        if self.training:
            self._step(above.log(), call)
        shares = _softmax(self.logits, call.here) / above
        return shares / torch.where(call.here, shares, 0).sum(), 0.0

    def _step(self, log_loss: Tensor, call: Call) -> None:
        """Moves the logits of the tasks that were in the call before, too."""
        compared = call.moves & self.had_previous
        z = torch.where(compared, _softmax(self.logits, compared), 0)
        fall = torch.where(compared, self.previous - log_loss, 0)
        gradient = z * (fall - (z * fall).sum()) + self.gamma * self.logits
        steps = self.steps + compared
        for moment, beta, news in (
            (self.first_moment, BETAS[0], gradient),
            (self.second_moment, BETAS[1], gradient.square()),
        ):
            moment.copy_(torch.where(compared, beta * moment + (1 - beta) * news, moment))
        count = steps.clamp_min(1).to(torch.float32)
        first = self.first_moment / (1 - BETAS[0] ** count)
        second = self.second_moment / (1 - BETAS[1] ** count)
        moved = self.logits - self.lr * first / (second.sqrt() + EPSILON)
        self.logits.copy_(torch.where(compared, moved, self.logits))
        self.steps.copy_(steps)
        self.previous.copy_(torch.where(call.moves, log_loss, self.previous))
        self.had_previous.copy_(torch.where(call.finite, call.here, self.had_previous))


def _softmax(logits: Tensor, kept: Tensor) -> Tensor:
    """Over those kept; NaN where none is."""
    return torch.where(kept, logits, -torch.inf).softmax(0)


CARD = Card(
    name="famo",
    summary="lets all losses fall at the same relative rate",
    module=FAMO,
    family="Tasks",
    kind="balancer",
    problems=frozenset({"tasks"}),
    op_family="scalars",
    paper='Liu, Feng, Stone, Liu, "FAMO: Fast Adaptive Multitask Optimization", NeurIPS 2023, algorithm 1',
    formula=r"w_t = \frac{z_t}{D_t} / \sum_u \frac{z_u}{D_u}, \quad D_t = L_t - m_t, \quad z = \mathrm{softmax}(\xi)",
    required={"tasks": ["a", "b", "c"]},
    samples=({}, {"lr": 0.1, "gamma": 0.0}),
    use_when="some tasks are optimised at the cost of others, and gradients of each are too dear",
    avoid_when="batches are small: the fall of a loss from one batch to the next is then mostly chance",
    differs=(
        "the losses of the next call serve as those after the step, which the authors compute again",
        "the total is the weighed sum of the losses, whose gradient is the same",
    ),
)
