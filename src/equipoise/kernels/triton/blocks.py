"""What the kernels share: how an operand meets the elements of a block, and sums whose order is fixed."""

import triton
import triton.language as tl

# How an operand meets the elements: not at all, one number for all, one for each, or number i // inner % count.
ABSENT = tl.constexpr(0)
SINGLE = tl.constexpr(1)
ALIKE = tl.constexpr(2)
REPEATED = tl.constexpr(3)


@triton.jit
def read(operand, first, lane, live, other: tl.constexpr, kind: tl.constexpr):
    """The operand's numbers at the elements `first + lane`, in float32; `other` where it is absent or not `live`.

    Args:
        operand: `(pointer, inner, count)`, see `launch.operand`.
        first: the block's first element, int64.
        lane: the elements of the block, from 0.
        live: which of them there are.
        other: the number that does nothing.
        kind: one of the above.
    """
    pointer, inner, count = operand
    if kind == ABSENT:
        numbers = tl.full(lane.shape, other, tl.float32)
    elif kind == SINGLE:
        numbers = tl.full(lane.shape, 0.0, tl.float32) + tl.load(pointer).to(tl.float32)
    elif kind == ALIKE:
        numbers = tl.load(pointer + first + lane, mask=live, other=other).to(tl.float32)
    else:
        # one division in int64, after which a block is small enough for int32: inner and count are below 2^30
        whole = first // inner
        steps = ((first - whole * inner).to(tl.int32) + lane) // inner
        place = ((whole % count).to(tl.int32) + steps) % count
        numbers = tl.load(pointer + place, mask=live, other=other).to(tl.float32)
    return numbers


@triton.jit
def factor_of(scale, divisor):
    """What losses are multiplied by: the scale over a divisor in memory, if there is one; 0 where that is 0."""
    factor = scale
    if divisor is not None:
        number = tl.load(divisor).to(tl.float32)
        factor = tl.where(number == 0.0, 0.0, scale / tl.where(number == 0.0, 1.0, number))
    return factor


@triton.jit
def add_up(partials, sums, size, block: tl.constexpr):
    """One sum of `block` neighbours per program, in float64."""
    place = tl.program_id(0) * block + tl.arange(0, block)
    numbers = tl.load(partials + place, mask=place < size, other=0.0).to(tl.float64)
    tl.store(sums + tl.program_id(0), tl.sum(numbers, 0))


@triton.jit
def add_up_and_scale(partials, loss, size, scale, divisor, block: tl.constexpr):
    """The last sum, scaled; 0 where nothing is kept, whatever the numbers at ignored places."""
    place = tl.arange(0, block)
    total = tl.sum(tl.load(partials + place, mask=place < size, other=0.0).to(tl.float64), 0)
    factor = factor_of(scale, divisor)
    tl.store(loss, tl.where(factor == 0.0, 0.0, total * factor).to(tl.float32))


@triton.jit
def rescale(gradient, upstream, size, block: tl.constexpr):
    """Multiplies in place; where the upstream gradient is 1 that one number is all that is read."""
    factor = tl.load(upstream).to(tl.float32)
    if factor != 1.0:
        first = tl.program_id(0).to(tl.int64) * block
        lane = tl.arange(0, block)
        live = lane < size - first
        slope = tl.load(gradient + first + lane, mask=live, other=0.0)
        tl.store(gradient + first + lane, slope * factor, mask=live)
