"""What is compared: the losses that take a labelled batch, plain cross-entropy, and the features as they are."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

import equipoise
from equipoise.card import Card
from equipoise.catalog import CARDS

from ..candidates import Candidate, pick
from ..remedies import YARDSTICK
from ..trials import Settings, spread

RAW = "raw_features"
# Losses that are several.
VARIANTS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "batch_triplet": [{"mining": mining} for mining in ("all", "hard", "semihard")]
}
# What a trial may change beside learning rate and weight decay: times and divided by up to so much.
TUNED = {"margin": 2.0, "temperature": 3.0}


class Softmax(nn.Module):
    """Plain cross-entropy of a linear layer on the embedding, which is left away afterwards.

    Args:
        width: numbers of an embedding.
        classes: the training classes.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, classes)
        self.loss = equipoise.SoftmaxCrossEntropyLoss()

    def forward(self, embedding: Tensor, label: Tensor) -> Tensor:
        """The loss of a batch."""
        value: Tensor = self.loss(self.head(embedding), label)
        return value


class TwoByTwo(nn.Module):
    """A loss of queries and their keys on a batch whose rows come in pairs of one class."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, embedding: Tensor, label: Tensor) -> Tensor:
        """The loss of a batch: every other row is a query, the row after it its key."""
        value: Tensor = self.loss(embedding[0::2], embedding[1::2], label=label[0::2])
        return value


@dataclass(frozen=True)
class Ranking(Candidate):
    """A loss of the catalogue that takes a labelled batch.

    Attributes:
        tuned: the option that trials change beside learning rate and weight decay, and its default.
    """

    tuned: tuple[str, float] | None = None

    def tried(self, settings: Sequence[Settings], /) -> tuple[Settings, ...]:
        """The trials, each with a value of the tuned option: the default first."""
        if self.tuned is None:
            return tuple(settings)
        name, default = self.tuned
        values = spread(default, TUNED[name], len(settings))
        return tuple(replace(each, options=((name, value),)) for each, value in zip(settings, values, strict=True))


@dataclass(frozen=True)
class Raw(Candidate):
    """The features as they are: nothing is trained, nothing is tuned."""

    @property
    def trained_as(self) -> str:
        """Itself: it uses nobody's model."""
        return self.name

    def tried(self, _: Sequence[Settings], /) -> tuple[Settings, ...]:
        """One trial of nothing."""
        return (Settings(0.0, 0.0),)


def candidates() -> dict[str, Candidate]:
    """All candidates by name: plain cross-entropy first, the features as they are last."""
    softmax = next(card for card in CARDS if card.name == "softmax_cross_entropy")
    what = "plain cross-entropy on the training classes, its embedding what the last layer sees: the yardstick"
    cards = [card for card in CARDS if "embeddings" in card.problems]
    return {
        YARDSTICK: Candidate(YARDSTICK, what, _softmax, softmax),
        **{each.name: each for card in cards for each in _variants(card)},
        RAW: Raw(RAW, "the preprocessed features as the embedding: nothing is trained", None),
    }


def choose(names: str | None) -> dict[str, Candidate]:
    """The candidates that were asked for, with plain cross-entropy and the features as they are.

    Raises:
        CompareError: for a name that is none, or is a loss for other problems.
    """
    return pick(candidates(), "retrieval", names)


def options_of(candidate: Candidate) -> dict[str, Any]:
    """What a ranking loss is made with beside what is tuned."""
    return dict(candidate.make.keywords) if isinstance(candidate.make, partial) else {}


def takes_keys(card: Card) -> bool:
    """Whether a loss compares queries with keys rather than the rows of one batch."""
    return "key" in inspect.signature(card.module.forward).parameters


def _variants(card: Card) -> list[Ranking]:
    """A loss, or several where its options make it several. All compare embeddings of length 1, as the search does."""
    takes = inspect.signature(card.module).parameters
    unit: dict[str, Any] = {"normalize": True} if "normalize" in takes else {}
    tuned = next(((name, float(takes[name].default)) for name in TUNED if name in takes), None)
    found = []
    for options in VARIANTS.get(card.name, [{}]):
        name = "_".join([card.name, *options.values()])
        summary = f"{card.summary}{''.join(f'; {option}: {value}' for option, value in options.items())}"
        found.append(Ranking(name, summary, partial(_ranking, card, **options, **unit), card, tuned))
    return found


def _ranking(card: Card, _: Tensor, __: int, **options: Any) -> nn.Module:
    """A ranking loss, which needs to know nothing of the training labels and the embedding's width."""
    loss = card.module(**options)
    return TwoByTwo(loss) if takes_keys(card) else loss


def _softmax(labels: Tensor, width: int) -> nn.Module:
    return Softmax(width, int(labels.max()) + 1)
