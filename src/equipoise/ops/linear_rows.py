"""Softmax losses of a linear layer, a chunk of rows at a time.

Three matrix products a chunk: the scores, and from their gradient, which is written in their place, that of the input
and its part of the weight's. The kernels of the softmax family make gradients of scores; where there are none, and for
probability targets, closed forms do (see `rowwise` for the key that keeps their digits).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..kernels import calls, native
from ..kernels import triton as gpu
from ..reduction import keep
from . import chunks, fused, linear, products, rowwise
from .elementwise import as_dtype


def linear_softmax_loss(layer: products.Layer, tensors: fused.Tensors, options: fused.Options, chunk: int) -> Tensor:
    """The softmax losses of linear scores.

    Args:
        layer: input `[N, D]`, weight `[C, D]` and bias `[C]` or None.
        tensors: the tensors that `eager_linear_softmax` takes after the layer.
        options: what it takes after them.
        chunk: rows at once; 0: as many as are good on the device.
    """
    return linear.run(HEAD, layer, tensors, options, chunk)


def eager_linear_softmax(
    input: Tensor,
    linear_weight: Tensor,
    linear_bias: Tensor | None,
    target: Tensor,
    class_weight: Tensor | None,
    sample_weight: Tensor | None,
    divisor: Tensor | None,
    *options: Any,
) -> Tensor:
    """The same with all scores in memory; `eager_softmax_loss` explains what follows the layer."""
    dtype = products.compute_dtype(input, linear_weight, linear_bias)
    rows = input.to(dtype)
    if not target.is_floating_point():
        rows = keep(rows, (target.to(torch.int64) != options[2]).unsqueeze(1))
    scores = rows @ linear_weight.to(dtype).t()
    if linear_bias is not None:
        scores = scores + linear_bias.to(dtype)
    return rowwise.eager_softmax_loss(scores, target, class_weight, None, sample_weight, divisor, None, *options)


def _chunks(
    input: Tensor,
    linear_weight: Tensor,
    linear_bias: Tensor | None,
    target: Tensor,
    class_weight: Tensor | None,
    sample_weight: Tensor | None,
    divisor: Tensor | None,
    upstream: Tensor | None,
    gamma: float,
    smoothing: float,
    ignore_index: int,
    reduction: str,
    scale: float,
    chunk: int,
    product: torch.dtype | None,
    *wanted: bool,
) -> tuple[Tensor, ...]:
    """The operator: the loss, and the gradients of input, weight and bias that are wanted."""
    layer = (input, linear_weight, linear_bias)
    at_once = (wanted[0], False, wanted[2])  # all chunks add to the weight's gradient
    loss, input_gradient, weight_gradient, bias_gradient = chunks.outputs(
        layer, target.shape[:1], reduction, product, at_once
    )
    weight_sum = products.Sum(linear_weight, loss, product) if wanted[1] else None
    operand = products.operand_dtype(product, loss.dtype)
    weight, bias = linear_weight.to(operand), as_dtype(linear_bias, loss.dtype)
    class_weight, sample_weight = (as_dtype(each, loss.dtype) for each in (class_weight, sample_weight))
    if reduction == "mean" and divisor is None:
        divisor = rowwise.row_divisor(target, len(target), class_weight, ignore_index)
    factors = chunks.Factors(upstream, divisor, reduction, scale).for_products(operand, loss)
    kept = None if target.is_floating_point() else (target.to(torch.int64) != ignore_index).unsqueeze(1)
    size = chunks.at_once(chunk, len(input), len(weight), input, loss.dtype)
    memories = chunks.memory(loss, size * len(weight), operand, wanted)
    total = loss.new_zeros((), dtype=torch.float64)
    bias_gradient.zero_()
    for first in range(0, len(input), size):
        part = slice(first, first + size)
        rows = keep(input[part].to(operand), None if kept is None else kept[part])
        scores, slopes = (each[: len(rows) * len(weight)].view(len(rows), len(weight)) for each in memories)
        products.score(rows, weight.t(), bias, scores)
        value = _loss_and_gradient(
            scores,
            slopes if any(wanted) else None,
            target[part],
            class_weight,
            None if sample_weight is None else sample_weight[part],
            factors.part(part, 0),
            (gamma, smoothing, ignore_index),
        )
        if reduction == "none":
            loss[part] = value
        else:
            total += value
        if wanted[0]:
            products.multiply(slopes, weight, input_gradient[part])
        if weight_sum is not None:
            weight_sum.add(slopes.t(), rows)
        if wanted[2]:
            bias_gradient.add_(slopes.sum(0, dtype=loss.dtype))
    if weight_sum is not None:
        weight_gradient = weight_sum.finish()
    gradients = (input_gradient, weight_gradient, bias_gradient)
    total = factors.finish(total, gradients)
    return loss if reduction == "none" else total.to(loss.dtype), *gradients


def _loss_and_gradient(
    scores: Tensor,
    slopes: Tensor | None,
    target: Tensor,
    class_weight: Tensor | None,
    sample_weight: Tensor | None,
    factors: chunks.Factors,
    options: tuple[float, float, int],
) -> Tensor:
    """A chunk's part of the loss; writes its gradient, on the way in the place of the scores."""
    gamma, smoothing, ignore_index = options
    divisor, upstream, reduction = factors.divisor, factors.upstream, factors.reduction
    if not target.is_floating_point():
        loss = scores.new_empty(len(scores) if reduction == "none" else ())
        every = (*options, reduction, factors.scale)
        if gpu.takes(scores):
            from ..kernels.triton import rowwise as on_gpu

            on_gpu.softmax(
                scores, loss, slopes, target, class_weight, None, sample_weight, divisor, None, upstream, *every
            )
            return loss
        if scores.is_cpu and native.is_active():
            calls.softmax(scores, loss, slopes, target, class_weight, None, sample_weight, divisor, upstream, *every)
            return loss
    classes = scores.shape[1]
    weight = scores.new_ones(len(scores)) if sample_weight is None else sample_weight
    if target.is_floating_point():
        value = _soft_rows(scores, rowwise.smooth(target.to(scores.dtype), smoothing, class_weight, 1), gamma)
    else:
        index, kept = rowwise.class_index(target, classes, ignore_index)
        weight = rowwise.poisoned(keep(weight, kept), index, classes)
        index = index.clamp(0, classes - 1)
        if smoothing:
            one_hot = rowwise.is_class(scores, index, 1).to(scores.dtype)
            value = _soft_rows(scores, rowwise.smooth(one_hot, smoothing, class_weight, 1), gamma)
        else:
            weight = weight if class_weight is None else weight * class_weight[index]
            value = _hard_rows(scores, index, gamma)
    factor = chunks.factor(divisor, reduction, factors.scale, scores)
    scores.mul_((weight * factor if upstream is None else weight * factor * upstream).unsqueeze(1))
    chunks.hand_over(scores, slopes)
    return chunks.reduced(value * weight, reduction, factor)


def _hard_rows(scores: Tensor, index: Tensor, gamma: float) -> Tensor:
    """`(1 - p_t)^gamma * -log p_t` of each row; its gradient takes the place of the scores."""
    column = index.unsqueeze(1)
    own = scores.gather(1, column)
    scores.scatter_(1, column, -torch.inf)
    largest = scores.amax(1, keepdim=True)
    largest = torch.where(largest == -torch.inf, torch.zeros_like(largest), largest)
    others = scores.sub_(largest).exp_().sum(1, keepdim=True)
    alone = others == 0
    margin = torch.where(alone, torch.full_like(own, rowwise.CERTAIN), own - largest - torch.log(others))
    log_p, log_q = logsigmoid(margin), logsigmoid(-margin)
    modulator = torch.exp(gamma * log_q)
    p_log_p = torch.where(log_p.isinf(), torch.zeros_like(log_p), torch.sigmoid(margin) * log_p)
    slope = modulator * (gamma * p_log_p - torch.sigmoid(-margin))
    scores.mul_(-slope / torch.where(alone, torch.ones_like(others), others)).scatter_(1, column, slope)
    return (modulator * -log_p).squeeze(1)


def _soft_rows(scores: Tensor, target: Tensor, gamma: float) -> Tensor:
    """`-sum_c y_c (1 - p_c)^gamma log p_c` of each row; its gradient takes the place of the scores.

    With `h_c = (1 - p_c)^gamma (1 - gamma p_c log p_c / (1 - p_c))` and H the sum of all `y_c h_c` it is
    `p_k H - y_k h_k`; for the top class, whose p is near 1, that is `p (H - y h) - y h (1 - p)`.
    """
    largest, top = scores.max(1, keepdim=True)
    scores.sub_(torch.where(largest.isinf(), torch.zeros_like(largest), largest))
    p = scores.exp().scatter_(1, top, 0.0)
    odds = p.sum(1, keepdim=True)
    log_norm = torch.log1p(odds)
    p.div_(1 + odds)
    q, log_p = 1 - p, scores.sub_(log_norm)
    log_q = torch.log1p(-p)
    p.scatter_(1, top, 1 / (1 + odds))
    q.scatter_(1, top, odds / (1 + odds))
    log_q.scatter_(1, top, torch.log(odds) - log_norm)
    modulator = torch.exp(gamma * log_q) if gamma else torch.ones_like(p)
    zero = torch.zeros_like(p)
    values = torch.where(target == 0, zero, target * modulator * -log_p).sum(1)
    p_log_p = torch.where(p == 0, zero, p * log_p)
    ratio = torch.where(q > 0, p_log_p / torch.where(q > 0, q, torch.ones_like(q)), -torch.ones_like(q))
    change = torch.where(target == 0, zero, target * modulator * (1 - gamma * ratio))
    own = change.gather(1, top)
    rest = change.scatter(1, top, 0.0).sum(1, keepdim=True)
    torch.mul(p, rest + own, out=scores).sub_(change)
    scores.scatter_(1, top, p.gather(1, top) * rest - own * q.gather(1, top))
    return values


def _allocate(*arguments: Any) -> tuple[Tensor, ...]:
    rows, weight, bias, target = arguments[:4]
    return chunks.outputs((rows, weight, bias), target.shape[:1], arguments[-7], arguments[-4], arguments[-3:])


HEAD = linear.register(
    "linear_softmax_loss(Tensor input, Tensor linear_weight, Tensor? linear_bias, Tensor target,"
    " Tensor? class_weight, Tensor? sample_weight, Tensor? divisor, Tensor? upstream, float gamma, float smoothing,"
    " int ignore_index, str reduction, float scale, int chunk, ScalarType? product, bool input_wanted,"
    " bool weight_wanted, bool bias_wanted)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _chunks,
    _allocate,
    eager_linear_softmax,
    tensors=4,
)
