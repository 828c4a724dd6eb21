"""GradNorm. Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing", ICML 2018, alg. 1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .. import checks, distributed
from ..card import Card
from . import _adam
from ._balancer import Balancer, Call

SMALLEST = 1e-3
"""No weight falls below it: a task with weight 0 would not train, one with a negative weight would unlearn."""


class GradNorm(Balancer):
    r"""Weighs the tasks so that their gradients on shared parameters are alike, and larger for those that lag.

    $\sum_t w_t L_t$. With $n_t$ the norm of the gradient of $L_t$ on the shared parameters and $G_t = w_t n_t$, each
    step moves w, by Adam, against the gradient of $\sum_t |G_t - \bar{G} r_t^\alpha|$, which is $\mathrm{sign}(G_t -
    \bar{G} r_t^\alpha)\, n_t$: $\bar{G}$, the mean of G, and $r_t = (L_t / L_t^0) / \mathrm{mean}(L / L^0)$, with
    $L^0$ the first losses, count as constants. Then w is scaled back to its former sum, one a task.

    Args:
        tasks: their names.
        shared: the parameters that all tasks share, or those of the last shared layer, which is cheaper.
        alpha: $\alpha \ge 0$, how strongly lagging tasks are helped; 0 makes all norms alike. Default: `1.5`.
        lr: learning rate of w. Default: `0.025`.
        sync: whether losses and gradients are those of all ranks, each scaled so that their average is that of the
            joined batch, as those of this package are with `sync=True`. Default: `False`.

    Shape:
        `losses`: a scalar by task, or `[T]`, each with its graph; a scalar comes out. A mapping is faster: parts of a
        vector reach back to all tasks.

    Example:
        >>> import torch
        >>> from equipoise import GradNorm
        >>> trunk = torch.nn.Linear(3, 2)
        >>> balancer = GradNorm(["depth", "normals"], trunk.parameters())
        >>> shared = trunk(torch.ones(1, 3))
        >>> balancer({"depth": shared[0, 0].square(), "normals": 10 * shared[0, 1].square()}).backward()
        >>> round(sum(balancer.weights.values()).item(), 4)
        2.0

    Differs from:
        The paper in that no weight falls below 0.001. The gradient of w is written down, not found by a second
        backward pass, so that none of it leaks into the model. w and its Adam state are buffers, saved with the
        balancer.

    References:
        Chen et al., ICML 2018, eq. 1-2 and alg. 1; `alpha` as in its section 5.1.
    """

    task_weights: Tensor
    initial: Tensor
    started: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        shared: Tensor | Iterable[Tensor],
        *,
        alpha: float = 1.5,
        lr: float = 0.025,
        sync: bool = False,
    ) -> None:
        super().__init__(tasks, sync=sync)
        self._shared = _parameters(shared)
        self.alpha = checks.number("alpha", alpha, 0)
        self.lr = checks.number("lr", lr, 0)
        self.register_buffer("task_weights", torch.ones(len(self.tasks)))
        self.register_buffer("initial", torch.ones(len(self.tasks)))
        self.register_buffer("started", torch.zeros(len(self.tasks), dtype=torch.bool))
        _adam.prepare(self)

    @property
    def shared(self) -> list[Tensor]:
        """The shared parameters, which are the model's: the balancer neither saves nor moves them."""
        return self._shared

    def _weights(self, call: Call) -> Tensor:
        weights = call.pick(self.task_weights).clone()
        if self.training and torch.is_grad_enabled():
            self._learn(call, weights, self._norms(call))
        return weights

    def _norms(self, call: Call) -> Tensor:
        """The norm of each loss's gradient on the shared parameters, `[k]`; with `sync` of that of all ranks."""
        parts = call.values.unbind() if call.parts is None else call.parts
        gradients = [self._gradient(loss) for loss in parts]
        if call.world > 1:
            flat = torch.stack([torch.cat([part.flatten() for part in each]) for each in gradients])
            gradients = [[row] for row in distributed.sum_over_ranks(flat, self.sync) / call.world]
        norms = [torch.stack([part.float().norm() for part in each]).norm() for each in gradients]
        return torch.stack(norms)

    def _gradient(self, loss: Tensor) -> list[Tensor]:
        if not loss.requires_grad:  # 0, of a task that only another rank has
            return [torch.zeros_like(each) for each in self._shared]
        found = torch.autograd.grad(loss, self._shared, retain_graph=True, allow_unused=True, materialize_grads=True)
        return list(found)

    @torch.no_grad()
    def _learn(self, call: Call, weights: Tensor, norms: Tensor) -> None:
        losses, started = call.seen.to(weights.dtype), call.pick(self.started)
        finite = call.finite & norms.isfinite().all()
        initial = torch.where(started, call.pick(self.initial), losses)
        ratio = torch.where(initial > 0, losses / torch.where(initial > 0, initial, 1.0), 1.0).clamp_min(0)
        rates = torch.where(ratio.sum() > 0, ratio / ratio.mean().clamp_min(1e-30), 1.0)
        scaled = weights * norms
        gradient = torch.sign(scaled - scaled.mean() * rates**self.alpha) * norms
        moved = (weights + _adam.step(self, call, gradient, finite.expand_as(weights), self.lr)).clamp_min(SMALLEST)
        moved = moved * (weights.sum() / moved.sum())
        call.put(self.task_weights, torch.where(finite, moved, weights))
        call.put(self.initial, torch.where(finite, initial, call.pick(self.initial)))
        call.put(self.started, started | finite)

    def extra_repr(self) -> str:
        """The constructor's arguments; of the shared parameters their number."""
        rest = f"alpha={self.alpha!r}, lr={self.lr!r}, sync={self.sync!r}"
        return f"tasks={self.tasks!r}, shared=<{len(self._shared)} parameters>, {rest}"


def _parameters(shared: Tensor | Iterable[Tensor]) -> list[Tensor]:
    found = [shared] if isinstance(shared, Tensor) else list(shared) if isinstance(shared, Iterable) else [shared]
    for each in found:
        if not isinstance(each, Tensor) or not each.requires_grad:
            raise TypeError(f"`shared` must hold tensors that require a gradient, got {checks.describe(each)}")
    if not found:
        raise ValueError("`shared` must hold at least one parameter, got none")
    return found


CARD = Card(
    name="grad_norm",
    summary="weighs the tasks so that their gradients on shared parameters are alike",
    module=GradNorm,
    family="Tasks",
    kind="balancer",
    problems=frozenset({"tasks"}),
    op_family="scalars",
    paper='Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing", ICML 2018, alg. 1',
    formula=r"\sum_t w_t L_t, \quad \Delta w_t \sim -\mathrm{sign}(G_t - \bar{G} r_t^\alpha) \|\nabla_W L_t\|",
    required={"tasks": ("a", "b", "c")},
    samples=({}, {"alpha": 0.0}, {"alpha": 0.12, "lr": 0.1}),
    use_when="one task's gradient drowns the others' in the layers that they share",
    avoid_when="a step must cost no more than a forward and a backward pass: each task is traced back on its own",
    differs=(
        "no weight falls below 0.001, where the paper's may turn negative",
        "the gradient of the weights is written down, so that no second backward pass leaks into the model",
    ),
)
