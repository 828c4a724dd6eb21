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
    from .classification.linear_focal import (
        LinearSigmoidFocalLoss,
        LinearSoftmaxFocalLoss,
        linear_sigmoid_focal_loss,
        linear_softmax_focal_loss,
    )
    from .multitask.constant import ConstantWeighting
    from .multitask.dynamic_weight import DynamicWeightAverage
    from .multitask.famo import FAMO
    from .multitask.gradnorm import GradNorm
    from .multitask.impartial import ImpartialLossWeighting
    from .multitask.priority import DynamicTaskPrioritization, accuracy_kpi, within_tolerance_kpi
    from .multitask.random_weight import RandomLossWeighting
    from .multitask.uncertainty import UncertaintyWeighting, scaled_softmax_cross_entropy
    from .ranking.batch_triplet import BatchTripletLoss, batch_triplet_loss
    from .ranking.contrastive import BatchContrastiveLoss, ContrastiveLoss, batch_contrastive_loss, contrastive_loss
    from .ranking.cosine_embedding import CosineEmbeddingLoss, cosine_embedding_loss
    from .ranking.info_nce import InfoNCELoss, info_nce_loss
    from .ranking.margin_ranking import MarginRankingLoss, margin_ranking_loss
    from .ranking.memory import CrossBatchMemory
    from .ranking.rank_cross_entropy import RankCrossEntropyLoss, rank_cross_entropy_loss
    from .ranking.rank_hinge import RankHingeLoss, rank_hinge_loss
    from .ranking.supcon import SupConLoss, supcon_loss
    from .ranking.triplet import TripletLoss, triplet_loss
    from .weights import (
        balancing_alpha,
        class_counts,
        effective_number_weights,
        inverse_frequency_weights,
        log_priors,
        prior_bias,
    )

__version__ = "0.1.0"

__all__ = [
    "BalancedCrossEntropyLoss",
    "BatchContrastiveLoss",
    "BatchTripletLoss",
    "ClassBalancedSigmoidFocalLoss",
    "ClassBalancedSoftmaxFocalLoss",
    "ConstantWeighting",
    "ContrastiveLoss",
    "CosineEmbeddingLoss",
    "CrossBatchMemory",
    "DynamicTaskPrioritization",
    "DynamicWeightAverage",
    "FAMO",
    "GHMCLoss",
    "GHMRLoss",
    "GradNorm",
    "ImpartialLossWeighting",
    "InfoNCELoss",
    "LinearSigmoidFocalLoss",
    "LinearSoftmaxFocalLoss",
    "MarginRankingLoss",
    "RandomLossWeighting",
    "RankCrossEntropyLoss",
    "RankHingeLoss",
    "SigmoidCrossEntropyLoss",
    "SigmoidFocalLoss",
    "SoftmaxCrossEntropyLoss",
    "SoftmaxFocalLoss",
    "SupConLoss",
    "TripletLoss",
    "UncertaintyWeighting",
    "accuracy_kpi",
    "balanced_cross_entropy",
    "balancing_alpha",
    "batch_contrastive_loss",
    "batch_triplet_loss",
    "class_counts",
    "contrastive_loss",
    "cosine_embedding_loss",
    "effective_number_weights",
    "ghm_c_loss",
    "ghm_r_loss",
    "info_nce_loss",
    "inverse_frequency_weights",
    "linear_sigmoid_focal_loss",
    "linear_softmax_focal_loss",
    "log_priors",
    "margin_ranking_loss",
    "prior_bias",
    "rank_cross_entropy_loss",
    "rank_hinge_loss",
    "scaled_softmax_cross_entropy",
    "sigmoid_cross_entropy",
    "sigmoid_focal_loss",
    "softmax_cross_entropy",
    "softmax_focal_loss",
    "supcon_loss",
    "triplet_loss",
    "within_tolerance_kpi",
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
    "classification.linear_focal": (
        "LinearSigmoidFocalLoss",
        "LinearSoftmaxFocalLoss",
        "linear_sigmoid_focal_loss",
        "linear_softmax_focal_loss",
    ),
    "multitask.constant": ("ConstantWeighting",),
    "multitask.dynamic_weight": ("DynamicWeightAverage",),
    "multitask.famo": ("FAMO",),
    "multitask.gradnorm": ("GradNorm",),
    "multitask.impartial": ("ImpartialLossWeighting",),
    "multitask.priority": ("DynamicTaskPrioritization", "accuracy_kpi", "within_tolerance_kpi"),
    "multitask.random_weight": ("RandomLossWeighting",),
    "multitask.uncertainty": ("UncertaintyWeighting", "scaled_softmax_cross_entropy"),
    "ranking.batch_triplet": ("BatchTripletLoss", "batch_triplet_loss"),
    "ranking.contrastive": ("BatchContrastiveLoss", "ContrastiveLoss", "batch_contrastive_loss", "contrastive_loss"),
    "ranking.cosine_embedding": ("CosineEmbeddingLoss", "cosine_embedding_loss"),
    "ranking.info_nce": ("InfoNCELoss", "info_nce_loss"),
    "ranking.margin_ranking": ("MarginRankingLoss", "margin_ranking_loss"),
    "ranking.memory": ("CrossBatchMemory",),
    "ranking.rank_cross_entropy": ("RankCrossEntropyLoss", "rank_cross_entropy_loss"),
    "ranking.rank_hinge": ("RankHingeLoss", "rank_hinge_loss"),
    "ranking.supcon": ("SupConLoss", "supcon_loss"),
    "ranking.triplet": ("TripletLoss", "triplet_loss"),
    "weights": (
        "balancing_alpha",
        "class_counts",
        "effective_number_weights",
        "inverse_frequency_weights",
        "log_priors",
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
