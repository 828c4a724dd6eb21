"""Histogram family: every element is weighed by how many others have a gradient norm like its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..checks import Scalar, is_zero
from ..kernels import calls, native
from ..kernels import triton as gpu
from ..reduction import compute_dtype, keep, reduce
from . import fused
from .elementwise import check_probabilities, sigmoid_values


def ghm_loss(input: Tensor, tensors: fused.Tensors, options: fused.Options) -> Tensor:
    """The gradient-harmonized losses, masked, weighed and reduced, by the fastest means at hand.

    Args:
        input: scores or predictions of any shape and precision.
        tensors: the tensors that `eager_ghm_loss` takes after `input`.
        options: what it takes after them.
    """
    loss = fused.run(KERNEL, input, tensors, options) if _can_count(input, options[1]) else None
    if loss is not None:
        return loss
    target, mask, *_ = tensors
    if is_zero(options[0]):
        check_probabilities(input, target, mask)
    return eager_ghm_loss(input, *tensors, *options)


def histogram(input: Tensor, target: Tensor, mask: Tensor | None, mu: Scalar, bins: int) -> Tensor:
    """How many kept elements each bin of gradient norms holds, and last how many kept losses are not finite.

    int64 `[bins + 1]`: float32 stops counting at 2^24.
    """
    values = input.detach()
    if _can_count(input, bins) and fused.fits(values, (target, mask)) and not isinstance(mu, Tensor):
        try:
            counts: Tensor = COUNT(values, target, mask, mu, bins)
            return counts
        except native.TargetError:
            pass
    if is_zero(mu):
        check_probabilities(values, target, mask)
    base, norm = _base_and_norm(values, target, mask, mu)
    broken = (~torch.isfinite(keep(base, mask))).sum()
    return torch.cat([bin_counts(bin_index(norm, bins), mask, bins), broken.view(1)])


def _can_count(input: Tensor, bins: int) -> bool:
    """Whether the kernels have places enough for so many bins."""
    return not input.is_cuda or bins <= gpu.MOST_BINS


def eager_ghm_loss(
    input: Tensor,
    target: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
    factor: Tensor | None,
    divisor: Tensor | None,
    mu: Scalar,
    bins: int,
    all_bins: bool,
    reduction: str,
    scale: float,
) -> Tensor:
    """The gradient-harmonized losses with all their options in plain torch.

    Args:
        input: scores or predictions of any shape and precision.
        target: numbers in the input's shape; in [0, 1] for classification.
        mask: boolean, broadcastable to `input`; True keeps an element.
        weight: weight of each element, broadcastable to `input`.
        factor: the weight of each bin, float64 `[bins]`; None: from the histogram of these elements.
        divisor: the global number of kept elements; None: that of these elements.
        mu: 0 for classification; for regression where the error turns from quadratic to linear.
        bins: the number of bins.
        all_bins: whether all bins count in `factor`, or those that are not empty.
        reduction: `"none"`, `"sum"` or `"mean"`.
        scale: factor of a scalar.
    """
    base, norm = _base_and_norm(input, target, mask, mu)
    with torch.no_grad():
        index = bin_index(norm, bins)
        counts = bin_counts(index, mask, bins)
        if factor is None:
            factor = bin_factor(counts, counts, all_bins=all_bins)
        beta = factor.to(base.dtype)[index]
        if weight is not None:
            beta = beta * weight.to(base.dtype)
    values = keep(base * beta, mask)
    return reduce(values, counts.sum if divisor is None else lambda: divisor, reduction=reduction, scale=scale)


def _base_and_norm(input: Tensor, target: Tensor, mask: Tensor | None, mu: Scalar) -> tuple[Tensor, Tensor]:
    """Each element's loss before harmonizing, and its gradient norm in [0, 1] (a constant)."""
    dtype = compute_dtype(input)
    scores, labels = keep(input.to(dtype), mask), keep(target.to(dtype), mask)
    if not is_zero(mu):
        residual = scores - labels
        radius = torch.hypot(residual, torch.ones_like(residual) * mu)
        return residual * (residual / (radius + mu)), (residual.abs() / radius).detach()
    base = sigmoid_values(scores, labels, 1 - labels)
    with torch.no_grad():
        # sigmoid(z) - y, written so that nothing cancels where y is 0 or 1
        norm = ((1 - labels) * torch.sigmoid(scores) - labels * torch.sigmoid(-scores)).abs()
    return base, norm


def bin_index(norm: Tensor, bins: int) -> Tensor:
    """The bin of each gradient norm in [0, 1]: `bins` equal bins, closed on the left, the last one closed on both
    sides.

    The edges are `j / bins` in float64; `floor(norm * bins)` would put norms on an edge into the wrong bin.
    """
    inner_edges = torch.arange(1, bins, dtype=torch.float64, device=norm.device) / bins
    return torch.bucketize(norm.to(torch.float64).contiguous(), inner_edges, right=True)


def bin_counts(index: Tensor, kept: Tensor | None, bins: int) -> Tensor:
    """How many kept elements each bin holds, int64 (float32 stops counting at 2^24)."""
    ones = torch.ones_like(index) if kept is None else kept.expand_as(index).to(torch.int64)
    empty = torch.zeros(bins, dtype=torch.int64, device=index.device)
    return empty.scatter_add(0, index.flatten(), ones.flatten())


def bin_factor(counts: Tensor, density: Tensor, *, all_bins: bool) -> Tensor:
    """`N / (R_b * M)` for each bin, float64.

    Args:
        counts: kept elements per bin; their sum is N.
        density: R, the counts or a running average of them.
        all_bins: whether M is the number of bins, or of those that are not empty in this batch.
    """
    bins = torch.full_like(counts.sum(), counts.numel()) if all_bins else (counts > 0).sum().clamp_min(1)
    occupied = torch.where(counts > 0, density, torch.ones_like(density)).to(torch.float64)
    return counts.sum() / (occupied * bins)


def _allocate(input: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return fused.outputs(input, input.shape, rest[-3], rest[-1])


def _native(input: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    *arguments, gradient_wanted = rest
    loss, gradient = fused.outputs(input, input.shape, rest[-3], gradient_wanted)
    calls.ghm(input, loss, gradient if gradient_wanted else None, *arguments)
    return loss, gradient


def _allocate_counts(input: Tensor, *rest: Any) -> Tensor:
    return input.new_empty(rest[-1] + 1, dtype=torch.int64)


def _native_counts(input: Tensor, target: Tensor, mask: Tensor | None, mu: float, bins: int) -> Tensor:
    counts = input.new_empty(bins + 1, dtype=torch.int64)
    calls.ghm_counts(input, counts, target, mask, mu, bins)
    return counts


def _on_gpu(input: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    from ..kernels.triton import histogram as kernels

    *arguments, gradient_wanted = rest
    loss, gradient = fused.outputs(input, input.shape, rest[-3], gradient_wanted)
    kernels.ghm(input, loss, gradient if gradient_wanted else None, *arguments)
    return loss, gradient


def _counts_on_gpu(input: Tensor, target: Tensor, mask: Tensor | None, mu: float, bins: int) -> Tensor:
    from ..kernels.triton import histogram as kernels

    counts = input.new_empty(bins + 1, dtype=torch.int64)
    kernels.ghm_counts(input, counts, target, mask, mu, bins)
    return counts


KERNEL = fused.kernel(
    "ghm_loss(Tensor input, Tensor target, Tensor? mask, Tensor? weight, Tensor? factor, Tensor? divisor,"
    " Tensor? upstream, float mu, int bins, bool all_bins, str reduction, float scale, bool gradient)"
    " -> (Tensor, Tensor)",
    _native,
    _on_gpu,
    _allocate,
    eager_ghm_loss,
)
COUNT = fused.register(
    "ghm_counts(Tensor input, Tensor target, Tensor? mask, float mu, int bins) -> Tensor",
    _native_counts,
    _allocate_counts,
    on_gpu=_counts_on_gpu,
)
