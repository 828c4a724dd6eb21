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


def across_ranks(local: Callable[[], Tensor], *, reduction: str, sync: bool) -> tuple[Tensor | None, float]:
    """The global divisor of a mean and the factor that makes an average over ranks the value of one process.

    Args:
        local: this rank's part of the divisor; not called where no other rank takes part.
        reduction: the reduction; only a mean has a divisor.
        sync: whether there are other ranks to ask.

    Returns:
        `(None, 1.0)` where this process stands alone: its own divisor is the global one.
    """
    world = distributed.world_size(sync)
    if world == 1 or reduction == "none":
        return None, 1.0
    if reduction == "sum":
        return None, float(world)
    divisor = distributed.sum_over_ranks(local(), sync)
    return (divisor.clamp_min(1) if reduction == "mean_positive" else divisor), float(world)


def reduce(values: Tensor, divisor: Callable[[], Tensor], *, reduction: str, scale: float = 1.0) -> Tensor:
    """Reduces losses that are weighed and masked already.

    A mean over nothing (a divisor of 0) is a differentiable 0.

    Args:
        values: the losses.
        divisor: gives the global divisor of the mean; not called for `"none"` and `"sum"`.
        reduction: `"none"`, `"sum"`, or else a mean.
        scale: factor of a scalar, for the average over ranks.
    """
    if reduction == "none":
        return values
    total = values.sum() if scale == 1 else values.sum() * scale
    if reduction == "sum":
        return total
    number = divisor()
    nothing = number == 0
    average = total / torch.where(nothing, torch.ones_like(number), number)
    return torch.where(nothing, torch.zeros_like(average), average)


def check_reduction(reduction: str, allowed: tuple[str, ...] = REDUCTIONS) -> str:
    """Checks that `reduction` is one of `allowed`."""
    return reduction if reduction in allowed else checks.choice("reduction", reduction, allowed)
