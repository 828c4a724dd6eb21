"""GradNorm. Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks",
ICML 2018, eq. 1-2 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from .. import checks, distributed
from ..card import Card
from ._balancer import Balancer, Call, one_each


class GradNorm(Balancer):
    r"""Learns weights under which the gradients of all tasks are of one size where they meet, larger for slow tasks.

    $G_t = w_t \lVert\nabla_W L_t\rVert$ is drawn to $\bar G \, r_t^\alpha$, with $\bar G$ the mean over tasks and
    $r_t$ the loss over its first value, divided by the mean of that over tasks. The weights are above 0 and add up to
    the number of tasks that are there.

    Args:
        tasks: their names.
        shared: W, the parameters where the gradients are measured: those of the last layer that all tasks share. They
            stay the model's own. Where weights learn, each must require a gradient and the losses depend on them.
        alpha: how much slow tasks are pulled along, at least 0. Default: `1.5`.
        sync: whether gradients and losses are those of all ranks, each loss scaled so that their average is that of the
            joined batch, as those of this package are with `sync=True`. Default: `False`.

    Shape:
        `losses`: a scalar by task, or `[T]`; a scalar comes out. In `eval()`, and where no gradient is recorded, the
        weights rest.

    Raises:
        TypeError: if `shared` holds anything but floating-point tensors.
        ValueError: if `shared` is empty; in a call, if one of them requires no gradient, or no loss depends on any.

    Example:
        >>> import torch
        >>> from equipoise import GradNorm
        >>> layer = torch.nn.Linear(4, 2)
        >>> balancer = GradNorm(["depth", "normals"], list(layer.parameters()))
        >>> depth, normals = layer(torch.ones(3, 4)).square().mean(0)
        >>> balancer({"depth": depth, "normals": normals}).backward()
        >>> sorted(name for name, _ in balancer.named_parameters() if _.grad is not None)
        ['log_weight.depth', 'log_weight.normals']

    Differs from:
        The gradient of a weight is taken by its formula, $\mathrm{sign}(G_t - \bar G r_t^\alpha) \lVert\nabla_W L_t
        \rVert$, so that nothing is differentiated twice and nothing of it reaches the model. It moves the logarithm
        of the weight, which therefore stays above 0.

    References:
        Chen et al., ICML 2018, eq. 1-2 and algorithm 1.
    """

    first: Tensor
    started: Tensor

    def __init__(
        self, tasks: Sequence[str], shared: Iterable[Tensor], *, alpha: float = 1.5, sync: bool = False
    ) -> None:
        super().__init__(tasks, sync=sync)
        # a tuple is no part of a module: the parameters are the model's, to save and to optimise
        self.shared = _checked(shared)
        self.alpha = checks.number("alpha", alpha, 0)
        self.log_weight = one_each(self.tasks)
        self.register_buffer("first", torch.ones(len(self.tasks)))
        self.register_buffer("started", torch.zeros(len(self.tasks), dtype=torch.bool))

    def extra_repr(self) -> str:
        """The options; what is shared is the model's."""
        return f"tasks={list(self.tasks)!r}, alpha={self.alpha!r}, sync={self.sync!r}"

    def _weigh(self, call: Call) -> tuple[Tensor, Tensor | float]:
        """The weights: their value multiplies the losses, their gradient is that of the norms."""
        learned = torch.where(call.here, self._learned(self.log_weight, call).exp(), 0)
        weights = learned * (call.here.sum() / learned.detach().sum()) if any(call.present) else learned
        if not (self.training and torch.is_grad_enabled() and any(call.present)):
            return weights.detach(), 0.0
        norms = self._norms(call)
        with torch.no_grad():
            seen, here = call.seen.to(torch.float32), call.here
            starts = call.moves & ~self.started
            self.first.copy_(torch.where(starts, seen, self.first))
            self.started.logical_or_(starts)
            rate = torch.where(here, seen / torch.where(self.first == 0, 1, self.first), 0)
            rate = rate / (rate.sum() / here.sum()).clamp_min(torch.finfo(torch.float32).tiny)
            sizes = torch.where(here, weights * norms, 0)
            target = sizes.sum() / here.sum() * rate.clamp_min(0).pow(self.alpha)
            slope = torch.where(here & call.finite & norms.isfinite(), torch.sign(sizes - target) * norms, 0)
        pull = weights * slope
        return weights.detach(), (pull - pull.detach()).sum()

    def _norms(self, call: Call) -> Tensor:
        """`[T]`: the norm of each loss's gradient on what is shared; the graph is kept for the backward pass."""
        for place, each in enumerate(self.shared):
            if not each.requires_grad:  # now: a layer may be frozen, and thawed, after this was built
                raise ValueError(
                    f"`shared[{place}]` must require a gradient, got {checks.describe(each)} that requires none"
                )
        sizes = [each.numel() for each in self.shared]
        rows, reached = [], []
        for loss in call.terms:
            row = call.seen.new_zeros(sum(sizes), dtype=torch.float32)
            if loss is not None and loss.requires_grad:
                found = torch.autograd.grad(loss, self.shared, retain_graph=True, allow_unused=True)
                parts = [
                    each.new_zeros(size) if part is None else part.reshape(-1)
                    for each, part, size in zip(self.shared, found, sizes, strict=True)
                ]
                row = torch.cat([part.to(torch.float32) for part in parts])
                if loss.grad_fn is not None:  # a constant that stands in for a missing loss depends on nothing
                    reached.append(any(part is not None for part in found))
            rows.append(row if call.over_ranks else torch.linalg.vector_norm(row))
        if reached and not any(reached):  # all norms are 0, and the weights would never move
            raise ValueError(
                "`shared` must be what the losses depend on, got parameters that no loss depends on: those of another"
                " layer, or of a copy of the model"
            )
        if not call.over_ranks:
            return torch.stack(rows)
        total = distributed.sum_over_ranks(torch.stack(rows), self.sync) / distributed.world_size(self.sync)
        norms: Tensor = torch.linalg.vector_norm(total, dim=1)
        return norms


def _checked(shared: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """Checks that what is shared is at least one floating-point tensor."""
    if isinstance(shared, Tensor):
        shared = [shared]
    if isinstance(shared, (str, Mapping, torch.nn.Module)) or not isinstance(shared, Iterable):
        came = type(shared).__name__
        raise TypeError(f"`shared` must be a list of parameters, as of `list(layer.parameters())`, got a {came}")
    found = tuple(checks.scores(f"shared[{place}]", each) for place, each in enumerate(shared))
    if not found:
        raise ValueError("`shared` must hold at least one parameter, got none")
    return found


CARD = Card(
    name="grad_norm",
    summary="learns weights under which all tasks' gradients are of one size, larger for slow tasks",
    module=GradNorm,
    family="Tasks",
    kind="balancer",
    problems=frozenset({"tasks"}),
    op_family="scalars",
    paper='Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing", ICML 2018, eq. 1-2',
    formula=r"w_t \lVert\nabla_W L_t\rVert \to \bar G \, r_t^\alpha",
    required={"tasks": ["a", "b", "c"], "shared": [torch.ones(2)]},
    samples=({}, {"alpha": 0.5}),
    use_when="tasks share a trunk, their gradients differ in size, and a backward pass to one layer for each is cheap",
    avoid_when="there are very many tasks, each of which costs a partial backward pass",
    differs=("the gradient of the weights is taken by its formula, without a second backward pass",),
)
