"""What is compared: every loss of the catalogue that fits the problem, and plain remedies that need no new loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

import equipoise
from equipoise.card import Card
from equipoise.catalog import CARDS

from .errors import CompareError
from .problem import Kind
from .readers import near_names
from .remedies import INVERSE_FREQUENCY, PRIOR_CORRECTED, REMEDIES, THRESHOLD, YARDSTICK
from .trials import Settings

Make = Callable[..., nn.Module]


@dataclass(frozen=True)
class Candidate:
    """One line of the comparison.

    Attributes:
        name: as in the table and in `--losses`.
        summary: what it is, in a line.
        make: builds the loss from the training labels and the number of outputs, with tuned options by keyword; None
            where nothing is trained and the predictions of the yardstick are corrected instead.
        card: the card of the loss, None for a remedy around plain cross-entropy.
    """

    name: str
    summary: str
    make: Make | None
    card: Card | None = None

    @property
    def trained_as(self) -> str:
        """The candidate whose trained model it uses: its own, or the yardstick's."""
        return YARDSTICK if self.make is None else self.name

    def tried(self, settings: Sequence[Settings], /) -> tuple[Settings, ...]:
        """Its trials, given the ones that all candidates share."""
        return tuple(settings)

    @property
    def independent(self) -> bool:
        """Whether each score is trained as a yes/no question of its own."""
        # by the kernel's family: sigmoid losses of class indices have rows for an input, as softmax losses do
        return self.card is not None and self.card.op_family in ("elementwise", "histogram")


def candidates(kind: Kind) -> dict[str, Candidate]:
    """All candidates for a kind of problem by name: plain cross-entropy first, the remedies around it last."""
    cards = {card.name: card for card in CARDS if kind in card.problems and card.kind != "heads"}
    plain = cards.pop("softmax_cross_entropy" if kind == "multiclass" else "sigmoid_cross_entropy")
    return {
        YARDSTICK: _candidate(YARDSTICK, f"plain cross-entropy ({plain.name}): the yardstick", plain),
        **{name: _candidate(name, card.summary, card) for name, card in cards.items()},
        INVERSE_FREQUENCY: _remedy(
            INVERSE_FREQUENCY, _inverse_frequency_softmax if kind == "multiclass" else _inverse_frequency_sigmoid
        ),
        PRIOR_CORRECTED: _remedy(PRIOR_CORRECTED),
        **({THRESHOLD: _remedy(THRESHOLD)} if kind in REMEDIES[THRESHOLD].problems else {}),
    }


def _candidate(name: str, summary: str, card: Card) -> Candidate:
    return Candidate(name, summary, partial(_from_card, card), card)


def _remedy(name: str, make: Make | None = None) -> Candidate:
    return Candidate(name, REMEDIES[name].summary, make)


def choose(kind: Kind, names: str | None) -> dict[str, Candidate]:
    """The candidates that were asked for, always with the yardstick and the plain remedies that need no training.

    They are in the order of the catalogue.

    Args:
        kind: the kind of problem.
        names: names separated by commas; None for all.

    Raises:
        CompareError: for a name that is none, or is a loss for other problems.
    """
    return pick(candidates(kind), kind, names)


def pick(known: Mapping[str, Candidate], kind: Kind, names: str | None) -> dict[str, Candidate]:
    """Those of the known candidates that were asked for, as in `choose`."""
    if names is None:
        return dict(known)
    if not names.strip(" ,"):
        raise CompareError(f"no loss is named by {names!r}; choose from {', '.join(known)}")
    cards = {name: each.card.name for name, each in known.items() if each.card is not None}
    wanted = {name for name, each in known.items() if each.make is None or name == YARDSTICK}
    for name in filter(None, (part.strip() for part in names.split(","))):
        # A card's own name means all its variants.
        meant = {name} if name in known else {each for each, card in cards.items() if card == name}
        if not meant:
            raise CompareError(_unknown(name, kind, list(known)))
        wanted |= meant
    return {name: each for name, each in known.items() if name in wanted}


def _unknown(name: str, kind: Kind, known: list[str]) -> str:
    """Why a name is none of the candidates, and which ones are near."""
    if any(card.name == name for card in CARDS):
        return f"the loss {name!r} does not train a {kind} problem; choose from {', '.join(known)}"
    near = near_names(name, known)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"choose from {', '.join(known)}"
    return f"there is no loss {name!r}; {hint}"


def _from_card(card: Card, labels: Tensor, num_outputs: int) -> nn.Module:
    """Build the loss with its defaults, and from the training labels where it takes what it needs from them."""
    from_labels = getattr(card.module, "from_labels", None)
    loss: nn.Module = card.module() if from_labels is None else from_labels(labels, num_outputs)
    return loss


def _inverse_frequency_softmax(labels: Tensor, num_outputs: int) -> nn.Module:
    counts = equipoise.class_counts(labels, num_outputs)
    return equipoise.SoftmaxCrossEntropyLoss(weight=equipoise.inverse_frequency_weights(counts))


def _inverse_frequency_sigmoid(labels: Tensor, _: int) -> nn.Module:
    """Each output's positives weigh as much as its negatives; an output without positives is left alone."""
    positives = labels.double().sum(dim=0)
    weight = torch.where(positives > 0, (len(labels) - positives) / positives.clamp(min=1), 1.0)
    return equipoise.SigmoidCrossEntropyLoss(pos_weight=weight)


def log_prior(labels: Tensor, outputs: int, kind: Kind) -> Tensor:
    """What prior correction subtracts from the scores: the logarithms of the classes' shares, or of their odds, [C].

    Without them the scores decide as if all classes were equally frequent (Menon et al., "Long-tail learning via logit
    adjustment", ICLR 2021, eq. 9, tau = 1).

    Half an observation keeps a class that no training row has, or lacks, finite.
    """
    if kind == "multiclass":
        counts = equipoise.class_counts(labels, outputs).double()
        return (counts.clamp(min=0.5) / counts.sum()).log()
    positives = labels.double().sum(dim=0) + 0.5
    return (positives / (len(labels) + 1 - positives)).log()
