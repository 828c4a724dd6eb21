"""The one explicit list of all losses."""

from __future__ import annotations

from .card import Card
from .classification import balanced, class_balanced, cross_entropy, focal, ghm

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
)
