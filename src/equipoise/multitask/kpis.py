"""Key performance indicators for dynamic task prioritization: what is right, and of how many."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import checks


def accuracy_kpi(
    input: Tensor, target: Tensor, *, ignore_index: int = -100, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """How many samples a classifier gets right, and of how many.

    The class with the largest score, or for scores in the target's shape those above 0 where the target is 1 (or above
    one half), and below where it is not.

    Args:
        input: scores, `[N, C, ...]`, or in the target's shape.
        target: class indices, `[N, ...]`, or 0 and 1 in the input's shape.
        ignore_index: class index of samples that are left out. Default: `-100`.
        mask: boolean, broadcastable to the target; True keeps a sample. Default: `None`.

    Returns:
        `(correct, count)`, both 0-d, int64, for `DynamicTaskPrioritization`.

    Raises:
        TypeError: if `input` is not a floating-point tensor, or `mask` not boolean.
        ValueError: if shapes do not fit.

    Example:
        >>> import torch
        >>> from equipoise import accuracy_kpi
        >>> accuracy_kpi(torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, -100]))
        (tensor(1), tensor(2))
    """
    scores = checks.scores("input", input).detach()
    labels = checks.labels("target", target)
    if scores.shape == labels.shape:
        right, kept = (scores > 0) == (labels > 0.5), torch.ones_like(labels, dtype=torch.bool)
    else:
        checks.same_shape("target", labels, [*scores.shape[:1], *scores.shape[2:]], "the input's shape without classes")
        right, kept = scores.argmax(1) == labels, labels != ignore_index
    return _counted(right, kept, mask)


def within_tolerance_kpi(
    input: Tensor, target: Tensor, *, tolerance: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """How many predictions of a regression lie within a tolerance of the truth, and of how many.

    Another way for a regression is a map of its error to [0, 1], such as `torch.exp(-error / scale)`.

    Args:
        input: predictions of any shape.
        target: real numbers in the input's shape; NaN is no label.
        tolerance: in the target's unit, at least 0.
        mask: boolean, broadcastable to the target; True keeps a prediction. Default: `None`.

    Returns:
        `(within, count)`, both 0-d, int64, for `DynamicTaskPrioritization`.

    Raises:
        TypeError: if `input` is not a floating-point tensor, or `mask` not boolean.
        ValueError: if shapes do not fit, or `tolerance` is below 0.

    Example:
        >>> import torch
        >>> from equipoise import within_tolerance_kpi
        >>> within_tolerance_kpi(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([1.4, 3.0, torch.nan]), tolerance=0.5)
        (tensor(1), tensor(2))
    """
    predicted = checks.scores("input", input).detach()
    truth = checks.labels("target", target)
    checks.same_shape("target", truth, predicted.shape, "the input's shape")
    near = (predicted - truth).abs() <= checks.number("tolerance", tolerance, 0)
    return _counted(near, ~truth.isnan(), mask)


def _counted(right: Tensor, kept: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    if mask is not None:
        kept = kept & checks.keep_mask("mask", mask, right.shape)
    return (right & kept).sum(), kept.sum()
