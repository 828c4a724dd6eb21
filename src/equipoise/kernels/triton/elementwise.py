"""The sigmoid family on a GPU: loss and gradient in one pass over the elements, 16 of them to a thread."""

import triton
import triton.language as tl
from torch import Tensor

from . import launch
from .blocks import ABSENT, factor_of, read
from .points import hard_focal, soft_focal


@triton.jit
def sigmoid_kernel(
    partials,
    start,
    size,
    scores,
    target,
    operands,
    losses,
    gradient,
    divisor,
    positive,
    negative,
    gamma,
    smoothing,
    scale,
    kinds: tl.constexpr,
    hard: tl.constexpr,
    smooth: tl.constexpr,
    focus: tl.constexpr,
    block: tl.constexpr,
):
    """One block of elements; `losses` and `gradient` are None where they are not wanted."""
    mask, weight, pos_weight, alpha_positive, alpha_negative, upstream = operands
    first = start + tl.program_id(0).to(tl.int64) * block
    lane = tl.arange(0, block)
    live = lane < size - first
    # a score of -infinity has no loss: what is not there needs no further thought, but for a mask or smoothing
    z = tl.load(scores + first + lane, mask=live, other=-float("inf")).to(tl.float32)
    y = tl.load(target + first + lane, mask=live, other=0).to(tl.float32)
    kept = live
    if kinds[0] != ABSENT:
        kept = live & (read(mask, first, lane, live, 0.0, kinds[0]) != 0.0)
    positive *= read(alpha_positive, first, lane, live, 1.0, kinds[3])
    negative *= read(alpha_negative, first, lane, live, 1.0, kinds[4])
    times_positive = read(pos_weight, first, lane, live, 1.0, kinds[2])
    if hard and not smooth:
        yes = y != 0.0
        value, slope = hard_focal(tl.where(yes, -z, z), gamma, focus)
        alpha = tl.where(yes, positive * times_positive, negative)
        slope = tl.where(yes, -slope, slope)
    else:
        keep = 1.0 - smoothing if smooth else 1.0
        half = smoothing * 0.5 if smooth else 0.0
        yes = tl.fma(y, keep, half) if smooth else y
        no = tl.fma(1.0 - y, keep, half) if smooth else 1.0 - y
        value, slope = soft_focal(z, yes, no, times_positive, gamma, focus, kinds[2] != ABSENT)
        alpha = tl.fma(positive, yes, negative * no)
    alpha *= read(weight, first, lane, live, 1.0, kinds[1])
    value *= alpha
    if kinds[0] != ABSENT or smooth:
        value = tl.where(kept, value, 0.0)
    if losses is not None:
        tl.store(losses + first + lane, value, mask=live)
    else:
        tl.store(partials + tl.program_id(0), tl.sum(value, 0))
    if gradient is not None:
        factor = factor_of(scale, divisor) * read(upstream, first, lane, live, 1.0, kinds[5])
        slope *= alpha * factor
        if kinds[0] != ABSENT:
            slope = tl.where(kept, slope, 0.0)
        tl.store(gradient + first + lane, slope.to(gradient.dtype.element_ty), mask=live)


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
    """Writes loss and gradient of the sigmoid family; `ops.elementwise.sigmoid_loss` explains the arguments.

    A mean without `divisor` is over all elements: what depends on values is computed before, on the device.
    """
    size = input.numel()
    apart = reduction == "none"
    if reduction == "mean" and divisor is None:
        scale = scale / size if size else 0.0
    operands, kinds = launch.operands((mask, weight, pos_weight, alpha_positive, alpha_negative, upstream), input.shape)
    with launch.on(input):
        partials = launch.partial_sums(input, launch.blocks_of(size))
        launch.in_blocks(
            sigmoid_kernel,
            size,
            partials,
            launch.flat(input),
            launch.flat(target),
            operands,
            loss if apart else None,
            gradient,
            divisor,
            positive,
            negative,
            gamma,
            smoothing,
            scale,
            kinds=kinds,
            hard=launch.is_hard(target),
            smooth=smoothing != 0,
            focus=launch.focus_of(gamma),
        )
        if not apart:
            launch.total(partials, loss, scale, divisor)
