"""Cross-batch memory. Wang et al., "Cross-Batch Memory for Embedding Learning", CVPR 2020."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..distributed import gather_rows
from ..loss import Loss
from ..reduction import compute_dtype
from ._batch import embeddings, labels


class CrossBatchMemory(Loss):
    r"""A queue of past embeddings and their labels, for the losses that take a `reference`.

    The newest push out the oldest. The losses read it where it lies: no step copies it.

    Args:
        size: how many embeddings it holds.
        sync: whether the embeddings of all ranks are added, so that every rank holds the same. Default: `False`.

    Shape:
        `embedding` and `label` are what it holds, `[n, D]` and `[n]` with n <= `size`; empty, `[0, 0]` and `[0]`, at
        first.

    Example:
        >>> import torch
        >>> from equipoise import BatchTripletLoss, CrossBatchMemory
        >>> criterion, memory = BatchTripletLoss(), CrossBatchMemory(size=1000)
        >>> for _ in range(3):
        ...     embedding, label = torch.randn(8, 4, requires_grad=True), torch.arange(8) // 2
        ...     loss = criterion(embedding, label, **memory())
        ...     memory.add(embedding, label)
        >>> memory.embedding.shape
        torch.Size([24, 4])

    References:
        Wang et al., "Cross-Batch Memory for Embedding Learning", CVPR 2020, algorithm 1.
    """

    rows: Tensor
    row_labels: Tensor
    added: Tensor

    def __init__(self, size: int, *, sync: bool = False) -> None:
        super().__init__()
        self.size = checks.whole("size", size, 1)
        self.sync = sync
        self.register_buffer("rows", torch.zeros(0, 0))
        self.register_buffer("row_labels", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("added", torch.zeros((), dtype=torch.int64))

    @property
    def embedding(self) -> Tensor:
        """The embeddings that it holds, without a copy; in no particular order once it is full."""
        return self.rows[: int(self.added)]

    @property
    def label(self) -> Tensor:
        """Their labels."""
        return self.row_labels[: int(self.added)]

    def forward(self) -> dict[str, Tensor]:
        """Keywords for a loss: `reference` and `reference_label`, or none as long as it is empty."""
        return {"reference": self.embedding, "reference_label": self.label} if int(self.added) else {}

    @torch.no_grad()
    def add(self, embedding: Tensor, label: Tensor) -> None:
        """Puts embeddings in, without their graph, and the oldest out; a batch that is not finite is left out.

        Call it after the loss: a batch that is in its own reference meets itself there at distance 0.

        Args:
            embedding: `[N, D]`.
            label: `[N]`, integers.
        """
        fresh = embeddings("embedding", embedding)
        fresh = fresh.detach().to(compute_dtype(fresh))
        fresh_label, _ = gather_rows(labels("label", label, len(fresh)), self.sync)
        fresh, _ = gather_rows(fresh, self.sync)
        if not bool(fresh.isfinite().all()):
            return
        if not self.rows.numel():
            self.rows = fresh.new_zeros(self.size, fresh.shape[1])
            self.row_labels = fresh_label.new_zeros(self.size)
        if fresh.shape[1] != self.rows.shape[1]:
            raise ValueError(
                f"`embedding` must have the {self.rows.shape[1]} columns of those before, got {list(fresh.shape)}"
            )
        count = len(fresh)
        place = (int(self.added) + torch.arange(count, device=fresh.device)) % self.size
        last = slice(max(0, count - self.size), count)
        self.rows[place[last]] = fresh[last].to(self.rows)
        self.row_labels[place[last]] = fresh_label[last]
        self.added += count

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """A fresh memory takes the shape of the saved one."""
        for name in ("rows", "row_labels"):
            saved = state_dict.get(prefix + name)
            if saved is not None and (len(saved) in (0, self.size)):
                setattr(self, name, torch.empty_like(saved, device=getattr(self, name).device))
        super()._load_from_state_dict(state_dict, prefix, *rest)
