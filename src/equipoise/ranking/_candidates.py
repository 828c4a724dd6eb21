"""Which candidates are positives and negatives of an anchor, tile by tile, from labels or from pair masks."""

from __future__ import annotations

import torch
from torch import Tensor

from ._call import Call


class Partners:
    """The positives and negatives of each anchor.

    Attributes:
        counts: `[N]`, how many positives each anchor has.
        negatives: `[N]`, how many negatives.
        most: the most positives of any anchor.
    """

    def __init__(self, call: Call) -> None:
        self.positive, self.negative, self.own = call.positive, call.negative, call.own
        if call.label is not None and call.candidate_label is not None:
            self._sort(call.label, call.candidate_label)
        elif call.positive is not None and call.negative is not None:
            self.counts = self._count(call.positive)
            self.negatives = self._count(call.negative)
        self.most = int(self.counts.max()) if self.counts.numel() else 0

    def _sort(self, label: Tensor, candidate_label: Tensor) -> None:
        """The candidates of one class lie side by side in `order`."""
        ordered, self.order = candidate_label.sort(stable=True)
        label = label.contiguous()  # torch warns of any other
        self.first = torch.searchsorted(ordered, label)
        self.counts = torch.searchsorted(ordered, label, right=True) - self.first
        self.negatives = len(candidate_label) - self.counts
        if self.own >= 0:
            rank = torch.empty_like(self.order)
            rank[self.order] = torch.arange(len(self.order), device=rank.device)
            self.rank = rank[self.own : self.own + len(label)] - self.first
            self.counts = self.counts - 1

    def _count(self, mask: Tensor) -> Tensor:
        """True entries of each row, without the anchor itself."""
        counts = mask.sum(1)
        return counts - mask.diagonal(self.own)[: len(mask)].to(counts.dtype) if self.own >= 0 else counts

    def positives(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The columns of the positives of some anchors in rising order, `[t, J]`, and which of them there are.

        The columns of those that there are not are any others, each once.
        """
        place = torch.arange(self.most, device=self.counts.device)
        if self.positive is not None:
            return self._of_mask(self.positive[start:stop], start, place)
        valid = place < self.counts[start:stop, None]
        if self.own >= 0:
            place = place + (place >= self.rank[start:stop, None])
        return self.order[(self.first[start:stop, None] + place) % len(self.order)], valid

    def _of_mask(self, mask: Tensor, start: int, place: Tensor) -> tuple[Tensor, Tensor]:
        row, column = mask.nonzero(as_tuple=True)
        if self.own >= 0:
            others = column != row + start + self.own
            row, column = row[others], column[others]
        counts = self.counts[start : start + len(mask)]
        rank = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        table = torch.zeros(len(mask), len(place), dtype=torch.int64, device=row.device)
        table[row, rank] = column
        return table, place < counts[:, None]

    def keep_negatives(self, tile: Tensor, start: int, column: Tensor, valid: Tensor, fill: float) -> None:
        """Puts `fill` wherever there is no negative; the anchor itself is taken care of elsewhere."""
        if self.negative is not None:
            tile.masked_fill_(~self.negative[start : start + len(tile)], fill)
        else:
            tile.scatter_(1, column, torch.where(valid, fill, tile.gather(1, column)))
