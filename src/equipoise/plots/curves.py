"""Loss and gradient of one example at every score, from the public modules and autograd.

A loss of scores is seen by the logit x of the right answer: its probability is σ(x), and the gradient is that by x. For
a sigmoid loss x is the score of a positive, or minus the score of a negative; for a softmax loss it is the score of the
right class while the others are held where its probability is σ(x). A regression loss is seen by the residual. The
weight of an element is its gradient, divided by that of the loss without the weight, the gradient norm.

Gradient harmonizing weighs an element by the batch that it is in. Its curves are those of a made-up batch (`BATCH`).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..card import Card

FARTHEST = 8.0
POINTS = 641
SILENT = -40.0
"""A score so low that a sigmoid loss of it is 0."""
GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)
BATCH = ((0.90, 5.0, 1.5), (0.08, 0.0, 1.5), (0.02, -5.0, 1.5))
"""As in a trained detector: most elements are easy, some are not, and a few are hopeless. Each line has a share of the
elements, and the mean and the standard deviation of the logit of the right answer."""
RESIDUALS = ((0.85, 0.0, 0.008), (0.10, 0.0, 0.03), (0.05, 0.0, 0.15))
"""The same of a regression's residuals."""
CROWD = 4_000

Mixture = tuple[tuple[float, float, float], ...]


class CurveError(ValueError):
    """A request for curves that cannot be met; the message says why in a line."""


@dataclass(frozen=True)
class Curve:
    """One loss with one set of options, point by point.

    Attributes:
        name: the loss, and what makes this curve another than its next.
        card: of the loss.
        score: the logit of the right answer, or the residual.
        probability: of the right answer; None for a regression.
        loss: its value.
        gradient: its derivative with respect to the score.
        norm: the gradient norm of the loss without weights: 1 - p, or `|d| / hypot(d, mu)`.
    """

    name: str
    card: Card
    score: Tensor
    probability: Tensor | None
    loss: Tensor
    gradient: Tensor
    norm: Tensor

    @property
    def weight(self) -> Tensor:
        """By how much the loss weighs each element: its gradient over the gradient norm."""
        return self.gradient.abs() / self.norm

    @property
    def harmonizes(self) -> bool:
        """Whether the weight depends on the batch."""
        return self.card.op_family == "histogram"


def gammas(words: str | None) -> tuple[float, ...] | None:
    """Numbers separated by commas; None for none given.

    Raises:
        CurveError: for a word that is no number from 0 on.
    """
    if words is None:
        return None
    numbers = []
    for word in filter(None, (part.strip() for part in words.split(","))):
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf:
            raise CurveError(f"gamma must be numbers from 0 on, separated by commas, got {word!r}")
        numbers.append(number)
    if not numbers:
        raise CurveError(f"gamma must be numbers from 0 on, separated by commas, got {words!r}")
    return tuple(dict.fromkeys(numbers))


def curves(cards: Sequence[Card], given: Sequence[float] | None = None) -> list[Curve]:
    """The curves of the losses, each gamma its own where a loss takes gamma.

    Args:
        cards: of the losses.
        given: the gammas; None for those of the focal loss paper.

    Raises:
        CurveError: where a loss has no such curve, losses do not belong into one figure, or no loss takes a gamma.
    """
    unfit = [card.name for card in cards if card.kind not in ("elementwise", "rows")]
    if unfit:
        raise CurveError(f"{unfit[0]} is no function of one score: there is no curve to draw")
    if len({"regression" in card.problems for card in cards}) > 1:
        raise CurveError("losses of scores and of residuals do not go into one figure")
    if given is not None and not any(_takes_gamma(card) for card in cards):
        raise CurveError(f"none of these losses takes gamma: {', '.join(card.name for card in cards)}")
    return [
        curve
        for card in {card.name: card for card in cards}.values()
        for options in ([{"gamma": each} for each in given or GAMMAS] if _takes_gamma(card) else [{}])
        for curve in _sides(card, options)
    ]


def _takes_gamma(card: Card) -> bool:
    return "gamma" in inspect.signature(card.module).parameters


def _sides(card: Card, options: Mapping[str, Any]) -> Iterator[Curve]:
    """One curve; two where the loss is another one for negatives, or for the rarest class."""
    module = card.module(**card.required, **options, reduction="none")
    harmonizes = card.op_family == "histogram"
    named = [f"{name}={value:g}" for name, value in options.items()] + ["in a made-up batch"] * harmonizes
    label = ", ".join([card.name, *named])
    if "regression" in card.problems:
        yield _curve(label, card, crowd(RESIDUALS), lambda d: module(d, torch.zeros_like(d)))
        return
    score = crowd(BATCH) if harmonizes else torch.linspace(-FARTHEST, FARTHEST, POINTS, dtype=torch.float64)
    losses = _by_class(card, module) if card.kind == "rows" else _by_answer(module)
    first: Curve | None = None
    for side, loss in losses:
        curve = _curve(label, card, score, loss)
        if first is None:
            first, first_side = curve, side
        elif not torch.allclose(curve.loss, first.loss, rtol=1e-9, atol=0):
            yield replace(first, name=f"{label} ({first_side})")
            yield replace(curve, name=f"{label} ({side})")
            return
    assert first is not None
    yield first


def _by_answer(module: Any) -> Iterable[tuple[str, Any]]:
    """The loss of a positive and of a negative."""
    yield "positives", lambda x: module(x, torch.ones_like(x))
    yield "negatives", lambda x: module(-x, torch.zeros_like(x))


def _by_class(card: Card, module: Any) -> Iterable[tuple[str, Any]]:
    """The loss of a row of the first and of the last class."""
    counts = card.required.get("counts", (1, 1))
    others = -math.log(len(counts) - 1) if card.op_family == "rowwise" else SILENT
    for label in (0, len(counts) - 1):

        def loss(x: Tensor, label: int = label) -> Tensor:
            columns = [x if each == label else torch.full_like(x, others) for each in range(len(counts))]
            return module(torch.stack(columns, dim=1), torch.full(x.shape, label))  # type: ignore[no-any-return]

        yield f"class of {counts[label]:,} rows", loss


def _curve(name: str, card: Card, score: Tensor, loss: Any) -> Curve:
    score = score.clone().requires_grad_()
    value = loss(score)
    (gradient,) = torch.autograd.grad(value.sum(), score)
    score = score.detach()
    regression = "regression" in card.problems
    mu = inspect.signature(card.module).parameters["mu"].default if regression else 0.0
    norm = score.abs() / torch.hypot(score, torch.full_like(score, mu)) if regression else torch.sigmoid(-score)
    return Curve(name, card, score, None if regression else torch.sigmoid(score), value.detach(), gradient, norm)


def crowd(mixture: Mixture) -> Tensor:
    """The elements of a mixture of normal distributions, at even quantiles, in their order."""
    parts = []
    for share, mean, deviation in mixture:
        count = round(share * CROWD)
        places = (torch.arange(count, dtype=torch.float64) + 0.5) / count
        parts.append(mean + deviation * torch.special.ndtri(places))
    return torch.cat(parts).sort().values
