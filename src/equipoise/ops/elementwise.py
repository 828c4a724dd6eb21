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
    positive: Tensor,
    negative: Tensor,
    *,
    gamma: Scalar = 0.0,
    alpha: tuple[Tensor, Tensor] | None = None,
    pos_weight: Tensor | None = None,
) -> Tensor:
    """`alpha_t * q^gamma * cross-entropy` for each element.

    Both halves of the target are passed, and of alpha: the smaller one would lose its digits in `1 - larger`.

    Args:
        input: scores, float32 or float64.
        positive: the target, numbers in [0, 1] of the shape and dtype of `input`.
        negative: 1 minus the target.
        gamma: focusing exponent, >= 0.
        alpha: the weights of the positive and of the negative class, broadcastable to `input`.
        pos_weight: weight of the positive term of the cross-entropy, broadcastable to `input`.
    """
    votes_positive = input >= 0
    # not `abs`: its derivative at 0 is 0, here it must be 1 on both sides' own terms
    distance = torch.where(votes_positive, input, -input)
    log_norm = torch.log1p(torch.exp(-distance))
    weighed = positive if pos_weight is None else pos_weight * positive
    loss = _product(torch.where(votes_positive, negative, weighed), distance) + (weighed + negative) * log_norm
    if not is_zero(gamma):
        against = torch.where(votes_positive, negative, positive)
        with_it = torch.where(votes_positive, positive, negative)
        loss = torch.exp(gamma * (_log_mix(against, with_it, distance) - log_norm)) * loss
    if alpha is not None:
        loss = (alpha[0] * positive + alpha[1] * negative) * loss
    return loss


def _product(weight: Tensor, distance: Tensor) -> Tensor:
    """`weight * distance`, and 0 for weight 0 even at infinite distance."""
    return torch.where(weight == 0, torch.zeros_like(distance), weight * distance)


def _log_mix(against: Tensor, with_it: Tensor, distance: Tensor) -> Tensor:
    """`log(u + v * exp(-a))` for the target's weights u against and v = 1 - u with the vote.

    For a soft target it is written `log u - logsigmoid(a - log(v / u))`, whose derivatives are finite however large `a`
    and however small `u`; the places with a hard target get a harmless `u` first and their exact value after.
    """
    soft = (against > 0) & (with_it > 0)
    half = torch.full_like(against, 0.5)
    log_against = torch.log(torch.where(soft, against, half))
    log_with = torch.log(torch.where(soft, with_it, half))
    mixed = log_against - logsigmoid(distance + log_against - log_with)
    hard = torch.where(against == 0, -distance, torch.zeros_like(distance))
    return torch.where(soft, mixed, hard)
