"""InfoNCE. van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018, eq. 4."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import checks
from ..card import Card, Identity
from ..checks import Scalar
from ..distributed import gather_rows
from ..loss import Loss
from ..reduction import check_reduction, compute_dtype
from ._batch import Batch, embeddings, labels, swept
from ._distance import unit
from ._temperature import hold_temperature, temperature_of


def info_nce_loss(
    query: Tensor,
    key: Tensor,
    *,
    temperature: Scalar = 0.07,
    symmetric: bool = True,
    label: Tensor | None = None,
    normalize: bool = True,
    reduction: str = "mean",
    memory_mb: Scalar = 16.0,
    sync: bool = False,
) -> Tensor:
    r"""Asks each query to find its key among all keys of the batch, and with `symmetric` each key its query.

    $\ell_i = -\frac{1}{|P_i|} \sum_{p \in P_i} \log \frac{e^{q_i \cdot k_p / τ}}{\sum_j e^{q_i \cdot k_j / τ}}$ with
    the temperature τ and $P_i = \{i\}$, or with `label` all keys of the query's label. In memory that grows with the
    batch and not with its pairs.

    Args:
        query: embeddings `[N, D]`, floating-point.
        key: the key of each query, `[N, D]`.
        temperature: τ > 0, a number or a 0-d tensor, which may ask for a gradient. Default: `0.07`.
        symmetric: whether the loss is the average of both directions, as in CLIP. Default: `True`.
        label: `[N]`, integers: every key of a query's label is a positive of it. Default: `None`.
        normalize: whether embeddings are scaled to length 1 first. Default: `True`.
        reduction: `"sum"`, or `"mean"`: the sum divided by the number of queries. Default: `"mean"`.
        memory_mb: budget for the tiles in which products are computed, in millions of bytes; beyond 8,192
            candidates it grows with them, up to four times. Default: `16.0`.
        sync: whether the queries and keys of all ranks make one batch; the average over ranks, which DDP takes, of the
            losses and their gradients is then that of one process on the joined batch. Default: `False`.

    Returns:
        A scalar; float32 for half-precision input. 0 without queries.

    Raises:
        TypeError: if an input is not a floating-point tensor or `label` no integers.
        ValueError: if shapes do not fit or a value leaves its range.

    Example:
        >>> import torch
        >>> from equipoise import info_nce_loss
        >>> info_nce_loss(torch.eye(3), torch.eye(3), temperature=1.0)
        tensor(0.5514)

    Differs from:
        CPC draws its negatives; here, as in CLIP, they are the other keys of the batch.

    References:
        van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", arXiv 1807.03748,
        eq. 4; Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021
        (CLIP).
    """
    check_reduction(reduction, ("sum", "mean"))
    width = embeddings("query", query).shape[1]
    rows = [query, embeddings("key", key, width)]
    checks.same_shape("key", key, query.shape, "a key for each query")
    dtype = torch.promote_types(compute_dtype(query), compute_dtype(key))
    queries, keys = (unit(each.to(dtype)) if normalize else each.to(dtype) for each in rows)
    heat = temperature_of(temperature, queries)
    (all_queries, start), (all_keys, _) = gather_rows(queries, sync), gather_rows(keys, sync)
    if label is None:
        candidate_label = torch.arange(len(all_keys), device=keys.device)
        label = candidate_label[start : start + len(queries)]
    else:
        label = labels("label", label, len(queries))
        candidate_label, _ = gather_rows(label, sync)

    def direction(anchors: Tensor, pool: Tensor) -> Tensor:
        here = Batch(anchors / heat, pool, -1, None, None, label, candidate_label, None, None)
        return swept(here, "softmax", "similarity", reduction=reduction, memory_mb=memory_mb, sync=sync)

    forth = direction(queries, all_keys)
    return (forth + direction(keys, all_queries)) / 2 if symmetric else forth


class InfoNCELoss(Loss):
    r"""InfoNCE of queries and their keys; the module of `info_nce_loss`.

    $\ell_i = -\log \frac{e^{q_i \cdot k_i / τ}}{\sum_j e^{q_i \cdot k_j / τ}}$

    Args:
        temperature: τ > 0; a `torch.nn.Parameter` is learned. Default: `0.07`.
        symmetric: whether the loss is the average of both directions. Default: `True`.
        normalize: whether embeddings are scaled to length 1 first. Default: `True`.
        reduction: `"sum"`, or `"mean"`: divided by the number of queries. Default: `"mean"`.
        memory_mb: budget for the tiles in which products are computed, in millions of bytes; beyond 8,192
            candidates it grows with them, up to four times. Default: `16.0`.
        sync: whether the queries and keys of all ranks make one batch. Default: `False`.

    Shape:
        `query` and `key` `[N, D]`; a scalar.

    Example:
        >>> import torch
        >>> from equipoise import InfoNCELoss
        >>> InfoNCELoss(symmetric=False)(torch.eye(3), torch.ones(3, 3))
        tensor(1.0986)

    References:
        See `info_nce_loss`.
    """

    temperature: Tensor | float

    def __init__(
        self,
        *,
        temperature: Scalar = 0.07,
        symmetric: bool = True,
        normalize: bool = True,
        reduction: str = "mean",
        memory_mb: Scalar = 16.0,
        sync: bool = False,
    ) -> None:
        super().__init__()
        self.temperature = hold_temperature(temperature)
        self.symmetric = symmetric
        self.normalize = normalize
        self.reduction = check_reduction(reduction, ("sum", "mean"))
        self.memory_mb = float(checks.above_zero("memory_mb", memory_mb))
        self.sync = sync

    def forward(self, query: Tensor, key: Tensor, *, label: Tensor | None = None) -> Tensor:
        """The loss of each `query` among all `key`; keys of one `label` are positives of each other's queries."""
        return info_nce_loss(
            query,
            key,
            temperature=self.temperature,
            symmetric=self.symmetric,
            label=label,
            normalize=self.normalize,
            reduction=self.reduction,
            memory_mb=self.memory_mb,
            sync=self.sync,
        )


def _cross_entropy(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """Torch's cross-entropy of the matrix of all products, for comparison."""
    return torch.nn.functional.cross_entropy(query @ key.t() / temperature, torch.arange(len(query)))


CARD = Card(
    name="info_nce",
    summary="asks each query to find its key among all keys of the batch (CLIP's loss)",
    module=InfoNCELoss,
    function=info_nce_loss,
    family="Pairs and ranking",
    kind="embeddings",
    problems=frozenset({"embeddings"}),
    op_family="tiles",
    paper='van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018, eq. 4',
    formula=r"-\log \frac{e^{q_i \cdot k_i / τ}}{\sum_j e^{q_i \cdot k_j / τ}}",
    use_when="two views or modalities of each example are paired and there are no labels",
    avoid_when="a batch holds the same key several times: the duplicates are pushed apart (pass their labels)",
    samples=({}, {"symmetric": False, "temperature": 0.5}, {"normalize": False, "temperature": 2.0}),
    identities=(
        Identity(
            statement="equals torch's cross_entropy of the matrix of products, one direction and not normalised",
            options={"symmetric": False, "normalize": False, "temperature": 0.5},
            other=_cross_entropy,
            other_options={"temperature": 0.5},
        ),
    ),
    differs=("CPC draws its negatives; here they are the other keys of the batch",),
)
