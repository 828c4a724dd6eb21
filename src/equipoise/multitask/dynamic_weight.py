"""Dynamic weight average. Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, eq. 7."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import checks
from ..card import Card
from ._balancer import Balancer, Call


class DynamicWeightAverage(Balancer):
    r"""Weighs a task more the less its loss fell from one epoch to the next.

    $w_t = T \, \mathrm{softmax}_t(r_t / \tau)$ over the T tasks that are there, with $r_t$ the mean loss of the last
    epoch over that of the one before; 1 before there are two.

    Args:
        tasks: their names.
        temperature: $\tau$, above 0; a large one makes the weights equal. Default: `2.0`.
        sync: whether the means are over all ranks, whose losses are each scaled so that their average is that of the
            joined batch, as those of this package are with `sync=True`. Default: `False`.

    Shape:
        `losses`: a scalar by task, or `[T]`; a scalar comes out. Call `end_epoch()` after each epoch.

    Example:
        >>> import torch
        >>> from equipoise import DynamicWeightAverage
        >>> balancer = DynamicWeightAverage(["depth", "normals"])
        >>> for depth in (1.0, 0.5):  # two epochs of one step each
        ...     _ = balancer({"depth": torch.tensor(depth), "normals": torch.tensor(1.0)})
        ...     balancer.end_epoch()
        >>> _ = balancer({"depth": torch.tensor(0.5), "normals": torch.tensor(1.0)})
        >>> {name: round(weight.item(), 3) for name, weight in balancer.weights.items()}
        {'depth': 0.876, 'normals': 1.124}

    Differs from:
        A task that was absent all through an epoch keeps the two means that it has. Steps whose losses are not finite
        are in no mean.

    References:
        Liu, Johns, Davison, CVPR 2019, eq. 7, with the authors' temperature.
    """

    sums: Tensor
    counts: Tensor
    means: Tensor
    epochs: Tensor

    def __init__(self, tasks: Sequence[str], *, temperature: float = 2.0, sync: bool = False) -> None:
        super().__init__(tasks, sync=sync)
        self.temperature = float(checks.above_zero("temperature", temperature))
        self.register_buffer("sums", torch.zeros(len(self.tasks)))
        self.register_buffer("counts", torch.zeros(len(self.tasks), dtype=torch.int64))
        self.register_buffer("means", torch.ones(2, len(self.tasks)))
        self.register_buffer("epochs", torch.zeros(len(self.tasks), dtype=torch.int64))

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Closes an epoch: the mean of each task's losses since the last one decides its weight in the next."""
        had = self.counts > 0
        mean = self.sums / self.counts.clamp_min(1)
        self.means.copy_(torch.where(had, torch.stack([mean, self.means[0]]), self.means))
        self.epochs.add_(had)
        self.sums.zero_()
        self.counts.zero_()

    @torch.no_grad()
    def _weigh(self, call: Call) -> tuple[Tensor, Tensor | float]:
        if self.training:
            self.sums.add_(torch.where(call.moves, call.seen, 0).to(torch.float32))
            self.counts.add_(call.moves)
        last, before = self.means
        ratio = torch.where((self.epochs > 1) & (before != 0), last / before, 1.0) / self.temperature
        shares = torch.where(call.here, ratio, -torch.inf).softmax(0)
        return call.here.sum() * shares, 0.0


CARD = Card(
    name="dynamic_weight_average",
    summary="weighs a task more the less its loss fell from one epoch to the next",
    module=DynamicWeightAverage,
    family="Tasks",
    kind="balancer",
    problems=frozenset({"tasks"}),
    op_family="scalars",
    paper='Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, eq. 7',
    formula=r"w_t = T \, \mathrm{softmax}_t(r_t / \tau), \quad r_t = \bar L_t(k-1) / \bar L_t(k-2)",
    required={"tasks": ["a", "b", "c"]},
    samples=({}, {"temperature": 0.5}),
    use_when="tasks learn at different speeds, and epochs are many",
    avoid_when="losses differ in scale: ratios do not see it, and the largest loss still rules",
    differs=("a task that was absent all through an epoch keeps the means that it has",),
)
