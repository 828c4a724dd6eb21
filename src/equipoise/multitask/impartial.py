"""Impartial loss weighting (IMTL-L). Liu et al., "Towards Impartial Multi-Task Learning", ICLR 2021, section 3.2."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..card import Card
from ._balancer import Balancer, Call, one_each


class ImpartialLossWeighting(Balancer):
    r"""Learns a scale for each loss at which all are equally large.

    $\sum_t e^{s_t} L_t - s_t$ with $s_t$ learned; at its optimum $e^{s} L = 1$, so that the gradient is $\sum_t \nabla
    L_t / L_t$: that of the geometric mean.

    Args:
        tasks: their names.
        sync: whether s sees the losses of all ranks, each scaled so that their average is that of the joined batch, as
            those of this package are with `sync=True`. Default: `False`.

    Shape:
        `losses`: a scalar by task, or `[T]`, above 0; a scalar comes out.

    Example:
        >>> import torch
        >>> from equipoise import ImpartialLossWeighting
        >>> ImpartialLossWeighting(["depth", "normals"])(torch.tensor([2.0, 0.5])).item()
        2.5

    References:
        Liu et al., ICLR 2021, section 3.2; s begins at 0, as in LibMTL.
    """

    def __init__(self, tasks: Sequence[str], *, sync: bool = False) -> None:
        super().__init__(tasks, sync=sync)
        self.log_scale = one_each(self.tasks)

    def _weigh(self, call: Call) -> tuple[Tensor, Tensor | float]:
        s = self._learned(self.log_scale, call)
        return s.exp(), -s.sum()


CARD = Card(
    name="impartial_loss_weighting",
    summary="learns for each loss the scale at which all are equally large",
    module=ImpartialLossWeighting,
    family="Tasks",
    kind="balancer",
    problems=frozenset({"tasks"}),
    op_family="scalars",
    paper='Liu et al., "Towards Impartial Multi-Task Learning", ICLR 2021, section 3.2',
    formula=r"\sum_t e^{s_t} L_t - s_t",
    required={"tasks": ["a", "b", "c"]},
    use_when="losses differ by orders of magnitude and no task matters more",
    avoid_when="a loss reaches 0 or lies below: its scale then grows without end",
)
