"""Batch-hard mining: the farthest positive and the nearest negative of each anchor, in tiles."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..kernels import tiles as kernels
from . import _operators
from ._call import Call
from ._candidates import Partners
from ._distance import root
from ._forms import distances_on_gpu, is_native
from ._tiles import Geometry, Part, tiles


def hardest(anchors: Tensor, pool: Tensor, reference: Tensor | None, call: Call) -> tuple[Tensor, Tensor, Tensor]:
    """The distances of each anchor to its farthest positive and nearest negative, and which anchors have both.

    The choice is made without a graph, and the chosen distances are computed again with one, from the differences.
    """
    detached = (anchors.detach(), pool.detach(), None if reference is None else reference.detach())
    far, near, has = OPERATOR(*detached, *call[:6], call.distance, call.budget)
    return *(_distances(anchors, pool, reference, call, each) for each in (far, near)), has


def _distances(anchors: Tensor, pool: Tensor, reference: Tensor | None, call: Call, place: Tensor) -> Tensor:
    rows = pool[place.clamp(max=len(pool) - 1)]
    if reference is not None and len(reference):
        further = (place - len(pool)).clamp(min=0)
        others = reference[further] if call.scale is None else reference[further] * call.scale[further, None]
        rows = torch.where((place < len(pool))[:, None], rows, others)
    if call.distance == "cosine":
        return 1 - (anchors * rows).sum(1)
    square = (anchors - rows).square().sum(1)
    return square if call.distance == "squared_euclidean" else root(square)


def _mine(anchors: Tensor, pool: Tensor, reference: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The operator: places of the farthest positives and nearest negatives, and where there are both."""
    *partners_of, distance, budget = rest
    if distance == "euclidean":  # the square has the same order, and needs no root
        distance = "squared_euclidean"
    call = Call._make((*partners_of, "hard", distance, 0.0, 1.0, budget))
    far, near, has = _allocate(anchors)
    candidates = len(pool) + (0 if reference is None else len(reference))
    if not (len(anchors) and candidates):
        return far, near, has
    partners = Partners(call)
    torch.logical_and(partners.counts > 0, partners.negatives > 0, out=has)
    if not partners.most:
        return far, near, has
    parts = [Part(pool, None, slice(0, len(pool)), None)]
    if reference is not None:
        parts.append(Part(reference, call.scale, slice(len(pool), candidates), None))
    by_kernels = is_native(anchors)
    distances = kernels.distances if by_kernels else distances_on_gpu(anchors)
    geometry = Geometry(anchors, parts, call, None, distances)
    choose = _natively if by_kernels else _in_torch
    for start, (tile, *_) in tiles(anchors, candidates, partners.most, 1, 4 if by_kernels else 5, call.budget):
        geometry.fill(tile, start)
        stop = start + len(tile)
        choose(tile, start, geometry, partners, far[start:stop], near[start:stop])
    return far, near, has


def _in_torch(tile: Tensor, start: int, geometry: Geometry, partners: Partners, far: Tensor, near: Tensor) -> None:
    column, valid = partners.positives(start, start + len(tile))
    farthest = torch.where(valid, tile.gather(1, column), -torch.inf).argmax(1, keepdim=True)
    far.copy_(column.gather(1, farthest)[:, 0])
    partners.keep_negatives(tile, start, column, valid, geometry.nowhere)
    torch.argmin(tile, 1, out=near)


def _natively(tile: Tensor, start: int, geometry: Geometry, partners: Partners, far: Tensor, near: Tensor) -> None:
    stop = start + len(tile)
    kernels.pairs(
        tile,
        *partners.positives(start, stop),
        partners.negatives[start:stop],
        None if partners.negative is None else partners.negative[start:stop],
        rule="hard",
        own=geometry.own_column(start),
        chosen=(far, near),
    )


def _allocate(anchors: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    far, near = (anchors.new_zeros(len(anchors), dtype=torch.int64) for _ in range(2))
    return far, near, anchors.new_zeros(len(anchors), dtype=torch.bool)


OPERATOR = _operators.register(
    "mine(Tensor anchors, Tensor pool, Tensor? reference, Tensor? scale, Tensor? label, Tensor? candidate_label,"
    " Tensor? positive, Tensor? negative, int own, str distance, int budget) -> (Tensor, Tensor, Tensor)",
    _mine,
    _allocate,
)
