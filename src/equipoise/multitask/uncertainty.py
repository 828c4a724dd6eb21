"""Uncertainty weighting. Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
Geometry and Semantics", CVPR 2018, eq. 5-10.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .. import checks
from ..card import Card
from ._balancer import Call
from ._learned import LearnedBalancer

KINDS = ("gaussian", "softmax", "laplace")
REGULARIZERS = ("log", "log1p")
INITS = ("zero", "first_batch")


class UncertaintyWeighting(LearnedBalancer):
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
        init: `"zero"`, or `"first_batch"`: s begins at the optimum for a task's first loss. Default: `"zero"`.
        clamp: s is held between these. Default: `(-10.0, 10.0)`.
        sync: whether s sees the losses of all ranks. Each rank's loss must be scaled so that their average is that of
            the joined batch, as those of this package are with `sync=True`. Default: `False`.

    Shape:
        `losses`: a scalar by task, or `[T]`; a scalar comes out. It may be negative: r is, where a task is nearly
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
    start: Tensor
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
        super().__init__(list(tasks), "log_variance", sync=sync)
        self.kinds = tuple(checks.choice(f"tasks[{name!r}]", kind, KINDS) for name, kind in tasks.items())
        self.regularizer = checks.choice("regularizer", regularizer, REGULARIZERS)
        self.init = checks.choice("init", init, INITS)
        self.clamp = _bounds(clamp)
        log = self.regularizer == "log"
        scale = [1.0 if log and kind != "gaussian" else 0.5 for kind in self.kinds]
        slope = [1.0 if kind == "laplace" else 0.5 for kind in self.kinds]
        self.register_buffer("scale", torch.tensor(scale), persistent=False)
        self.register_buffer("slope", torch.tensor(slope), persistent=False)
        self.register_buffer("start", torch.zeros(len(self.kinds)))
        self.register_buffer("started", torch.zeros(len(self.kinds), dtype=torch.bool))

    @property
    def log_variances(self) -> dict[str, Tensor]:
        """Each task's s, within its bounds, without a graph."""
        learned = torch.stack([getattr(self, key).detach() for key in self._keys])
        return dict(zip(self.tasks, (self.start + learned).clamp(*self.clamp).unbind(), strict=True))

    def _learned(self, call: Call) -> Tensor:
        """s, `[k]`: where it began, and what was learned since; held between its bounds."""
        if self.init == "first_batch" and self.training:
            self._begin(call)
        return self._held(call, call.pick(self.start).to(call.values.dtype) + super()._learned(call))

    def _scales(self, call: Call, /, learned: Tensor) -> Tensor:
        return call.pick(self.scale) * torch.exp(-learned)

    def _costs(self, call: Call, /, learned: Tensor) -> Tensor:
        return call.pick(self.slope) * learned if self.regularizer == "log" else softplus(learned)

    def _held(self, call: Call, s: Tensor) -> Tensor:
        """Keeps s between its bounds; beyond them with a gradient where, and only where, it leads back."""
        low, high = self.clamp
        bounded = s.clamp(low, high)
        with torch.no_grad():
            flat = call.pick(self.slope) if self.regularizer == "log" else torch.sigmoid(bounded)
            slope = flat - self._scales(call, bounded) * call.seen
            returns = ((s > high) & (slope > 0)) | ((s < low) & (slope < 0))
        return torch.where(returns, bounded.detach() + (s - s.detach()), bounded)

    @torch.no_grad()
    def _begin(self, call: Call) -> None:
        """Puts s at the optimum for a task's first loss; at 0 where that loss is not above 0."""
        losses = call.seen
        if self.regularizer == "log1p":
            variance = (losses + (losses.square() + 8 * losses).sqrt()) / 4
        else:
            variance = losses * call.pick(self.scale) / call.pick(self.slope)
        found = torch.where(losses > 0, variance, 1.0).log().to(self.start.dtype)
        started = call.pick(self.started)
        call.put(self.start, torch.where(started, call.pick(self.start), found))
        call.put(self.started, torch.ones_like(started))

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        tasks = dict(zip(self.tasks, self.kinds, strict=True))
        rest = f"regularizer={self.regularizer!r}, init={self.init!r}, clamp={self.clamp!r}, sync={self.sync!r}"
        return f"tasks={tasks!r}, {rest}"


def _bounds(clamp: tuple[float, float]) -> tuple[float, float]:
    if not isinstance(clamp, (tuple, list)) or len(clamp) != 2:
        raise TypeError(f"`clamp` must be two numbers, got {checks.describe(clamp)}")
    low, high = (checks.number("clamp", each, -torch.inf) for each in clamp)
    if not low < high:
        raise ValueError(f"`clamp` must rise, got {clamp!r}")
    return low, high


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
    samples=({}, {"regularizer": "log1p"}, {"init": "first_batch"}, {"clamp": (-0.3, 0.5)}),
    use_when="losses of different units or scales are added, and nobody has time to tune weights",
    avoid_when="a task is more important than its noise says: its weight is then yours to give (constant_weighting)",
    differs=(
        "the factor 1/2 follows the kind of task: the copied e^-s L + s is twice the gaussian form",
        "s is held between bounds, and keeps a gradient that leads back into them",
    ),
)
