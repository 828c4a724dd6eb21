"""What the linear losses share: memory for their results, and how much of the scores to take at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

Layer = tuple[Tensor, Tensor, Tensor | None]
"""Input `[N, D]`, weight `[C, D]` and bias `[C]` of the linear layer."""

CPU_BYTES = 2**25
"""Bytes of scores at once on a CPU: larger chunks are no faster there."""

LEAST, LEAST_ELSEWHERE = 64, 2048
"""Rows or labels at once, at the least: on a CPU, and on a device that wants large products."""


def compute_dtype(*tensors: Tensor | None) -> torch.dtype:
    """float64 if one of the tensors has it, else float32."""
    return torch.float64 if any(each is not None and each.dtype == torch.float64 for each in tensors) else torch.float32


def outputs(layer: Layer, losses: Sequence[int], reduction: str, wanted: Sequence[bool]) -> tuple[Tensor, ...]:
    """Uninitialised memory for the loss and for the gradients; one that is not wanted has no elements."""
    dtype = compute_dtype(*layer)
    loss = layer[0].new_empty(losses if reduction == "none" else (), dtype=dtype)
    gradients = (
        loss.new_empty(each.shape if each is not None and needed else 0)
        for each, needed in zip(layer, wanted, strict=True)
    )
    return loss, *gradients


def at_once(chunk: int, total: int, others: int, like: Tensor, dtype: torch.dtype) -> int:
    """How many of `total` rows (or labels) to take at once, each of which meets `others` labels (or rows)."""
    if not chunk:
        least = LEAST if like.is_cpu else LEAST_ELSEWHERE
        chunk = max(least, CPU_BYTES // (max(1, others) * dtype.itemsize))
    return max(1, min(chunk, total))


def multiply(rows: Tensor, columns: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Writes `rows @ columns + bias`."""
    if bias is None:
        torch.mm(rows, columns, out=out)
    else:
        torch.addmm(bias, rows, columns, out=out)


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


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No autocast: products are taken in the computing dtype."""
    if torch.amp.is_autocast_available(device.type):
        with torch.autocast(device.type, enabled=False):
            yield
    else:
        yield
