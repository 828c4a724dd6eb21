"""The one explicit list of all losses."""

from __future__ import annotations

import difflib

from .card import Card
from .classification import balanced, class_balanced, cross_entropy, focal, ghm, linear_focal
from .multitask import (
    constant,
    dynamic_weight,
    famo,
    gradnorm,
    impartial,
    priority,
    random_weight,
    uncertainty,
)
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
    linear_focal.SOFTMAX_CARD,
    linear_focal.SIGMOID_CARD,
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
    constant.CARD,
    uncertainty.CARD,
    priority.CARD,
    dynamic_weight.CARD,
    random_weight.CARD,
    impartial.CARD,
    famo.CARD,
    gradnorm.CARD,
)


def find(name: str) -> Card:
    """The card of a loss, by its short name, its module's or its function's, whatever the case of the letters.

    Raises:
        ValueError: where no loss has that name; it names those that look like it.

    Example:
        >>> from equipoise.catalog import find
        >>> find("SoftmaxFocalLoss").name
        'softmax_focal'
    """
    known: dict[str, Card] = {}
    for card in CARDS:
        names = (card.name, card.module.__name__, card.function.__name__ if card.function else card.name)
        known |= {each.lower(): card for each in names}
    if name.lower() in known:
        return known[name.lower()]
    near = dict.fromkeys(known[each].name for each in difflib.get_close_matches(name.lower(), known, n=4, cutoff=0.5))
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "`equipoise losses` lists all"
    raise ValueError(f"there is no loss {name!r}; {hint}")
