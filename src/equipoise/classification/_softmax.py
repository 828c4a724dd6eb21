"""The path that all softmax losses take: check, ignore, smooth, compute, reduce."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import checks
from ..checks import Scalar, Vector
from ..loss import Loss
from ..ops import rowwise
from ..reduction import across_ranks, check_reduction, compute_dtype
from ..weights import log_priors


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
    logit_adjustment: Vector | None = None,
) -> Tensor:
    """The loss of `ops.rowwise` with all options of the softmax family.

    `target_weight` [C] multiplies each sample of an index target by its class's weight, smoothing or not, and stays out
    of the divisor; `weight` multiplies each class's term and enters it.
    """
    check_reduction(reduction)
    scores = checks.scores("input", input)
    if not scores.ndim:
        raise ValueError("`input` must have a class dimension ([C] or [N, C, ...]), got a 0-d tensor")
    dim = rowwise.class_dimension(scores)
    num_classes = scores.shape[dim]
    if not num_classes:
        raise ValueError(f"`input` must have at least one class, got shape {list(scores.shape)}")
    gamma = checks.scalar("gamma", gamma, 0)
    smoothing = checks.scalar("label_smoothing", label_smoothing, 0, 1)
    dtype = compute_dtype(scores)
    class_weight = None if weight is None else checks.per_class("weight", weight, num_classes, dtype, scores.device)
    labels = checks.labels("target", target)
    checks.whole("ignore_index", ignore_index)
    rows = scores.shape[:dim] + scores.shape[dim + 1 :]
    if labels.is_floating_point():
        if ignore_index >= 0:
            raise ValueError(f"`ignore_index` must be negative for probability targets, got {ignore_index}")
        checks.same_shape("target", labels, scores.shape, "the input's shape for probabilities (indices are integers)")
        checks.within("target", labels.to(dtype), 0, 1)
    else:
        checks.same_shape("target", labels, rows, "one class index per sample")
        check_indices(labels)
    if sample_weight is not None:
        sample_weight = checks.vector("sample_weight", sample_weight, dtype, scores.device)
        checks.same_shape("sample_weight", sample_weight, rows, "one weight per sample")

    def own_divisor() -> Tensor:
        return rowwise.row_divisor(labels, rows.numel(), class_weight, ignore_index)

    divisor, scale = across_ranks(own_divisor, reduction=reduction, sync=sync)
    added = None if logit_adjustment is None else adjustment(logit_adjustment, num_classes, dtype, scores.device)
    return rowwise.softmax_loss(
        scores,
        (labels, class_weight, target_weight, sample_weight, divisor, added),
        (gamma, smoothing, ignore_index, reduction, scale),
    )


def as_log_priors(value: Vector) -> Tensor:
    """What `logit_adjustment` adds, float64: class counts (integers) become log priors, other numbers are those."""
    numbers = checks.as_tensor("logit_adjustment", value)
    if numbers.ndim != 1:
        raise ValueError(f"`logit_adjustment` must be a vector, one number per class, got {checks.describe(value)}")
    if numbers.requires_grad:
        raise ValueError("`logit_adjustment` must not require a gradient: add learned numbers to the scores instead")
    if numbers.dtype == torch.bool or numbers.is_complex():
        raise TypeError(f"`logit_adjustment` must be class counts or log priors, got {checks.describe(value)}")
    if numbers.is_floating_point():
        if checks.can_read_values(numbers) and not bool(((numbers <= 0) & numbers.isfinite()).all()):
            raise ValueError(
                "`logit_adjustment` must hold finite log priors, which are at most 0, or class counts, which are "
                f"integers; got floating-point {float(numbers.min()):g} to {float(numbers.max()):g}"
            )
        return checks.vector("logit_adjustment", value, torch.float64)  # from a list with all its digits
    try:
        return log_priors(numbers)
    except ValueError as error:
        raise ValueError(f"`logit_adjustment` cannot be made of these counts: {error}") from error


def adjustment(value: Vector, num_classes: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`as_log_priors` for the classes of a batch."""
    return checks.per_class("logit_adjustment", as_log_priors(value), num_classes, dtype, device)


def check_indices(labels: Tensor) -> None:
    """Checks that a target has an integer dtype."""
    if labels.dtype == torch.bool or labels.is_floating_point():
        raise TypeError(f"`target` must be integer class indices in this shape, got {checks.describe(labels)}")


class SoftmaxLoss(Loss):
    """The options that the modules of all softmax losses share."""

    weight: Tensor | None
    logit_adjustment: Tensor | None

    def __init__(
        self,
        *,
        weight: Vector | None,
        logit_adjustment: Vector | None,
        ignore_index: int,
        label_smoothing: Scalar,
        reduction: str,
        sync: bool,
    ) -> None:
        super().__init__()
        if weight is not None and checks.as_tensor("weight", weight).ndim != 1:
            raise ValueError(f"`weight` must be a vector, one number per class, got {checks.describe(weight)}")
        self._hold("weight", weight)
        self._hold("logit_adjustment", None if logit_adjustment is None else as_log_priors(logit_adjustment))
        self.ignore_index = checks.whole("ignore_index", ignore_index)
        self.label_smoothing = checks.number("label_smoothing", label_smoothing, 0, 1)
        self.reduction = check_reduction(reduction)
        self.sync = sync
