"""Cosine embedding loss: similar pairs point the same way. As in torch, without its NaN."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import relu

from .. import checks
from ..card import Card, Identity
from ..checks import Scalar
from ..loss import Loss
from ..reduction import check_reduction
from ._distance import unit
from ._pairs import averaged, same_rows, signs


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    *,
    margin: Scalar = 0.0,
    reduction: str = "mean",
    sync: bool = False,
) -> Tensor:
    r"""Turns similar pairs to one direction, and others away from each other.

    $\ell = 1 - \cos(x_1, x_2)$ where y = 1, and $\max(0, \cos(x_1, x_2) - m)$ where y = -1.

    Args:
        input1: embeddings `[..., D]`, floating-point.
        input2: the other one of each pair, in the shape of `input1`.
        target: 1 for similar pairs and -1 for others, `[...]`.
        margin: m in [-1, 1], the cosine below which a pair that is not similar costs nothing. Default: `0.0`.
        reduction: `"none"`, `"sum"`, or `"mean"`: the sum divided by the number of pairs. Default: `"mean"`.
        sync: whether the divisor is global over the process group; scalars are then scaled so that their average over
            ranks, which DDP takes, is that of one process on the joined batch. Default: `False`.

    Returns:
        A scalar, or one loss for each pair `[...]` for `"none"`; float32 for half-precision input. 0 without pairs.

    Raises:
        TypeError: if an input is not a floating-point tensor or `target` not a tensor.
        ValueError: if shapes do not fit, a value leaves its range, or `target` requires a gradient.

    Example:
        >>> import torch
        >>> from equipoise import cosine_embedding_loss
        >>> left, right = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.6, 0.8], [0.6, 0.8]])
        >>> cosine_embedding_loss(left, right, torch.tensor([1, -1]), reduction="none")
        tensor([0.4000, 0.6000])

    Differs from:
        torch's loss of the same name, which takes lengths in half precision, where those of long vectors overflow,
        and adds an epsilon to them; here the cosine of a row of zeros is 0, and so is its gradient.

    References:
        Chopra, Hadsell, LeCun, "Learning a Similarity Metric Discriminatively, with Application to Face Verification",
        CVPR 2005 (the siamese network that it trains); the form is torch's.
    """
    first, second = same_rows(input1=input1, input2=input2)
    sign = signs(target, first.shape[:-1], first.dtype)
    margin = checks.scalar("margin", margin, -1, 1)
    cosine = (unit(first) * unit(second)).sum(-1)
    return averaged(torch.where(sign > 0, 1 - cosine, relu(cosine - margin)), reduction, sync)


class CosineEmbeddingLoss(Loss):
    r"""Cosine embedding loss; the module of `cosine_embedding_loss`.

    $\ell = 1 - \cos$ for similar pairs, $\max(0, \cos - m)$ for others

    Args:
        margin: m in [-1, 1], the cosine below which a pair that is not similar costs nothing. Default: `0.0`.
        reduction: `"none"`, `"sum"`, or `"mean"`: divided by the number of pairs. Default: `"mean"`.
        sync: whether the divisor is global over the process group. Default: `False`.

    Shape:
        `input1` and `input2` `[..., D]`, `target` `[...]`; a scalar, or `[...]` for `"none"`.

    Example:
        >>> import torch
        >>> from equipoise import CosineEmbeddingLoss
        >>> CosineEmbeddingLoss(margin=0.5)(torch.ones(2, 3), torch.ones(2, 3), torch.tensor([1, -1]))
        tensor(0.2500)

    References:
        See `cosine_embedding_loss`.
    """

    def __init__(self, *, margin: Scalar = 0.0, reduction: str = "mean", sync: bool = False) -> None:
        super().__init__()
        self.margin = checks.number("margin", margin, -1, 1)
        self.reduction = check_reduction(reduction)
        self.sync = sync

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        """The loss of the pairs of `input1` and `input2`; `target` is 1 where they are similar, else -1."""
        return cosine_embedding_loss(
            input1, input2, target, margin=self.margin, reduction=self.reduction, sync=self.sync
        )


CARD = Card(
    name="cosine_embedding",
    summary="turns similar pairs to one direction, and others away from each other",
    module=CosineEmbeddingLoss,
    function=cosine_embedding_loss,
    family="Pairs and ranking",
    kind="pairs",
    problems=frozenset({"pairs"}),
    op_family="pairwise",
    paper='Chopra, Hadsell, LeCun, "Learning a Similarity Metric Discriminatively", CVPR 2005, in torch\'s form',
    formula=r"1 - \cos \text{ or } \max(0, \cos - m)",
    use_when="pairs match or not and only the direction of an embedding matters",
    avoid_when="length carries meaning, or the order of similarities is what counts",
    samples=({}, {"margin": 0.3}),
    identities=(
        Identity(
            statement="equals torch's cosine_embedding_loss",
            options={"margin": 0.1},
            other=torch.nn.functional.cosine_embedding_loss,
            other_options={"margin": 0.1},
        ),
    ),
    differs=("the cosine of a row of zeros is 0, and so is its gradient; torch adds an epsilon to the lengths",),
)
