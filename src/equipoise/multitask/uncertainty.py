"""Uncertainty weighting. Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
Geometry and Semantics", CVPR 2018, eq. 5-10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from .. import checks
from ..card import Card
from ..reduction import check_reduction
from ._balancer import Balancer, Call, one_each

KINDS = ("gaussian", "softmax", "laplace")
REGULARIZERS = ("log", "log1p")
INITS = ("zero", "first_batch")


class UncertaintyWeighting(Balancer):
    r"""Learns how noisy each task is, and weighs its loss by the inverse.

    $\sum_t c_t e^{-s_t} L_t + r_t(s_t)$ with $s = \log \sigma^2$ learned for each task (of a Laplace scale $\log b$):
    c = 1/2 and r = s/2 for `"gaussian"`, c = 1 and r = s/2 for `"softmax"`, c = 1 and r = s for `"laplace"`.
    At its optimum $\sigma^2$ = L of a gaussian task, 2L of a softmax one, b = L of a laplace one: the weights become
    1/(2L), 1/(2L) and 1/L.

    Args:
        tasks: the kind of each task by its name: `"gaussian"` where its loss is a mean squared residual, `"softmax"`
            where it is a cross-entropy, `"laplace"` where it is a mean absolute residual.
        regularizer: `"log"`, or `"log1p"`: c = 1/2 and r = log(1 + e^s) for every kind, so that the total of losses
            that are not negative is not either. Default: `"log"`.
        init: `"zero"`, or `"first_batch"`: s begins at the optimum for the first losses. Default: `"zero"`.
        clamp: s is held between these. Default: `(-10.0, 10.0)`.
        sync: whether s sees the losses of all ranks. Each rank's loss must be scaled so that their average is that of
            the joined batch, as those of this package are with `sync=True`. Default: `False`.

    Shape:
        `losses`: a scalar by task, or `[T]`; a scalar comes out. It may be negative: s/2 is where a task is nearly
        perfect. Follow `balancer.losses`, not the total, and give a scheduler those.

    Example:
        >>> import torch
        >>> from equipoise import UncertaintyWeighting
        >>> balancer = UncertaintyWeighting({"depth": "gaussian", "classes": "softmax"})
        >>> balancer({"depth": torch.tensor(2.0), "classes": torch.tensor(0.5)}).item()
        1.5
        >>> [group["weight_decay"] for group in balancer.param_groups(lr=1e-2)]
        [0.0]

    Differs from:
        The widely copied $e^{-s} L + s$ is twice the gaussian form, and wrong for the others. s beyond `clamp` keeps
        a gradient that leads back.

    References:
        Kendall, Gal, Cipolla, CVPR 2018, eq. 5-10. Liebel, Körner, "Auxiliary Tasks in Multi-Task Learning",
        arXiv:1805.06334, eq. 3, for `"log1p"`.
    """

    scale: Tensor
    slope: Tensor
    started: Tensor

    def __init__(
        self,
        tasks: Mapping[str, str],
        *,
        regularizer: str = "log",
        init: str = "zero",
        clamp: tuple[float, float] = (-10.0, 10.0),
        sync: bool = False,
    ) -> None:
        if not isinstance(tasks, Mapping):
            raise TypeError(f"`tasks` must give each task's kind by its name, got {checks.describe(tasks)}")
        super().__init__(list(tasks), sync=sync)
        self.kinds = tuple(checks.choice(f"tasks[{name!r}]", kind, KINDS) for name, kind in tasks.items())
        self.regularizer = checks.choice("regularizer", regularizer, REGULARIZERS)
        self.init = checks.choice("init", init, INITS)
        if not isinstance(clamp, Sequence) or len(clamp) != 2:
            raise TypeError(f"`clamp` must be two numbers, got {checks.describe(clamp)}")
        low, high = (checks.number("clamp", each, -torch.inf) for each in clamp)
        if not low < high:
            raise ValueError(f"`clamp` must rise, got {clamp!r}")
        self.clamp = (low, high)
        log = self.regularizer == "log"
        scale = [1.0 if log and kind != "gaussian" else 0.5 for kind in self.kinds]
        self.register_buffer("scale", torch.tensor(scale), persistent=False)
        slope = [1.0 if kind == "laplace" else 0.5 for kind in self.kinds]
        self.register_buffer("slope", torch.tensor(slope), persistent=False)
        self.register_buffer("started", torch.zeros(len(self.kinds), dtype=torch.bool))
        self.log_variance = one_each(self.tasks)

    def _weigh(self, call: Call) -> tuple[Tensor, Tensor | float]:
        if self.init == "first_batch" and self.training:
            self._start(call)
        s = self._held(call)
        cost = self.slope * s if self.regularizer == "log" else softplus(s)
        return self.scale * torch.exp(-s), torch.where(call.here, cost, 0).sum()

    def _held(self, call: Call) -> Tensor:
        """S within its bounds; beyond them its gradient counts only where it leads back."""
        low, high = self.clamp
        s = self._learned(self.log_variance, call)
        bounded = s.clamp(low, high)
        with torch.no_grad():
            flat = self.slope if self.regularizer == "log" else torch.sigmoid(bounded)
            slope = flat - self.scale * torch.exp(-bounded) * call.seen
            returns = ((s > high) & (slope > 0)) | ((s < low) & (slope < 0))
        return torch.where(returns, bounded.detach() + (s - s.detach()), bounded)

    @torch.no_grad()
    def _start(self, call: Call) -> None:
        """S at the optimum for a task's first loss."""
        losses = call.seen.to(torch.float32)
        if self.regularizer == "log1p":
            variance = (losses + (losses.square() + 8 * losses).sqrt()) / 4
        else:
            variance = losses * self.scale / self.slope
        starts = call.moves & ~self.started
        found = torch.where(losses > 0, variance, 1.0).log()
        for index, name in enumerate(self.tasks):
            if call.present[index]:
                own = self.log_variance[name]
                own.copy_(torch.where(starts[index], found[index], own))
        self.started.logical_or_(starts)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        tasks = dict(zip(self.tasks, self.kinds, strict=True))
        rest = f"regularizer={self.regularizer!r}, init={self.init!r}, clamp={self.clamp!r}, sync={self.sync!r}"
        return f"tasks={tasks!r}, {rest}"


def scaled_softmax_cross_entropy(
    input: Tensor, target: Tensor, log_variance: Tensor, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    r"""The cross-entropy of scores at a temperature that is learned: what uncertainty weighting approximates.

    $-\log \mathrm{softmax}(z / \sigma^2)_y$ with $s = \log \sigma^2$.

    Args:
        input: scores, `[N, C, ...]`, floating-point.
        target: class indices, `[N, ...]`, or probabilities, `[N, C, ...]`.
        log_variance: s, a 0-d tensor.
        ignore_index: class index of samples that are left out. Default: `-100`.
        reduction: `"none"`, `"sum"` or `"mean"`, as torch's. Default: `"mean"`.

    Returns:
        A scalar, or `[N, ...]` for `"none"`; float32 for half-precision input.

    Raises:
        TypeError: if `input` or `log_variance` is not a floating-point tensor.
        ValueError: if `log_variance` is not 0-d, or `reduction` is none of those.

    Example:
        >>> import torch
        >>> from equipoise import scaled_softmax_cross_entropy
        >>> scaled_softmax_cross_entropy(torch.tensor([[2.0, 0.0]]), torch.tensor([0]), torch.tensor(0.0))
        tensor(0.1269)

    Differs from:
        With scores that are trained themselves s has no optimum of its own: the scores take its place. It is for a
        head that is fixed.

    References:
        Kendall, Gal, Cipolla, CVPR 2018, eq. 8-10.
    """
    check_reduction(reduction)
    if checks.scores("log_variance", log_variance).ndim:
        raise ValueError(f"`log_variance` must be a 0-d tensor, got {checks.describe(log_variance)}")
    dtype = torch.promote_types(checks.scores("input", input).dtype, torch.float32)
    scores = input.to(dtype) * torch.exp(-log_variance.to(dtype))
    if target.is_floating_point():
        return cross_entropy(scores, target.to(dtype), reduction=reduction)
    each = cross_entropy(scores, target.long(), ignore_index=ignore_index, reduction="none")
    if reduction != "mean":
        return each.sum() if reduction == "sum" else each
    return each.sum() / (target != ignore_index).sum().clamp_min(1)


CARD = Card(
    name="uncertainty_weighting",
    summary="learns each task's noise and weighs its loss by the inverse",
    module=UncertaintyWeighting,
    family="Tasks",
    kind="balancer",
    problems=frozenset({"tasks"}),
    op_family="scalars",
    paper='Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018, eq. 5-10',
    formula=r"\sum_t c_t e^{-s_t} L_t + r_t(s_t), \quad s_t = \log \sigma_t^2",
    required={"tasks": {"a": "gaussian", "b": "softmax", "c": "laplace"}},
    samples=({}, {"regularizer": "log1p"}, {"init": "first_batch"}),
    use_when="losses of different units or scales are added, and nobody has time to tune weights",
    avoid_when="a task is more important than its noise says: its weight is then yours to give (constant_weighting)",
    differs=(
        "the factor 1/2 follows the kind of task: the copied e^-s L + s is twice the gaussian form",
        "s is held between bounds, and keeps a gradient that leads back into them",
    ),
)
