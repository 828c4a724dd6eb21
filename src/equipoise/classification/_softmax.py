"""The path that all softmax losses take: check, ignore, smooth, compute, reduce."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import checks
from ..checks import Scalar, Vector
from ..loss import Loss
from ..ops import rowwise
from ..reduction import check_reduction, compute_dtype, count, keep, reduce_samples


def softmax_pipeline(
    input: Tensor,
    target: Tensor,
    *,
    gamma: Scalar = 0.0,
    weight: Vector | None,
    target_weight: Tensor | None = None,
    sample_weight: Tensor | None,
    ignore_index: int,
    label_smoothing: Scalar,
    reduction: str,
    sync: bool,
) -> Tensor:
    """The loss of `ops.rowwise` with all options of the softmax family.

    `target_weight` [C] multiplies each sample of an index target by its class's weight, smoothing or not, and stays out
    of the divisor; `weight` multiplies each class's term and enters it.
    """
    check_reduction(reduction)
    scores = checks.scores("input", input)
    scores = scores.to(compute_dtype(scores))
    if not scores.ndim:
        raise ValueError("`input` must have a class dimension ([C] or [N, C, ...]), got a 0-d tensor")
    dim = 0 if scores.ndim == 1 else 1
    if not scores.shape[dim]:
        raise ValueError(f"`input` must have at least one class, got shape {list(scores.shape)}")
    gamma = checks.scalar("gamma", gamma, 0)
    smoothing = checks.scalar("label_smoothing", label_smoothing, 0, 1)
    class_weight = (
        None if weight is None else checks.per_class("weight", weight, scores.shape[dim], scores.dtype, scores.device)
    )

    labels = checks.labels("target", target)
    if labels.is_floating_point():
        kept = None
        values, divisor = _probability_rows(scores, labels, gamma, class_weight, smoothing, ignore_index, dim)
    else:
        checks.same_shape("target", labels, _row_shape(scores, dim), "one class index per sample")
        index, kept = class_index(labels, scores.shape[dim], ignore_index)
        scores = keep(scores, kept.unsqueeze(dim))
        values, divisor = _index_rows(scores, index, kept, gamma, class_weight, smoothing, dim)
        values = poisoned(values, index, scores.shape[dim])
        if target_weight is not None:
            values = values * target_weight[index]
    if sample_weight is not None:
        values = values * _per_sample(sample_weight, values)
    return reduce_samples(keep(values, kept), divisor, reduction=reduction, sync=sync)


def class_index(labels: Tensor, num_classes: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Checked class indices with 0 where ignored, and which are kept."""
    if labels.dtype == torch.bool or labels.is_floating_point():
        raise TypeError(f"`target` must be integer class indices in this shape, got {checks.describe(labels)}")
    labels = labels.to(torch.int64)  # before the comparison: -100 is 156 in uint8
    kept = labels != checks.whole("ignore_index", ignore_index)
    index = keep(labels, kept)
    if checks.can_read_values(index) and index.numel() and not bool(((index >= 0) & (index < num_classes)).all()):
        raise ValueError(
            f"`target` must hold class indices in [0, {num_classes}) or ignore_index={ignore_index}, "
            f"got {int(index.min())} to {int(index.max())}"
        )
    return index, kept


def poisoned(values: Tensor, index: Tensor, num_classes: int) -> Tensor:
    """NaN where the class index does not exist, for places where the index itself is not looked at (a GPU, `vmap`)."""
    return torch.where((index >= 0) & (index < num_classes), values, torch.full_like(values, torch.nan))


def _index_rows(
    scores: Tensor,
    index: Tensor,
    kept: Tensor,
    gamma: Scalar,
    class_weight: Tensor | None,
    smoothing: Scalar,
    dim: int,
) -> tuple[Tensor, Tensor]:
    """Each sample's loss, and the mean's divisor: the weights of the kept samples' targets."""
    if class_weight is None:
        divisor = count(kept, index)
    else:
        target_weight = class_weight[index]
        divisor = keep(target_weight, kept).sum()
    if not checks.is_zero(smoothing):
        one_hot = rowwise.is_class(scores, index, dim).to(scores.dtype)
        return rowwise.soft_rows(scores, _smooth(one_hot, smoothing, class_weight, dim), gamma=gamma, dim=dim), divisor
    values = rowwise.hard_rows(scores, index, gamma=gamma, dim=dim)
    return (values if class_weight is None else values * target_weight), divisor


def _probability_rows(
    scores: Tensor,
    labels: Tensor,
    gamma: Scalar,
    class_weight: Tensor | None,
    smoothing: Scalar,
    ignore_index: int,
    dim: int,
) -> tuple[Tensor, Tensor]:
    """Each sample's loss, and the mean's divisor: the number of samples."""
    if checks.whole("ignore_index", ignore_index) >= 0:
        raise ValueError(f"`ignore_index` must be negative for probability targets, got {ignore_index}")
    checks.same_shape("target", labels, scores.shape, "the input's shape for probabilities (indices are integers)")
    checks.within("target", labels, 0, 1)
    weighed = _smooth(labels.to(scores.dtype), smoothing, class_weight, dim)
    values = rowwise.soft_rows(scores, weighed, gamma=gamma, dim=dim)
    return values, count(None, values)


def _smooth(target: Tensor, smoothing: Scalar, class_weight: Tensor | None, dim: int) -> Tensor:
    """Smoothed probabilities times class weights."""
    if not checks.is_zero(smoothing):
        target = target * (1 - smoothing) + smoothing / target.shape[dim]
    if class_weight is None:
        return target
    return target * class_weight.view([-1 if axis == dim else 1 for axis in range(target.ndim)])


def _row_shape(scores: Tensor, dim: int) -> list[int]:
    return [size for axis, size in enumerate(scores.shape) if axis != dim]


def _per_sample(sample_weight: Tensor, values: Tensor) -> Tensor:
    weight = checks.vector("sample_weight", sample_weight, values.dtype, values.device)
    checks.same_shape("sample_weight", weight, values.shape, "one weight per sample")
    return weight


class SoftmaxLoss(Loss):
    """The options that the modules of all softmax losses share."""

    weight: Tensor | None

    def __init__(
        self, *, weight: Vector | None, ignore_index: int, label_smoothing: Scalar, reduction: str, sync: bool
    ) -> None:
        super().__init__()
        if weight is not None and checks.as_tensor("weight", weight).ndim != 1:
            raise ValueError(f"`weight` must be a vector, one number per class, got {checks.describe(weight)}")
        self._hold("weight", weight)
        self.ignore_index = checks.whole("ignore_index", ignore_index)
        self.label_smoothing = checks.number("label_smoothing", label_smoothing, 0, 1)
        self.reduction = check_reduction(reduction)
        self.sync = sync
