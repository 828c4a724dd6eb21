"""Softmax family: every row picks one class of C.

The key: with the margin `d = z_t - logsumexp_{k != t} z_k` the probability of class t is `sigmoid(d)` exactly. So a row
with a hard target is a sigmoid loss at `d` with target 1, no `1 - p` needed. For soft targets the margin of the row's
top class gives every `log p` and `log(1 - p)` without cancellation: all other classes have p <= 1/2.
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
from .elementwise import as_dtype, sigmoid_values

CERTAIN = 1e4  # a margin at which the loss and its gradients are exactly 0, and times a tiny gamma is no NaN as inf is


def softmax_loss(input: Tensor, tensors: fused.Tensors, options: fused.Options) -> Tensor:
    """The softmax losses, ignored, weighed and reduced, by the fastest means at hand.

    Args:
        input: scores of any precision, the classes on `class_dimension`.
        tensors: the tensors that `eager_softmax_loss` takes after `input`.
        options: what it takes after them.
    """
    target = tensors[0]
    assert target is not None
    loss = None if target.is_floating_point() else fused.run(KERNEL, input, tensors, options)
    if loss is not None:
        return loss
    return eager_softmax_loss(input, *tensors, *options)


def eager_softmax_loss(
    input: Tensor,
    target: Tensor,
    class_weight: Tensor | None,
    target_weight: Tensor | None,
    sample_weight: Tensor | None,
    divisor: Tensor | None,
    adjustment: Tensor | None,
    gamma: Scalar,
    smoothing: Scalar,
    ignore_index: int,
    reduction: str,
    scale: float,
) -> Tensor:
    """The softmax losses with all their options in plain torch.

    Args:
        input: scores of any precision, the classes on `class_dimension`.
        target: class indices in the input's shape without the classes, or probabilities (floating-point) in its shape.
        class_weight: `[C]`, the weight of each class's term; it enters the divisor of a mean for index targets.
        target_weight: `[C]`, the weight of a sample by its index target; it stays out of the divisor.
        sample_weight: the weight of each sample; it stays out of the divisor.
        divisor: the global divisor of a mean; None: the divisor of these samples.
        adjustment: `[C]`, added to the scores of each class.
        gamma: focusing exponent, >= 0.
        smoothing: label smoothing in [0, 1].
        ignore_index: the index target of samples to leave out.
        reduction: `"none"`, `"sum"` or `"mean"`.
        scale: factor of a scalar.
    """
    dim, dtype = class_dimension(input), compute_dtype(input)
    scores = _adjusted(input.to(dtype), adjustment, dim)
    class_weight, sample_weight = (as_dtype(weight, dtype) for weight in (class_weight, sample_weight))
    kept = None
    if target.is_floating_point():
        weighed = smooth(target.to(dtype), smoothing, class_weight, dim)
        values = soft_rows(scores, weighed, gamma=gamma, dim=dim)
    else:
        index, kept = class_index(target, scores.shape[dim], ignore_index)
        scores = keep(scores, kept.unsqueeze(dim))
        values = poisoned(_index_rows(scores, index, gamma, class_weight, smoothing, dim), index, scores.shape[dim])
        if target_weight is not None:
            values = values * target_weight.to(dtype)[index]
    if sample_weight is not None:
        values = values * sample_weight

    def own_divisor() -> Tensor:
        return row_divisor(target, values.numel(), class_weight, ignore_index)

    divisor_of = own_divisor if divisor is None else lambda: divisor
    return reduce(keep(values, kept), divisor_of, reduction=reduction, scale=scale)


def row_divisor(target: Tensor, rows: int, class_weight: Tensor | None, ignore_index: int) -> Tensor:
    """The divisor of a mean, as in torch: the samples, or for index targets the weights of the kept ones' classes."""
    if target.is_floating_point():
        return torch.full((), rows, dtype=torch.int64, device=target.device)
    kept = target.to(torch.int64) != ignore_index
    if class_weight is None:
        return count(kept, target)
    index, kept = class_index(target, len(class_weight), ignore_index)
    return keep(class_weight[index], kept).sum()


def class_dimension(input: Tensor) -> int:
    """The dimension of the classes, as in torch: `[C]` or `[N, C, ...]`."""
    return 0 if input.ndim == 1 else 1


def class_index(target: Tensor, num_classes: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Checked class indices with 0 where ignored, and which are kept."""
    target = target.to(torch.int64)  # before the comparison: -100 is 156 in uint8
    kept = target != ignore_index
    index = keep(target, kept)
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
    scores: Tensor, index: Tensor, gamma: Scalar, class_weight: Tensor | None, smoothing: Scalar, dim: int
) -> Tensor:
    """Each sample's loss."""
    if not is_zero(smoothing):
        one_hot = is_class(scores, index, dim).to(scores.dtype)
        return soft_rows(scores, smooth(one_hot, smoothing, class_weight, dim), gamma=gamma, dim=dim)
    values = hard_rows(scores, index, gamma=gamma, dim=dim)
    return values if class_weight is None else values * class_weight[index]


def smooth(target: Tensor, smoothing: Scalar, class_weight: Tensor | None, dim: int) -> Tensor:
    """Smoothed probabilities times class weights."""
    if not is_zero(smoothing):
        target = target * (1 - smoothing) + smoothing / target.shape[dim]
    if class_weight is None:
        return target
    return target * _along(class_weight, dim, target.ndim)


def is_class(input: Tensor, index: Tensor, dim: int) -> Tensor:
    """One-hot rows, boolean, in the shape of `input` (torch's `one_hot` looks at values, which `vmap` forbids)."""
    classes = torch.arange(input.shape[dim], device=input.device)
    return _along(classes, dim, input.ndim) == index.unsqueeze(dim)


def hard_rows(input: Tensor, index: Tensor, *, gamma: Scalar, dim: int) -> Tensor:
    """`(1 - p_t)^gamma * -log p_t` for each row.

    Args:
        input: scores with the classes on `dim`.
        index: the target class of each row, in the shape of `input` without `dim`.
        gamma: focusing exponent, >= 0.
        dim: the class dimension.
    """
    margin = _margin(_shifted(input, dim), is_class(input, index, dim), dim)
    return sigmoid_values(margin, torch.ones_like(margin), torch.zeros_like(margin), gamma=gamma)


def soft_rows(input: Tensor, target: Tensor, *, gamma: Scalar, dim: int) -> Tensor:
    """`-sum_c y_c (1 - p_c)^gamma log p_c` for each row.

    Args:
        input: scores with the classes on `dim`.
        target: the weight `y_c` of each class (probability times class weight), in the shape of `input`.
        gamma: focusing exponent, >= 0.
        dim: the class dimension.
    """
    scores = _shifted(input, dim)
    is_top = is_class(scores, scores.detach().argmax(dim), dim)
    margin = _margin(scores, is_top, dim).unsqueeze(dim)
    top = _pick(scores, is_top, dim).unsqueeze(dim)
    log_p = torch.where(is_top, logsigmoid(margin), scores - top + logsigmoid(margin))

    wanted = target != 0  # a class nobody asks for may have log p = -inf
    terms = target * -torch.where(wanted, log_p, torch.zeros_like(log_p))
    if not is_zero(gamma):
        others = torch.where(is_top, torch.zeros_like(log_p), torch.exp(log_p))
        log_q = torch.where(is_top, logsigmoid(-margin), torch.log1p(-others))
        terms = torch.exp(gamma * log_q) * terms
    return terms.sum(dim)


def _shifted(input: Tensor, dim: int) -> Tensor:
    """The scores minus their row's largest, so that rows far from 0 lose no digits. The loss is invariant to it."""
    largest = input.detach().amax(dim, keepdim=True)
    return input - torch.where(torch.isfinite(largest), largest, torch.zeros_like(largest))


def _adjusted(scores: Tensor, adjustment: Tensor | None, dim: int) -> Tensor:
    """The scores plus a number for each class; of rows far from 0 that would round away, so they are shifted first."""
    if adjustment is None:
        return scores
    return _shifted(scores, dim) + _along(adjustment.to(scores.dtype), dim, scores.ndim)


def _along(vector: Tensor, dim: int, ndim: int) -> Tensor:
    """A vector as a view that meets dimension `dim` of `ndim`."""
    return vector.view([-1 if axis == dim % ndim else 1 for axis in range(ndim)])


def _pick(scores: Tensor, chosen: Tensor, dim: int) -> Tensor:
    """The chosen class's score of each row."""
    return torch.where(chosen, scores, torch.zeros_like(scores)).sum(dim)


def _margin(scores: Tensor, chosen: Tensor, dim: int) -> Tensor:
    """`z_t - logsumexp_{k != t} z_k`; `CERTAIN` where the row has no other class (NaN if not even its own)."""
    others = torch.where(chosen, torch.full_like(scores, -torch.inf), scores)
    alone = (others == -torch.inf).all(dim, keepdim=True)
    # the gradient of a logsumexp over nothing but -inf is NaN: it gets other scores first and its value after
    norm = torch.logsumexp(torch.where(alone, torch.zeros_like(scores), others), dim)
    picked = _pick(scores, chosen, dim)
    return picked - torch.where(alone.squeeze(dim), picked.detach() - CERTAIN, norm)


def _allocate(input: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return fused.outputs(input, rest[0].shape, rest[-3], rest[-1])


def _native(input: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    target, class_weight, target_weight, sample_weight, divisor, adjustment, *others, gradient_wanted = rest
    scores = input
    if adjustment is not None:
        scores = _adjusted(input.to(compute_dtype(input)), adjustment, class_dimension(input))
    loss, gradient = fused.outputs(scores, target.shape, rest[-3], gradient_wanted)
    arguments = [target, class_weight, target_weight, sample_weight, divisor, *others]
    calls.softmax(scores, loss, gradient if gradient_wanted else None, *arguments)
    return loss, gradient.to(input.dtype)


def _on_gpu(input: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    from ..kernels.triton import rowwise as kernels

    target, class_weight, target_weight, sample_weight, divisor, adjustment, *options, gradient_wanted = rest
    ignore_index, reduction = options[-3:-1]
    if divisor is None and reduction == "mean":
        divisor = row_divisor(target, target.numel(), class_weight, ignore_index)
    tensors = (target, class_weight, target_weight, sample_weight, divisor, adjustment)
    loss, gradient = fused.outputs(input, target.shape, reduction, gradient_wanted)
    kernels.softmax(input, loss, gradient if gradient_wanted else None, *tensors, *options)
    return loss, gradient


KERNEL = fused.kernel(
    "softmax_loss(Tensor input, Tensor target, Tensor? class_weight, Tensor? target_weight, Tensor? sample_weight,"
    " Tensor? divisor, Tensor? adjustment, Tensor? upstream, float gamma, float smoothing, int ignore_index,"
    " str reduction, float scale, bool gradient) -> (Tensor, Tensor)",
    _native,
    _on_gpu,
    _allocate,
    eager_softmax_loss,
)
