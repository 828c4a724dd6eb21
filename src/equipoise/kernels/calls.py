"""Calls of the C interface: tensors and options packed as `csrc/interface.h` has them, every field 8 bytes wide."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import torch
from torch import Tensor

from . import native

DTYPES = {
    torch.float32: 0,
    torch.float64: 1,
    torch.bfloat16: 2,
    torch.float16: 3,
    torch.uint8: 4,
    torch.bool: 4,
    torch.int8: 5,
    torch.int16: 6,
    torch.int32: 7,
    torch.int64: 8,
}
INPUTS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
REDUCTIONS = {"none": 0, "sum": 1, "mean": 2, "mean_positive": 3}
TARGET_OUT_OF_RANGE, OUT_OF_MEMORY = 1, 2

ABSENT = (0, 0, 1, 1)
COMMON, OPERAND = "9q2q2d", "4q"
SIGMOID = struct.Struct("<" + COMMON + 6 * OPERAND + "4d")
SOFTMAX = struct.Struct("<" + COMMON + "4q" + 4 * OPERAND + "2d")
GHM = struct.Struct("<" + COMMON + 3 * OPERAND + "d4q")


Operand = tuple[int, int, int, int]


class Packer:
    """Describes tensors to the kernels, and keeps the copies alive that it had to make."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = shape
        self.held: list[Tensor] = []

    def address(self, tensor: Tensor) -> int:
        """The address of the tensor's elements in row-major order, copied where they lie otherwise."""
        if not tensor.is_contiguous():
            tensor = tensor.contiguous()
            self.held.append(tensor)
        return tensor.data_ptr()

    def operand(self, tensor: Tensor | None) -> Operand:
        """`(address, dtype, inner, count)`: element i of the shape meets element `i // inner % count` of the tensor."""
        if tensor is None:
            return ABSENT
        if tensor.shape == self.shape[-tensor.ndim :]:  # the whole shape, or its last dimensions again and again
            return self.address(tensor), DTYPES[tensor.dtype], 1, tensor.numel() or 1
        return self._broadcast(tensor)

    def _broadcast(self, tensor: Tensor) -> Operand:
        sizes = list(tensor.shape)
        inner = 1
        while sizes and sizes[-1] == 1:  # one element for all places of these dimensions
            sizes.pop()
            inner *= self.shape[len(sizes) + len(self.shape) - tensor.ndim]
        used = len(sizes) - next((axis for axis, size in enumerate(sizes) if size != 1), len(sizes))
        end = len(self.shape) - (tensor.ndim - len(sizes))
        if list(self.shape[end - used : end]) != sizes[len(sizes) - used :]:  # broadcast in the middle
            return self.operand(tensor.expand(list(self.shape)))
        if not used:
            inner = max(1, _size(self.shape))
        return self.address(tensor), DTYPES[tensor.dtype], max(inner, 1), max(tensor.numel(), 1)


def _size(shape: Sequence[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _common(
    packer: Packer,
    input: Tensor,
    loss: Tensor,
    gradient: Tensor | None,
    upstream: Tensor | None,
    divisor: Tensor | None,
    reduction: str,
    scale: float,
) -> tuple[float, ...]:
    return (
        input.numel(),
        DTYPES[input.dtype],
        packer.address(input),
        loss.data_ptr(),
        gradient.data_ptr() if gradient is not None else 0,
        *packer.operand(upstream),
        REDUCTIONS[reduction],
        divisor is not None,
        0.0 if divisor is None else float(divisor),
        scale,
    )


def run(function: str, call: bytes) -> None:
    """Calls the library. Its loops raise nothing: what went wrong comes back as a number."""
    if native.library is None:
        raise RuntimeError(f"this operator needs the compiled kernels: {native.status().reason}")
    status = getattr(native.library, function)(call)
    if status & OUT_OF_MEMORY:
        raise MemoryError("the loss could not allocate its partial sums")
    if status & TARGET_OUT_OF_RANGE:
        raise native.TargetError


def sigmoid(
    input: Tensor,
    loss: Tensor,
    gradient: Tensor | None,
    target: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
    pos_weight: Tensor | None,
    alpha_positive: Tensor | None,
    alpha_negative: Tensor | None,
    divisor: Tensor | None,
    upstream: Tensor | None,
    positive: float,
    negative: float,
    gamma: float,
    smoothing: float,
    reduction: str,
    scale: float,
) -> None:
    """Writes loss and gradient of the sigmoid family; `ops.elementwise.sigmoid_loss` explains the arguments."""
    packer = Packer(input.shape)
    operand = packer.operand
    call = SIGMOID.pack(
        *_common(packer, input, loss, gradient, upstream, divisor, reduction, scale),
        *operand(target),
        *operand(mask),
        *operand(weight),
        *operand(pos_weight),
        *operand(alpha_positive),
        *operand(alpha_negative),
        positive,
        negative,
        gamma,
        smoothing,
    )
    run("equipoise_sigmoid", call)


def softmax(
    input: Tensor,
    loss: Tensor,
    gradient: Tensor | None,
    target: Tensor,
    class_weight: Tensor | None,
    target_weight: Tensor | None,
    sample_weight: Tensor | None,
    divisor: Tensor | None,
    upstream: Tensor | None,
    gamma: float,
    smoothing: float,
    ignore_index: int,
    reduction: str,
    scale: float,
) -> None:
    """Writes loss and gradient of the softmax family; `ops.rowwise.eager_softmax_loss` explains the arguments."""
    packer = Packer(target.shape)
    operand = packer.operand
    shape = input.shape
    rows, classes = (1, shape[0]) if len(shape) == 1 else (shape[0], shape[1])
    call = SOFTMAX.pack(
        *_common(packer, input, loss, gradient, upstream, divisor, reduction, scale),
        rows,
        classes,
        target.numel() // (rows or 1),
        ignore_index,
        *operand(target),
        *_vector(packer, class_weight),
        *_vector(packer, target_weight),
        *operand(sample_weight),
        gamma,
        smoothing,
    )
    run("equipoise_softmax", call)


def _vector(packer: Packer, vector: Tensor | None) -> Operand:
    """A vector in the computing dtype that is looked up by class."""
    return ABSENT if vector is None else (packer.address(vector), DTYPES[vector.dtype], 1, vector.numel())


def ghm(
    input: Tensor,
    loss: Tensor,
    gradient: Tensor | None,
    target: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
    factor: Tensor | None,
    divisor: Tensor | None,
    upstream: Tensor | None,
    mu: float,
    bins: int,
    all_bins: bool,
    reduction: str,
    scale: float,
) -> None:
    """Writes loss and gradient of the histogram family; `ops.histogram.eager_ghm_loss` explains the arguments."""
    packer = Packer(input.shape)
    call = GHM.pack(
        *_common(packer, input, loss, gradient, upstream, divisor, reduction, scale),
        *packer.operand(target),
        *packer.operand(mask),
        *packer.operand(weight),
        mu,
        bins,
        all_bins,
        0 if factor is None else packer.address(factor.to(torch.float64)),
        0,
    )
    run("equipoise_ghm", call)


def ghm_counts(input: Tensor, counts: Tensor, target: Tensor, mask: Tensor | None, mu: float, bins: int) -> None:
    """Writes the histogram of gradient norms, and last how many kept losses are not finite."""
    packer = Packer(input.shape)
    call = GHM.pack(
        *(input.numel(), DTYPES[input.dtype], packer.address(input), 0, 0, *ABSENT, 0, 0, 1.0, 1.0),
        *packer.operand(target),
        *packer.operand(mask),
        *ABSENT,
        mu,
        bins,
        False,
        0,
        counts.data_ptr(),
    )
    run("equipoise_ghm", call)
