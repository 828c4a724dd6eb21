"""Rank hinge loss of groups: a positive scores above each of its negatives, by a margin."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import relu

from .. import checks
from ..card import Card, Identity
from ..checks import Scalar
from ..loss import Loss
from ..reduction import check_reduction
from ._groups import score_groups
from ._pairs import averaged

NEGATIVES = ("each", "mean")


def rank_hinge_loss(
    input: Tensor,
    *,
    num_neg: int = 1,
    margin: Scalar = 1.0,
    negatives: str = "each",
    reduction: str = "mean",
    sync: bool = False,
) -> Tensor:
    r"""Asks that the positive of each group score above its negatives, by a margin.

    $\ell = \max(0, m - (s_0 - s_k))$ for the scores of a group, its positive $s_0$ first, and the margin m.

    Args:
        input: scores of groups of one positive followed by its negatives: `[B * (num_neg + 1)]`, the same with a
            trailing dimension of 1, or `[B, num_neg + 1]`.
        num_neg: K, the negatives of each group. Default: `1`.
        margin: $m \ge 0$. Default: `1.0`.
        negatives: `"each"`: a hinge for each negative; `"mean"`: one for the mean of their scores, as in MatchZoo-py,
            where an easy negative hides a violating one. Default: `"each"`.
        reduction: `"none"`, `"sum"`, or `"mean"`: the sum divided by the number of hinges, which is that of the groups
            times that of their negatives, or with `negatives="mean"` that of the groups. Default: `"mean"`.
        sync: whether the divisor is global over the process group; scalars are then scaled so that their average over
            ranks, which DDP takes, is that of one process on the joined batch. Default: `False`.

    Returns:
        A scalar, or for `"none"` one loss a hinge, `[B, num_neg]` or `[B]`; float32 for half-precision input. 0 without
        groups.

    Raises:
        TypeError: if `input` is not a floating-point tensor or `num_neg` no whole number.
        ValueError: if the scores do not make whole groups, or an option leaves its range.

    Example:
        >>> import torch
        >>> from equipoise import rank_hinge_loss
        >>> rank_hinge_loss(torch.tensor([1.0, 3.0, -5.0]), num_neg=2)
        tensor(1.5000)
        >>> rank_hinge_loss(torch.tensor([1.0, 3.0, -5.0]), num_neg=2, negatives="mean")
        tensor(0.)

    Differs from:
        MatchZoo-py, which takes the mean of the negatives before the hinge; that is `negatives="mean"`.

    References:
        Herbrich, Graepel, Obermayer, "Support Vector Learning for Ordinal Regression", ICANN 1999; Guo et al.,
        "MatchZoo: A Learning, Practicing, and Developing System for Neural Text Matching", SIGIR 2019 (the layout).
    """
    checks.choice("negatives", negatives, NEGATIVES)
    margin = checks.scalar("margin", margin, 0)
    scores = score_groups(input, num_neg)
    others = scores[:, 1:] if negatives == "each" else scores[:, 1:].mean(1, keepdim=True)
    values = relu(margin - (scores[:, :1] - others))
    return averaged(values if negatives == "each" else values[:, 0], reduction, sync)


class RankHingeLoss(Loss):
    r"""Rank hinge loss of groups; the module of `rank_hinge_loss`.

    $\ell = \max(0, m - (s_0 - s_k))$

    Args:
        num_neg: K, the negatives of each group. Default: `1`.
        margin: $m \ge 0$. Default: `1.0`.
        negatives: `"each"`: a hinge for each negative; `"mean"`: one for the mean of their scores. Default: `"each"`.
        reduction: `"none"`, `"sum"`, or `"mean"`: divided by the number of hinges. Default: `"mean"`.
        sync: whether the divisor is global over the process group. Default: `False`.

    Shape:
        `input` `[B * (num_neg + 1)]`, the same with a trailing 1, or `[B, num_neg + 1]`; a scalar, or one loss a hinge
        for `"none"`.

    Example:
        >>> import torch
        >>> from equipoise import RankHingeLoss
        >>> RankHingeLoss()(torch.tensor([1.0, 1.2, 0.8, 1.4]))
        tensor(1.4000)

    References:
        See `rank_hinge_loss`.
    """

    def __init__(
        self,
        *,
        num_neg: int = 1,
        margin: Scalar = 1.0,
        negatives: str = "each",
        reduction: str = "mean",
        sync: bool = False,
    ) -> None:
        super().__init__()
        self.num_neg = checks.whole("num_neg", num_neg, 1)
        self.margin = checks.number("margin", margin, 0)
        self.negatives = checks.choice("negatives", negatives, NEGATIVES)
        self.reduction = check_reduction(reduction)
        self.sync = sync

    def forward(self, input: Tensor) -> Tensor:
        """The loss of the groups of `input`, each a positive followed by its negatives."""
        return rank_hinge_loss(
            input,
            num_neg=self.num_neg,
            margin=self.margin,
            negatives=self.negatives,
            reduction=self.reduction,
            sync=self.sync,
        )


def _margin_ranking(input: Tensor) -> Tensor:
    """Torch's margin_ranking_loss of groups of two, for comparison."""
    pairs = input.view(-1, 2)
    return torch.nn.functional.margin_ranking_loss(pairs[:, 0], pairs[:, 1], torch.ones(len(pairs)), margin=1.0)


CARD = Card(
    name="rank_hinge",
    summary="asks that the positive of each group score above each of its negatives",
    module=RankHingeLoss,
    function=rank_hinge_loss,
    family="Pairs and ranking",
    kind="groups",
    problems=frozenset({"groups"}),
    op_family="pairwise",
    paper='Herbrich, Graepel, Obermayer, "Support Vector Learning for Ordinal Regression", ICANN 1999',
    formula=r"\max(0, m - (s_0 - s_k))",
    use_when="each group has one positive and a margin over its negatives is enough",
    avoid_when="most negatives are trivial and only the hardest counts, or probabilities are wanted",
    samples=({}, {"num_neg": 3, "margin": 2.0}, {"num_neg": 3, "negatives": "mean"}),
    identities=(
        Identity(
            statement="for groups of two equals torch's margin_ranking_loss with margin=1",
            options={},
            other=_margin_ranking,
        ),
    ),
    differs=("MatchZoo-py averages the negatives before the hinge; that is negatives='mean'",),
)
