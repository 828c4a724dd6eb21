"""One training of an embedding: its batches and its loss, and how what it gives is scored."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import training
from ..candidates import Make
from ..features import Features
from ..problem import EMBEDDING
from ..recipe import Recipe
from ..trials import Settings
from .batches import Balanced
from .measures import Ints, Search, measure


@dataclass(frozen=True)
class Pool:
    """The rows of a part that are searched, and their features.

    Attributes:
        features: in the order of the search.
        search: their labels, and which of them are queries.
        classes: how many classes there are in all.
    """

    features: Features
    search: Search
    classes: int

    @classmethod
    def of(cls, features: Features, labels: Ints, classes: int, seed: int) -> Pool:
        """Of the rows of a part: the same ones for every candidate of a seed."""
        search = Search.of(labels, seed)
        return cls(features.of(torch.from_numpy(search.rows)), search, classes)

    def score(self, model: nn.Module) -> dict[str, Any]:
        """The quality of a model's embeddings, as JSON can hold it."""
        return asdict(measure(training.predict(model, self.features), self.search, self.classes))


def recipe(make: Make, labels: Tensor, plan: training.Budget, settings: Settings, seed: int, pool: Pool) -> Recipe:
    """How an embedding is trained under a loss.

    The longer it is trained, the better it knows the training classes, and after a while the worse all others: the
    model that was best on validation classes is kept, as is usual for embeddings.

    Args:
        make: builds the loss from the training labels and the numbers of an embedding.
        labels: of the training rows, [N], of any classes.
        plan: the budget.
        settings: what is tuned.
        seed: decides the loss's own weights, if it has any.
        pool: the validation rows that are searched.
    """
    _, own = np.unique(labels.numpy(), return_inverse=True)
    targets = torch.from_numpy(own.astype(np.int64))
    with training.seeded(seed, "cpu"):
        loss = make(targets, EMBEDDING, **dict(settings.options))
    warm = torch.ones(4, EMBEDDING, requires_grad=True)
    loss(warm, torch.tensor([0, 0, 1, 1])).backward()  # what torch loads at first use is not on the clock
    return Recipe(
        loss=loss,
        targets=targets,
        bias=torch.zeros(EMBEDDING),
        score=pool.score,
        batches=Balanced(targets, plan.batch_size),
        keeps_best=True,
    )
