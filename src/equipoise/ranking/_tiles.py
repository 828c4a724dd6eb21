"""The geometry of a tile: distances of a few anchors to all candidates, and the gradient that goes back through them.

Both are matrix products. Candidates lie in up to two parts, the batch and a reference set, which are never joined into
one tensor: a memory bank is not copied at each step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ._distance import NEAR
from ._rows import far

BYTES_OF_POSITIVE = 48
"""What the table of positives takes for each place: its columns, distances, derivatives and what comes between."""

Places = tuple[Tensor, Tensor]


@dataclass
class Part:
    """Some of the candidates.

    Attributes:
        rows: `[M, D]`.
        scale: `[M]`, a factor of each row, or None.
        columns: which columns of the tile are theirs.
        gradient: `[M, D]`, to add to; None: none is wanted.
    """

    rows: Tensor
    scale: Tensor | None
    columns: slice
    gradient: Tensor | None

    def __post_init__(self) -> None:
        self.square = self.rows.new_zeros(0)
        self.pull = self.rows.new_zeros(len(self.rows)) if self.gradient is not None else None

    def measure(self) -> None:
        """Notes the squared lengths, row by row and without a copy of the rows."""
        self.square = torch.linalg.vector_norm(self.rows, dim=1).square_()
        if self.scale is not None:
            self.square *= self.scale.square()

    def take(self, places: Tensor) -> Tensor:
        """The rows at `places`, scaled."""
        rows = self.rows[places]
        return rows if self.scale is None else rows * self.scale[places, None]


class Geometry:
    """Distances (or for `"similarity"` products) of tiles of anchors, and their gradients.

    Args:
        anchors: `[N, D]`.
        parts: the candidates.
        distance: `"euclidean"`, `"squared_euclidean"`, `"cosine"` of unit rows, or `"similarity"`.
        own: the column of the first anchor itself, -1 if anchors are no candidates.
        gradient: `[N, D]`, to be filled with the gradient of the anchors; None: none is wanted.
        budget: bytes that may be used to recompute distances that have lost their digits.
    """

    def __init__(
        self, anchors: Tensor, parts: list[Part], distance: str, own: int, gradient: Tensor | None, budget: int
    ) -> None:
        self.anchors, self.parts, self.distance, self.own, self.gradient = anchors, parts, distance, own, gradient
        self.nowhere = -torch.inf if distance == "similarity" else far(anchors)
        self.is_squared = distance in ("euclidean", "squared_euclidean")
        self.chunk = max(1, budget // (4 * max(1, anchors.shape[1]) * anchors.element_size()))
        if self.is_squared:
            self.square = torch.linalg.vector_norm(anchors, dim=1).square_()
            for part in parts:
                part.measure()

    def fill(self, tile: Tensor, start: int) -> None:
        """Writes the distances of the anchors from `start` on; an anchor is `FAR` from itself."""
        anchors = self.anchors[start : start + len(tile)]
        factor = {"similarity": 1, "cosine": -1}.get(self.distance, -2)
        scaled = anchors if factor == 1 else anchors * factor
        for part in self.parts:
            columns = tile[:, part.columns]
            torch.mm(scaled, part.rows.t(), out=columns)
            if part.scale is not None:
                columns *= part.scale
            if self.is_squared:
                columns += part.square
        if self.distance == "cosine":
            tile.add_(1).clamp_(min=0)
        self.near: list[tuple[Part, Places]] = []
        if self.is_squared:
            tile += self.square[start : start + len(tile), None]
            self._exclude(tile, start)
            self._mend(tile, anchors, start)
        if self.distance == "euclidean":
            tile.sqrt_()
        self._exclude(tile, start)

    def _exclude(self, tile: Tensor, start: int) -> None:
        if self.own >= 0:
            first = self.own + start
            tile[:, first : first + len(tile)].diagonal().fill_(self.nowhere)

    def _mend(self, tile: Tensor, anchors: Tensor, start: int) -> None:
        """Distances that a product cannot give are taken from the difference, and so will be their gradients.

        A look at the smallest of each row, in one pass, mostly shows that there are none.
        """
        squares = self.square[start : start + len(tile), None]
        for part in self.parts:
            columns = tile[:, part.columns]
            if not columns.numel() or bool((columns.amin(1) > NEAR * (squares[:, 0] + part.square.amax())).all()):
                continue
            near = columns <= NEAR * (squares + part.square)
            row, column = near.nonzero(as_tuple=True)
            for rows, others in self._chunks(row, column):
                columns[rows, others] = (anchors[rows] - part.take(others)).square_().sum(1)
            if len(row):
                self.near.append((part, (row, column)))

    def _chunks(self, row: Tensor, column: Tensor) -> Iterator[Places]:
        """Pairs, as many at once as the budget holds the differences of."""
        for start in range(0, len(row), self.chunk):
            yield row[start : start + self.chunk], column[start : start + self.chunk]

    def gather(self, weight: Tensor, tile: Tensor, positives: tuple[Tensor, Tensor, Tensor], start: int) -> None:
        """Adds the gradient of a tile, whose `weight` becomes that of the distance over the distance.

        Args:
            weight: `[t, M]`, the derivative with respect to each negative distance, 0 elsewhere.
            tile: the distances.
            positives: columns, distances and derivatives of the positives, `[t, J]` each.
            start: the first anchor.
        """
        column, positive, pull = positives
        if self.distance == "euclidean":
            weight.div_(tile)
            pull = torch.where(positive > 0, pull / positive, torch.zeros_like(pull))
        weight.scatter_add_(1, column, pull)
        anchors = self.anchors[start : start + len(weight)]
        for part, places in self.near:
            self._gather_near(weight[:, part.columns], anchors, part, places, start)
        sign = {"similarity": 1, "cosine": -1}.get(self.distance, -2 if self.distance == "squared_euclidean" else -1)
        if self.gradient is not None:
            target = self.gradient[start : start + len(weight)]
            if self.is_squared:
                target.addcmul_(anchors, weight.sum(1, keepdim=True), value=-sign)
        for part in self.parts:
            columns = weight[:, part.columns]
            if part.gradient is not None and part.pull is not None and self.is_squared:
                part.pull += columns.sum(0)
            if part.scale is not None:
                columns *= part.scale
            if self.gradient is not None:
                target.addmm_(columns, part.rows, alpha=sign)
            if part.gradient is not None:
                part.gradient.addmm_(columns.t(), anchors, alpha=sign)

    def _gather_near(self, weight: Tensor, anchors: Tensor, part: Part, places: Places, start: int) -> None:
        """Takes pairs out of `weight` whose pull would cancel in a product, and adds it from their difference."""
        factor = 2 if self.distance == "squared_euclidean" else 1
        for row, column in self._chunks(*places):
            apart = anchors[row] - part.take(column)
            apart *= torch.where((apart == 0).all(1), 0.0, factor * weight[row, column])[:, None]
            if self.gradient is not None:
                self.gradient.index_add_(0, row + start, apart)
            if part.gradient is not None:
                part.gradient.index_add_(0, column, apart, alpha=-1)
        weight[places] = 0

    def finish(self) -> None:
        """Adds what every tile pulls at the candidates themselves."""
        sign = 2 if self.distance == "squared_euclidean" else 1
        for part in self.parts:
            if self.is_squared and part.gradient is not None and part.pull is not None:
                part.gradient.addcmul_(part.rows, part.pull[:, None], value=sign)


def tiles(
    anchors: Tensor, candidates: int, positives: int, buffers: int, bytes: int, budget: int
) -> Iterator[tuple[int, tuple[Tensor, Tensor, Tensor]]]:
    """First anchor and memory of each tile; all tiles lie in the same memory.

    Args:
        anchors: `[N, D]`.
        candidates: the columns of a tile.
        positives: the most that any anchor has.
        buffers: of the three that come with a tile, how many have memory of their own; the others are the last.
        bytes: needed for each float32 distance.
        budget: bytes for all of it.
    """
    row = bytes * anchors.element_size() // 4 * candidates + BYTES_OF_POSITIVE * positives
    rows = min(max(budget // row, 1), len(anchors))
    memory = [anchors.new_empty(rows, candidates) for _ in range(buffers)]
    for start in range(0, len(anchors), rows):
        cut = [buffer[: len(anchors) - start] for buffer in memory]
        yield start, (cut[0], cut[min(1, buffers - 1)], cut[-1])
