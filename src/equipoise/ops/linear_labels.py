"""Sigmoid losses of a linear layer with many labels, a chunk of labels at a time.

Three matrix products a chunk: the scores, and from their gradient, which is written in their place, a slice of the
weight's, once and for all, and a part of the input's. The kernels of the sigmoid family make gradients of scores; where
there are none a closed form does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..kernels import calls, native
from ..kernels import triton as gpu
from ..reduction import keep
from . import chunks, fused, linear, products
from .elementwise import as_dtype, check_probabilities, eager_sigmoid_loss, log_mix, sigmoid_values


def linear_sigmoid_loss(layer: products.Layer, tensors: fused.Tensors, options: fused.Options, chunk: int) -> Tensor:
    """The sigmoid losses of linear scores.

    Args:
        layer: input `[N, D]`, weight `[C, D]` and bias `[C]` or None.
        tensors: the tensors that `eager_linear_sigmoid` takes after the layer.
        options: what it takes after them.
        chunk: labels at once; 0: as many as are good on the device.
    """
    try:
        return linear.run(HEAD, layer, tensors, options, chunk)
    except native.TargetError:
        target, mask, *_ = tensors
        check_probabilities(layer[0], target, mask)
        raise


def is_dense(target: Tensor) -> bool:
    """Whether a target holds a number for each label, and not the labels that are on."""
    return target.is_floating_point() or target.dtype == torch.bool


def eager_linear_sigmoid(
    input: Tensor,
    linear_weight: Tensor,
    linear_bias: Tensor | None,
    target: Tensor,
    mask: Tensor | None,
    *rest: Any,
) -> Tensor:
    """The same with all scores in memory.

    Args:
        input: `[N, D]`.
        linear_weight: `[C, D]`.
        linear_bias: `[C]`, or None.
        target: numbers in [0, 1] or booleans `[N, C]`; or integers `[N, K]`: each row's labels that are on, and
            anything below 0.
        mask: boolean, broadcastable to `[N, C]`; True keeps a label of a row.
        rest: what `eager_sigmoid_loss` takes after the mask.
    """
    dtype = products.compute_dtype(input, linear_weight, linear_bias)
    scores = _sound_rows(input.to(dtype), target, mask, len(linear_weight)) @ linear_weight.to(dtype).t()
    if linear_bias is not None:
        scores = scores + linear_bias.to(dtype)
    dense = target if is_dense(target) else one_hot(target, 0, len(linear_weight))
    check_probabilities(scores, dense, mask)
    return eager_sigmoid_loss(scores, dense, mask, *rest)


def one_hot(labels: Tensor, first: int, width: int) -> Tensor:
    """Which of the labels from `first` on are on, boolean `[N, width]`."""
    place = labels.to(torch.int64) - first
    place = torch.where((place >= 0) & (place < width), place, torch.full_like(place, width))
    on = torch.zeros(*place.shape[:-1], width + 1, dtype=torch.bool, device=labels.device)
    return on.scatter(-1, place, torch.ones_like(place, dtype=torch.bool))[..., :width]


def label_divisor(target: Tensor, mask: Tensor | None, rows: int, labels: int, reduction: str) -> Tensor:
    """The divisor of a mean: the number of kept scores, or the sum of their targets.

    A label that a row names twice counts once.
    """
    kept = None if mask is None else mask.expand(rows, labels)
    if reduction != "mean_positive":
        return torch.full((), rows * labels, device=target.device) if kept is None else kept.sum()
    if is_dense(target):
        return keep(target, mask).sum()
    label = target.to(torch.int64).sort(1).values
    repeated = torch.nn.functional.pad(label[:, 1:] == label[:, :-1], (1, 0))[:, : label.shape[1]]
    on = (label >= 0) & ~repeated
    if kept is not None:
        on = on & kept.gather(1, label.clamp(0, labels - 1))
    return on.sum()


def _sound_rows(input: Tensor, target: Tensor, mask: Tensor | None, labels: int) -> Tensor:
    """The input with zeros in rows of which no label is kept, so that a NaN there reaches no gradient of the weight.

    A row that names a label that does not exist becomes NaN: where values cannot be looked at, nothing else can tell.
    """
    rows = input
    if not is_dense(target):
        rows = torch.where((target >= labels).any(1, keepdim=True), torch.full_like(rows, torch.nan), rows)
    return keep(rows, None if mask is None else mask.expand(len(rows), labels).any(1, keepdim=True))


def _chunks(
    input: Tensor,
    linear_weight: Tensor,
    linear_bias: Tensor | None,
    target: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
    pos_weight: Tensor | None,
    alpha_positive: Tensor | None,
    alpha_negative: Tensor | None,
    divisor: Tensor | None,
    upstream: Tensor | None,
    positive: float,
    negative: float,
    gamma: float,
    smoothing: float,
    reduction: str,
    scale: float,
    chunk: int,
    product: torch.dtype | None,
    *wanted: bool,
) -> tuple[Tensor, ...]:
    """The operator: the loss, and the gradients of input, weight and bias that are wanted."""
    layer, shape = (input, linear_weight, linear_bias), (len(input), len(linear_weight))
    at_once = (False, *wanted[1:])  # all chunks add to the input's gradient
    loss, input_gradient, weight_gradient, bias_gradient = chunks.outputs(layer, shape, reduction, product, at_once)
    input_sum = products.Sum(input, loss, product) if wanted[0] else None
    operand = products.operand_dtype(product, loss.dtype)
    rows = _sound_rows(input.to(operand), target, mask, shape[1])
    if divisor is None and reduction.startswith("mean"):
        divisor = label_divisor(target, mask, *shape, reduction)
        divisor = divisor.clamp_min(1) if reduction == "mean_positive" else divisor
    size = chunks.at_once(chunk, shape[1], shape[0], input, loss.dtype)
    factors = chunks.Factors(upstream, divisor, reduction, scale).for_products(operand, loss)
    memories = chunks.memory(loss, size * shape[0], operand, wanted)
    total = loss.new_zeros((), dtype=torch.float64)
    for first in range(0, shape[1], size):
        part = slice(first, min(first + size, shape[1]))
        width = part.stop - first
        columns = linear_weight[part].to(operand)
        scores, slopes = (each[: shape[0] * width].view(shape[0], width) for each in memories)
        products.score(rows, columns.t(), None if linear_bias is None else linear_bias[part].to(loss.dtype), scores)
        value = _loss_and_gradient(
            scores,
            slopes if any(wanted) else None,
            target[:, part] if is_dense(target) else one_hot(target, first, width),
            tuple(_part(each, part) for each in (mask, weight, pos_weight, alpha_positive, alpha_negative)),
            factors.part(part, 1),
            (positive, negative, gamma, smoothing),
        )
        if reduction == "none":
            loss[:, part] = value
        else:
            total += value
        if input_sum is not None:
            input_sum.add(slopes, columns)
        if wanted[1]:
            products.multiply(slopes.t(), rows, weight_gradient[part])
        if wanted[2]:
            torch.sum(slopes, 0, dtype=loss.dtype, out=bias_gradient[part])
    if input_sum is not None:
        input_gradient = input_sum.finish()
    gradients = (input_gradient, weight_gradient, bias_gradient)
    total = factors.finish(total, gradients)
    return loss if reduction == "none" else total.to(loss.dtype), *gradients


def _part(option: Tensor | None, part: slice) -> Tensor | None:
    """What an option that broadcasts to all scores says of some labels."""
    return option if option is None or not option.ndim or option.shape[-1] == 1 else option[..., part]


def _loss_and_gradient(
    scores: Tensor,
    slopes: Tensor | None,
    target: Tensor,
    operands: tuple[Tensor | None, ...],
    factors: chunks.Factors,
    options: tuple[float, float, float, float],
) -> Tensor:
    """A chunk's part of the loss; writes its gradient, on the way in the place of the scores."""
    positive, negative, gamma, smoothing = options
    mask, weight, pos_weight, alpha_positive, alpha_negative = operands
    divisor, upstream, reduction, scale = factors.divisor, factors.upstream, factors.reduction, factors.scale
    if gpu.takes(scores):
        from ..kernels.triton import elementwise as on_gpu

        loss = scores.new_empty(scores.shape if reduction == "none" else ())
        tensors = (target, mask, weight, pos_weight, alpha_positive, alpha_negative, divisor, upstream)
        on_gpu.sigmoid(scores, loss, slopes, *tensors, *options, reduction, scale)
        return loss
    if scores.is_cpu and native.is_active():
        loss = scores.new_empty(scores.shape if reduction == "none" else ())
        if target.is_floating_point() and weight is None:
            weight = scores.new_ones(())  # the kernel's quick way reads scores again where a target is soft
        tensors = (target, mask, weight, pos_weight, alpha_positive, alpha_negative, divisor, upstream)
        calls.sigmoid(scores, loss, slopes, *tensors, *options, reduction, scale)
        return loss
    check_probabilities(scores, target, mask)
    labels = keep(target.to(scores.dtype), mask)
    yes, no = (side * (1 - smoothing) + smoothing / 2 for side in (labels, 1 - labels))
    values, slope = _points(keep(scores, mask), yes, no, gamma, as_dtype(pos_weight, scores.dtype))
    sides = positive * yes, negative * no
    if alpha_positive is not None and alpha_negative is not None:
        sides = alpha_positive.to(scores.dtype) * sides[0], alpha_negative.to(scores.dtype) * sides[1]
    each = keep((sides[0] + sides[1]) * (1 if weight is None else weight.to(scores.dtype)), mask)
    factor = chunks.factor(divisor, reduction, scale, scores)
    torch.mul(slope, each * factor if upstream is None else each * factor * upstream, out=scores)
    chunks.hand_over(scores, slopes)
    return chunks.reduced(values * each, reduction, factor)


def _points(scores: Tensor, yes: Tensor, no: Tensor, gamma: float, pos_weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """`q^gamma * cross-entropy` of each score and its derivative; q is the probability given to the wrong answer."""
    values = sigmoid_values(scores, yes, no, pos_weight=pos_weight)
    positive, negative = torch.sigmoid(scores), torch.sigmoid(-scores)
    slopes = no * positive - (yes if pos_weight is None else pos_weight * yes) * negative
    if not gamma:
        return values, slopes
    votes_positive, distance = scores >= 0, scores.abs()
    against, with_it = torch.where(votes_positive, no, yes), torch.where(votes_positive, yes, no)
    modulator = torch.exp(gamma * (log_mix(against, with_it, distance) - torch.log1p(torch.exp(-distance))))
    q = yes * negative + no * positive
    near, far = torch.maximum(positive, negative), torch.minimum(positive, negative)
    ratio = torch.where(q > 0, near * (far / torch.where(q > 0, q, torch.ones_like(q))), torch.ones_like(q))
    return modulator * values, modulator * (slopes + gamma * (no - yes) * ratio * values)


def _allocate(*arguments: Any) -> tuple[Tensor, ...]:
    rows, weight, bias = arguments[:3]
    return chunks.outputs((rows, weight, bias), (len(rows), len(weight)), arguments[-7], arguments[-4], arguments[-3:])


HEAD = linear.register(
    "linear_sigmoid_loss(Tensor input, Tensor linear_weight, Tensor? linear_bias, Tensor target, Tensor? mask,"
    " Tensor? weight, Tensor? pos_weight, Tensor? alpha_positive, Tensor? alpha_negative, Tensor? divisor,"
    " Tensor? upstream, float positive, float negative, float gamma, float smoothing, str reduction, float scale,"
    " int chunk, ScalarType? product, bool input_wanted, bool weight_wanted, bool bias_wanted)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _chunks,
    _allocate,
    eager_linear_sigmoid,
    tensors=7,
)
