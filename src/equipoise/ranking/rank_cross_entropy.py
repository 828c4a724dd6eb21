"""Rank cross-entropy of groups: a softmax over each positive and its negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import checks
from ..card import Card, Identity
from ..loss import Loss
from ..ops import rowwise
from ..reduction import check_reduction
from ._groups import groups, score_groups
from ._pairs import averaged


def rank_cross_entropy_loss(
    input: Tensor,
    target: Tensor | None = None,
    *,
    num_neg: int = 1,
    reduction: str = "mean",
    sync: bool = False,
) -> Tensor:
    r"""Cross-entropy of the softmax over the scores of each group.

    $\ell = -\sum_j y_j \log \mathrm{softmax}(s)_j$ for the scores s of a group, its positive first, and the target y.

    Args:
        input: scores of groups of one positive followed by its negatives: `[B * (num_neg + 1)]`, the same with a
            trailing dimension of 1, or `[B, num_neg + 1]`.
        target: weights $y_j \ge 0$ of the scores in one of these shapes; None: 1 for the first of each group, else 0.
            Default: `None`.
        num_neg: K, the negatives of each group. Default: `1`.
        reduction: `"none"`, `"sum"`, or `"mean"`: the sum divided by the number of groups. Default: `"mean"`.
        sync: whether the divisor is global over the process group; scalars are then scaled so that their average over
            ranks, which DDP takes, is that of one process on the joined batch. Default: `False`.

    Returns:
        A scalar, or one loss for each group `[B]` for `"none"`; float32 for half-precision input. 0 without groups.

    Raises:
        TypeError: if `input` is not a floating-point tensor, `target` not a tensor or `num_neg` no whole number.
        ValueError: if the scores do not make whole groups, or `target` holds a negative number or requires a gradient.

    Example:
        >>> import torch
        >>> from equipoise import rank_cross_entropy_loss
        >>> rank_cross_entropy_loss(torch.tensor([1.0, 1.2, 0.8]), num_neg=2)
        tensor(1.1119)

    Differs from:
        MatchZoo adds an epsilon inside the logarithm, which kills the gradient of the hardest groups; here nothing is
        added, and the gradient of the positive does not cancel where it is sure.

    References:
        Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach", ICML 2007, eq. 3 (with one
        positive); Guo et al., "MatchZoo", SIGIR 2019 (the layout).
    """
    scores = score_groups(input, num_neg)
    if target is None:
        index = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
        return averaged(rowwise.hard_rows(scores, index, gamma=0.0, dim=1), reduction, sync)
    weight = groups("target", checks.labels("target", target), num_neg).to(scores.dtype)
    checks.same_shape("target", weight, scores.shape, "a weight for each score")
    checks.within("target", weight, 0)
    return averaged(rowwise.soft_rows(scores, weight, gamma=0.0, dim=1), reduction, sync)


class RankCrossEntropyLoss(Loss):
    r"""Rank cross-entropy of groups; the module of `rank_cross_entropy_loss`.

    $\ell = -\sum_j y_j \log \mathrm{softmax}(s)_j$

    Args:
        num_neg: K, the negatives of each group. Default: `1`.
        reduction: `"none"`, `"sum"`, or `"mean"`: divided by the number of groups. Default: `"mean"`.
        sync: whether the divisor is global over the process group. Default: `False`.

    Shape:
        `input` and `target` `[B * (num_neg + 1)]`, the same with a trailing 1, or `[B, num_neg + 1]`; a scalar, or
        `[B]` for `"none"`.

    Example:
        >>> import torch
        >>> from equipoise import RankCrossEntropyLoss
        >>> RankCrossEntropyLoss(num_neg=4)(torch.zeros(10))  # log 5
        tensor(1.6094)

    References:
        See `rank_cross_entropy_loss`.
    """

    def __init__(self, *, num_neg: int = 1, reduction: str = "mean", sync: bool = False) -> None:
        super().__init__()
        self.num_neg = checks.whole("num_neg", num_neg, 1)
        self.reduction = check_reduction(reduction)
        self.sync = sync

    def forward(self, input: Tensor, target: Tensor | None = None) -> Tensor:
        """The loss of the groups of `input`; `target` weighs their scores, by default the first of each."""
        return rank_cross_entropy_loss(input, target, num_neg=self.num_neg, reduction=self.reduction, sync=self.sync)


def _cross_entropy(input: Tensor, num_neg: int) -> Tensor:
    """Torch's cross-entropy with class 0 as the target of each group, for comparison."""
    rows = input.view(-1, num_neg + 1)
    return torch.nn.functional.cross_entropy(rows, torch.zeros(len(rows), dtype=torch.int64))


CARD = Card(
    name="rank_cross_entropy",
    summary="a softmax over each positive and its negatives",
    module=RankCrossEntropyLoss,
    function=rank_cross_entropy_loss,
    family="Pairs and ranking",
    kind="groups",
    problems=frozenset({"groups"}),
    op_family="rowwise",
    paper='Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach", ICML 2007, eq. 3',
    formula=r"-\sum_j y_j \log \mathrm{softmax}(s)_j",
    use_when="each group has one positive, or graded ones, among negatives",
    avoid_when="scores of different groups are to be compared: it fixes them within a group only",
    samples=({}, {"num_neg": 4}),
    identities=(
        Identity(
            statement="equals torch's cross_entropy with the first of each group as the target",
            options={"num_neg": 4},
            other=_cross_entropy,
            other_options={"num_neg": 4},
        ),
    ),
    differs=("MatchZoo adds an epsilon inside the logarithm; here nothing is added",),
)
