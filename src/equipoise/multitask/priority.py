"""Dynamic task prioritization. Guo et al., "Dynamic Task Prioritization for Multitask Learning", ECCV 2018, eq. 3-6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .. import checks, distributed
from ..card import Card
from ._balancer import Balancer, Call, Losses, Mask, known, per_task

SMALLEST = 1e-6
"""A KPI is held between this and 1 where it makes a weight: the logarithm of 0 has none."""

Kpi = float | Tensor | tuple[float | Tensor, float | Tensor]


class DynamicTaskPrioritization(Balancer):
    r"""Weighs hard tasks more, and tells how hard a task is by how well it is done (its KPI).

    $\sum_t w_t L_t$ with $w_t = -(1 - \bar\kappa_t)^{\gamma_t} \log \bar\kappa_t$ and the running average
    $\bar\kappa \leftarrow \alpha \kappa + (1 - \alpha) \bar\kappa$ of a KPI in [0, 1]: an accuracy, a recall, or what
    `within_tolerance_kpi` makes of residuals. The first KPI begins the average; before it the weight is 1.

    Args:
        tasks: their names.
        gamma: how much the weights are drawn to hard tasks, at least 0; one number, a mapping, or a list.
            Default: `1.0`.
        alpha: the share of a new KPI in the average, in (0, 1]. Default: `0.1`.
        normalize: whether the weights of the tasks that are there are scaled to their number. Default: `False`.
        sync: whether KPIs are over all ranks; each then comes as `(correct, count)`. Default: `False`.

    Shape:
        `losses`: a scalar by task, or `[T]`; a scalar comes out. A loss may be a focal loss: the paper's are, so that
        examples are weighed, too.

    Example:
        >>> import torch
        >>> from equipoise import DynamicTaskPrioritization
        >>> balancer = DynamicTaskPrioritization(["pose", "action"])
        >>> losses = {"pose": torch.tensor(1.0), "action": torch.tensor(1.0)}
        >>> balancer(losses, kpis={"pose": 0.9, "action": (1, 10)})  # or `balancer.update_kpi(...)` after validation
        tensor(2.0829)

    Differs from:
        The paper's text and copies of it disagree on which of the two $\alpha$ weighs; here it weighs the new KPI.

    References:
        Guo et al., ECCV 2018, eq. 3-6.
    """

    exponents: Tensor
    average: Tensor
    seen: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        gamma: float | Mapping[str, float] | Sequence[float] = 1.0,
        alpha: float = 0.1,
        normalize: bool = False,
        sync: bool = False,
    ) -> None:
        super().__init__(tasks, sync=sync)
        self.gamma = per_task("gamma", gamma, self.tasks, 0)
        self.register_buffer("exponents", torch.tensor(self.gamma), persistent=False)
        self.alpha = checks.number("alpha", checks.above_zero("alpha", alpha), 0, 1)
        self.normalize = bool(normalize)
        self.register_buffer("average", torch.zeros(len(self.tasks)))
        self.register_buffer("seen", torch.zeros(len(self.tasks), dtype=torch.int64))

    def forward(self, losses: Losses, *, kpis: Mapping[str, Kpi] | None = None, mask: Mask | None = None) -> Tensor:
        """The total of the losses of the tasks that are there.

        Args:
            losses: a loss by task, each a scalar; a task that is left out is absent. Or a vector in the order of the
                tasks.
            kpis: how well tasks do in this batch, in [0, 1] or as `(correct, count)`; the averages are updated before
                the weights are made. Ignored in `eval()`, and of absent tasks. Default: `None`.
            mask: whether each task is there, by task or in their order. A tensor is read, for which a GPU waits.
                Default: `None`.

        Returns:
            A scalar, float32 or float64; a differentiable 0 where all tasks are absent.
        """
        call = self._call(losses, mask)
        if self.training and (kpis is not None or call.over_ranks):
            self._update(kpis or {}, call.seen, call.moves)
        return self._balance(call)

    def update_kpi(self, kpis: Mapping[str, Kpi]) -> None:
        """Moves the averages: after a validation, or after the micro-batches of a step, over which the pairs are added.

        Args:
            kpis: how well tasks do, in [0, 1] or as `(correct, count)`; a count of 0 is skipped. With `sync` every rank
                must call it.
        """
        self._update(kpis, self.average, torch.ones_like(self.seen, dtype=torch.bool))

    @torch.no_grad()
    def _update(self, kpis: Mapping[str, Kpi], like: Tensor, moves: Tensor) -> None:
        if not isinstance(kpis, Mapping):
            raise TypeError(f"`kpis` must be a mapping from tasks, got {checks.describe(kpis)}")
        known(kpis, "kpis", self.tasks)
        pairs = torch.stack([_pair(name, kpis.get(name), like, self.sync) for name in self.tasks])
        correct, count = distributed.sum_over_ranks(pairs, self.sync).unbind(1)
        kpi = correct / count.clamp_min(1e-30)
        moves = moves & (count > 0) & kpi.isfinite()
        mixed = torch.where(self.seen > 0, self.alpha * kpi + (1 - self.alpha) * self.average, kpi)
        self.average.copy_(torch.where(moves, mixed, self.average))
        self.seen.add_(moves)

    @torch.no_grad()
    def _weigh(self, call: Call) -> tuple[Tensor, Tensor | float]:
        kpi = self.average.clamp(SMALLEST, 1)
        weights = torch.where(self.seen > 0, (1 - kpi).pow(self.exponents) * -kpi.log(), 1.0)
        if self.normalize:
            there = torch.where(call.here, weights, 0)
            total = there.sum()
            weights = torch.where(total > 0, weights * (call.here.sum() / total), weights)
        return weights, 0.0


def _pair(name: str, kpi: Kpi | None, like: Tensor, sync: bool) -> Tensor:
    """`[2]`: how many were right, and how many there were."""
    if kpi is None:
        return like.new_zeros(2, dtype=torch.float32)
    if not isinstance(kpi, tuple):
        if distributed.world_size(sync) > 1:
            raise ValueError(f"`kpis[{name!r}]` must be (correct, count) with `sync=True`, got {checks.describe(kpi)}")
        checks.scalar(f"kpis[{name!r}]", kpi, 0, 1)
        kpi = (kpi, 1.0)
    if len(kpi) != 2 or not all(isinstance(each, Tensor) or checks.is_number(each) for each in kpi):
        raise ValueError(f"`kpis[{name!r}]` must be a number or (correct, count), got {checks.describe(kpi)}")
    correct, count = (_number(each, like) for each in kpi)
    if checks.can_read_values(correct) and not 0 <= correct <= count:
        raise ValueError(f"`kpis[{name!r}]` must be (correct, count) with correct from 0 to count, got {kpi!r}")
    return torch.stack([correct, count])


def _number(value: float | Tensor, like: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().to(like.device, torch.float32)
    return torch.full((), value, dtype=torch.float32, device=like.device)


def accuracy_kpi(input: Tensor, target: Tensor, *, ignore_index: int = -100) -> tuple[Tensor, Tensor]:
    """How many samples are classified right, and how many there are.

    Args:
        input: scores, `[N, C, ...]`; or `[N]` or `[N, 1]` of a yes/no question.
        target: class indices, `[N, ...]`; of a yes/no question zeros and ones in the shape of the input.
        ignore_index: samples that are left out. Default: `-100`.

    Returns:
        Two 0-d tensors, a KPI for `DynamicTaskPrioritization`.

    Example:
        >>> import torch
        >>> from equipoise import accuracy_kpi
        >>> accuracy_kpi(torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]]), torch.tensor([0, 1, 1]))
        (tensor(2), tensor(3))
    """
    checks.scores("input", input)
    guess = (input > 0).to(torch.int64) if input.shape == target.shape else input.argmax(1)
    checks.same_shape("target", target, guess.shape, "the shape of the guesses")
    kept = target != ignore_index
    return ((guess == target) & kept).sum(), kept.sum()


def within_tolerance_kpi(
    input: Tensor, target: Tensor, *, tolerance: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """How many residuals are at most a tolerance, and how many there are: a KPI of a regression.

    Args:
        input: predictions of any shape.
        target: what they should be, in that shape; NaN is left out.
        tolerance: in the unit of the target, at least 0.
        mask: boolean, broadcastable; `True` keeps. Default: `None`.

    Returns:
        Two 0-d tensors, a KPI for `DynamicTaskPrioritization`.

    Example:
        >>> import torch
        >>> from equipoise import within_tolerance_kpi
        >>> within_tolerance_kpi(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([1.2, 2.0, 3.0]), tolerance=0.5)
        (tensor(2), tensor(3))
    """
    checks.same_shape("target", target, checks.scores("input", input).shape, "the shape of `input`")
    kept = ~target.isnan()
    if mask is not None:
        kept = kept & checks.keep_mask("mask", mask, input.shape)
    within = (input - target).abs() <= checks.number("tolerance", tolerance, 0)
    return (within & kept).sum(), kept.sum()


CARD = Card(
    name="dynamic_task_prioritization",
    summary="weighs a task by how badly it is still done",
    module=DynamicTaskPrioritization,
    family="Tasks",
    kind="balancer",
    problems=frozenset({"tasks"}),
    op_family="scalars",
    paper='Guo et al., "Dynamic Task Prioritization for Multitask Learning", ECCV 2018, eq. 3-6',
    formula=r"w_t = -(1 - \bar\kappa_t)^{\gamma_t} \log \bar\kappa_t",
    required={"tasks": ["a", "b", "c"]},
    samples=({}, {"gamma": [0.0, 1.0, 2.0]}, {"normalize": True}),
    use_when="hard tasks should come first, and how well each is done can be measured between 0 and 1",
    avoid_when="a task is hard because its labels are noise: it then gets the most weight for ever",
    differs=("alpha weighs the new KPI", "the first KPI begins the average, which 0 would make 52 times too heavy"),
)
