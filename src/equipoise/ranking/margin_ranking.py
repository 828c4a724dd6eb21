"""Margin ranking loss: the right one of two scores is the larger, by a margin. As in torch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import relu

from .. import checks
from ..card import Card, Identity
from ..checks import Scalar
from ..loss import Loss
from ..reduction import check_reduction
from ._pairs import averaged, same_rows, signs


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    *,
    margin: Scalar = 0.0,
    reduction: str = "mean",
    sync: bool = False,
) -> Tensor:
    r"""Asks that the score which ranks higher be larger, by a margin.

    $\ell = \max(0, -y (x_1 - x_2) + m)$ for the scores $x_1$ and $x_2$, the sign y and the margin m.

    Args:
        input1: scores of any shape, floating-point.
        input2: the scores to compare with, in that shape.
        target: 1 where `input1` ranks higher, -1 where `input2` does, in that shape.
        margin: m, any number. Default: `0.0`.
        reduction: `"none"`, `"sum"`, or `"mean"`: the sum divided by the number of pairs. Default: `"mean"`.
        sync: whether the divisor is global over the process group; scalars are then scaled so that their average over
            ranks, which DDP takes, is that of one process on the joined batch. Default: `False`.

    Returns:
        A scalar, or the input's shape for `"none"`; float32 for half-precision input. 0 without pairs.

    Raises:
        TypeError: if an input is not a floating-point tensor or `target` not a tensor.
        ValueError: if shapes do not fit, `target` holds other than 1 and -1 or requires a gradient.

    Example:
        >>> import torch
        >>> from equipoise import margin_ranking_loss
        >>> margin_ranking_loss(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 1.0]), torch.tensor([1, 1]), margin=0.5)
        tensor(0.7500)

    Differs from:
        torch's loss of the same name takes any `target`, 0 among them, without a word.

    References:
        Herbrich, Graepel, Obermayer, "Support Vector Learning for Ordinal Regression", ICANN 1999.
    """
    first, second = same_rows(0, input1=input1, input2=input2)
    sign = signs(target, first.shape, first.dtype)
    return averaged(relu(checks.scalar("margin", margin, -torch.inf) - sign * (first - second)), reduction, sync)


class MarginRankingLoss(Loss):
    r"""Margin ranking loss; the module of `margin_ranking_loss`.

    $\ell = \max(0, -y (x_1 - x_2) + m)$

    Args:
        margin: m, any number. Default: `0.0`.
        reduction: `"none"`, `"sum"`, or `"mean"`: divided by the number of pairs. Default: `"mean"`.
        sync: whether the divisor is global over the process group. Default: `False`.

    Shape:
        `input1`, `input2` and `target` of one shape; a scalar, or that shape for `"none"`.

    Example:
        >>> import torch
        >>> from equipoise import MarginRankingLoss
        >>> MarginRankingLoss(margin=1.0)(torch.tensor([0.5]), torch.tensor([0.0]), torch.tensor([1]))
        tensor(0.5000)

    References:
        See `margin_ranking_loss`.
    """

    def __init__(self, *, margin: Scalar = 0.0, reduction: str = "mean", sync: bool = False) -> None:
        super().__init__()
        self.margin = checks.number("margin", margin, -torch.inf)
        self.reduction = check_reduction(reduction)
        self.sync = sync

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        """The loss of the pairs of scores; `target` is 1 where `input1` ranks higher, else -1."""
        return margin_ranking_loss(input1, input2, target, margin=self.margin, reduction=self.reduction, sync=self.sync)


CARD = Card(
    name="margin_ranking",
    summary="asks that the right one of two scores be the larger",
    module=MarginRankingLoss,
    function=margin_ranking_loss,
    family="Pairs and ranking",
    kind="pairs",
    problems=frozenset({"pairs"}),
    op_family="pairwise",
    paper='Herbrich, Graepel, Obermayer, "Support Vector Learning for Ordinal Regression", ICANN 1999',
    formula=r"\max(0, -y (x_1 - x_2) + m)",
    use_when="two scores are given and one of them must be the larger",
    avoid_when="whole lists are known (rank_cross_entropy), or how much larger matters",
    samples=({}, {"margin": 1.5}),
    identities=(
        Identity(
            statement="equals torch's margin_ranking_loss",
            options={"margin": 1.0},
            other=torch.nn.functional.margin_ranking_loss,
            other_options={"margin": 1.0},
        ),
    ),
)
