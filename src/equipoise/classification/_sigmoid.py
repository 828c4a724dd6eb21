"""The path that all sigmoid losses take: check, mask, smooth, compute, reduce."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import checks
from ..checks import Scalar, Vector
from ..loss import Loss
from ..ops import elementwise
from ..reduction import SIGMOID_REDUCTIONS, check_reduction, compute_dtype, keep, reduce_elements


def elementwise_pair(input: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Checked `input` and `target` in the computing dtype, 0 where masked, and the mask."""
    scores, labels = checks.scores("input", input), checks.labels("target", target)
    checks.same_shape("target", labels, scores.shape, "the input's shape")
    kept = None if mask is None else checks.keep_mask("mask", mask, scores.shape)
    dtype = compute_dtype(scores)
    return keep(scores.to(dtype), kept), keep(labels.to(dtype), kept), kept


def element_weight(name: str, weight: Vector | Scalar | None, input: Tensor) -> Tensor | None:
    """`weight` as a tensor that broadcasts to `input`, or None."""
    if weight is None:
        return None
    return checks.broadcastable(name, checks.vector(name, weight, input.dtype, input.device), input.shape)


def sigmoid_pipeline(
    input: Tensor,
    target: Tensor,
    *,
    gamma: Scalar = 0.0,
    alpha: Scalar | Vector | None,
    weight: Vector | Scalar | None,
    pos_weight: Vector | Scalar | None,
    label_smoothing: Scalar,
    mask: Tensor | None,
    reduction: str,
    sync: bool,
) -> Tensor:
    """The loss of `ops.elementwise.sigmoid_loss` with all options of the sigmoid family."""
    check_reduction(reduction, SIGMOID_REDUCTIONS)
    scores, labels, kept = elementwise_pair(input, target, mask)
    checks.within("target", labels, 0, 1)
    gamma = checks.scalar("gamma", gamma, 0)
    smoothing = checks.scalar("label_smoothing", label_smoothing, 0, 1)
    positive, negative = labels, 1 - labels
    if not checks.is_zero(smoothing):
        positive, negative = (side * (1 - smoothing) + smoothing / 2 for side in (positive, negative))
    values = elementwise.sigmoid_loss(
        scores,
        positive,
        negative,
        gamma=gamma,
        alpha=_sides(alpha, scores),
        pos_weight=element_weight("pos_weight", pos_weight, scores),
    )
    return reduce_elements(
        values,
        weight=element_weight("weight", weight, scores),
        kept=kept,
        positives=labels,
        reduction=reduction,
        sync=sync,
    )


def _sides(alpha: Scalar | Vector | None, input: Tensor) -> tuple[Tensor, Tensor] | None:
    """The weights of the positive and the negative class: 1 - alpha is taken before alpha is rounded."""
    if alpha is None:
        return None
    balance = checks.broadcastable("alpha", checks.vector("alpha", alpha, torch.float64, input.device), input.shape)
    checks.within("alpha", balance, 0, 1)
    return balance.to(input.dtype), (1 - balance).to(input.dtype)


class SigmoidLoss(Loss):
    """The options that the modules of all sigmoid losses share."""

    weight: Tensor | float | None
    pos_weight: Tensor | float | None

    def __init__(
        self,
        *,
        weight: Vector | Scalar | None,
        pos_weight: Vector | Scalar | None,
        label_smoothing: Scalar,
        reduction: str,
        sync: bool,
    ) -> None:
        super().__init__()
        self._hold("weight", weight)
        self._hold("pos_weight", pos_weight)
        self.label_smoothing = checks.number("label_smoothing", label_smoothing, 0, 1)
        self.reduction = check_reduction(reduction, SIGMOID_REDUCTIONS)
        self.sync = sync
