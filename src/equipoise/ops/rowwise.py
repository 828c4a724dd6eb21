"""Softmax family: every row picks one class of C.

The key: with the margin `d = z_t - logsumexp_{k != t} z_k` the probability of class t is `sigmoid(d)` exactly. So a row
with a hard target is a sigmoid loss at `d` with target 1, no `1 - p` needed. For soft targets the margin of the row's
top class gives every `log p` and `log(1 - p)` without cancellation: all other classes have p <= 1/2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..checks import Scalar, is_zero
from .elementwise import sigmoid_loss

CERTAIN = 1e4  # a margin at which the loss and its gradients are exactly 0, and times a tiny gamma is no NaN as inf is


def is_class(input: Tensor, index: Tensor, dim: int) -> Tensor:
    """One-hot rows, boolean, in the shape of `input` (torch's `one_hot` looks at values, which `vmap` forbids)."""
    classes = torch.arange(input.shape[dim], device=input.device)
    shape = [1] * input.ndim
    shape[dim] = -1
    return classes.view(shape) == index.unsqueeze(dim)


def hard_rows(input: Tensor, index: Tensor, *, gamma: Scalar, dim: int) -> Tensor:
    """`(1 - p_t)^gamma * -log p_t` for each row.

    Args:
        input: scores with the classes on `dim`.
        index: the target class of each row, in the shape of `input` without `dim`.
        gamma: focusing exponent, >= 0.
        dim: the class dimension.
    """
    margin = _margin(_shifted(input, dim), is_class(input, index, dim), dim)
    return sigmoid_loss(margin, torch.ones_like(margin), torch.zeros_like(margin), gamma=gamma)


def soft_rows(input: Tensor, target: Tensor, *, gamma: Scalar, dim: int) -> Tensor:
    """`-sum_c y_c (1 - p_c)^gamma log p_c` for each row.

    Args:
        input: scores with the classes on `dim`.
        target: the weight `y_c` of each class (probability times class weight), in the shape of `input`.
        gamma: focusing exponent, >= 0.
        dim: the class dimension.
    """
    scores = _shifted(input, dim)
    is_top = is_class(scores, scores.detach().argmax(dim), dim)
    margin = _margin(scores, is_top, dim).unsqueeze(dim)
    top = _pick(scores, is_top, dim).unsqueeze(dim)
    log_p = torch.where(is_top, logsigmoid(margin), scores - top + logsigmoid(margin))

    wanted = target != 0  # a class nobody asks for may have log p = -inf
    terms = target * -torch.where(wanted, log_p, torch.zeros_like(log_p))
    if not is_zero(gamma):
        others = torch.where(is_top, torch.zeros_like(log_p), torch.exp(log_p))
        log_q = torch.where(is_top, logsigmoid(-margin), torch.log1p(-others))
        terms = torch.exp(gamma * log_q) * terms
    return terms.sum(dim)


def _shifted(input: Tensor, dim: int) -> Tensor:
    """The scores minus their row's largest, so that rows far from 0 lose no digits. The loss is invariant to it."""
    largest = input.detach().amax(dim, keepdim=True)
    return input - torch.where(torch.isfinite(largest), largest, torch.zeros_like(largest))


def _pick(scores: Tensor, chosen: Tensor, dim: int) -> Tensor:
    """The chosen class's score of each row."""
    return torch.where(chosen, scores, torch.zeros_like(scores)).sum(dim)


def _margin(scores: Tensor, chosen: Tensor, dim: int) -> Tensor:
    """`z_t - logsumexp_{k != t} z_k`; `CERTAIN` where the row has no other class (NaN if not even its own)."""
    others = torch.where(chosen, torch.full_like(scores, -torch.inf), scores)
    alone = (others == -torch.inf).all(dim, keepdim=True)
    # the gradient of a logsumexp over nothing but -inf is NaN: it gets other scores first and its value after
    norm = torch.logsumexp(torch.where(alone, torch.zeros_like(scores), others), dim)
    picked = _pick(scores, chosen, dim)
    return picked - torch.where(alone.squeeze(dim), picked.detach() - CERTAIN, norm)
