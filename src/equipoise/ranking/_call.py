"""What a loss over all pairs of a batch is told beside the embeddings."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Call(NamedTuple):
    """Tensors, then options, in the order of the schema of the operator `sweep`."""

    scale: Tensor | None
    label: Tensor | None
    candidate_label: Tensor | None
    positive: Tensor | None
    negative: Tensor | None
    own: int
    rule: str
    distance: str
    margin: float
    power: float
    budget: int
