"""What the linear losses share: memory for their results, and how much of the scores to take at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..kernels import triton as gpu
from . import fused

Layer = tuple[Tensor, Tensor, Tensor | None]
"""Input `[N, D]`, weight `[C, D]` and bias `[C]` of the linear layer."""

CPU_BYTES = 2**25
"""Bytes of scores at once on a CPU: larger chunks are no faster there."""

LEAST, LEAST_ELSEWHERE = 64, 1024
"""Rows or labels at once, at the least: on a CPU, and on a device that wants large products."""


def compute_dtype(*tensors: Tensor | None) -> torch.dtype:
    """float64 if one of the tensors has it, else float32."""
    return torch.float64 if any(each is not None and each.dtype == torch.float64 for each in tensors) else torch.float32


def product_dtype(layer: Layer) -> torch.dtype | None:
    """The half precision whose numbers are multiplied where the kernels of a GPU are in use; None: none.

    It is autocast's, or that of input and weight. Products of such numbers are exact in float32, which sums them.
    """
    rows, weight, _ = layer
    if not gpu.takes(rows) or compute_dtype(*layer) == torch.float64:
        return None
    if torch.is_autocast_enabled("cuda"):
        return torch.get_autocast_dtype("cuda")
    return rows.dtype if rows.dtype in fused.HALF and weight.dtype == rows.dtype else None


def operand_dtype(product: torch.dtype | None, computing: torch.dtype) -> torch.dtype:
    """What is multiplied: the half precision of `product_dtype`, unless torch was told to sum float16 as it is."""
    if product == torch.float16 and torch.backends.cuda.matmul.allow_fp16_accumulation:
        return computing
    return product or computing


def gradient_dtype(tensor: Tensor, product: torch.dtype | None, computing: torch.dtype) -> torch.dtype:
    """bfloat16 for what is bfloat16: its range holds a gradient before it has met its upstream factor."""
    return torch.bfloat16 if product == tensor.dtype == torch.bfloat16 else computing


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


class Sum:
    """A gradient to which every chunk adds, in the computing dtype.

    One of bfloat16 is summed in two halves, and in the end rounded into the memory of the first: beside the sum there
    is no room for the result, and an output layer of a language model has a gigabyte of it.
    """

    STEP = 2**24  # numbers that are rounded at a time

    def __init__(self, of: Tensor, like: Tensor, product: torch.dtype | None) -> None:
        self.shape, self.dtype, self.begun = of.shape, gradient_dtype(of, product, like.dtype), False
        second = 0 if self.dtype == like.dtype else len(of) // 2
        lengths = (len(of) - second, second) if second else (len(of),)
        self.parts = [like.new_empty(length, of.shape[1]) for length in lengths]

    def add(self, rows: Tensor, columns: Tensor) -> None:
        """Adds `rows @ columns`."""
        for part, some in zip(self.parts, torch.split(rows, [len(part) for part in self.parts]), strict=True):
            multiply(some, columns, part, add=self.begun)
        self.begun = True

    def finish(self) -> Tensor:
        """The sum."""
        parts = [part.view(-1) if self.begun else part.zero_().view(-1) for part in self.parts]
        first, found = parts[0], parts[0].view(self.dtype)
        if found.dtype != first.dtype:
            for start in range(0, len(first), self.STEP):  # what is written was read in this step or before
                some = first[start : start + self.STEP]
                found[start : start + len(some)] = some.to(self.dtype)
            for second in parts[1:]:
                found[len(first) : len(first) + len(second)] = second
        return found[: self.shape.numel()].view(self.shape)


def at_once(chunk: int, total: int, others: int, like: Tensor, dtype: torch.dtype) -> int:
    """How many of `total` rows (or labels) to take at once, each of which meets `others` labels (or rows)."""
    if not chunk:
        least = LEAST if like.is_cpu else LEAST_ELSEWHERE
        chunk = max(least, CPU_BYTES // (max(1, others) * dtype.itemsize))
    return max(1, min(chunk, total))


def multiply(rows: Tensor, columns: Tensor, out: Tensor, *, add: bool = False) -> None:
    """Writes `rows @ columns`, or adds it."""
    if rows.dtype != out.dtype:
        _multiply_half(rows, columns, out, add)
    elif add:
        out.addmm_(rows, columns)
    else:
        torch.mm(rows, columns, out=out)


def _multiply_half(rows: Tensor, columns: Tensor, out: Tensor, add: bool) -> None:
    """The same of half precision, with a result in float32: torch has it for CUDA alone."""
    if add:
        torch.addmm(out, rows, columns, out.dtype, out=out)
    else:
        torch.mm(rows, columns, out.dtype, out=out)


def score(rows: Tensor, columns: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Writes `rows @ columns + bias`."""
    if bias is None or rows.dtype != out.dtype:
        multiply(rows, columns, out)
        if bias is not None:
            out += bias
    else:
        torch.addmm(bias, rows, columns, out=out)


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


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No autocast: products are taken in the computing dtype."""
    if torch.amp.is_autocast_available(device.type):
        with torch.autocast(device.type, enabled=False):
            yield
    else:
        yield
