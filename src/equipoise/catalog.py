"""The one explicit list of all losses."""

from __future__ import annotations

from .card import Card
from .classification import balanced, class_balanced, cross_entropy, focal, ghm
from .ranking import (
    batch_triplet,
    contrastive,
    cosine_embedding,
    info_nce,
    margin_ranking,
    rank_cross_entropy,
    rank_hinge,
    supcon,
    triplet,
)

CARDS: tuple[Card, ...] = (
    cross_entropy.SIGMOID_CARD,
    cross_entropy.SOFTMAX_CARD,
    balanced.CARD,
    focal.SIGMOID_CARD,
    focal.SOFTMAX_CARD,
    class_balanced.SIGMOID_CARD,
    class_balanced.SOFTMAX_CARD,
    ghm.CLASSIFICATION_CARD,
    ghm.REGRESSION_CARD,
    contrastive.PAIR_CARD,
    triplet.CARD,
    margin_ranking.CARD,
    cosine_embedding.CARD,
    contrastive.BATCH_CARD,
    batch_triplet.CARD,
    supcon.CARD,
    info_nce.CARD,
    rank_hinge.CARD,
    rank_cross_entropy.CARD,
)
