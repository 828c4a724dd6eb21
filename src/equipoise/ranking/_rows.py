"""What each row of a tile of distances contributes: the part that counts and selects.

Every rule takes the distances of some anchors to all candidates and gives the sum of their losses, how many of them
count, and the derivative with respect to each distance. Places that are no negative hold `FAR`, the largest number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

FEW = 48
"""Up to so many positives, a pass over the tile for each is cheaper than a binary search for every distance."""


def far(tensor: Tensor) -> float:
    """What stands where there is no negative: no distance is larger, and 0 times it is 0."""
    return torch.finfo(tensor.dtype).max


@dataclass(frozen=True)
class Rows:
    """A tile: some anchors against all candidates.

    Attributes:
        negative: `[t, M]`, the distance to each negative (or its score), `FAR` (`-inf`) elsewhere.
        positive: `[t, J]`, the distance to each positive (or its score).
        valid: `[t, J]`, whether there is such a positive.
        negatives: `[t]`, the number of negatives of each anchor.
        weight: `[t, M]`, to be filled with the derivative with respect to the negatives.
        spare: `[t, M]`, memory to compute in.
        twice: where the candidates begin that no other anchor meets as an anchor, so that a pair with them counts
            twice beside those that are met from both ends: in `negative` a column, in `positive` a mask.
        margin: option of the loss.
        power: option of the loss.
    """

    negative: Tensor
    positive: Tensor
    valid: Tensor
    negatives: Tensor
    weight: Tensor
    spare: Tensor
    twice: tuple[int, Tensor]
    margin: float
    power: float


Outcome = tuple[Tensor, Tensor, Tensor]
"""The sum of the losses (float64), the number that counts, and the derivative with respect to the positives."""


@dataclass(frozen=True)
class Rule:
    """How a row is evaluated.

    Attributes:
        evaluate: fills `weight` and gives the outcome.
        buffers: how many of `negative`, `weight` and `spare` are memory of their own; the last is the others'.
        bytes: of memory for each float32 distance, buffers and what `evaluate` makes on its way.
    """

    evaluate: Callable[[Rows], Outcome]
    buffers: int
    bytes: int


def hinge(rows: Rows) -> Outcome:
    """`max(0, d_ap - d_an + margin)` of every positive with every negative."""
    threshold = (rows.positive + rows.margin).masked_fill_(~rows.valid, -far(rows.positive))
    return (_passes if threshold.shape[1] <= FEW else _buckets)(rows, threshold)


def _passes(rows: Rows, threshold: Tensor) -> Outcome:
    """A pass over the tile for each positive."""
    total = rows.weight.new_zeros(len(threshold), dtype=torch.float64)
    pull = torch.zeros_like(threshold)
    rows.weight.zero_()
    for place in range(threshold.shape[1]):
        over = torch.sub(threshold[:, place, None], rows.negative, out=rows.spare).clamp_(min=0)
        total += over.sum(1)
        over.sign_()
        pull[:, place] = over.sum(1)
        rows.weight.sub_(over)
    return total.sum(), pull.sum(dtype=torch.float64).to(torch.int64), pull


def _buckets(rows: Rows, threshold: Tensor) -> Outcome:
    """The thresholds of an anchor sorted: each negative falls between two of them, and violates all above it."""
    number, positives = threshold.shape
    ordered, order = threshold.sort(1)
    memory = rows.spare.view(torch.int32)[:, : rows.negative.shape[1]]
    bucket = torch.searchsorted(ordered, rows.negative, right=True, out_int32=True, out=memory)
    torch.sub(bucket, positives, out=rows.weight)
    first = torch.arange(number, dtype=torch.int32, device=bucket.device)[:, None] * (positives + 1)
    filled = torch.bincount((bucket + first).view(-1), minlength=number * (positives + 1))
    count = filled.view(number, -1)[:, :-1].cumsum(1)
    active = count.sum()
    violated = torch.where(rows.valid.gather(1, order), ordered.double() * count, 0.0).sum()
    total = violated + torch.mul(rows.weight, rows.negative, out=rows.spare).sum(1).sum(dtype=torch.float64)
    return total, active, torch.empty_like(threshold).scatter_(1, order, count.to(threshold.dtype))


def soft(rows: Rows) -> Outcome:
    """`-logsigmoid(d_an - d_ap)` of every positive with every negative."""
    total = rows.weight.new_zeros(len(rows.positive), dtype=torch.float64)
    pull = torch.zeros_like(rows.positive)
    rows.weight.zero_()
    for place in range(rows.positive.shape[1]):
        ahead = torch.sub(rows.negative, rows.positive[:, place, None], out=rows.spare)
        kept = rows.valid[:, place]
        total -= torch.where(kept, logsigmoid(ahead).sum(1), 0.0)
        ahead.neg_().sigmoid_().mul_(kept[:, None])
        pull[:, place] = ahead.sum(1)
        rows.weight.sub_(ahead)
    return total.sum(), (rows.valid.sum(1) * rows.negatives).sum(), pull


def semihard(rows: Rows) -> Outcome:
    """The hinge of each positive with the nearest negative beyond it, or the farthest one if there is none."""
    place, chosen = select_semihard(rows.negative, rows.positive)
    counts = rows.valid & (rows.negatives > 0)[:, None]
    over = relu(torch.where(counts, rows.positive - chosen + rows.margin, torch.zeros_like(chosen)))
    return _of_chosen(rows, place, over, torch.sign(over), counts)


def semihard_soft(rows: Rows) -> Outcome:
    """The same with the soft margin."""
    place, chosen = select_semihard(rows.negative, rows.positive)
    counts = rows.valid & (rows.negatives > 0)[:, None]
    ahead = torch.where(counts, chosen - rows.positive, torch.zeros_like(chosen))
    slope = torch.where(counts, torch.sigmoid(-ahead), torch.zeros_like(chosen))
    return _of_chosen(rows, place, torch.where(counts, -logsigmoid(ahead), 0.0), slope, counts)


def _of_chosen(rows: Rows, place: Tensor, value: Tensor, slope: Tensor, counts: Tensor) -> Outcome:
    rows.weight.zero_().scatter_add_(1, place, -slope)
    return value.sum(dtype=torch.float64), counts.sum(), slope


def select_semihard(negative: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """For each positive the nearest negative that is strictly farther, and if there is none the farthest.

    Args:
        negative: `[t, M]`, `FAR` where there is no negative.
        positive: `[t, J]`.

    Returns:
        Places and distances, `[t, J]`; of equal distances the lowest place. Without a negative, any place.
    """
    if negative.dtype == torch.float32 and positive.shape[1] <= FEW:
        place = _beyond_by_keys(negative, positive)
    else:
        place = _beyond_by_sorting(negative, positive)
    lost = (place < 0).any(1).nonzero()[:, 0]
    if len(lost):
        rows = negative[lost]
        farthest = rows.masked_fill_(rows == far(rows), -1.0).argmax(1, keepdim=True)
        place[lost] = torch.where(place[lost] < 0, farthest, place[lost])
    return place, negative.gather(1, place)


def _beyond_by_keys(negative: Tensor, positive: Tensor) -> Tensor:
    """One minimum for each positive over whole numbers that hold distance and place.

    The bits of floats that are not negative sort as the floats do. A key that is not beyond the positive becomes
    negative, and loses its sign to come last.
    """
    behind = 2**62
    key = negative.view(torch.int32).to(torch.int64).bitwise_left_shift_(31)
    key += torch.arange(negative.shape[1], device=negative.device)
    start = (positive.view(torch.int32).to(torch.int64) + 1).bitwise_left_shift_(31)
    memory, nearest = torch.empty_like(key), torch.empty_like(start)
    for place in range(positive.shape[1]):
        torch.sub(key, start[:, place, None], out=memory).bitwise_and_(2**63 - 1)
        torch.amin(memory, 1, out=nearest[:, place])
    found = nearest + start
    last = torch.tensor(far(negative), dtype=torch.float32).view(torch.int32).to(torch.int64)
    is_negative = (nearest < behind) & (found >> 31 < last)
    return torch.where(is_negative, found & (2**31 - 1), -1)


def _beyond_by_sorting(negative: Tensor, positive: Tensor) -> Tensor:
    ordered, order = negative.sort(dim=1, stable=True)
    beyond = torch.searchsorted(ordered, positive, right=True)
    inside = beyond < negative.shape[1]
    beyond = torch.where(inside, beyond, torch.zeros_like(beyond))
    is_negative = inside & (ordered.gather(1, beyond) < far(negative))
    return torch.where(is_negative, order.gather(1, beyond), -1)


def pairwise(rows: Rows) -> Outcome:
    """`d^power` of every positive, `max(0, margin - d)^power` of every negative."""
    under = torch.sub(rows.margin, rows.negative, out=rows.spare).clamp_(min=0)
    column, twice = rows.twice
    if rows.power == 1:
        torch.sign(under, out=rows.weight).neg_()
    else:
        torch.pow(under, rows.power - 1, out=rows.weight).mul_(-rows.power)
        under.pow_(rows.power)
    positive = torch.where(rows.valid, rows.positive, torch.zeros_like(rows.positive))
    pull = rows.power * positive.pow(rows.power - 1) * rows.valid
    value = positive.pow(rows.power)
    for each in (under[:, column:], rows.weight[:, column:]):
        each.mul_(2)
    for each in (value, pull):
        each.mul_(1 + twice)
    total = under.sum(1).sum(dtype=torch.float64) + value.sum(dtype=torch.float64)
    further = twice.sum() + (rows.negative[:, column:] != far(rows.negative)).sum()
    return total, rows.valid.sum() + rows.negatives.sum() + further, pull


def softmax(rows: Rows) -> Outcome:
    """`-1/|P| sum_p log softmax_p` over positives and negatives together."""
    positives = rows.valid.sum(1, keepdim=True, dtype=rows.positive.dtype)
    has = positives > 0
    score = rows.positive.masked_fill(~rows.valid, -torch.inf)
    top = torch.maximum(rows.negative.amax(1, keepdim=True), _largest(score))
    top = torch.where(top.isneginf(), torch.zeros_like(top), top)
    shares = torch.sub(rows.negative, top, out=rows.weight).exp_()
    others = shares.sum(1, keepdim=True)
    whole = others + (score - top).exp().sum(1, keepdim=True)
    shares.mul_(torch.where(has, 1 / whole, torch.zeros_like(whole)))
    if score.shape[1] == 1:
        # log p = -log(1 + others / own): neither it nor p - 1 cancels
        log_p = -torch.nn.functional.softplus(others.log() + top - score, threshold=60)
        pull = torch.expm1(log_p)
    else:
        log_p = score - top - whole.log()
        pull = log_p.exp() - 1 / positives.clamp_min(1)
    value = -torch.where(rows.valid, log_p, torch.zeros_like(log_p)) / positives.clamp_min(1)
    return value.sum(dtype=torch.float64), has.sum(), torch.where(rows.valid, pull, torch.zeros_like(pull))


def _largest(score: Tensor) -> Tensor:
    return score.amax(1, keepdim=True) if score.shape[1] else score.new_full((len(score), 1), -torch.inf)


RULES = {
    "all": Rule(hinge, 3, 16),
    "all_soft": Rule(soft, 3, 20),
    "semihard": Rule(semihard, 2, 24),
    "semihard_soft": Rule(semihard_soft, 2, 24),
    "contrastive": Rule(pairwise, 3, 12),
    "softmax": Rule(softmax, 1, 4),
}
