"""What the linear losses share: memory for their results, how much of the scores to take at once, and factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..kernels import triton as gpu
from .products import Layer, compute_dtype, gradient_dtype

CPU_BYTES = 2**25
"""Bytes of scores at once on a CPU: larger chunks are no faster there."""

LEAST, LEAST_ELSEWHERE = 64, 1024
"""Rows or labels at once, at the least: on a CPU, and on a device that wants large products."""


def outputs(
    layer: Layer, losses: Sequence[int], reduction: str, product: torch.dtype | None, wanted: Sequence[bool]
) -> tuple[Tensor, ...]:
    """Uninitialised memory for the loss and for the gradients; one that is not wanted has no elements."""
    dtype = compute_dtype(*layer)
    loss = layer[0].new_empty(losses if reduction == "none" else (), dtype=dtype)
    dtypes = (*(gradient_dtype(each, product, dtype) for each in layer[:2]), dtype)
    gradients = (
        loss.new_empty(each.shape if each is not None and needed else 0, dtype=own)
        for each, needed, own in zip(layer, wanted, dtypes, strict=True)
    )
    return loss, *gradients


def at_once(chunk: int, total: int, others: int, like: Tensor, dtype: torch.dtype) -> int:
    """How many of `total` rows (or labels) to take at once, each of which meets `others` labels (or rows)."""
    if not chunk:
        least = LEAST if like.is_cpu else LEAST_ELSEWHERE
        chunk = max(least, CPU_BYTES // (max(1, others) * dtype.itemsize))
    return max(1, min(chunk, total))


def memory(like: Tensor, numbers: int, dtype: torch.dtype, wanted: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """Uninitialised memory for the scores of a chunk and for their gradient, which mostly takes their place.

    It does not in another dtype, nor on a GPU, whose threads would overtake one another.
    """
    scores = like.new_empty(numbers)
    if not any(wanted) or (dtype == like.dtype and not gpu.takes(like)):
        return scores, scores
    return scores, like.new_empty(numbers, dtype=dtype)


def hand_over(scores: Tensor, slopes: Tensor | None) -> None:
    """Copies the gradient of scores from their place to its own, if it has one."""
    if slopes is not None and slopes.data_ptr() != scores.data_ptr():
        slopes.copy_(scores)


@dataclass(frozen=True)
class Factors:
    """What losses and gradients are multiplied by.

    Attributes:
        upstream: the upstream gradients of values that are not reduced.
        divisor: of a mean.
        reduction: `"none"`, `"sum"` or a mean.
        scale: of a scalar.
        later: what is left for the end; None: nothing.
    """

    upstream: Tensor | None
    divisor: Tensor | None
    reduction: str
    scale: float
    later: Tensor | None = None

    def for_products(self, dtype: torch.dtype, like: Tensor) -> Factors:
        """The same for gradients of scores in float16, whose range would not hold them: they are multiplied later."""
        if dtype != torch.float16:
            return self
        if self.reduction != "none":
            return Factors(self.upstream, None, "sum", 1.0, factor(self.divisor, self.reduction, self.scale, like))
        if self.upstream is None or not self.upstream.numel():
            return self
        largest = self.upstream.abs().amax()
        largest = torch.where(largest > 0, largest, torch.ones_like(largest))
        return Factors(self.upstream / largest, self.divisor, "none", self.scale, largest)

    def part(self, part: slice, dimension: int) -> Factors:
        """Those of some rows (dimension 0) or labels (1)."""
        if self.upstream is None:
            return self
        some = self.upstream[part] if dimension == 0 else self.upstream[:, part]
        return replace(self, upstream=some)

    def finish(self, total: Tensor, gradients: Sequence[Tensor]) -> Tensor:
        """Multiplies the gradients in place, and gives the scalar loss."""
        if self.later is None:
            return total
        for gradient in gradients:
            gradient.mul_(self.later)
        return total if self.reduction == "none" else reduced(total, "sum", self.later)


def factor(divisor: Tensor | None, reduction: str, scale: float, like: Tensor) -> Tensor:
    """What each value is multiplied by, 0 for a mean over nothing; no value is looked at."""
    if divisor is None or reduction in ("none", "sum"):
        return like.new_full((), scale)
    nothing = divisor == 0
    whole = scale / torch.where(nothing, torch.ones_like(divisor), divisor).to(torch.float64)
    return torch.where(nothing, torch.zeros_like(whole), whole).to(like.dtype)


def reduced(values: Tensor, reduction: str, factor: Tensor) -> Tensor:
    """A chunk's part of the loss; a mean over nothing is 0, whatever the numbers at ignored places."""
    if reduction == "none":
        return values
    total = values.sum(dtype=torch.float64)
    return torch.where(factor == 0, torch.zeros_like(total), total * factor)
