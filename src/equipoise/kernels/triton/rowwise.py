"""The softmax family on a GPU: one program a row (or some short rows), which is read once where it fits a block.

A longer row is read twice for hard targets: once for the sum of the other classes' exponentials, found as the scores
pass by (Milakov, Gimelshein, "Online normalizer calculation for softmax", 2018), and once for the gradient. For
smoothed ones it is three times.

Of a program's rows `rows` holds what all steps need: the target's class (0 where there is none), which rows are kept,
which are to be read, and which there are. `shape` is the number of classes and how far apart a row's scores lie;
`adjustment` what is added to them, and each row's largest score, from which that is counted (one more pass): of a row
far from 0 it would round away.
"""

import math

import triton
import triton.language as tl
from torch import Tensor

from . import launch
from .blocks import factor_of, read
from .lossmath import exp_of_minus
from .points import CERTAIN, hard_focal, minor_term, top_class

MOST = 16384  # scores of a block at most
MOST_SMOOTH = 4096  # more of them, with a weight and two terms each, would not stay in registers
FEWEST = 2048  # scores of a block at least, where there are rows enough
INFINITY = tl.constexpr(float("inf"))


@triton.jit
def finite(most):
    """What exponentials are taken relative to: the largest score, where there is any."""
    return tl.where(most == -INFINITY, 0.0, most)


@triton.jit
def exponentials(z, shift):
    """exp(z - shift) for z <= shift, and 1 for z = shift even where that is infinite."""
    return tl.where(z == shift[:, None], 1.0, exp_of_minus(shift[:, None] - z))


@triton.jit
def load_scores(scores, rows, shape, adjustment, start, block: tl.constexpr):
    """A block of classes from `start` on, -infinity where nothing is read, and the classes' numbers."""
    _target, _kept, needed, _inside = rows
    classes, class_stride = shape
    added, peak = adjustment
    place = start + tl.arange(0, block)
    live = needed[:, None] & (place < classes)[None, :]
    pointers = scores[:, None] + place.to(tl.int64)[None, :] * class_stride
    z = tl.load(pointers, mask=live, other=-INFINITY).to(tl.float32)
    if added is not None:
        z = (z - peak[:, None]) + tl.load(added + place, mask=place < classes, other=0.0)[None, :]
    return z, place


@triton.jit
def peaks(scores, rows, shape, count: tl.constexpr, block: tl.constexpr):
    """Each row's largest score, 0 where that is infinite.

    The block's columns are reduced once, after the loop: in it the compiler of Triton 3.7 gives up.
    """
    classes, _class_stride = shape
    columns = tl.full([count, block], -INFINITY, tl.float32)
    for start in range(0, classes, block):
        z, _place = load_scores(scores, rows, shape, (None, None), start, block)
        columns = tl.maximum(columns, z)
    most = tl.max(columns, 1)
    return tl.where(tl.abs(most) == INFINITY, 0.0, most)


@triton.jit
def store_slopes(gradient, slopes, rows, shape, place):
    """Writes the gradient of a block; rows that are left out get zeros."""
    _target, kept, _needed, inside = rows
    classes, class_stride = shape
    slopes = tl.where(kept[:, None], slopes, 0.0)
    live = inside[:, None] & (place < classes)[None, :]
    pointers = gradient[:, None] + place.to(tl.int64)[None, :] * class_stride
    tl.store(pointers, slopes.to(gradient.dtype.element_ty), mask=live)


@triton.jit
def without(z, place, target):
    """The scores of all classes but the target's."""
    return tl.where(place[None, :] == target[:, None], -INFINITY, z)


@triton.jit
def hard_slopes(others, place, target, shift, slope, share):
    """The gradient with respect to a block's scores: the row's slope reaches the others by their exponentials."""
    own = place[None, :] == target[:, None]
    return tl.where(own, -slope[:, None], exponentials(others, shift) * share[:, None])


@triton.jit
def hard_rows(
    scores, gradient, rows, shape, adjustment, weight, factor, gamma,
    focus: tl.constexpr, whole: tl.constexpr, count: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Hard targets: the values of `count` rows, whose scores begin at the pointers `scores`; writes their gradient."""
    target, kept, _needed, _inside = rows
    classes, class_stride = shape
    if whole:
        z, place = load_scores(scores, rows, shape, adjustment, 0, block)
        others = without(z, place, target)
        shift = finite(tl.max(others, 1))
        total = tl.sum(exponentials(others, shift), 1)
    else:
        most = tl.full([count], -INFINITY, tl.float32)
        total = tl.zeros([count], tl.float32)
        for start in range(0, classes, block):
            z, place = load_scores(scores, rows, shape, adjustment, start, block)
            others = without(z, place, target)
            higher = tl.maximum(most, tl.max(others, 1))
            shift = finite(higher)
            carried = tl.where(most == higher, total, total * tl.exp(most - shift))
            total = carried + tl.sum(exponentials(others, shift), 1)
            most = higher
        shift = finite(most)
    own = tl.load(scores + target * class_stride, mask=kept, other=0.0).to(tl.float32)
    added, peak = adjustment
    if added is not None:
        own = (own - peak) + tl.load(added + target)
    # log p - log(1 - p) of the target: p is sigmoid(margin), and nothing cancels however sure the row is
    margin = tl.where(total == 0.0, CERTAIN + (own - own), (own - shift) - tl.log(total))
    value, slope = hard_focal(-margin, gamma, focus)
    if gradient is not None:
        slope *= weight * factor
        share = tl.where(total == 0.0, 0.0, slope / total)
        if whole:
            slopes = hard_slopes(others, place, target, shift, slope, share)
            store_slopes(gradient, slopes, rows, shape, place)
        else:
            for start in range(0, classes, block):
                z, place = load_scores(scores, rows, shape, adjustment, start, block)
                slopes = hard_slopes(without(z, place, target), place, target, shift, slope, share)
                store_slopes(gradient, slopes, rows, shape, place)
    return weight * value


@triton.jit
def climb(z, place, most, best, odds):
    """Takes a block into account: the largest score so far, its class, and the sum of the others relative to it."""
    block_most = tl.max(z, 1)
    block_best = tl.min(tl.where(z == block_most[:, None], place[None, :], 2147483647), 1)
    higher = block_most > most
    shift = finite(tl.maximum(most, block_most))
    e = exponentials(z, shift)
    taken = higher[:, None] & (place[None, :] == block_best[:, None])
    # a class that is no longer the largest is one of the others
    carried = tl.where(higher, (odds + 1.0) * tl.exp(most - shift), odds)
    odds = carried + tl.sum(tl.where(taken, 0.0, e), 1)
    return tl.maximum(most, block_most), tl.where(higher, block_best, best), odds


@triton.jit
def smooth_terms(z, place, target, top, smoothing, class_weight, classes, gamma, focus: tl.constexpr):
    """Of every class but the top one: p, its weight times value (0 where it has no weight), and weight times change."""
    best, shift, top_p, top_minus_log_p = top
    even, keep = smoothing
    a = tl.where(place[None, :] == target[:, None], even + keep, even)
    if class_weight is not None:
        a *= tl.load(class_weight + place, mask=place < classes, other=0.0).to(tl.float32)[None, :]
    counts = (place < classes)[None, :] & (place[None, :] != best[:, None])
    a = tl.where(counts, a, 0.0)
    p = tl.where(counts, exponentials(z, shift) * top_p[:, None], 0.0)
    value, change = minor_term(p, (shift[:, None] - z) + top_minus_log_p[:, None], gamma, focus)
    return p, tl.where(a == 0.0, 0.0, a * value), a * change


@triton.jit
def smooth_slopes(p, turned, place, best, whole_change, factor, top_slope):
    """The gradient with respect to a block's scores."""
    slopes = factor[:, None] * (p * whole_change[:, None] - turned)
    return tl.where(place[None, :] == best[:, None], top_slope[:, None], slopes)


@triton.jit
def smooth_rows(
    scores, gradient, rows, shape, adjustment, weight, factor, gamma, smoothing, class_weight,
    focus: tl.constexpr, whole: tl.constexpr, count: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Smoothed targets: every class has a term. The top class is taken apart: all others have p <= 1/2.

    `smoothing` is the weight that every class has, and that of the target besides.
    """
    target, _kept, _needed, _inside = rows
    classes, _class_stride = shape
    even, keep = smoothing
    most = tl.full([count], -INFINITY, tl.float32)
    best = tl.zeros([count], tl.int32)
    odds = tl.zeros([count], tl.float32)
    if whole:
        z, place = load_scores(scores, rows, shape, adjustment, 0, block)
        most, best, odds = climb(z, place, most, best, odds)
    else:
        for start in range(0, classes, block):
            z, place = load_scores(scores, rows, shape, adjustment, start, block)
            most, best, odds = climb(z, place, most, best, odds)
    top_p, top_q, top_minus_log_p, top_value, top_change = top_class(odds, gamma, focus)
    top = (best, finite(most), top_p, top_minus_log_p)
    own = tl.where(best == target, even + keep, even)
    if class_weight is not None:
        own *= tl.load(class_weight + best).to(tl.float32)
    if whole:
        p, terms, turned = smooth_terms(z, place, target, top, smoothing, class_weight, classes, gamma, focus)
        value = tl.sum(terms, 1)
        change = tl.sum(turned, 1)
    else:
        value = tl.zeros([count], tl.float32)
        change = tl.zeros([count], tl.float32)
        for start in range(0, classes, block):
            z, place = load_scores(scores, rows, shape, adjustment, start, block)
            p, terms, turned = smooth_terms(z, place, target, top, smoothing, class_weight, classes, gamma, focus)
            value += tl.sum(terms, 1)
            change += tl.sum(turned, 1)
    if gradient is not None:
        factor *= weight
        own_change = own * top_change
        top_slope = factor * (top_p * change - own_change * top_q)
        whole_change = change + own_change
        if whole:
            slopes = smooth_slopes(p, turned, place, best, whole_change, factor, top_slope)
            store_slopes(gradient, slopes, rows, shape, place)
        else:
            for start in range(0, classes, block):
                z, place = load_scores(scores, rows, shape, adjustment, start, block)
                p, terms, turned = smooth_terms(z, place, target, top, smoothing, class_weight, classes, gamma, focus)
                slopes = smooth_slopes(p, turned, place, best, whole_change, factor, top_slope)
                store_slopes(gradient, slopes, rows, shape, place)
    return weight * (tl.where(own == 0.0, 0.0, own * top_value) + value)


@triton.jit
def softmax_kernel(
    partials,
    scores,
    target,
    class_weight,
    target_weight,
    added,
    operands,
    losses,
    gradient,
    divisor,
    gamma,
    smoothing,
    ignore_index,
    scale,
    classes,
    length,
    blocks_each,
    kinds: tl.constexpr,
    side_by_side: tl.constexpr,
    smooth: tl.constexpr,
    focus: tl.constexpr,
    whole: tl.constexpr,
    step: tl.constexpr,
    count: tl.constexpr,
    block: tl.constexpr,
):
    """`count` rows of a group of `length`, whose scores lie `side_by_side`, or else class by class.

    A class that does not exist makes the loss NaN, and has no gradient: nobody looks at it on the way. `step` divides
    the number of classes.
    """
    classes = classes // step * step  # says what divides it: as many neighbours are read at a time
    row_stride = classes if side_by_side else 1
    class_stride = 1 if side_by_side else length
    sample_weight, upstream = operands
    program = tl.program_id(0).to(tl.int64)
    group = program // blocks_each
    lane = (program % blocks_each) * count + tl.arange(0, count)
    inside = lane < length
    row = group * length + lane
    wanted = tl.load(target + row, mask=inside, other=0).to(tl.int64)
    kept = inside & (wanted != ignore_index)
    exists = (wanted >= 0) & (wanted < classes)
    index = tl.where(kept & exists, wanted, 0)
    # rows that are left out need not be read, but of strided ones some neighbours are read at a time
    needed = kept if side_by_side else inside
    place = group * length * classes + lane * row_stride

    weight = read(sample_weight, group * length, lane, inside, 1.0, kinds[0])
    if target_weight is not None:
        weight *= tl.load(target_weight + index).to(tl.float32)
    if class_weight is not None and not smooth:
        weight *= tl.load(class_weight + index).to(tl.float32)
    factor = factor_of(scale, divisor) * read(upstream, group * length, lane, inside, 1.0, kinds[1])
    factor = tl.where(exists, factor, 0.0)
    rows = (index, kept, needed, inside)
    shape = (classes, class_stride)
    slopes = None if gradient is None else gradient + place
    scores += place
    adjustment = (added, None if added is None else peaks(scores, rows, shape, count, block))
    if smooth:
        shares = (smoothing / classes, 1.0 - smoothing)
        value = smooth_rows(
            scores,
            slopes,
            rows,
            shape,
            adjustment,
            weight,
            factor,
            gamma,
            shares,
            class_weight,
            focus,
            whole,
            count,
            block,
        )
    else:
        value = hard_rows(scores, slopes, rows, shape, adjustment, weight, factor, gamma, focus, whole, count, block)
    value = tl.where(kept, tl.where(exists, value, float("nan")), 0.0)
    if losses is not None:
        tl.store(losses + row, value, mask=inside)
    else:
        tl.store(partials + program, tl.sum(value, 0))


def softmax(
    input: Tensor,
    loss: Tensor,
    gradient: Tensor | None,
    target: Tensor,
    class_weight: Tensor | None,
    target_weight: Tensor | None,
    sample_weight: Tensor | None,
    divisor: Tensor | None,
    adjustment: Tensor | None,
    upstream: Tensor | None,
    gamma: float,
    smoothing: float,
    ignore_index: int,
    reduction: str,
    scale: float,
) -> None:
    """Writes loss and gradient of the softmax family; `ops.rowwise.eager_softmax_loss` explains the arguments.

    A mean needs its `divisor`: what depends on values is computed before, on the device.
    """
    shape = input.shape
    groups, classes = (1, shape[0]) if input.ndim == 1 else (shape[0], shape[1])
    length = target.numel() // (groups or 1)
    side_by_side = length == 1
    if side_by_side:  # they are one group
        groups, length = 1, groups
    count, block, warps = tile(classes, length, side_by_side, smoothing != 0)
    blocks_each = launch.parts(length, count)
    apart = reduction == "none"
    operands, kinds = launch.operands((sample_weight, upstream), target.shape)
    with launch.on(input):
        partials = loss if apart else launch.partial_sums(input, groups * blocks_each)
        launch.run(
            softmax_kernel,
            groups * blocks_each if classes else 0,
            partials,
            launch.flat(input),
            launch.flat(target),
            class_weight if class_weight is None else launch.flat(class_weight),
            target_weight if target_weight is None else launch.flat(target_weight),
            adjustment if adjustment is None else launch.flat(adjustment.to(loss.dtype)),
            operands,
            loss if apart else None,
            gradient,
            divisor,
            gamma,
            smoothing,
            ignore_index,
            scale,
            classes,
            length,
            blocks_each,
            kinds=kinds,
            side_by_side=side_by_side,
            smooth=smoothing != 0,
            focus=launch.focus_of(gamma),
            whole=block >= classes,
            step=math.gcd(classes, launch.STEP),
            count=count,
            block=block,
            num_warps=warps,
        )
        if not apart:
            launch.total(partials, loss, scale, divisor)


def tile(classes: int, rows: int, side_by_side: bool, smooth: bool) -> tuple[int, int, int]:
    """Rows and classes of a block, and its warps: 16 scores to a thread.

    Of rows that lie class by class neighbours in memory are of different rows, so it takes many.
    """
    block = min(launch.power_of_two(classes), MOST_SMOOTH if smooth else MOST)
    if not side_by_side:
        block = min(block, 16)
    count = max(1, min(FEWEST // block, launch.power_of_two(rows)))
    return count, block, max(1, min(count * block // 512, 32))
