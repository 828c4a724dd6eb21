"""Pairs on a GPU: tiles of distances, some anchors (rows) against all candidates (columns); twins of csrc/pairs.cpp.

One program a row, in blocks. A row is read once and written once, however many positives its anchor has: for each of
them a block is gone through in registers. Weights take the place of the distances, so what threads need of each other
they read before anything is stored there, or behind a barrier.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import launch
from .lossmath import LARGEST, reciprocal
from .points import hard_focal

SLOTS = 64  # positives of an anchor at most
LEAST, MOST = 512, 4096  # distances of a block
PER_WARP = 512  # of them: 16 to a thread
NOWHERE = tl.constexpr(float("inf"))  # the distance to what is no negative: beyond any margin, and 0 / NOWHERE is 0


@triton.jit
def hinge(ahead):
    """max(0, ahead) and its derivative."""
    return tl.maximum(ahead, 0.0), (ahead > 0.0).to(tl.float32)


@triton.jit
def measured(tile, rooted: tl.constexpr):
    """Distances from what the tile holds: positives and negatives alike, or one of two equal ones would lie beyond."""
    return tl.sqrt(tile) if rooted else tile


@triton.jit
def weight_of(derivative, distance, rooted: tl.constexpr):
    """A derivative as it is, or over the distance (0 where that is 0): a factor of the difference of two embeddings."""
    if rooted:
        derivative = tl.where(distance == 0.0, 0.0, derivative * reciprocal(distance))
    return derivative


# One number more or less must not have a kernel compiled anew: these change from tile to tile and from batch to batch.
@triton.jit(do_not_specialize=["places", "own"])
def pairs_kernel(
    tile, values, counts, positive, column, positives, negatives, mask, places, own, columns, margin,
    soft: tl.constexpr, rooted: tl.constexpr, slots: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """All positives with all negatives of one anchor: its value, what counts, and weights in place of its distances."""
    row = tl.program_id(0).to(tl.int64)
    tile += row * columns
    positive += row * places
    number = tl.load(positives + row).to(tl.int32)
    slot = tl.arange(0, slots)
    there = slot < number
    place = tl.load(column + row * places + slot, mask=there, other=0)
    tl.store(tile + place, NOWHERE, mask=there)
    if own >= 0:
        tl.store(tile + own + row, NOWHERE)
    tl.debug_barrier()  # what one thread has stored here, another one loads below
    value = tl.full([], 0.0, tl.float64)
    change = tl.zeros([slots], tl.float32 if soft else tl.int32)  # float32 would count to 2^24 alone
    for start in range(0, columns, block):
        lane = start + tl.arange(0, block)
        live = lane < columns
        d = tl.load(tile + lane, mask=live, other=NOWHERE)
        if mask is not None:
            d = tl.where(tl.load(mask + row * columns + lane, mask=live, other=0) != 0, d, NOWHERE)
        d = measured(d, rooted)
        total = tl.zeros([block], tl.float32)
        derivative = tl.zeros([block], tl.float32)
        for which in range(number):
            ahead = (measured(tl.load(positive + which), rooted) + margin) - d
            if soft:
                term, slope = hard_focal(ahead, 0.0, 0)
            else:
                term, slope = hinge(ahead)
            total += term
            derivative -= slope
            change = tl.where(slot == which, change + tl.sum(slope, 0).to(change.dtype), change)
        value += tl.sum(total, 0).to(tl.float64)
        tl.store(tile + lane, weight_of(derivative, d, rooted), mask=live)
    tl.store(values + row, value)
    if soft:
        tl.store(counts + row, number * tl.load(negatives + row))
    else:
        tl.store(counts + row, tl.sum(change.to(tl.int64), 0))
    distance = measured(tl.load(positive + slot, mask=there, other=1.0), rooted)
    pull = weight_of(change.to(tl.float32), distance, rooted)
    tl.debug_barrier()  # another thread stores 0 at a positive's place, and must have done so
    tl.store(tile + place, pull, mask=there)


@triton.jit(do_not_specialize=["own"])
def distances_kernel(
    tile, near, scale, square, row_square, own, stride, columns, share, most,
    block: tl.constexpr,
):  # fmt: skip
    """Distances, or their squares, of one anchor out of products, and whether one of them is near 0."""
    row = tl.program_id(0).to(tl.int64)
    tile += row * stride
    shift = 1.0
    if row_square is not None:
        shift = tl.load(row_square + row)
    bound = share * (shift + most)
    close = tl.zeros([block], tl.int32)
    for start in range(0, columns, block):
        lane = start + tl.arange(0, block)
        live = lane < columns
        d = tl.load(tile + lane, mask=live, other=LARGEST)
        if scale is not None:
            d *= tl.load(scale + lane, mask=live, other=1.0)
        if square is not None:
            d += tl.load(square + lane, mask=live, other=0.0)
        d += shift
        d = tl.where(d < 0.0, 0.0, d)  # which NaN is not
        if own >= 0:
            d = tl.where(lane == own + row, LARGEST, d)
        if near is not None:
            close |= (live & (d <= bound)).to(tl.int32)
        tl.store(tile + lane, d, mask=live)
    if near is not None:
        tl.store(near + row, tl.max(close, 0).to(tl.uint8))


def pairs(
    tile: Tensor,
    column: Tensor,
    positives: Tensor,
    negatives: Tensor,
    mask: Tensor | None,
    *,
    soft: bool,
    rooted: bool,
    own: int,
    margin: float,
) -> tuple[Tensor, Tensor]:
    """All positives with all negatives of a tile, whose distances become their derivatives: the loss and what counts.

    `kernels.tiles.pairs` has the arguments; `positives` `[t]` says how many of a row's columns, the first, are such.
    """
    rows, columns = tile.shape
    # before the kernel: there one thread would store at a positive's place what another has yet to load
    positive = tile.gather(1, column)
    values, counts = tile.new_empty(rows, dtype=torch.float64), tile.new_empty(rows, dtype=torch.int64)
    with launch.on(tile):
        launch.run(
            pairs_kernel,
            rows,
            tile,
            values,
            counts,
            positive,
            column,
            positives,
            negatives,
            None if mask is None else launch.flat(mask),
            column.shape[1],
            own,
            columns,
            0.0 if soft else margin,
            soft=soft,
            rooted=rooted,
            slots=SLOTS,
            **size_of(columns),
        )
    return values.sum(), counts.sum()


def distances(
    tile: Tensor,
    scale: Tensor | None,
    square: Tensor | None,
    row_square: Tensor | None,
    own: int,
    share: float,
    most: float,
    near: Tensor | None,
) -> None:
    """Makes distances, or their squares, of the products in a tile; `kernels.tiles.distances` has the arguments."""
    near = None if near is None else near.view(torch.uint8)
    options = size_of(tile.shape[1])
    with launch.on(tile):
        place = (own, tile.stride(0), tile.shape[1])
        launch.run(distances_kernel, len(tile), tile, near, scale, square, row_square, *place, share, most, **options)


def size_of(columns: int) -> dict[str, int]:
    """Blocks for rows of so many distances, and the warps that work on one."""
    block = min(max(launch.power_of_two(columns), LEAST), MOST)
    return {"block": block, "num_warps": block // PER_WARP}
