"""Contrastive loss. Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import relu

from .. import checks
from ..card import Card
from ..checks import Scalar
from ..loss import Loss
from ..reduction import check_reduction
from ._batch import batch, swept
from ._distance import DISTANCES, pair_distance
from ._pairs import averaged, likeness, same_rows


def contrastive_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    *,
    margin: Scalar = 1.0,
    distance: str = "euclidean",
    power: Scalar = 2.0,
    reduction: str = "mean",
    sync: bool = False,
) -> Tensor:
    r"""Pulls similar pairs together and pushes others apart, until a margin lies between them.

    $\ell = y\, d^k + (1 - y) \max(0, m - d)^k$ for the distance d of `input1` to `input2`, the target y, the margin m
    and the power k.

    Args:
        input1: embeddings `[..., D]`, floating-point.
        input2: the other one of each pair, in the shape of `input1`.
        target: 1 for similar pairs and 0 for others, `[...]`; floating-point, integer or boolean.
        margin: $m \ge 0$, the distance beyond which a pair that is not similar costs nothing. Default: `1.0`.
        distance: `"euclidean"`, `"squared_euclidean"` or `"cosine"` ($1 - \cos$). Default: `"euclidean"`.
        power: $k \ge 1$; 1 is the plain pairwise ranking loss. Default: `2.0`.
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
        >>> from equipoise import contrastive_loss
        >>> left, right = torch.zeros(2, 2), torch.tensor([[0.3, 0.4], [0.3, 0.4]])
        >>> contrastive_loss(left, right, torch.tensor([1, 0]), reduction="none")
        tensor([0.2500, 0.2500])

    Differs from:
        The paper's eq. 4 halves the loss, and its Y is 1 for pairs that are *not* similar.

    References:
        Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006, eq. 4.
    """
    first, second = same_rows(input1=input1, input2=input2)
    alike = likeness(target, first.shape[:-1], first.dtype)
    margin, power = checks.scalar("margin", margin, 0), checks.scalar("power", power, 1)
    apart = pair_distance(first, second, checks.choice("distance", distance, DISTANCES))
    return averaged(alike * apart**power + (1 - alike) * relu(margin - apart) ** power, reduction, sync)


class ContrastiveLoss(Loss):
    r"""Contrastive loss of given pairs; the module of `contrastive_loss`.

    $\ell = y\, d^k + (1 - y) \max(0, m - d)^k$

    Args:
        margin: $m \ge 0$, the distance beyond which a pair that is not similar costs nothing. Default: `1.0`.
        distance: `"euclidean"`, `"squared_euclidean"` or `"cosine"`. Default: `"euclidean"`.
        power: $k \ge 1$; 1 is the plain pairwise ranking loss. Default: `2.0`.
        reduction: `"none"`, `"sum"`, or `"mean"`: divided by the number of pairs. Default: `"mean"`.
        sync: whether the divisor is global over the process group. Default: `False`.

    Shape:
        `input1` and `input2` `[..., D]`, `target` `[...]`; a scalar, or `[...]` for `"none"`.

    Example:
        >>> import torch
        >>> from equipoise import ContrastiveLoss
        >>> ContrastiveLoss(margin=2.0)(torch.zeros(3, 2), torch.ones(3, 2), torch.tensor([1, 1, 0]))
        tensor(1.4477)

    References:
        See `contrastive_loss`.
    """

    def __init__(
        self,
        *,
        margin: Scalar = 1.0,
        distance: str = "euclidean",
        power: Scalar = 2.0,
        reduction: str = "mean",
        sync: bool = False,
    ) -> None:
        super().__init__()
        self.margin = checks.number("margin", margin, 0)
        self.distance = checks.choice("distance", distance, DISTANCES)
        self.power = checks.number("power", power, 1)
        self.reduction = check_reduction(reduction)
        self.sync = sync

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        """The loss of the pairs of `input1` and `input2`; `target` is 1 where they are similar, else 0."""
        return contrastive_loss(
            input1,
            input2,
            target,
            margin=self.margin,
            distance=self.distance,
            power=self.power,
            reduction=self.reduction,
            sync=self.sync,
        )


def batch_contrastive_loss(
    embedding: Tensor,
    label: Tensor | None = None,
    *,
    positive: Tensor | None = None,
    negative: Tensor | None = None,
    reference: Tensor | None = None,
    reference_label: Tensor | None = None,
    margin: Scalar = 1.0,
    distance: str = "euclidean",
    power: Scalar = 2.0,
    normalize: bool = False,
    reduction: str = "mean",
    memory_mb: Scalar = 16.0,
    sync: bool = False,
) -> Tensor:
    r"""Contrastive loss of all pairs of a labelled batch, in memory that grows with the batch and not with the pairs.

    $\ell = [y_i = y_j]\, d_{ij}^k + [y_i \ne y_j] \max(0, m - d_{ij})^k$ over all $N(N - 1)/2$ pairs $i < j$, and over
    every embedding with every reference.

    Args:
        embedding: `[N, D]`, floating-point.
        label: `[N]`, integers; equal labels are similar. Default: `None`.
        positive: in place of `label`, boolean `[N, M]`: True where an embedding (row) and a candidate (column) are
            similar. The candidates are the batch, with `sync` of all ranks, then the references. A pair of the batch
            counts half from either end, and none of an embedding with itself. Default: `None`.
        negative: boolean `[N, M]`: the pairs that are not similar; None: all that are not `positive`. Default: `None`.
        reference: `[R, D]`, further embeddings, such as a memory bank. Default: `None`.
        reference_label: `[R]`, their labels. Default: `None`.
        margin: $m \ge 0$. Default: `1.0`.
        distance: `"euclidean"`, `"squared_euclidean"` or `"cosine"`. Default: `"euclidean"`.
        power: $k \ge 1$. Default: `2.0`.
        normalize: whether embeddings are scaled to length 1 first. Default: `False`.
        reduction: `"sum"`, or `"mean"`: the sum divided by the number of pairs. Default: `"mean"`.
        memory_mb: budget for the tiles in which pairs are computed, in millions of bytes; beyond 8,192
            candidates it grows with them, up to four times. Default: `16.0`.
        sync: whether the embeddings of all ranks make one batch; the average over ranks, which DDP takes, of the losses
            and their gradients is then that of one process on the joined batch. Default: `False`.

    Returns:
        A scalar; float32 for half-precision input. 0 without pairs.

    Raises:
        TypeError: if `embedding` is not a floating-point tensor, `label` no integers or a mask not boolean.
        ValueError: if shapes do not fit, a value leaves its range, or both or neither of `label` and `positive` come.

    Example:
        >>> import torch
        >>> from equipoise import batch_contrastive_loss
        >>> batch_contrastive_loss(torch.tensor([[0.0], [0.5], [0.9]]), torch.tensor([0, 0, 1]), reduction="sum")
        tensor(0.6200)

    Differs from:
        The paper's eq. 4 halves the loss. Some libraries average pairs of either kind by themselves, or only those
        whose loss is not 0; here the mean is over all pairs.

    References:
        Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006, eq. 4.
    """
    check_reduction(reduction, ("sum", "mean"))
    checks.choice("distance", distance, DISTANCES)
    unit = normalize or distance == "cosine"
    here = batch(embedding, label, positive, negative, reference, reference_label, normalize=unit, sync=sync)
    # every pair of the batch is met from both ends
    loss = swept(
        here,
        "contrastive",
        distance,
        margin=checks.number("margin", margin, 0),
        power=checks.number("power", power, 1),
        reduction=reduction,
        memory_mb=memory_mb,
        sync=sync,
    )
    return loss / 2 if reduction == "sum" else loss


class BatchContrastiveLoss(Loss):
    r"""Contrastive loss of all pairs of a labelled batch; the module of `batch_contrastive_loss`.

    $\ell = [y_i = y_j]\, d_{ij}^k + [y_i \ne y_j] \max(0, m - d_{ij})^k$

    Args:
        margin: $m \ge 0$. Default: `1.0`.
        distance: `"euclidean"`, `"squared_euclidean"` or `"cosine"`. Default: `"euclidean"`.
        power: $k \ge 1$. Default: `2.0`.
        normalize: whether embeddings are scaled to length 1 first. Default: `False`.
        reduction: `"sum"`, or `"mean"`: divided by the number of pairs. Default: `"mean"`.
        memory_mb: budget for the tiles in which pairs are computed, in millions of bytes; beyond 8,192
            candidates it grows with them, up to four times. Default: `16.0`.
        sync: whether the embeddings of all ranks make one batch. Default: `False`.

    Shape:
        `embedding` `[N, D]`, `label` `[N]`; a scalar.

    Example:
        >>> import torch
        >>> from equipoise import BatchContrastiveLoss
        >>> BatchContrastiveLoss(margin=2.0)(torch.eye(4), torch.tensor([0, 0, 1, 1]))
        tensor(0.8954)

    References:
        See `batch_contrastive_loss`.
    """

    def __init__(
        self,
        *,
        margin: Scalar = 1.0,
        distance: str = "euclidean",
        power: Scalar = 2.0,
        normalize: bool = False,
        reduction: str = "mean",
        memory_mb: Scalar = 16.0,
        sync: bool = False,
    ) -> None:
        super().__init__()
        self.margin = checks.number("margin", margin, 0)
        self.distance = checks.choice("distance", distance, DISTANCES)
        self.power = checks.number("power", power, 1)
        self.normalize = normalize
        self.reduction = check_reduction(reduction, ("sum", "mean"))
        self.memory_mb = float(checks.above_zero("memory_mb", memory_mb))
        self.sync = sync

    def forward(
        self,
        embedding: Tensor,
        label: Tensor | None = None,
        *,
        positive: Tensor | None = None,
        negative: Tensor | None = None,
        reference: Tensor | None = None,
        reference_label: Tensor | None = None,
    ) -> Tensor:
        """The loss of all pairs of `embedding`, and of each with each `reference`."""
        return batch_contrastive_loss(
            embedding,
            label,
            positive=positive,
            negative=negative,
            reference=reference,
            reference_label=reference_label,
            margin=self.margin,
            distance=self.distance,
            power=self.power,
            normalize=self.normalize,
            reduction=self.reduction,
            memory_mb=self.memory_mb,
            sync=self.sync,
        )


PAPER = 'Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006, eq. 4'

PAIR_CARD = Card(
    name="contrastive",
    summary="pulls similar pairs together and pushes others apart, up to a margin",
    module=ContrastiveLoss,
    function=contrastive_loss,
    family="Pairs and ranking",
    kind="pairs",
    problems=frozenset({"pairs"}),
    op_family="pairwise",
    paper=PAPER,
    formula=r"y\, d^k + (1 - y) \max(0, m - d)^k",
    use_when="pairs are known to belong together or not, and a distance is to be thresholded later",
    avoid_when="only the order of distances matters (triplet), or most pairs that do not match are far apart already",
    samples=({}, {"margin": 2.5, "power": 1.0}, {"distance": "squared_euclidean"}, {"distance": "cosine"}),
    differs=("the paper halves the loss, and its Y is 1 for pairs that are not similar",),
)

BATCH_CARD = Card(
    name="batch_contrastive",
    summary="the contrastive loss of all pairs of a labelled batch",
    module=BatchContrastiveLoss,
    function=batch_contrastive_loss,
    family="Pairs and ranking",
    kind="embeddings",
    problems=frozenset({"embeddings"}),
    op_family="tiles",
    paper=PAPER,
    formula=r"\sum_{i<j} [y_i = y_j]\, d_{ij}^k + [y_i \ne y_j] \max(0, m - d_{ij})^k",
    use_when="batches carry labels and a distance is to be thresholded later",
    avoid_when="most pairs of a batch are far apart already: mined triplets (batch_triplet) look at the near ones",
    samples=(
        {},
        {"margin": 3.0, "power": 1.0},
        {"distance": "squared_euclidean", "margin": 4.0},
        {"distance": "cosine"},
        {"normalize": True, "power": 1.5},
    ),
    differs=("the mean is over all pairs, also those whose loss is 0",),
)
