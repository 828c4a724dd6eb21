"""The only code that masks, weights and reduces."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from . import checks, distributed

REDUCTIONS = ("none", "sum", "mean")
SIGMOID_REDUCTIONS = (*REDUCTIONS, "mean_positive")


def compute_dtype(input: Tensor) -> torch.dtype:
    """float64 for float64 input, else float32: half precision is read and written, never computed in."""
    return torch.float64 if input.dtype == torch.float64 else torch.float32


def keep(tensor: Tensor, kept: Tensor | None) -> Tensor:
    """Puts 0 where `kept` is False.

    Called on what goes into a loss, so that an ignored NaN reaches neither value nor gradient, and again on what comes
    out.
    """
    return tensor if kept is None else torch.where(kept, tensor, torch.zeros_like(tensor))


def count(kept: Tensor | None, values: Tensor) -> Tensor:
    """The number of kept elements of `values`, int64."""
    if kept is None:
        return torch.full((), values.numel(), dtype=torch.int64, device=values.device)
    return kept.expand_as(values).sum()


def total(values: Tensor, sync: bool) -> Tensor:
    """The sum, scaled so that the average over ranks is the sum over all ranks."""
    world = distributed.world_size(sync)
    return values.sum() if world == 1 else values.sum() * world


def mean(values: Tensor, divisor: Tensor, sync: bool) -> Tensor:
    """`total / divisor` for a divisor that is global already; 0, differentiable, where the divisor is 0."""
    nothing = divisor == 0
    average = total(values, sync) / torch.where(nothing, torch.ones_like(divisor), divisor)
    return torch.where(nothing, torch.zeros_like(average), average)


def reduce(values: Tensor, divisor: Callable[[], Tensor], *, reduction: str, sync: bool) -> Tensor:
    """Reduces losses that are weighed and masked already.

    Args:
        values: the losses.
        divisor: gives the global divisor of the mean; not called for `"none"` and `"sum"`, which need no communication.
        reduction: `"none"`, `"sum"`, or else a mean.
        sync: whether a scalar is scaled for the average over ranks.
    """
    if reduction == "none":
        return values
    return total(values, sync) if reduction == "sum" else mean(values, divisor(), sync)


def reduce_elements(
    values: Tensor,
    *,
    weight: Tensor | None,
    kept: Tensor | None,
    positives: Tensor,
    reduction: str,
    sync: bool,
) -> Tensor:
    """Weighs, masks and reduces one loss per element. Weights never enter a divisor.

    Args:
        values: one loss per element.
        weight: broadcastable to `values`.
        kept: boolean, broadcastable to `values`.
        positives: the kept, unsmoothed targets, whose sum divides in `mean_positive`.
        reduction: one of `SIGMOID_REDUCTIONS`.
        sync: whether divisors are global over the process group.
    """
    values = keep(values if weight is None else values * weight, kept)

    def divisor() -> Tensor:
        if reduction == "mean_positive":
            return distributed.sum_over_ranks(positives.sum(), sync).clamp_min(1)
        return distributed.sum_over_ranks(count(kept, values), sync)

    return reduce(values, divisor, reduction=reduction, sync=sync)


def reduce_samples(values: Tensor, divisor: Tensor, *, reduction: str, sync: bool) -> Tensor:
    """Reduces one loss per sample, weighed and masked already; `divisor` is this rank's part of the mean's divisor."""
    return reduce(values, lambda: distributed.sum_over_ranks(divisor, sync), reduction=reduction, sync=sync)


def check_reduction(reduction: str, allowed: tuple[str, ...] = REDUCTIONS) -> str:
    """Checks that `reduction` is one of `allowed`."""
    return checks.choice("reduction", reduction, allowed)
