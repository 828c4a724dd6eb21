"""The histogram family on a GPU: a pass that counts gradient norms, one small step, and a pass that weighs by them.

Both passes compute an element's norm by the same instructions (see `lossmath`), or one beside an edge would be weighed
by a bin in which it was not counted. Counts are whole numbers, so their sum is the same in any order.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import launch
from .blocks import ABSENT, factor_of, read
from .lossmath import LARGEST
from .points import hard_focal, smooth_absolute, soft_focal

COUNTERS = 1024  # programs that count: each adds its own counts to the total once


@triton.jit
def measure(
    scores, target, mask, first, size, mu, bins,
    mask_kind: tl.constexpr, hard: tl.constexpr, regression: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Of a block: its places, which there are and which are kept, and each one's value, slope and bin.

    The bins are equal parts of [0, 1], closed on the left, the last one on both sides. In float64 the product is exact:
    in float32 a norm would be rounded onto an edge. NaN falls into the last bin, what is not kept beyond it.
    """
    lane = tl.arange(0, block)
    live = lane < size - first
    kept = live
    if mask_kind != ABSENT:
        kept = live & (read(mask, first, lane, live, 0.0, mask_kind) != 0.0)
    x = tl.where(kept, tl.load(scores + first + lane, mask=live, other=0).to(tl.float32), 0.0)
    y = tl.where(kept, tl.load(target + first + lane, mask=live, other=0).to(tl.float32), 0.0)
    if regression:
        value, slope = smooth_absolute(x - y, mu)
    elif hard:
        yes = y != 0.0
        value, slope = hard_focal(tl.where(yes, -x, x), 0.0, 0)
        slope = tl.where(yes, -slope, slope)
    else:
        value, slope = soft_focal(x, y, 1.0 - y, 1.0, 0.0, 0, False)
    place = tl.abs(slope).to(tl.float64) * bins
    last = bins - 1.0
    index = tl.where(place < last, place, last).to(tl.int32)
    return lane, live, kept, value, slope, tl.where(kept, index, bins)


@triton.jit
def count_kernel(
    counts,
    scores,
    target,
    mask,
    size,
    mu,
    bins,
    mask_kind: tl.constexpr,
    hard: tl.constexpr,
    regression: tl.constexpr,
    broken: tl.constexpr,
    slots: tl.constexpr,
    block: tl.constexpr,
):
    """Adds up the bins of every so many-th block; `broken`: and, last, how many kept losses are not finite."""
    slot = tl.arange(0, slots)
    found = tl.zeros([slots], tl.int32)
    not_finite = tl.zeros([block], tl.int32)
    first = tl.program_id(0).to(tl.int64) * block
    while first < size:
        _lane, _live, _kept, value, _slope, index = measure(
            scores, target, mask, first, size, mu, bins, mask_kind, hard, regression, block
        )
        found += tl.histogram(index, slots)
        if broken:
            not_finite += (~(value <= LARGEST)).to(tl.int32)
        first += tl.num_programs(0).to(tl.int64) * block
    tl.atomic_add(counts + slot, found.to(tl.int64), mask=(slot < bins) & (found > 0), sem="relaxed")
    if broken:
        tl.atomic_add(counts + bins, tl.sum(not_finite, 0).to(tl.int64), sem="relaxed")


@triton.jit
def factor_kernel(counts, factors, kept, bins, all_bins: tl.constexpr, slots: tl.constexpr):
    """The weight N / (R_b M) of each bin from its count, and N. An empty bin weighs nothing: no element is in it."""
    slot = tl.arange(0, slots)
    count = tl.load(counts + slot, mask=slot < bins, other=0)
    total = tl.sum(count, 0)
    parts = bins if all_bins else tl.sum((count > 0).to(tl.int32), 0)
    crowd = count.to(tl.float64) * parts
    factor = tl.where(count > 0, total.to(tl.float64) / tl.where(count > 0, crowd, 1.0), 0.0)
    tl.store(factors + slot, factor.to(tl.float32), mask=slot < bins)
    tl.store(kept, total)


@triton.jit
def weigh_kernel(
    partials,
    start,
    size,
    scores,
    target,
    operands,
    factors,
    losses,
    gradient,
    divisor,
    mu,
    bins,
    scale,
    kinds: tl.constexpr,
    hard: tl.constexpr,
    regression: tl.constexpr,
    block: tl.constexpr,
):
    """One block of elements, each weighed by its bin's factor."""
    mask, weight, upstream = operands
    first = start + tl.program_id(0).to(tl.int64) * block
    lane, live, kept, value, slope, index = measure(
        scores, target, mask, first, size, mu, bins, kinds[0], hard, regression, block
    )
    beta = tl.load(factors + index, mask=kept, other=0.0) * read(weight, first, lane, live, 1.0, kinds[1])
    value = tl.where(kept, beta * value, 0.0)
    if losses is not None:
        tl.store(losses + first + lane, value, mask=live)
    else:
        tl.store(partials + tl.program_id(0), tl.sum(value, 0))
    if gradient is not None:
        factor = factor_of(scale, divisor) * read(upstream, first, lane, live, 1.0, kinds[2])
        slope = tl.where(kept, (beta * factor) * slope, 0.0)
        tl.store(gradient + first + lane, slope.to(gradient.dtype.element_ty), mask=live)


def ghm_counts(
    input: Tensor, counts: Tensor, target: Tensor, mask: Tensor | None, mu: float, bins: int, *, broken: bool = True
) -> None:
    """Writes the histogram of gradient norms, and with `broken`, last, how many kept losses are not finite."""
    size = input.numel()
    described, kind = launch.operand(mask, input.shape)
    counts.zero_()
    with launch.on(input):
        launch.run(
            count_kernel,
            min(launch.parts(size, launch.BLOCK), COUNTERS),
            counts,
            launch.flat(input),
            launch.flat(target),
            described,
            size,
            mu,
            bins,
            mask_kind=kind,
            hard=launch.is_hard(target),
            regression=mu > 0,
            broken=broken,
            slots=slots_for(bins),
            block=launch.BLOCK,
            num_warps=launch.WARPS,
        )


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
    apart = reduction == "none"
    averages = reduction == "mean" and divisor is None
    size = input.numel()
    operands, kinds = launch.operands((mask, weight, upstream), input.shape)
    with launch.on(input):
        factors = None if factor is None else factor.to(torch.float32).contiguous()
        if factors is None or averages:
            own, kept = _factors(input, target, mask, mu, bins, all_bins)
            factors = own if factors is None else factors
            divisor = kept if averages else divisor
        partials = launch.partial_sums(input, launch.blocks_of(size))
        launch.in_blocks(
            weigh_kernel,
            size,
            partials,
            launch.flat(input),
            launch.flat(target),
            operands,
            factors,
            loss if apart else None,
            gradient,
            divisor,
            mu,
            bins,
            scale,
            kinds=kinds,
            hard=launch.is_hard(target),
            regression=mu > 0,
        )
        if not apart:
            launch.total(partials, loss, scale, divisor)


def _factors(
    input: Tensor, target: Tensor, mask: Tensor | None, mu: float, bins: int, all_bins: bool
) -> tuple[Tensor, Tensor]:
    """The weight of each bin, and how many elements are kept."""
    counts = input.new_empty(bins, dtype=torch.int64)
    ghm_counts(input, counts, target, mask, mu, bins, broken=False)
    factors, kept = input.new_empty(bins, dtype=torch.float32), counts.new_empty(())
    launch.run(factor_kernel, 1, counts, factors, kept, bins, all_bins=all_bins, slots=slots_for(bins), num_warps=1)
    return factors, kept


def slots_for(bins: int) -> int:
    """Places to count in: a power of two, with one to spare for what is masked."""
    return max(launch.power_of_two(bins + 1), 32)
