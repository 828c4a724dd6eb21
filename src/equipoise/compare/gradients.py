"""Where the gradient of a loss sits: on the easy examples, on the hard ones, or on those that are hopeless.

The picture of Li, Liu and Wang, "Gradient Harmonized Single-stage Detector", AAAI 2019, figure 2, for any loss.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from .metrics import log_probabilities
from .problem import Kind

BINS = 20
EDGES = [round(index / BINS, 10) for index in range(BINS + 1)]
MOST_EXAMPLES = 20_000


def gradient_norms(
    loss: nn.Module, logits: Tensor, targets: Tensor, kind: Kind, independent: bool
) -> dict[str, list[float]] | None:
    """Sort examples by how far the model is from their label, and add up what the loss pulls at each.

    Args:
        loss: called as `loss(logits, targets)`; its state is left alone.
        logits: of training rows [N, C].
        targets: as the loss takes them.
        kind: the kind of problem.
        independent: for `multiclass`, whether each class was trained as its own yes/no question.

    Returns:
        For each bin of `1 - p` of the true class (or, for each label, of the true answer) the `share` of examples and
        of the `mass`, the sum of the norms of the loss's gradients at their scores; None for scores that are not
        finite.
    """
    step = 1 + len(logits) // MOST_EXAMPLES
    logits, targets = logits[::step].clone().requires_grad_(True), targets[::step]
    value = copy.deepcopy(loss)(logits, targets)
    (gradient,) = torch.autograd.grad(value, logits)
    scores = logits.detach().double().cpu().numpy()
    pulls = gradient.double().cpu().numpy()
    if not (np.isfinite(scores).all() and np.isfinite(pulls).all()):
        return None
    labels = targets.cpu().numpy()
    if kind == "multiclass":
        distance = 1 - np.exp(log_probabilities(scores, independent)[np.arange(len(labels)), labels])
        norm = np.sqrt((pulls**2).sum(axis=1))
    else:
        distance = np.abs(torch.from_numpy(scores).sigmoid().numpy() - labels).ravel()
        norm = np.abs(pulls).ravel()
    index = np.clip((distance * BINS).astype(np.int64), 0, BINS - 1)
    counts, mass = np.bincount(index, minlength=BINS), np.bincount(index, norm, BINS)
    return {"share": (counts / max(len(index), 1)).tolist(), "mass": (mass / (mass.sum() or 1.0)).tolist()}
