"""Sigmoid family: every score is its own yes/no question.

With `a = |z|`, `e = exp(-a)`, and `u` the weight that the target puts on the class that the score votes against,

    cross-entropy = u * a + log1p(e)
    log q         = log(u + (1 - u) * e) - log1p(e)        q = probability given to the wrong class

No term cancels another, none overflows, and both hold for hard (0 or 1) and soft targets. `1 - p`, `log(1 + exp(z))`
and `pow(1 - p, gamma)` would each lose the tails.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..checks import Scalar, is_zero


def sigmoid_loss(
    input: Tensor,
    target: Tensor,
    *,
    gamma: Scalar = 0.0,
    alpha: Tensor | float | None = None,
    pos_weight: Tensor | None = None,
) -> Tensor:
    """`alpha_t * q^gamma * cross-entropy` for each element.

    Args:
        input: scores, float32 or float64.
        target: numbers in [0, 1], of the shape and dtype of `input`.
        gamma: focusing exponent, >= 0.
        alpha: weight of the positive class (the negative one has `1 - alpha`), broadcastable to `input`.
        pos_weight: weight of the positive term of the cross-entropy, broadcastable to `input`.
    """
    votes_positive = input >= 0
    # not `abs`: its derivative at 0 is 0, here it must be 1 on both sides' own terms
    distance = torch.where(votes_positive, input, -input)
    against = torch.where(votes_positive, 1 - target, target)
    log_norm = torch.log1p(torch.exp(-distance))

    if pos_weight is None:
        loss = _product(against, distance) + log_norm
    else:
        positive, negative = pos_weight * target, 1 - target
        loss = _product(torch.where(votes_positive, negative, positive), distance) + (positive + negative) * log_norm
    if not is_zero(gamma):
        loss = torch.exp(gamma * (_log_mix(against, distance) - log_norm)) * loss
    if alpha is not None:
        loss = (alpha * target + (1 - alpha) * (1 - target)) * loss
    return loss


def _product(weight: Tensor, distance: Tensor) -> Tensor:
    """`weight * distance`, and 0 for weight 0 even at infinite distance."""
    return torch.where(weight == 0, torch.zeros_like(distance), weight * distance)


def _log_mix(against: Tensor, distance: Tensor) -> Tensor:
    """`log(u + (1 - u) * exp(-a))`.

    For a soft target it is written `log u - logsigmoid(a - log((1 - u) / u))`, whose derivatives are finite however
    large `a` and however small `u`; the places with a hard target get a harmless `u` first and their exact value after.
    """
    soft = (against > 0) & (against < 1)
    share = torch.where(soft, against, torch.full_like(against, 0.5))
    log_share = torch.log(share)
    mixed = log_share - logsigmoid(distance + log_share - torch.log1p(-share))
    hard = torch.where(against == 0, -distance, torch.zeros_like(distance))
    return torch.where(soft, mixed, hard)
