"""Losses that balance training: classes, examples, tasks, pairs.

Every public name is imported from its module at its first use, so that the command line can answer `--help` without
loading torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .classification.balanced import BalancedCrossEntropyLoss, balanced_cross_entropy
    from .classification.class_balanced import ClassBalancedSigmoidFocalLoss, ClassBalancedSoftmaxFocalLoss
    from .classification.cross_entropy import (
        SigmoidCrossEntropyLoss,
        SoftmaxCrossEntropyLoss,
        sigmoid_cross_entropy,
        softmax_cross_entropy,
    )
    from .classification.focal import SigmoidFocalLoss, SoftmaxFocalLoss, sigmoid_focal_loss, softmax_focal_loss
    from .classification.ghm import GHMCLoss, GHMRLoss, ghm_c_loss, ghm_r_loss
    from .weights import (
        balancing_alpha,
        class_counts,
        effective_number_weights,
        inverse_frequency_weights,
        prior_bias,
    )

__version__ = "0.1.0"

__all__ = [
    "BalancedCrossEntropyLoss",
    "ClassBalancedSigmoidFocalLoss",
    "ClassBalancedSoftmaxFocalLoss",
    "GHMCLoss",
    "GHMRLoss",
    "SigmoidCrossEntropyLoss",
    "SigmoidFocalLoss",
    "SoftmaxCrossEntropyLoss",
    "SoftmaxFocalLoss",
    "balanced_cross_entropy",
    "balancing_alpha",
    "class_counts",
    "effective_number_weights",
    "ghm_c_loss",
    "ghm_r_loss",
    "inverse_frequency_weights",
    "prior_bias",
    "sigmoid_cross_entropy",
    "sigmoid_focal_loss",
    "softmax_cross_entropy",
    "softmax_focal_loss",
]

_HOME = {
    "classification.balanced": ("BalancedCrossEntropyLoss", "balanced_cross_entropy"),
    "classification.class_balanced": ("ClassBalancedSigmoidFocalLoss", "ClassBalancedSoftmaxFocalLoss"),
    "classification.cross_entropy": (
        "SigmoidCrossEntropyLoss",
        "SoftmaxCrossEntropyLoss",
        "sigmoid_cross_entropy",
        "softmax_cross_entropy",
    ),
    "classification.focal": ("SigmoidFocalLoss", "SoftmaxFocalLoss", "sigmoid_focal_loss", "softmax_focal_loss"),
    "classification.ghm": ("GHMCLoss", "GHMRLoss", "ghm_c_loss", "ghm_r_loss"),
    "weights": (
        "balancing_alpha",
        "class_counts",
        "effective_number_weights",
        "inverse_frequency_weights",
        "prior_bias",
    ),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f".{module}", __name__), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
