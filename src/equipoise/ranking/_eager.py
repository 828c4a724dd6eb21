"""The same losses in plain torch, differentiable to any order, by their definition and with all distances in memory.

The way to second derivatives and through `torch.func`. Memory grows with the number of pairs, and for triplets with
that of positive pairs times the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from ._call import Call
from ._distance import all_distances


def eager_total(anchors: Tensor, pool: Tensor, reference: Tensor | None, call: Call) -> tuple[Tensor, Tensor]:
    """What `_sweep.total` gives."""
    positive, negative = call.positive, call.negative
    candidates = pool
    if reference is not None:
        scaled = reference if call.scale is None else reference * call.scale[:, None]
        candidates = torch.cat([pool, scaled])
    if call.label is not None and call.candidate_label is not None:
        positive = call.label[:, None] == call.candidate_label
        negative = ~positive
    assert positive is not None
    assert negative is not None
    place = torch.arange(len(candidates), device=pool.device)
    if call.own >= 0:
        others = place != place[: len(anchors), None] + call.own
        positive, negative = positive & others, negative & others
    if call.rule == "softmax":
        return _softmax(anchors @ candidates.t(), positive, negative)
    distances = all_distances(anchors, candidates, call.distance)
    if call.rule == "contrastive":
        weight = 1 + (place >= len(pool)).to(distances.dtype)
        return _pairwise(distances, positive, negative, call.margin, call.power, weight)
    return _triplets(distances, positive, negative, call.margin, call.rule)


def _softmax(score: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    count = positive.sum(1)
    has = count > 0
    kept = (positive | negative) & has[:, None]
    whole = torch.logsumexp(score.masked_fill(~kept, torch.finfo(score.dtype).min), 1)
    value = whole - torch.where(positive, score, 0.0).sum(1) / count.clamp_min(1)
    return _with_numbers(torch.where(has, value, 0.0).sum(dtype=torch.float64), has.sum())


def _pairwise(
    distances: Tensor, positive: Tensor, negative: Tensor, margin: float, power: float, weight: Tensor
) -> tuple[Tensor, Tensor]:
    value = torch.where(positive, _power(distances, power), 0.0)
    value = value + torch.where(negative, _power(relu(margin - distances), power), 0.0)
    numbers = ((positive | negative) * weight).sum().to(torch.int64)
    return _with_numbers((value * weight).sum(dtype=torch.float64), numbers)


def _power(base: Tensor, power: float) -> Tensor:
    """`base ** power`, whose derivatives at 0 are 0 where a power of 0 has none."""
    nothing = base == 0
    return torch.where(nothing, torch.zeros_like(base), torch.where(nothing, torch.ones_like(base), base).pow(power))


def _triplets(distances: Tensor, positive: Tensor, negative: Tensor, margin: float, rule: str) -> tuple[Tensor, Tensor]:
    anchor, near = positive.nonzero(as_tuple=True)
    to_positive, kept = distances[anchor, near][:, None], negative[anchor]
    to_negative = distances[anchor]
    terms = kept.sum()
    if rule.startswith("semihard"):
        kept, to_negative = _nearest_beyond(to_positive, to_negative, kept)
        terms = kept.sum()
    ahead = to_negative - to_positive
    is_soft = rule.endswith("soft")
    value = -logsigmoid(ahead) if is_soft else relu(margin - ahead)
    value = torch.where(kept, value, 0.0)
    active = (value > 0).sum() if rule == "all" else terms
    return value.sum(dtype=torch.float64), torch.stack([active, terms])


def _nearest_beyond(to_positive: Tensor, to_negative: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    beyond = torch.where(kept & (to_negative > to_positive), to_negative, torch.inf).detach()
    farthest = torch.where(kept, to_negative, -torch.inf).detach()
    if not to_negative.shape[1]:
        return kept, to_negative
    place = torch.where(beyond.isfinite().any(1), beyond.argmin(1), farthest.argmax(1))[:, None]
    return kept.any(1, keepdim=True), to_negative.gather(1, place)


def _with_numbers(total: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    return total, torch.stack([number, number])
