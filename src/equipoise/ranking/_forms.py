"""Three forms of what happens within the rows of a tile: the compiled kernels, those for GPUs, and plain torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels import native
from ..kernels import tiles as kernels
from ..kernels import triton as gpu
from ._call import Call
from ._candidates import Partners
from ._rows import FEW, RULES, Rows
from ._tiles import Buffers, Distances, Geometry

Evaluated = tuple[Tensor, Tensor | float, Tensor | int]
"""The weight of each pair, the sum of the losses and the number that counts.

A weight is the derivative with respect to a distance; for `"euclidean"` it is divided by the distance.
"""


@dataclass(frozen=True)
class Form:
    """How tiles are evaluated.

    Attributes:
        evaluate: takes the buffers of a tile that `Geometry.fill` has filled, its first anchor, the size of the pool,
            geometry, partners and options.
        distances: makes distances of products, see `Geometry`.
        buffers: how many buffers a tile needs, see `tiles`.
        bytes: of memory for each float32 distance, buffers and what is made on the way.
    """

    evaluate: Callable[[Buffers, int, int, Geometry, Partners, Call], Evaluated]
    distances: Distances | None
    buffers: int
    bytes: int


def is_native(anchors: Tensor) -> bool:
    """Whether the kernels can work on tiles of these anchors, here and now."""
    return anchors.is_cpu and native.is_active()


def form_of(call: Call, anchors: Tensor, positives: int) -> Form:
    """The kernels where they are there and know the rule, else plain torch.

    Args:
        call: the rule.
        anchors: `[N, D]`.
        positives: the most that any anchor has; those for GPUs go through a row once for each.
    """
    is_known = call.rule != "contrastive" or call.power in (1, 2)
    if is_known and is_native(anchors):
        return Form(_natively, kernels.distances, 1, 4)
    on_gpu = distances_on_gpu(anchors)
    if on_gpu is not None and call.rule in ("all", "all_soft") and positives <= FEW:
        return Form(_on_gpu, on_gpu, 1, 4)
    return Form(_in_torch, on_gpu, RULES[call.rule].buffers, RULES[call.rule].bytes)


def distances_on_gpu(anchors: Tensor) -> Distances | None:
    """The kernel that makes distances of products on a GPU, if it can do so here and now."""
    if not gpu.takes(anchors):
        return None
    from ..kernels.triton import pairs

    return pairs.distances


def _natively(buffers: Buffers, start: int, pool: int, geometry: Geometry, partners: Partners, call: Call) -> Evaluated:
    tile, *_ = buffers
    stop = start + len(tile)
    column, valid = partners.positives(start, stop)
    rule, _, soft = call.rule.partition("_")
    value, count = kernels.pairs(
        tile,
        column,
        valid,
        partners.negatives[start:stop],
        None if partners.negative is None else partners.negative[start:stop],
        rule=rule,
        soft=bool(soft),
        rooted=call.distance == "euclidean",
        own=geometry.own_column(start),
        twice=pool,
        margin=call.margin,
        power=call.power,
    )
    return tile, value, count


def _on_gpu(buffers: Buffers, start: int, _pool: int, geometry: Geometry, partners: Partners, call: Call) -> Evaluated:
    from ..kernels.triton import pairs

    tile, *_ = buffers
    stop = start + len(tile)
    column, _ = partners.positives(start, stop)
    value, count = pairs.pairs(
        tile,
        column,
        partners.counts[start:stop],
        partners.negatives[start:stop],
        None if partners.negative is None else partners.negative[start:stop],
        soft=call.rule == "all_soft",
        rooted=call.distance == "euclidean",
        own=geometry.own_column(start),
        margin=call.margin,
    )
    return tile, value, count


def _in_torch(buffers: Buffers, start: int, pool: int, geometry: Geometry, partners: Partners, call: Call) -> Evaluated:
    tile, weight, spare = buffers
    stop = start + len(tile)
    if call.distance == "euclidean":
        tile.sqrt_()
        geometry.exclude(tile, start)
    column, valid = partners.positives(start, stop)
    positive = torch.where(valid, tile.gather(1, column), torch.zeros_like(tile[:1, :1]))
    partners.keep_negatives(tile, start, column, valid, geometry.nowhere)
    twice = (pool, valid & (column >= pool))
    rows = Rows(tile, positive, valid, partners.negatives[start:stop], weight, spare, twice, call.margin, call.power)
    value, count, pull = RULES[call.rule].evaluate(rows)
    if call.distance == "euclidean":
        weight.div_(tile)
        pull = torch.where(positive > 0, pull / positive, torch.zeros_like(pull))
    weight.scatter_add_(1, column, pull)
    return weight, value, count
