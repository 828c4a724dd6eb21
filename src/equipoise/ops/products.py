"""The matrix products of the linear losses: of which numbers they are taken, and in which they are summed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..kernels import triton as gpu
from . import fused

Layer = tuple[Tensor, Tensor, Tensor | None]
"""Input `[N, D]`, weight `[C, D]` and bias `[C]` of the linear layer."""


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


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No autocast: products are taken in the computing dtype."""
    if torch.amp.is_autocast_available(device.type):
        with torch.autocast(device.type, enabled=False):
            yield
    else:
        yield
