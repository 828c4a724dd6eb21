"""Triplet loss. Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015; Hermans, Beyer, Leibe, arXiv 1703.07737."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from .. import checks
from ..card import Card, Identity
from ..checks import Scalar
from ..loss import Loss
from ..reduction import check_reduction
from ._distance import DISTANCES, pair_distance
from ._pairs import averaged, same_rows


def triplet_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    margin: Scalar = 1.0,
    distance: str = "euclidean",
    swap: bool = False,
    soft: bool = False,
    reduction: str = "mean",
    sync: bool = False,
) -> Tensor:
    r"""Asks that the positive be nearer to the anchor than the negative is, by a margin.

    $\ell = \max(0, d_{ap} - d_{an} + m)$ for the distances of the anchor to the positive and to the negative and the
    margin m, or with `soft` $\ell = \log(1 + e^{d_{ap} - d_{an}})$.

    Args:
        anchor: embeddings `[..., D]`, floating-point.
        positive: embeddings similar to the anchors, in their shape.
        negative: embeddings that are not, in their shape.
        margin: $m \ge 0$; `soft` has none. Default: `1.0`.
        distance: `"euclidean"`, `"squared_euclidean"` or `"cosine"` ($1 - \cos$). Default: `"euclidean"`.
        swap: whether the distance of positive and negative takes the place of $d_{an}$ where it is smaller. Default:
            `False`.
        soft: whether the soft margin is used, which never stops pulling. Default: `False`.
        reduction: `"none"`, `"sum"`, or `"mean"`: the sum divided by the number of triplets. Default: `"mean"`.
        sync: whether the divisor is global over the process group; scalars are then scaled so that their average over
            ranks, which DDP takes, is that of one process on the joined batch. Default: `False`.

    Returns:
        A scalar, or one loss for each triplet `[...]` for `"none"`; float32 for half-precision input. 0 without
        triplets.

    Raises:
        TypeError: if an input is not a floating-point tensor.
        ValueError: if shapes do not fit or a value leaves its range.

    Example:
        >>> import torch
        >>> from equipoise import triplet_loss
        >>> anchor, near, far = torch.tensor([[[0.0, 0.0]], [[0.6, 0.8]], [[2.0, 0.0]]])
        >>> triplet_loss(anchor, near, far, margin=1.5)
        tensor(0.5000)

    Differs from:
        torch's `triplet_margin_loss`, which adds 1e-6 to each difference; here nothing is added, and the gradient of a
        distance of 0 is 0.

    References:
        Schroff, Kalenichenko, Philbin, "FaceNet: A Unified Embedding for Face Recognition and Clustering", CVPR 2015,
        eq. 1 (with squared distances); Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person
        Re-Identification", arXiv 1703.07737, section 2 (soft margin); Balntas et al., "Learning local feature
        descriptors with triplets and shallow convolutional neural networks", BMVC 2016 (swap).
    """
    checks.choice("distance", distance, DISTANCES)
    margin = checks.scalar("margin", margin, 0)
    anchors, positives, negatives = same_rows(anchor=anchor, positive=positive, negative=negative)
    near, far = pair_distance(anchors, positives, distance), pair_distance(anchors, negatives, distance)
    if swap:
        far = torch.minimum(far, pair_distance(positives, negatives, distance))
    return averaged(-logsigmoid(far - near) if soft else relu(near - far + margin), reduction, sync)


class TripletLoss(Loss):
    r"""Triplet loss of given triplets; the module of `triplet_loss`.

    $\ell = \max(0, d_{ap} - d_{an} + m)$

    Args:
        margin: $m \ge 0$; `soft` has none. Default: `1.0`.
        distance: `"euclidean"`, `"squared_euclidean"` or `"cosine"`. Default: `"euclidean"`.
        swap: whether the distance of positive and negative takes the place of $d_{an}$ where it is smaller. Default:
            `False`.
        soft: whether the soft margin is used. Default: `False`.
        reduction: `"none"`, `"sum"`, or `"mean"`: divided by the number of triplets. Default: `"mean"`.
        sync: whether the divisor is global over the process group. Default: `False`.

    Shape:
        `anchor`, `positive` and `negative` `[..., D]`; a scalar, or `[...]` for `"none"`.

    Example:
        >>> import torch
        >>> from equipoise import TripletLoss
        >>> TripletLoss(soft=True)(torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1, 2))
        tensor(0.6931)

    References:
        See `triplet_loss`.
    """

    def __init__(
        self,
        *,
        margin: Scalar = 1.0,
        distance: str = "euclidean",
        swap: bool = False,
        soft: bool = False,
        reduction: str = "mean",
        sync: bool = False,
    ) -> None:
        super().__init__()
        self.margin = checks.number("margin", margin, 0)
        self.distance = checks.choice("distance", distance, DISTANCES)
        self.swap = swap
        self.soft = soft
        self.reduction = check_reduction(reduction)
        self.sync = sync

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The loss of the triplets, one a row."""
        return triplet_loss(
            anchor,
            positive,
            negative,
            margin=self.margin,
            distance=self.distance,
            swap=self.swap,
            soft=self.soft,
            reduction=self.reduction,
            sync=self.sync,
        )


CARD = Card(
    name="triplet",
    summary="asks that the positive be nearer to the anchor than the negative is",
    module=TripletLoss,
    function=triplet_loss,
    family="Pairs and ranking",
    kind="pairs",
    problems=frozenset({"pairs"}),
    op_family="pairwise",
    paper='Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015, eq. 1',
    formula=r"\max(0, d_{ap} - d_{an} + m)",
    use_when="only relative distance matters and the triplets are given",
    avoid_when="triplets are drawn at random from many classes: soon nearly all are easy (batch_triplet mines them)",
    samples=(
        {},
        {"distance": "squared_euclidean", "margin": 4.0},
        {"distance": "cosine", "margin": 0.5},
        {"swap": True},
        {"soft": True, "swap": True},
    ),
    identities=(
        Identity(
            statement="equals torch's triplet_margin_loss with eps=0",
            options={"margin": 2.0, "swap": True},
            other=torch.nn.functional.triplet_margin_loss,
            other_options={"margin": 2.0, "swap": True, "eps": 0.0},
        ),
    ),
    differs=("torch adds 1e-6 to each difference; here nothing is added",),
)
