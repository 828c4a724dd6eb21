"""FAMO. Liu et al., "FAMO: Fast Adaptive Multitask Optimization", NeurIPS 2023, alg. 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import checks
from ..card import Card
from . import _adam
from ._arguments import Each, per_task
from ._balancer import Balancer, Call

EPSILON = 1e-8


class FAMO(Balancer):
    r"""Learns weights with which all losses fall at the same rate, from the losses alone.

    $c \sum_t z_t \log(L_t - b_t)$ with $z = \mathrm{softmax}(w)$, lower bounds b, and $c = 1 / \sum_t z_t / (L_t -
    b_t)$ a constant for the gradient. After each step w goes, by Adam, against the gradient of $\sum_t z_t \delta_t$
    with $\delta_t$ how far $\log(L_t - b_t)$ fell: the task that falls most loses weight.

    Args:
        tasks: their names.
        lr: learning rate of w. Default: `0.025`.
        gamma: weight decay of w. Default: `0.01`.
        min_losses: b, one number for all, a mapping, or a list in the order of the tasks. Default: `0.0`.
        sync: whether w sees the losses of all ranks, each scaled so that their average is that of the joined batch, as
            those of this package are with `sync=True`. Default: `False`.

    Shape:
        `losses`: a scalar by task, or `[T]`, above `min_losses`; a scalar comes out. It is negative where losses are
        below 1: follow `balancer.losses`. `balancer.weights` are $c z_t / (L_t - b_t)$, what multiplies each gradient.

    Example:
        >>> import torch
        >>> from equipoise import FAMO
        >>> balancer = FAMO(["depth", "normals"])
        >>> total = balancer({"depth": torch.tensor(2.0), "normals": torch.tensor(0.5)})
        >>> [round(weight.item(), 4) for weight in balancer.weights.values()]
        [0.2, 0.8]

    Differs from:
        The authors' code, which computes the losses of a batch once more after the step: here those of the next call
        serve, a batch later, so that a step costs one forward pass. Their clipping of the model's gradients is left to
        the training loop. w and its Adam state are buffers, saved with the balancer.

    References:
        Liu et al., NeurIPS 2023, alg. 1; `lr` and `gamma` as in the authors' code.
    """

    min_losses: Tensor
    logits: Tensor
    previous: Tensor
    known: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        lr: float = 0.025,
        gamma: float = 0.01,
        min_losses: Each = 0.0,
        sync: bool = False,
    ) -> None:
        super().__init__(tasks, sync=sync)
        self.lr = checks.number("lr", lr, 0)
        self.gamma = checks.number("gamma", gamma, 0)
        self.register_buffer("min_losses", torch.tensor(per_task("min_losses", min_losses, self.tasks, -torch.inf)))
        self.register_buffer("logits", torch.zeros(len(self.tasks)))
        self.register_buffer("previous", torch.zeros(len(self.tasks)))
        self.register_buffer("known", torch.zeros(len(self.tasks), dtype=torch.bool))
        _adam.prepare(self)

    def _balance(self, call: Call) -> tuple[Tensor, Tensor]:
        low = call.pick(self.min_losses).to(call.values.dtype)
        above = call.values - low + EPSILON
        logs = (call.seen - low + EPSILON).log()
        if self.training:
            self._learn(call, logs.to(self.logits.dtype))
        z = torch.softmax(call.pick(self.logits), 0).to(above.dtype)
        c = 1 / (z / (call.seen - low + EPSILON)).sum()
        if call.world > 1:  # c is that of the joined batch, and so is the factor of each rank's gradient
            weights = c * z / (call.seen - low + EPSILON)
            own = weights * call.values
            return weights, (own - own.detach()).sum() + c * (z * logs).sum()
        return (c * z / above).detach(), c * (z * above.log()).sum()

    @torch.no_grad()
    def _learn(self, call: Call, logs: Tensor) -> None:
        """A step of w, by what the losses did since each task's last call; a loss at its bound stops all state."""
        usable = logs.isfinite().all()
        moves = call.pick(self.known) & usable & call.finite
        w = call.pick(self.logits)
        z = torch.softmax(torch.where(moves, w, -torch.inf), 0)
        fell = torch.where(moves, call.pick(self.previous) - logs, 0.0)
        gradient = torch.where(moves, z * (fell - (z * fell).sum()), 0.0) + self.gamma * w
        call.put(self.logits, w + _adam.step(self, call, gradient, moves, self.lr))
        call.put(self.previous, torch.where(usable, logs, call.pick(self.previous)))
        call.put(self.known, call.pick(self.known) | usable)


CARD = Card(
    name="famo",
    summary="learns weights with which all losses fall at the same rate, from the losses alone",
    module=FAMO,
    family="Tasks",
    kind="balancer",
    problems=frozenset({"tasks"}),
    op_family="scalars",
    paper='Liu et al., "FAMO: Fast Adaptive Multitask Optimization", NeurIPS 2023, alg. 1',
    formula=r"c \sum_t z_t \log(L_t - b_t), \quad z = \mathrm{softmax}(w), \quad 1 / c = \sum_t z_t / (L_t - b_t)",
    required={"tasks": ("a", "b", "c")},
    samples=({}, {"lr": 0.1, "gamma": 0.001}, {"min_losses": [0.0, 0.1, -0.5]}),
    use_when="losses differ in scale and in speed, and are above a bound that is known",
    avoid_when="losses reach 0 or lie below, or batches differ so much that their losses do not tell of progress",
    differs=(
        "the losses of the next call serve as those after the step, where the authors' code computes them once more",
        "the model's gradients are not clipped: that is left to the training loop",
    ),
)
