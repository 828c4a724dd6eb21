"""Impartial loss weighting (IMTL-L). Liu et al., "Towards Impartial Multi-Task Learning", ICLR 2021, section 3.2."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..card import Card
from ._balancer import Call
from ._learned import LearnedBalancer


class ImpartialLossWeighting(LearnedBalancer):
    r"""Learns a scale for each loss at which all are equally large.

    $\sum_t e^{s_t} L_t - s_t$ with $s_t$ learned; at its optimum $e^{s} L = 1$, so that the gradient is $\sum_t \nabla
    L_t / L_t$: that of the sum of the logarithms, or of the geometric mean.

    Args:
        tasks: their names.
        sync: whether s sees the losses of all ranks, each scaled so that their average is that of the joined batch, as
            those of this package are with `sync=True`. Default: `False`.

    Shape:
        `losses`: a scalar by task, or `[T]`, above 0; a scalar comes out. It falls below 0 as losses fall below 1/e.

    Example:
        >>> import torch
        >>> from equipoise import ImpartialLossWeighting
        >>> balancer = ImpartialLossWeighting(["depth", "normals"])
        >>> balancer({"depth": torch.tensor(2.0), "normals": torch.tensor(0.5)}).item()
        2.5

    Differs from:
        The paper, whose s starts at a constant that it does not name; here, as in LibMTL, at 0.

    References:
        Liu et al., "Towards Impartial Multi-Task Learning", ICLR 2021, section 3.2. Its gradient balance (IMTL-G) is
        gradient surgery: see TorchJD's `IMTLG`.
    """

    def __init__(self, tasks: Sequence[str], *, sync: bool = False) -> None:
        super().__init__(tasks, "log_scale", sync=sync)

    def _scales(self, _: Call, /, learned: Tensor) -> Tensor:
        return learned.exp()

    def _costs(self, _: Call, /, learned: Tensor) -> Tensor:
        return -learned


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
    required={"tasks": ("a", "b", "c")},
    use_when="losses differ by orders of magnitude and no task matters more",
    avoid_when="a loss reaches 0 or lies below: its scale then grows without end (uncertainty_weighting has bounds)",
    differs=("s starts at 0; the paper does not say where",),
)
