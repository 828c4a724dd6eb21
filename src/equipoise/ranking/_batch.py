"""The path that all losses over a batch of embeddings take: check, gather, sweep, reduce."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import checks
from ..checks import Scalar
from ..distributed import gather_rows
from ..reduction import across_ranks, compute_dtype, reduce
from ._call import Call
from ._distance import unit
from ._sweep import total


@dataclass(frozen=True)
class Batch:
    """Embeddings of one call, checked, cast to the precision of the arithmetic and gathered.

    Attributes:
        anchors: `[n, D]`, this rank's embeddings.
        pool: `[N, D]`, those of all ranks; the anchors themselves where there is one rank.
        own: the row of `pool` that the first anchor is, -1 if anchors are no candidates.
        reference: `[R, D]`, further candidates, or None.
        scale: `[R]`, a factor of each row of `reference`, or None.
        label: of the anchors, or None.
        candidate_label: of pool and reference.
        positive: boolean `[n, N + R]`, in place of labels.
        negative: boolean `[n, N + R]`.
    """

    anchors: Tensor
    pool: Tensor
    own: int
    reference: Tensor | None
    scale: Tensor | None
    label: Tensor | None
    candidate_label: Tensor | None
    positive: Tensor | None
    negative: Tensor | None


def batch(
    embedding: Tensor,
    label: Tensor | None,
    positive: Tensor | None,
    negative: Tensor | None,
    reference: Tensor | None,
    reference_label: Tensor | None,
    *,
    normalize: bool,
    sync: bool,
) -> Batch:
    """Checks the tensors of a call and makes them a batch."""
    rows = embeddings("embedding", embedding)
    dtype = compute_dtype(rows)
    anchors = unit(rows.to(dtype)) if normalize else rows.to(dtype)
    others, scale = _reference(reference, anchors, normalize)
    if (reference_label is None) != (reference is None or label is None):
        raise ValueError("`reference_label` must come with `reference` and `label`, and not without them")
    pool, own = gather_rows(anchors, sync)
    candidates = len(pool) + (0 if others is None else len(others))
    candidate_label = None
    if label is not None:
        if positive is not None or negative is not None:
            raise ValueError("`label` must be None where `positive` says which pairs are alike")
        label = labels("label", label, len(rows))
        candidate_label, _ = gather_rows(label, sync)
        if others is not None:
            candidate_label = torch.cat([candidate_label, labels("reference_label", reference_label, len(others))])
    else:
        positive, negative = _masks(positive, negative, (len(rows), candidates), own)
    return Batch(anchors, pool, own, others, scale, label, candidate_label, positive, negative)


def embeddings(name: str, value: Tensor, width: int | None = None) -> Tensor:
    """Checks that `value` is a floating-point matrix, of `width` columns if that is given."""
    rows = checks.scores(name, value)
    if rows.ndim != 2 or (width is not None and rows.shape[1] != width):
        columns = "D" if width is None else width
        raise ValueError(f"`{name}` must be a matrix [N, {columns}], one row an embedding, got {list(rows.shape)}")
    return rows


def labels(name: str, value: Tensor | None, length: int) -> Tensor:
    """Checks that `value` is a vector of `length` integers, and widens it."""
    vector = checks.labels(name, value)
    if vector.dtype == torch.bool or vector.is_floating_point():
        raise TypeError(f"`{name}` must be integers, got {checks.describe(vector)}")
    checks.same_shape(name, vector, (length,), "one label for each embedding")
    return vector.to(torch.int64)


def _reference(reference: Tensor | None, anchors: Tensor, normalize: bool) -> tuple[Tensor | None, Tensor | None]:
    """The reference set, whose lengths are divided out later unless it asks for a gradient: it may be large."""
    if reference is None:
        return None, None
    rows = embeddings("reference", reference, anchors.shape[1]).to(anchors.dtype)
    if not normalize:
        return rows, None
    if rows.requires_grad:
        return unit(rows), None
    length = torch.linalg.vector_norm(rows, dim=1)
    return rows, torch.where(length > 0, 1 / length, torch.zeros_like(length))


def _masks(positive: Tensor | None, negative: Tensor | None, shape: tuple[int, int], own: int) -> tuple[Tensor, Tensor]:
    """Checked pair masks; without `negative`, all that is not positive is."""
    if positive is None:
        raise ValueError("`label` must be given, or `positive` in its place; both are None")
    for name, mask in (("positive", positive), ("negative", negative)):
        if mask is None:
            continue
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            raise TypeError(f"`{name}` must be a boolean tensor, got {checks.describe(mask)}")
        checks.same_shape(name, mask, shape, "a row for each embedding and a column for each candidate")
    if negative is None:
        return positive, ~positive
    if checks.can_read_values(positive) and _overlap(positive, negative, own):
        raise ValueError("`negative` must not be True where `positive` is, got a pair that is both")
    return positive, negative


def _overlap(positive: Tensor, negative: Tensor, own: int) -> bool:
    both = positive & negative
    both.diagonal(own).fill_(False)
    return bool(both.any())


def swept(
    here: Batch,
    rule: str,
    distance: str,
    *,
    reduction: str,
    memory_mb: Scalar,
    sync: bool,
    margin: float = 0.0,
    power: float = 1.0,
) -> Tensor:
    """The reduced loss of a rule."""
    call = sweep_call(here, rule, distance, memory_mb, margin, power)
    with torch.autocast(here.pool.device.type, enabled=False):
        loss, numbers = total(here.anchors, here.pool, here.reference, call)
    number = numbers[0] if reduction == "mean_active" else numbers[1]
    return averaged(loss, lambda: number, reduction, sync).to(here.pool.dtype)


def sweep_call(
    here: Batch, rule: str, distance: str, memory_mb: Scalar, margin: float = 0.0, power: float = 1.0
) -> Call:
    """What goes into a sweep beside the embeddings."""
    budget = int(1e6 * float(checks.above_zero("memory_mb", memory_mb)))
    partners = (here.scale, here.label, here.candidate_label, here.positive, here.negative, here.own)
    return Call(*partners, rule, distance, margin, power, budget)


def averaged(loss: Tensor, number: Callable[[], Tensor], reduction: str, sync: bool) -> Tensor:
    """A sum, or the mean over the terms of all ranks."""
    divisor, scale = across_ranks(number, reduction=reduction, sync=sync)

    def global_number() -> Tensor:
        found = number() if divisor is None else divisor
        # where no triplet is active the sum is 0, or NaN, which must not be hidden
        return found.clamp_min(1) if reduction == "mean_active" else found

    return reduce(loss, global_number, reduction=reduction, scale=scale)
