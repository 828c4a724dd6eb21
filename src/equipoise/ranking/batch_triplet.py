"""Triplet loss of a labelled batch: all triplets, or hard or semi-hard ones, mined exactly."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from .. import checks
from ..card import Card
from ..checks import Scalar
from ..loss import Loss
from ..reduction import check_reduction
from ._batch import Batch, averaged, batch, sweep_call, swept
from ._distance import DISTANCES
from ._mine import hardest

MINING = ("all", "hard", "semihard")
REDUCTIONS = ("sum", "mean", "mean_active")


def batch_triplet_loss(
    embedding: Tensor,
    label: Tensor | None = None,
    *,
    positive: Tensor | None = None,
    negative: Tensor | None = None,
    reference: Tensor | None = None,
    reference_label: Tensor | None = None,
    mining: str = "all",
    margin: Scalar = 0.2,
    distance: str = "euclidean",
    soft: bool = False,
    normalize: bool = False,
    reduction: str | None = None,
    memory_mb: Scalar = 16.0,
    sync: bool = False,
) -> Tensor:
    r"""Triplet loss of a labelled batch, in memory that grows with the batch and not with its pairs or triplets.

    $\ell = \max(0, d_{ap} - d_{an} + m)$, or with `soft` $\log(1 + e^{d_{ap} - d_{an}})$, for triplets of an anchor a,
    a positive p (the same label, not a itself) and a negative n (another label):

    - `"all"`: every triplet.
    - `"hard"`: each anchor with its farthest positive and its nearest negative.
    - `"semihard"`: each a and p with the nearest n that is strictly farther from a than p is, and if there is none with
      the farthest n.

    Args:
        embedding: `[N, D]`, floating-point. Each is an anchor.
        label: `[N]`, integers. Default: `None`.
        positive: in place of `label`, boolean `[N, M]`: True where a candidate (column) is a positive of an anchor
            (row). The candidates are the batch, with `sync` of all ranks, then the references; an anchor is never its
            own. Default: `None`.
        negative: boolean `[N, M]`, the negatives; None: all that are not `positive`. Default: `None`.
        reference: `[R, D]`, further candidates, such as a memory bank. Default: `None`.
        reference_label: `[R]`, their labels. Default: `None`.
        mining: `"all"`, `"hard"` or `"semihard"`. Default: `"all"`.
        margin: $m \ge 0$; `soft` has none. Default: `0.2`.
        distance: `"euclidean"`, `"squared_euclidean"` or `"cosine"` ($1 - \cos$). Default: `"euclidean"`.
        soft: whether the soft margin is used; for `"all"` each positive then costs a pass over the batch. Default:
            `False`.
        normalize: whether embeddings are scaled to length 1 first. Default: `False`.
        reduction: `"sum"`; `"mean"`: the sum divided by the number of triplets (for `"hard"` the anchors that have
            both, for `"semihard"` the pairs of a and p whose a has a negative); `"mean_active"`: divided by the number
            of triplets whose loss is not 0, which for `"hard"` and `"semihard"` and with `soft` is `"mean"`; None:
            `"mean_active"` for `"all"`, else `"mean"`. Default: `None`.
        memory_mb: budget for the tiles in which distances are computed, in millions of bytes; beyond 8,192
            candidates it grows with them, up to four times. Default: `16.0`.
        sync: whether the embeddings of all ranks make one batch; the average over ranks, which DDP takes, of the losses
            and their gradients is then that of one process on the joined batch. Default: `False`.

    Returns:
        A scalar; float32 for half-precision input. 0 where there is no triplet.

    Raises:
        TypeError: if `embedding` is not a floating-point tensor, `label` no integers or a mask not boolean.
        ValueError: if shapes do not fit, a value leaves its range, or both or neither of `label` and `positive` come.

    Example:
        >>> import torch
        >>> from equipoise import batch_triplet_loss
        >>> embedding = torch.tensor([[0.0], [0.5], [0.6], [2.0]])
        >>> batch_triplet_loss(embedding, torch.tensor([0, 0, 1, 1]))
        tensor(0.6600)
        >>> batch_triplet_loss(embedding, torch.tensor([0, 0, 1, 1]), mining="hard")
        tensor(0.5750)

    Differs from:
        Mining that forms all N³ triplets, or the matrix of all distances, and stops at a few thousand embeddings. Of
        equal distances the lowest index is mined. Two negatives whose distances differ by less than float32 can tell
        are such: implementations that round otherwise (sentence-transformers') mine the other one for about one pair in
        700 of 2048 embeddings, which leaves the value and turns single gradients.

    References:
        Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-Identification", arXiv 1703.07737,
        section 2 (all, hard, soft margin, the mean over active triplets); Schroff, Kalenichenko, Philbin, "FaceNet: A
        Unified Embedding for Face Recognition and Clustering", CVPR 2015, section 3.2 (semi-hard, in the form that
        TensorFlow Addons made common).
    """
    reduction = _reduction(reduction, checks.choice("mining", mining, MINING))
    checks.choice("distance", distance, DISTANCES)
    margin = checks.number("margin", margin, 0)
    unit = normalize or distance == "cosine"
    here = batch(embedding, label, positive, negative, reference, reference_label, normalize=unit, sync=sync)
    if mining == "hard":
        return _hard(here, distance, margin, soft, reduction, memory_mb, sync)
    rule = mining + "_soft" * soft
    return swept(here, rule, distance, margin=margin, reduction=reduction, memory_mb=memory_mb, sync=sync)


def _reduction(reduction: str | None, mining: str) -> str:
    if reduction is None:
        return "mean_active" if mining == "all" else "mean"
    return check_reduction(reduction, REDUCTIONS)


def _hard(
    here: Batch, distance: str, margin: float, soft: bool, reduction: str, memory_mb: Scalar, sync: bool
) -> Tensor:
    with torch.autocast(here.pool.device.type, enabled=False):
        call = sweep_call(here, "hard", distance, memory_mb)
        near, far, has = hardest(here.anchors, here.pool, here.reference, call)
    value = -logsigmoid(far - near) if soft else relu(near - far + margin)
    loss = torch.where(has, value, torch.zeros_like(value)).sum(dtype=torch.float64)
    return averaged(loss, has.sum, reduction, sync).to(here.pool.dtype)


class BatchTripletLoss(Loss):
    r"""Triplet loss of a labelled batch; the module of `batch_triplet_loss`.

    $\ell = \max(0, d_{ap} - d_{an} + m)$ for all, hard or semi-hard triplets.

    Args:
        mining: `"all"`, `"hard"` or `"semihard"`. Default: `"all"`.
        margin: $m \ge 0$; `soft` has none. Default: `0.2`.
        distance: `"euclidean"`, `"squared_euclidean"` or `"cosine"`. Default: `"euclidean"`.
        soft: whether the soft margin is used. Default: `False`.
        normalize: whether embeddings are scaled to length 1 first. Default: `False`.
        reduction: `"sum"`; `"mean"`: divided by the number of triplets; `"mean_active"`: divided by the number of those
            whose loss is not 0; None: `"mean_active"` for `"all"`, else `"mean"`. Default: `None`.
        memory_mb: budget for the tiles in which distances are computed, in millions of bytes; beyond 8,192
            candidates it grows with them, up to four times. Default: `16.0`.
        sync: whether the embeddings of all ranks make one batch. Default: `False`.

    Shape:
        `embedding` `[N, D]`, `label` `[N]`; a scalar.

    Example:
        >>> import torch
        >>> from equipoise import BatchTripletLoss
        >>> criterion = BatchTripletLoss(mining="semihard", margin=0.3, normalize=True)
        >>> criterion(torch.eye(4), torch.tensor([0, 0, 1, 1]))
        tensor(0.3000)

    References:
        See `batch_triplet_loss`.
    """

    def __init__(
        self,
        *,
        mining: str = "all",
        margin: Scalar = 0.2,
        distance: str = "euclidean",
        soft: bool = False,
        normalize: bool = False,
        reduction: str | None = None,
        memory_mb: Scalar = 16.0,
        sync: bool = False,
    ) -> None:
        super().__init__()
        self.mining = checks.choice("mining", mining, MINING)
        self.margin = checks.number("margin", margin, 0)
        self.distance = checks.choice("distance", distance, DISTANCES)
        self.soft = soft
        self.normalize = normalize
        self.reduction = None if reduction is None else check_reduction(reduction, REDUCTIONS)
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
        """The loss of the triplets whose anchors are `embedding`."""
        return batch_triplet_loss(
            embedding,
            label,
            positive=positive,
            negative=negative,
            reference=reference,
            reference_label=reference_label,
            mining=self.mining,
            margin=self.margin,
            distance=self.distance,
            soft=self.soft,
            normalize=self.normalize,
            reduction=self.reduction,
            memory_mb=self.memory_mb,
            sync=self.sync,
        )


CARD = Card(
    name="batch_triplet",
    summary="all, hard or semi-hard triplets of a labelled batch of any size",
    module=BatchTripletLoss,
    function=batch_triplet_loss,
    family="Pairs and ranking",
    kind="embeddings",
    problems=frozenset({"embeddings"}),
    op_family="tiles",
    paper='Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-Identification", arXiv 1703.07737',
    formula=r"\max(0, d_{ap} - d_{an} + m)",
    use_when="batches hold several rows of each label, as in re-identification or retrieval",
    avoid_when="labels are noisy and mining is hard: it looks for just the wrong ones",
    samples=(
        {},
        {"normalize": True, "mining": "semihard"},
        *(
            {"mining": mining, "distance": distance, "soft": soft, **({} if soft else {"margin": 0.7})}
            for mining in MINING
            for distance in DISTANCES
            for soft in (False, True)
        ),
    ),
    differs=("of equal distances the lowest index is mined",),
)
