"""The geometry of a tile: distances of a few anchors to all candidates, and the gradient that goes back through them.

Both are matrix products. Candidates lie in up to two parts, the batch and a reference set, which are never joined into
one tensor: a memory bank is not copied at each step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ._call import Call
from ._distance import NEAR
from ._rows import far

BYTES_OF_POSITIVE = 48
"""What the table of positives takes for each place: its columns, distances, derivatives and what comes between."""

TALL = 512
"""More anchors in a tile make matrix products no faster, and push the tile out of the cache."""

MANY, MOST_BUDGETS = 8192, 4
"""Beyond so many candidates the budget grows with them, up to so many times: lower tiles make slow matrix products."""

Places = tuple[Tensor, Tensor]
Buffers = tuple[Tensor, Tensor, Tensor]
Distances = Callable[..., None]
"""`kernels.tiles.distances`, or its twin for GPUs."""


def squared_lengths(rows: Tensor, chunk: int) -> Tensor:
    """Sums of squares, `chunk` rows at a time; a norm squared would not give whole numbers, and so break ties."""
    return torch.cat([some.square().sum(1) for some in torch.split(rows, chunk)])


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
        self.square: Tensor | None = None
        self.most = 0.0
        self.pull = self.rows.new_zeros(len(self.rows)) if self.gradient is not None else None

    def measure(self, chunk: int) -> None:
        """Notes the squared lengths, so many rows at a time: a copy of all could be large."""
        self.square = squared_lengths(self.rows, chunk)
        if self.scale is not None:
            self.square *= self.scale.square()
        self.most = float(self.square.amax()) if len(self.rows) else 0.0

    def take(self, places: Tensor) -> Tensor:
        """The rows at `places`, scaled."""
        rows = self.rows[places]
        return rows if self.scale is None else rows * self.scale[places, None]


class Geometry:
    """Distances (or for `"similarity"` products) of tiles of anchors, and their gradients.

    Args:
        anchors: `[N, D]`.
        parts: the candidates.
        call: the distance: `"euclidean"`, `"squared_euclidean"`, `"cosine"` of unit rows, or `"similarity"`; which
            column the first anchor is; and the budget, of which a part may go to distances that have lost their digits.
        gradient: `[N, D]`, to be filled with the gradient of the anchors; None: none is wanted.
        distances: the kernel that makes distances of products; None: plain torch does.
    """

    def __init__(
        self, anchors: Tensor, parts: list[Part], call: Call, gradient: Tensor | None, distances: Distances | None
    ) -> None:
        self.anchors, self.parts, self.gradient, self.distances = anchors, parts, gradient, distances
        self.distance, self.own = call.distance, call.own
        self.nowhere = -torch.inf if self.distance == "similarity" else far(anchors)
        self.is_squared = self.distance in ("euclidean", "squared_euclidean")
        self.chunk = max(1, call.budget // (4 * max(1, anchors.shape[1]) * anchors.element_size()))
        if self.is_squared:
            self.square = squared_lengths(anchors, self.chunk)
            for part in parts:
                part.measure(self.chunk)

    def own_column(self, start: int) -> int:
        """The column of the anchor `start` itself, -1 if it is no candidate."""
        return self.own + start if self.own >= 0 else -1

    def fill(self, tile: Tensor, start: int) -> None:
        """Writes the distances of the anchors from `start` on, for `"euclidean"` their squares.

        An anchor is `nowhere` from itself, or what the kernels take for that.
        """
        anchors = self.anchors[start : start + len(tile)]
        factor = {"similarity": 1, "cosine": -1}.get(self.distance, -2)
        scaled = anchors if factor == 1 else anchors * factor
        self.near: list[tuple[Part, Places]] = []
        for part in self.parts:
            columns = tile[:, part.columns]
            torch.mm(scaled, part.rows.t(), out=columns)
            near = self._complete(columns, part, start)
            if near is not None and bool(near.any()):
                self._mend(columns, part, near.nonzero()[:, 0], start)

    def _complete(self, columns: Tensor, part: Part, start: int) -> Tensor | None:
        """Makes distances of products, and tells in which rows some are near 0, if that matters."""
        if self.distances is not None and self.distance != "similarity":
            return self._complete_by_kernel(self.distances, columns, part, start)
        if part.scale is not None:
            columns *= part.scale
        if self.distance == "cosine":
            columns.add_(1).clamp_(min=0)
        squares = self.square[start : start + len(columns)] if self.is_squared else None
        if squares is not None and part.square is not None:
            columns += part.square
            columns += squares[:, None]
        if part is self.parts[0]:
            self.exclude(columns, start)
        if squares is None or not columns.shape[1]:
            return None
        near: Tensor = ~(columns.amin(1) > NEAR * (squares + part.most))
        return near

    def _complete_by_kernel(self, distances: Distances, columns: Tensor, part: Part, start: int) -> Tensor | None:
        own = self.own_column(start) if part is self.parts[0] else -1
        near = columns.new_empty(len(columns), dtype=torch.bool) if self.is_squared else None
        squares = self.square[start : start + len(columns)] if self.is_squared else None
        distances(columns, part.scale, part.square, squares, own, NEAR, part.most, near)
        return near

    def exclude(self, columns: Tensor, start: int) -> None:
        """Puts the anchors out of their own way."""
        if self.own >= 0:
            first = self.own + start
            columns[:, first : first + len(columns)].diagonal().fill_(self.nowhere)

    def _mend(self, columns: Tensor, part: Part, near: Tensor, start: int) -> None:
        """Distances that a product cannot give are taken from the difference, and so will be their gradients.

        Args:
            columns: those of the tile that are the part's.
            part: the candidates.
            near: the rows where there are such distances; mostly there are none.
            start: the first anchor.
        """
        assert part.square is not None
        found = []
        for rows in torch.split(near, max(1, len(columns) // 8)):  # what is compared takes memory
            bound = NEAR * (self.square[start + rows, None] + part.square)
            row, column = (columns[rows] <= bound).nonzero(as_tuple=True)
            found.append((rows[row], column))
        row, column = (torch.cat(each) for each in zip(*found, strict=True))
        anchors = self.anchors[start : start + len(columns)]
        for rows, others in self._chunks(row, column):
            columns[rows, others] = (anchors[rows] - part.take(others)).square_().sum(1)
        if len(row):
            self.near.append((part, (row, column)))

    def _chunks(self, row: Tensor, column: Tensor) -> Iterator[Places]:
        """Pairs, as many at once as the budget holds the differences of."""
        for start in range(0, len(row), self.chunk):
            yield row[start : start + self.chunk], column[start : start + self.chunk]

    def gather(self, weight: Tensor, start: int) -> None:
        """Adds the gradient of a tile.

        Args:
            weight: `[t, M]`, the weight of each pair; it is overwritten.
            start: the first anchor.
        """
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
) -> Iterator[tuple[int, Buffers]]:
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
    more = min(max(candidates / MANY, 1), MOST_BUDGETS)
    rows = min(max(int(more * budget) // row, 1), TALL, len(anchors))
    memory = [anchors.new_empty(rows, candidates) for _ in range(buffers)]
    for start in range(0, len(anchors), rows):
        cut = [buffer[: len(anchors) - start] for buffer in memory]
        yield start, (cut[0], cut[min(1, buffers - 1)], cut[-1])
