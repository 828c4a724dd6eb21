"""Sigmoid family: every score is its own yes/no question.

With `a = |z|`, `e = exp(-a)`, and `u` the weight that the target puts on the class that the score votes against,

    cross-entropy = u * a + log1p(e)
    log q         = log(u + (1 - u) * e) - log1p(e)        q = probability given to the wrong class

No term cancels another, none overflows, and both hold for hard (0 or 1) and soft targets. `1 - p`, `log(1 + exp(z))`
and `pow(1 - p, gamma)` would each lose the tails.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from .. import checks
from ..checks import Scalar, is_zero
from ..kernels import calls
from ..reduction import compute_dtype, count, keep, reduce
from . import fused


def sigmoid_loss(input: Tensor, tensors: fused.Tensors, options: fused.Options) -> Tensor:
    """The sigmoid losses, masked, weighed and reduced, by the fastest means at hand.

    Args:
        input: scores of any shape and precision.
        tensors: the tensors that `eager_sigmoid_loss` takes after `input`.
        options: what it takes after them.
    """
    loss = fused.run(KERNEL, input, tensors, options)
    if loss is not None:
        return loss
    target, mask, *_ = tensors
    check_probabilities(input, target, mask)
    return eager_sigmoid_loss(input, *tensors, *options)


def check_probabilities(input: Tensor, target: Tensor | None, mask: Tensor | None) -> None:
    """Checks that the kept targets lie in [0, 1], where values can be read."""
    assert target is not None
    checks.within("target", keep(target.to(compute_dtype(input)), mask), 0, 1)


def eager_sigmoid_loss(
    input: Tensor,
    target: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
    pos_weight: Tensor | None,
    alpha_positive: Tensor | None,
    alpha_negative: Tensor | None,
    divisor: Tensor | None,
    positive: float,
    negative: float,
    gamma: Scalar,
    smoothing: Scalar,
    reduction: str,
    scale: float,
) -> Tensor:
    """The sigmoid losses with all their options, masked, weighed and reduced, in plain torch.

    Args:
        input: scores of any shape and precision.
        target: numbers in [0, 1] in the input's shape, of any dtype.
        mask: boolean, broadcastable to `input`; True keeps an element.
        weight: weight of each element, broadcastable to `input`.
        pos_weight: weight of the positive term of the cross-entropy, broadcastable to `input`.
        alpha_positive: weight of the positive class, broadcastable to `input`.
        alpha_negative: weight of the negative class. Where it is passed the positive one is.
        divisor: the global divisor of a mean; None: the divisor of these elements.
        positive: a further weight of the positive class.
        negative: a further weight of the negative class.
        gamma: focusing exponent, >= 0.
        smoothing: label smoothing in [0, 1].
        reduction: one of `SIGMOID_REDUCTIONS`.
        scale: factor of a scalar.
    """
    dtype = compute_dtype(input)
    scores, labels = keep(input.to(dtype), mask), keep(target.to(dtype), mask)
    yes, no = labels, 1 - labels
    if not is_zero(smoothing):
        yes, no = (side * (1 - smoothing) + smoothing / 2 for side in (yes, no))
    values = sigmoid_values(scores, yes, no, gamma=gamma, pos_weight=as_dtype(pos_weight, dtype))
    if alpha_positive is not None and alpha_negative is not None:
        values = (positive * alpha_positive.to(dtype) * yes + negative * alpha_negative.to(dtype) * no) * values
    elif positive != 1 or negative != 1:
        values = (positive * yes + negative * no) * values
    values = keep(values if weight is None else values * weight.to(dtype), mask)

    def own_divisor() -> Tensor:
        return labels.sum().clamp_min(1) if reduction == "mean_positive" else count(mask, values)

    return reduce(values, own_divisor if divisor is None else lambda: divisor, reduction=reduction, scale=scale)


def as_dtype(option: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """An option, if there is one, in the computing dtype."""
    return None if option is None else option.to(dtype)


def sigmoid_values(
    input: Tensor, positive: Tensor, negative: Tensor, *, gamma: Scalar = 0.0, pos_weight: Tensor | None = None
) -> Tensor:
    """`q^gamma * cross-entropy` for each element.

    Both halves of the target are passed: the smaller one would lose its digits in `1 - larger`.

    Args:
        input: scores, float32 or float64.
        positive: the target, numbers in [0, 1] of the shape and dtype of `input`.
        negative: 1 minus the target.
        gamma: focusing exponent, >= 0.
        pos_weight: weight of the positive term of the cross-entropy, broadcastable to `input`.
    """
    votes_positive = input >= 0
    # not `abs`: its derivative at 0 is 0, here it must be 1 on both sides' own terms
    distance = torch.where(votes_positive, input, -input)
    log_norm = torch.log1p(torch.exp(-distance))
    weighed = positive if pos_weight is None else pos_weight * positive
    loss = _product(torch.where(votes_positive, negative, weighed), distance) + (weighed + negative) * log_norm
    if not is_zero(gamma):
        against = torch.where(votes_positive, negative, positive)
        with_it = torch.where(votes_positive, positive, negative)
        loss = torch.exp(gamma * (log_mix(against, with_it, distance) - log_norm)) * loss
    return loss


def _product(weight: Tensor, distance: Tensor) -> Tensor:
    """`weight * distance`, and 0 for weight 0 even at infinite distance."""
    return torch.where(weight == 0, torch.zeros_like(distance), weight * distance)


def log_mix(against: Tensor, with_it: Tensor, distance: Tensor) -> Tensor:
    """`log(u + v * exp(-a))` for the target's weights u against and v = 1 - u with the vote.

    For a soft target it is written `log u - logsigmoid(a - log(v / u))`, whose derivatives are finite however large `a`
    and however small `u`; the places with a hard target get a harmless `u` first and their exact value after.
    """
    soft = (against > 0) & (with_it > 0)
    half = torch.full_like(against, 0.5)
    log_against = torch.log(torch.where(soft, against, half))
    log_with = torch.log(torch.where(soft, with_it, half))
    mixed = log_against - logsigmoid(distance + log_against - log_with)
    hard = torch.where(against == 0, -distance, torch.zeros_like(distance))
    return torch.where(soft, mixed, hard)


def _allocate(input: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return fused.outputs(input, input.shape, rest[-3], rest[-1])


def _native(input: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    *arguments, gradient_wanted = rest
    loss, gradient = fused.outputs(input, input.shape, rest[-3], gradient_wanted)
    calls.sigmoid(input, loss, gradient if gradient_wanted else None, *arguments)
    return loss, gradient


def _on_gpu(input: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    from ..kernels.triton import elementwise as kernels

    target, mask, weight, pos_weight, alpha_positive, alpha_negative, divisor, *options, gradient_wanted = rest
    reduction = options[-2]
    if divisor is None and reduction == "mean_positive":
        kept = keep(target, mask)
        divisor = kept.sum(dtype=torch.float32 if kept.is_floating_point() else None).clamp_min(1)
    elif divisor is None and reduction == "mean" and mask is not None:
        divisor = count(mask, input)
    tensors = (target, mask, weight, pos_weight, alpha_positive, alpha_negative, divisor)
    loss, gradient = fused.outputs(input, input.shape, reduction, gradient_wanted)
    kernels.sigmoid(input, loss, gradient if gradient_wanted else None, *tensors, *options)
    return loss, gradient


KERNEL = fused.kernel(
    "sigmoid_loss(Tensor input, Tensor target, Tensor? mask, Tensor? weight, Tensor? pos_weight,"
    " Tensor? alpha_positive, Tensor? alpha_negative, Tensor? divisor, Tensor? upstream, float positive,"
    " float negative, float gamma, float smoothing, str reduction, float scale, bool gradient) -> (Tensor, Tensor)",
    _native,
    _on_gpu,
    _allocate,
    eager_sigmoid_loss,
)
