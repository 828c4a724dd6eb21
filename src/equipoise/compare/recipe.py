"""What the kind of a problem decides of a training; everything else is the same for all kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Recipe:
    """How one candidate is trained and scored.

    Attributes:
        loss: called as `loss(output of the model, targets)`.
        targets: of the training rows, as the loss takes them.
        bias: what the last layer's biases start at, one per number that the model gives.
        score: the quality of a model on validation rows, as JSON can hold it.
        batches: the rows of each step of an epoch; None for all rows in a random order.
        keeps_best: whether the model of the best point of the curve is kept rather than that of the last epoch.
    """

    loss: nn.Module
    targets: Tensor
    bias: Tensor
    score: Callable[[nn.Module], dict[str, Any]]
    batches: Iterable[Tensor] | None = None
    keeps_best: bool = False
