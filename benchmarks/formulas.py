"""Peers that are measured by their formula, written here from the published equations.

They are what a person would write down, in as few operations as the equations need: none of the peers' own checks,
options or masks is charged to them.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def torchvision_focal(scores: Tensor, target: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """The mean of `alpha_t (1 - p_t)^gamma CE`, by p = sigmoid(z) and p_t = p y + (1 - p)(1 - y)."""
    p = torch.sigmoid(scores)
    cross_entropy = binary_cross_entropy_with_logits(scores, target, reduction="none")
    p_t = p * target + (1 - p) * (1 - target)
    alpha_t = alpha * target + (1 - alpha) * (1 - target)
    return (alpha_t * (cross_entropy * (1 - p_t) ** gamma)).mean()


def mmdet_ghm_c(scores: Tensor, target: Tensor, *, bins: int = 30) -> Tensor:
    """GHM-C bin by bin: float32 edges, the last one at 1 + 1e-6; each weight is N over the crowd of its bin."""
    edges = torch.arange(bins + 1, dtype=torch.float32) / bins
    edges[-1] += 1e-6
    total, occupied = scores.numel(), 0
    norm = (scores.detach().sigmoid() - target).abs()
    weight = torch.zeros_like(scores)
    for low, high in pairwise(edges):
        inside = (norm >= low) & (norm < high)
        crowd = int(inside.sum())
        if crowd:
            weight[inside] = total / crowd
            occupied += 1
    return binary_cross_entropy_with_logits(scores, target, weight / occupied, reduction="sum") / total
