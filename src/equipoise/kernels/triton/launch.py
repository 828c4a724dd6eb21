"""Launches of the kernels: operands described as the kernels read them, and sums that are finished on the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from . import blocks

Operand = tuple[Tensor | None, int, int]

# Multiplications are joined to additions where the kernels say so, whatever the version of Triton would do.
COMPILED = {"enable_fp_fusion": False}
SUMS = 4096  # partial sums that one program adds up
BLOCK, WARPS = 2048, 4  # 16 elements to a thread
STEP = 16  # sizes that this divides are read 16 bytes at a time
FEW = 2**30  # from here on an index need not fit the 32 bits that `blocks.read` divides in


def parts(size: int, block: int) -> int:
    """How many blocks it takes."""
    return -(-size // block)


def power_of_two(least: int) -> int:
    """The smallest power of two that is at least `least`, and at least 1."""
    return 1 << max(least - 1, 0).bit_length()


def run(kernel: Any, programs: int, *arguments: Any, **options: Any) -> None:
    """Launches so many programs of a kernel."""
    if programs:
        kernel[(programs,)](*arguments, **COMPILED, **options)


def on(tensor: Tensor) -> AbstractContextManager[Any]:
    """Makes the tensor's device the current one: kernels are launched there."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def flat(tensor: Tensor) -> Tensor:
    """The elements in row-major order, copied where they lie otherwise; booleans as bytes."""
    tensor = tensor.contiguous()
    return tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor


def operand(tensor: Tensor | None, shape: Sequence[int]) -> tuple[Operand, int]:
    """`(elements, inner, count)` and the kind of a tensor that broadcasts to `shape`.

    Element i of the shape meets element `i // inner % count` of the tensor.
    """
    if tensor is None:
        return (None, 1, 1), blocks.ABSENT.value
    size = math.prod(shape)
    if tensor.numel() == 1:
        return (flat(tensor), 1, 1), blocks.SINGLE.value
    if tensor.numel() == size:
        return (flat(tensor), 1, 1), blocks.ALIKE.value
    sizes = [1] * (len(shape) - tensor.ndim) + list(tensor.shape)
    own = [axis for axis, length in enumerate(sizes) if length != 1]
    inner = math.prod(shape[own[-1] + 1 :])
    if sizes[own[0] : own[-1] + 1] != list(shape[own[0] : own[-1] + 1]) or max(inner, tensor.numel()) >= FEW:
        return (flat(tensor.expand(shape)), 1, 1), blocks.ALIKE.value  # broadcast in the middle
    return (flat(tensor), inner, tensor.numel()), blocks.REPEATED.value


def operands(tensors: Sequence[Tensor | None], shape: Sequence[int]) -> tuple[tuple[Operand, ...], tuple[int, ...]]:
    """All of them, and their kinds."""
    described = [operand(tensor, shape) for tensor in tensors]
    return tuple(each for each, _ in described), tuple(kind for _, kind in described)


def in_blocks(kernel: Any, size: int, partials: Tensor, *arguments: Any, **options: Any) -> None:
    """Launches `kernel(partials, start, size, ...)` over blocks of `size` elements, one partial sum each.

    What is left of a size that 16 does not divide is a block of its own: one odd size would have all blocks read a
    number at a time.
    """
    even = size // STEP * STEP
    whole = parts(even, BLOCK)
    options = {"block": BLOCK, "num_warps": WARPS, **options}
    run(kernel, whole, partials, 0, even, *arguments, **options)
    if even < size:
        run(kernel, 1, partials[whole:], even, size, *arguments, **options)


def partial_sums(like: Tensor, programs: int) -> Tensor:
    """Memory for so many partial sums."""
    return like.new_empty(programs, dtype=torch.float32)


def blocks_of(size: int) -> int:
    """How many partial sums `in_blocks` makes."""
    return parts(size // STEP * STEP, BLOCK) + (size % STEP > 0)


def total(partials: Tensor, loss: Tensor, scale: float, divisor: Tensor | None) -> None:
    """The scaled sum of the partial sums: in an order that depends on their number alone."""
    while len(partials) > SUMS:
        sums = partials.new_empty(parts(len(partials), SUMS), dtype=torch.float64)
        run(blocks.add_up, len(sums), partials, sums, len(partials), block=SUMS, num_warps=8)
        partials = sums
    run(blocks.add_up_and_scale, 1, partials, loss, len(partials), scale, divisor, block=SUMS, num_warps=8)


def multiply(gradient: Tensor, upstream: Tensor) -> None:
    """Multiplies a gradient in place by one upstream gradient, which is looked at on the device alone."""
    with on(gradient):
        size = gradient.numel()
        run(blocks.rescale, parts(size, BLOCK), gradient, upstream, size, block=BLOCK, num_warps=WARPS)


def focus_of(gamma: float) -> int:
    """The focusing exponent where it needs no power, else that one does."""
    return int(gamma) if gamma in (0, 1, 2) else 3


def is_hard(target: Tensor) -> bool:
    """Whether a target's numbers can but be 0 and 1: on a GPU nobody looks."""
    return not target.is_floating_point()
