"""The path that all sigmoid losses take: check, mask, smooth, compute, reduce."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .. import checks
from ..checks import Scalar, Vector
from ..loss import Loss
from ..ops import elementwise
from ..reduction import SIGMOID_REDUCTIONS, across_ranks, check_reduction, compute_dtype, count, keep


def checked_pair(input: Tensor, target: Tensor, mask: Tensor | None) -> None:
    """Checks `input`, `target` and `mask` of an elementwise loss; the values are looked at where they are used."""
    scores, labels = checks.scores("input", input), checks.labels("target", target)
    checks.same_shape("target", labels, scores.shape, "the input's shape")
    if mask is not None:
        checks.keep_mask("mask", mask, scores.shape)


def split_weight(weight: Vector | Scalar | None, input: Tensor) -> tuple[float, Tensor | None]:
    """A weight as a plain number and a tensor that broadcasts to `input`: one of them does nothing."""
    if weight is None:
        return 1.0, None
    if checks.is_number(weight):
        return checks.number("weight", weight, -math.inf), None
    return 1.0, element_weight("weight", weight, input)


def element_weight(name: str, weight: Vector | Scalar | None, input: Tensor) -> Tensor | None:
    """`weight` as a tensor that broadcasts to `input`, or None."""
    if weight is None:
        return None
    return checks.broadcastable(name, checks.vector(name, weight, compute_dtype(input), input.device), input.shape)


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
    own_divisor: Callable[[], Tensor] | None = None,
) -> Tensor:
    """The loss of `ops.elementwise` with all options of the sigmoid family.

    `own_divisor` gives this process's part of a mean's divisor where that is not the number of kept elements.
    """
    check_reduction(reduction, SIGMOID_REDUCTIONS)
    checked_pair(input, target, mask)
    gamma = checks.scalar("gamma", gamma, 0)
    smoothing = checks.scalar("label_smoothing", label_smoothing, 0, 1)
    factor, weight = split_weight(weight, input)
    positive, negative, pair = sides(alpha, input)

    def counted() -> Tensor:
        return keep(target, mask).sum() if reduction == "mean_positive" else count(mask, input)

    divisor, scale = across_ranks(own_divisor or counted, reduction=reduction, sync=sync)
    if divisor is None and own_divisor is not None and reduction == "mean":
        divisor = own_divisor()
    return elementwise.sigmoid_loss(
        input,
        (target, mask, weight, element_weight("pos_weight", pos_weight, input), *pair, divisor),
        (factor * positive, factor * negative, gamma, smoothing, reduction, scale),
    )


def sides(alpha: Scalar | Vector | None, input: Tensor) -> tuple[float, float, tuple[Tensor | None, Tensor | None]]:
    """The weights of the positive and the negative class, as numbers and as tensors.

    1 - alpha is taken before alpha is rounded.
    """
    if alpha is None:
        return 1.0, 1.0, (None, None)
    if checks.is_number(alpha):
        number = checks.number("alpha", alpha, 0, 1)
        return number, 1 - number, (None, None)
    balance = checks.broadcastable("alpha", checks.vector("alpha", alpha, torch.float64, input.device), input.shape)
    checks.within("alpha", balance, 0, 1)
    dtype = compute_dtype(input)
    return 1.0, 1.0, (balance.to(dtype), (1 - balance).to(dtype))


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
