"""What the losses of given pairs and triplets share: one row an embedding, one loss a row."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import checks
from ..reduction import across_ranks, check_reduction, count, reduce


def same_rows(minimum: int = 1, **rows: Tensor) -> list[Tensor]:
    """The tensors, checked to be of one shape of at least `minimum` dimensions, in the precision of the arithmetic."""
    tensors = {name: checks.scores(name, value) for name, value in rows.items()}
    first, *others = tensors
    shape = tensors[first].shape
    if len(shape) < minimum:
        raise ValueError(f"`{first}` must have its embeddings on the last dimension, [..., D], got a 0-d tensor")
    for name in others:
        checks.same_shape(name, tensors[name], shape, f"the shape of `{first}`")
    dtype = torch.float64 if any(each.dtype == torch.float64 for each in tensors.values()) else torch.float32
    return [each.to(dtype) for each in tensors.values()]


def likeness(target: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Checks a target of numbers in [0, 1], 1 for alike."""
    alike = checks.labels("target", target)
    checks.same_shape("target", alike, shape, "one number for each pair")
    alike = alike.to(dtype)
    checks.within("target", alike, 0, 1)
    return alike


def signs(target: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Checks a target of 1 and -1."""
    sign = checks.labels("target", target)
    checks.same_shape("target", sign, shape, "one sign for each pair")
    sign = sign.to(dtype)
    if checks.can_read_values(sign) and not bool((sign.abs() == 1).all()):
        raise ValueError("`target` must be 1 or -1 everywhere, got other numbers")
    return sign


def averaged(values: Tensor, reduction: str, sync: bool) -> Tensor:
    """The values of all pairs, their sum, or the mean over the pairs of all ranks."""
    check_reduction(reduction)

    def number() -> Tensor:
        return count(None, values)

    divisor, scale = across_ranks(number, reduction=reduction, sync=sync)
    return reduce(values, number if divisor is None else lambda: divisor, reduction=reduction, scale=scale)
