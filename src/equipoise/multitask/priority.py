"""Dynamic task prioritization. Guo et al., "Dynamic Task Prioritization for Multitask Learning", ECCV 2018, eq. 1-5."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import checks, distributed
from ..card import Card
from ._arguments import Each, known, per_task
from ._balancer import Balancer, Call, Kpis

LOWEST = 1e-6
"""The least performance that a weight is computed from: the logarithm of 0 is infinite."""


class DynamicTaskPrioritization(Balancer):
    r"""Weighs a task by how badly it performs: the hard ones come first.

    $\sum_t w_t L_t$ with $w_t = -(1 - \bar\kappa_t)^{\gamma_t} \log \bar\kappa_t$, the focal loss of a moving average
    $\bar\kappa \leftarrow \alpha \kappa + (1 - \alpha) \bar\kappa$ of the task's key performance indicator $\kappa$ in
    [0, 1], as an accuracy. The first one starts the average; before it the weight is 1. Weights have no gradient.

    Args:
        tasks: their names.
        gamma: $\gamma_t \ge 0$, one number for all, a mapping, or a list in the order of the tasks; the larger, the
            sooner a task that performs well is left alone. Default: `1.0`.
        alpha: α in (0, 1], the share of the new value. Default: `0.1`.
        normalize: whether the weights are scaled to a sum of one a task, so that the step does not shrink as tasks
            improve. Default: `False`.
        sync: whether performance is that of all ranks; it must then be given as `(correct, count)`. Default: `False`.

    Shape:
        `losses`: a scalar by task, or `[T]`; a scalar comes out. `kpis`: a number in [0, 1] by task, or `(correct,
        count)`, as `accuracy_kpi` and `within_tolerance_kpi` give; the average moves first, then the weights. In
        `eval()` it rests; `update_kpi` moves it at any time.

    Example:
        >>> import torch
        >>> from equipoise import DynamicTaskPrioritization
        >>> balancer = DynamicTaskPrioritization(["depth", "classes"])
        >>> losses = {"depth": torch.tensor(2.0), "classes": torch.tensor(0.5)}
        >>> total = balancer(losses, kpis={"depth": 0.5, "classes": 0.9})
        >>> [round(weight.item(), 4) for weight in balancer.weights.values()]
        [0.3466, 0.0105]

    Differs from:
        The paper in that performance of 0 counts as 1e-6, and a batch without labels of a task (count 0) as nothing.
        The average starts at the first value, not at 0, which would make the first weight many times too large.

    References:
        Guo et al., "Dynamic Task Prioritization for Multitask Learning", ECCV 2018, eq. 1-5. Its loss of each task is
        a focal loss: give those of `SigmoidFocalLoss` or `SoftmaxFocalLoss`.
    """

    gammas: Tensor
    kpi: Tensor
    started: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        gamma: Each = 1.0,
        alpha: float = 0.1,
        normalize: bool = False,
        sync: bool = False,
    ) -> None:
        super().__init__(tasks, sync=sync)
        self.register_buffer("gammas", torch.tensor(per_task("gamma", gamma, self.tasks, 0)))
        self.alpha = float(checks.above_zero("alpha", checks.number("alpha", alpha, 0, 1)))
        self.normalize = normalize
        self.register_buffer("kpi", torch.zeros(len(self.tasks)))
        self.register_buffer("started", torch.zeros(len(self.tasks), dtype=torch.bool))

    @torch.no_grad()
    def update_kpi(self, kpis: Kpis) -> None:
        """Moves the averages, for example once after each validation.

        Args:
            kpis: by task a number in [0, 1], or `(correct, count)`; a count of 0 says nothing. With `sync` each rank
                gives its own counts, and all ranks must call.
        """
        self._move(kpis, torch.ones_like(self.started[0]))

    def _observe(self, call: Call, kpis: Kpis | None) -> None:
        if kpis is not None and self.training:
            self._move(kpis, call.finite)

    @torch.no_grad()
    def _move(self, kpis: Kpis, finite: Tensor) -> None:
        correct, count = self._counted(kpis)
        sums = distributed.sum_over_ranks(torch.stack([correct, count]), self.sync)
        correct, count = sums.unbind()
        fresh = (correct / torch.where(count > 0, count, 1.0)).to(self.kpi.dtype)
        moves = (count > 0) & fresh.isfinite() & finite
        average = torch.where(self.started, self.alpha * fresh + (1 - self.alpha) * self.kpi, fresh)
        self.kpi.copy_(torch.where(moves, average, self.kpi))
        self.started.logical_or_(moves)

    def _counted(self, kpis: Kpis) -> tuple[Tensor, Tensor]:
        """What was right and of how many, `[T]`, float64; of how many 0 where nothing was said."""
        if not hasattr(kpis, "items"):
            raise TypeError(f"`kpis` must be a mapping by task, got {checks.describe(kpis)}")
        known("kpis", kpis, self.tasks)
        pairs = [self._pair(name, kpis[name]) if name in kpis else (0.0, 0.0) for name in self.tasks]
        correct, count = (torch.stack([self._number(each) for each in side]) for side in zip(*pairs, strict=True))
        checks.within(
            "kpis", torch.where(count > 0, correct / torch.where(count > 0, count, 1.0), 0.0).nan_to_num(0), 0, 1
        )
        return correct, count

    def _pair(self, name: str, kpi: object) -> tuple[object, object]:
        if isinstance(kpi, (tuple, list)):
            if len(kpi) != 2:
                raise ValueError(f"`kpis[{name!r}]` must be a number or (correct, count), got {checks.describe(kpi)}")
            return kpi[0], kpi[1]
        if self.sync:
            raise ValueError(
                f"`kpis[{name!r}]` must be (correct, count) with sync=True, since a mean of means is not the mean,"
                f" got {checks.describe(kpi)}"
            )
        return kpi, 1.0

    def _number(self, value: object) -> Tensor:
        if isinstance(value, Tensor) and not value.ndim:
            return value.detach().to(device=self.kpi.device, dtype=torch.float64)
        if not checks.is_number(value):
            raise TypeError(f"`kpis` must hold numbers or 0-d tensors, got {checks.describe(value)}")
        return torch.full((), float(value), dtype=torch.float64, device=self.kpi.device)

    @torch.no_grad()
    def _weights(self, call: Call) -> Tensor:
        average = call.pick(self.kpi).clamp(LOWEST, 1)
        focal = (1 - average) ** call.pick(self.gammas) * average.log().abs()
        weights = torch.where(call.pick(self.started), focal, 1.0)
        return weights * (len(weights) / weights.sum().clamp_min(1e-30)) if self.normalize else weights

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        rest = f"alpha={self.alpha!r}, normalize={self.normalize!r}, sync={self.sync!r}"
        return f"tasks={self.tasks!r}, gamma={self.gammas.tolist()!r}, {rest}"


CARD = Card(
    name="dynamic_task_prioritization",
    summary="weighs a task by how badly it performs, so that the hard ones come first",
    module=DynamicTaskPrioritization,
    family="Tasks",
    kind="balancer",
    problems=frozenset({"tasks"}),
    op_family="scalars",
    paper='Guo et al., "Dynamic Task Prioritization for Multitask Learning", ECCV 2018, eq. 1-5',
    formula=r"\sum_t w_t L_t, \quad w_t = -(1 - \bar\kappa_t)^{\gamma_t} \log \bar\kappa_t",
    required={"tasks": ("a", "b", "c")},
    samples=({}, {"gamma": [0.0, 0.5, 2.0], "alpha": 0.5}, {"normalize": True}),
    use_when="easy tasks are done early and their losses still pull, and each task's performance is known in [0, 1]",
    avoid_when="a task cannot do well for noise in its labels: it takes over (uncertainty_weighting turns it down)",
    differs=(
        "the first value starts the average; from 0 it would make the first weight many times too large",
        "performance of 0 counts as 1e-6",
    ),
)
