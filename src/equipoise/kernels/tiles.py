"""Calls of the kernels that work on tiles of distances between embeddings, packed as `csrc/interface.h` has them."""

from __future__ import annotations

import struct

import torch
from torch import Tensor

from . import calls

PAIRS = struct.Struct("<9q7q2d2q")
DISTANCES = struct.Struct("<5q4q2dq")
RULES = {"all": 0, "semihard": 1, "contrastive": 2, "softmax": 3, "hard": 4}


def pairs(
    tile: Tensor,
    column: Tensor,
    valid: Tensor,
    negatives: Tensor,
    mask: Tensor | None,
    *,
    rule: str,
    own: int,
    soft: bool = False,
    rooted: bool = False,
    twice: int = 0,
    margin: float = 0.0,
    power: float = 1.0,
    chosen: tuple[Tensor, Tensor] | None = None,
) -> tuple[float, int]:
    """Evaluates a rule on a tile of distances, which becomes their derivatives, and gives the loss and what counts.

    Args:
        tile: `[t, M]`, contiguous, the distances.
        column: `[t, J]`, the columns of the positives.
        valid: `[t, J]`, which of them there are.
        negatives: `[t]`, the number of negatives.
        mask: `[t, M]`, which are negatives; None: all others.
        rule: a key of `RULES`.
        own: the column of the first row itself, -1 if there is none.
        soft: whether a triplet's margin is soft.
        rooted: whether the tile holds squares, and derivatives are to be given over the distance.
        twice: the first column whose pairs count twice.
        margin: option of the rule.
        power: option of the rule.
        chosen: `[t]` each, for the columns of the farthest positives and nearest negatives of the rule `"hard"`.
    """
    packer = calls.Packer(())
    value, count = tile.new_empty((), dtype=torch.float64), tile.new_empty((), dtype=torch.int64)
    far, near = (0, 0) if chosen is None else (each.data_ptr() for each in chosen)
    call = PAIRS.pack(
        *(calls.DTYPES[tile.dtype], RULES[rule], soft, rooted, *tile.shape, column.shape[1], own, twice),
        *(tile.data_ptr(), packer.address(column), packer.address(valid), packer.address(negatives)),
        *(0 if mask is None else packer.address(mask), far, near),
        *(margin, power, value.data_ptr(), count.data_ptr()),
    )
    calls.run("equipoise_pairs", call)
    return float(value), int(count)


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
    """Makes distances, or their squares, of the products in a tile.

    Args:
        tile: `[t, M]`, the columns of a contiguous tensor.
        scale: `[M]`, factors of the products, or None.
        square: `[M]`, to be added; None: 0.
        row_square: `[t]`, to be added; None: 1.
        own: the column of the first row itself, -1 if there is none.
        share: of `row_square + most`, below which a distance is near.
        most: the largest of `square`.
        near: `[t]`, boolean, to be filled with whether a distance is near; None: not wanted.
    """
    addresses = (0 if each is None else each.data_ptr() for each in (scale, square, row_square))
    call = DISTANCES.pack(
        *(calls.DTYPES[tile.dtype], *tile.shape, tile.stride(0), own),
        *(tile.data_ptr(), *addresses),
        *(share, most, 0 if near is None else near.data_ptr()),
    )
    calls.run("equipoise_distances", call)
