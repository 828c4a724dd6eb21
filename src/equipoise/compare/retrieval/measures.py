"""How well rows of a class are found among others by the nearness of their embeddings: Recall@k and MAP@R.

Each query is compared with all other rows. Recall@k is the share of queries that have a row of their class among the k
nearest. MAP@R (Musgrave, Belongie and Lim, "A Metric Learning Reality Check", ECCV 2020, section 3.2) looks at as many
rows as the query's class has others, R: `1/R · Σ P(i)` over the places i <= R that hold a row of the class, P(i) being
the share of such rows up to there. It is 1 only where the class comes before all else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from ..metrics import Scores

# Of a larger class a sample: MAP@R ranks as many rows as a class has.
MOST_PER_CLASS = 500
# More queries than this move a mean by less than the choice of classes does.
MOST_QUERIES = 2000
# Similarities in memory at once.
TILE = 2_000_000
DEEPEST = 5

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Search:
    """The rows of a part that are searched, in an order that tells nothing of their classes.

    Of equally near rows the first are taken: in the order of a table that is sorted by class, a class that an embedding
    does not tell from others would be found always, or never.

    Attributes:
        rows: int64 [N], positions in the part.
        labels: int64 [N], their classes.
        queries: how many of them, the first, are searched for.
    """

    rows: Ints
    labels: Ints
    queries: int

    @classmethod
    def of(cls, labels: Ints, seed: int) -> Search:
        """Up to `MOST_PER_CLASS` rows of each class, of which up to `MOST_QUERIES` are queries."""
        shuffled = np.random.default_rng(seed).permutation(len(labels))
        by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
        starts = np.flatnonzero(np.diff(labels[by_class], prepend=-1))
        sizes = np.diff(starts, append=len(labels))
        place = np.empty(len(labels), np.int64)  # of each row within its class
        place[by_class] = np.arange(len(labels)) - np.repeat(starts, sizes)
        rows = shuffled[place[shuffled] < MOST_PER_CLASS]
        return cls(rows, labels[rows], min(len(rows), MOST_QUERIES))


def measure(embedding: Tensor, search: Search, classes: int) -> Scores:
    """Recall@1, Recall@5 and MAP@R, means over queries, and the Recall@1 of each class.

    Args:
        embedding: of the rows of the search [N, D]; compared by the cosine.
        search: their labels, and which are queries.
        classes: how many classes there are in all.
    """
    nothing: list[float | None] = [None] * classes
    if not bool(embedding.isfinite().all()) or not search.queries:
        return Scores({"recall": nothing}, dict.fromkeys(("map_at_r", "recall_at_1", "recall_at_5")), None)
    hits, others = nearest(embedding, search)
    found = hits[:, 0].double()
    ranks = torch.arange(1, hits.shape[1] + 1)
    counted = hits & (ranks <= others[:, None])
    precision = hits.double().cumsum(dim=1) / ranks
    by_query = (precision * counted).sum(dim=1) / others
    labels = torch.from_numpy(search.labels[: search.queries])
    asked = torch.bincount(labels, minlength=classes)
    right = torch.bincount(labels, found, minlength=classes)
    by_class = [float(part / whole) if whole else None for part, whole in zip(right, asked, strict=True)]
    overall = {
        "map_at_r": float(by_query.mean()),
        "recall_at_1": float(found.mean()),
        "recall_at_5": float(hits[:, :DEEPEST].any(dim=1).double().mean()),
    }
    return Scores({"recall": by_class}, overall, None)


def nearest(embedding: Tensor, search: Search) -> tuple[Tensor, Tensor]:
    """Whether the nearest rows of each query are of its class, [Q, K], nearest first; and the size of its class less 1.

    In tiles of queries: no matrix of all pairs is kept.
    """
    unit, labels = normalize(embedding, dim=1), torch.from_numpy(search.labels)
    sizes = torch.bincount(labels)[labels[: search.queries]]
    depth = min(len(unit) - 1, max(DEEPEST, int(sizes.max()) - 1))
    step = max(1, TILE // len(unit))
    hits = []
    for start in range(0, search.queries, step):
        queries = torch.arange(start, min(start + step, search.queries))
        similarity = unit[queries] @ unit.T
        similarity[torch.arange(len(queries)), queries] = -torch.inf  # a query does not find itself
        hits.append(labels[similarity.topk(depth).indices] == labels[queries, None])
    return torch.cat(hits), sizes - 1
