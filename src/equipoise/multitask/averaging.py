"""Dynamic weight average. Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, eq. 7."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import checks
from ..card import Card
from ._balancer import Balancer, Call


class DynamicWeightAverage(Balancer):
    r"""Weighs a task by how slowly its loss has fallen from one epoch to the next.

    $\lambda_t = K \exp(r_t / T) / \sum_i \exp(r_i / T)$ with $r_t$ the task's mean loss of the last epoch over that of
    the epoch before, K the number of tasks that are there and T the temperature. $r_t$ is 1 until two epochs are known.

    Args:
        tasks: their names.
        temperature: T > 0; a large one makes the weights alike. Default: `2.0`.
        sync: whether the mean losses are those of all ranks, each scaled so that their average is that of the joined
            batch, as those of this package are with `sync=True`. Default: `False`.

    Shape:
        `losses`: a scalar by task, or `[T]`; a scalar comes out. Call `end_epoch()` after each epoch.

    Example:
        >>> import torch
        >>> from equipoise import DynamicWeightAverage
        >>> balancer = DynamicWeightAverage(["depth", "normals"])
        >>> for depth, normals in ((4.0, 1.0), (2.0, 1.0)):
        ...     total = balancer({"depth": torch.tensor(depth), "normals": torch.tensor(normals)})
        ...     balancer.end_epoch()
        >>> total = balancer({"depth": torch.tensor(2.0), "normals": torch.tensor(1.0)})
        >>> [round(weight.item(), 4) for weight in balancer.weights.values()]  # normals stand still
        [0.8756, 1.1244]

    Differs from:
        The authors' code in nothing where all tasks are there. A task that was absent for a whole epoch keeps its two
        latest means. A mean of 0 two epochs ago makes r = 1.

    References:
        Liu, Johns, Davison, CVPR 2019, eq. 7; T = 2 as there.
    """

    sums: Tensor
    counts: Tensor
    last: Tensor
    before: Tensor
    epochs: Tensor

    def __init__(self, tasks: Sequence[str], *, temperature: float = 2.0, sync: bool = False) -> None:
        super().__init__(tasks, sync=sync)
        self.temperature = float(checks.above_zero("temperature", temperature))
        for name in ("sums", "last", "before"):
            self.register_buffer(name, torch.zeros(len(self.tasks)))
        for name in ("counts", "epochs"):
            self.register_buffer(name, torch.zeros(len(self.tasks), dtype=torch.int64))

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Takes the mean losses of the epoch that ends; to be called after each, on every rank."""
        ends = self.counts > 0
        mean = self.sums / self.counts.clamp_min(1)
        self.before.copy_(torch.where(ends, self.last, self.before))
        self.last.copy_(torch.where(ends, mean, self.last))
        self.epochs.add_(ends)
        self.sums.zero_()
        self.counts.zero_()

    @torch.no_grad()
    def _weights(self, call: Call) -> Tensor:
        if self.training:
            call.put(self.sums, call.pick(self.sums) + call.seen.to(self.sums.dtype))
            call.put(self.counts, call.pick(self.counts) + 1)
        last, before = call.pick(self.last), call.pick(self.before)
        falls = (call.pick(self.epochs) >= 2) & (before != 0)
        rates = torch.where(falls, last / torch.where(falls, before, 1.0), 1.0)
        return len(call.tasks) * torch.softmax(rates / self.temperature, 0)


CARD = Card(
    name="dynamic_weight_average",
    summary="weighs a task by how slowly its loss fell over the last two epochs",
    module=DynamicWeightAverage,
    family="Tasks",
    kind="balancer",
    problems=frozenset({"tasks"}),
    op_family="scalars",
    paper='Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, eq. 7',
    formula=r"\sum_t \lambda_t L_t, \quad \lambda_t = K\, \mathrm{softmax}(r / T)_t",
    required={"tasks": ("a", "b", "c")},
    samples=({}, {"temperature": 0.5}),
    use_when="losses of one scale fall at different speeds, and the slow one is to be helped",
    avoid_when="losses differ in scale (the weights stay near 1, whatever the scale), or there are few epochs",
    differs=("a task that is absent for a whole epoch keeps its two latest means",),
)
