"""The explicit list of all pairs that are timed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from equipoise.card import Card
from equipoise.catalog import CARDS

from . import contenders as by
from .contenders import Contender, ours
from .inputs import ELEMENTS, ROWS, Kind, Task

CARD = {card.name: card for card in CARDS}
YARDSTICK = "another loss: plain torch is the yardstick"


@dataclass(frozen=True)
class Pair:
    """A loss of ours beside a peer.

    Attributes:
        loss: the loss's name.
        size: the size's name.
        label: the peer's short name.
        ours: our side.
        peer: the other side.
        task: what both are given.
        table: where it is shown: in the tables of plain torch (`elements`, `rows`), with the `peers`, or among the
            `goals` alone.
        differs: why the two compute different things; None: they must agree, and are not timed if they do not.
    """

    loss: str
    size: str
    label: str
    ours: Contender
    peer: Contender
    task: Task
    table: Literal["elements", "rows", "peers", "goals"] = "peers"
    differs: str | None = None

    @property
    def name(self) -> str:
        """What `--only` is matched against."""
        return f"{self.loss}/{self.size.replace(' ', '')}/{self.label}"


def catalogue() -> Iterator[Pair]:
    """Every loss of the catalogue at every size beside torch's plain loss."""
    for card in (card for card in CARDS if card.kind in ("elementwise", "rows")):
        label, plain, kind = _plain(card)
        differs = None if card.name in ("sigmoid_cross_entropy", "softmax_cross_entropy") else YARDSTICK
        in_rows = kind == "classes"
        for size, shape in (ROWS if in_rows else ELEMENTS).items():
            table: Literal["rows", "elements"] = "rows" if in_rows else "elements"
            yield Pair(card.name, size, label, ours(card), plain, Task(kind, shape), table, differs)


def _plain(card: Card) -> tuple[str, Contender, Kind]:
    if card.op_family == "rowwise":
        return "torch_ce", by.TORCH_CE, "classes"
    if "regression" in card.problems:
        return "torch_smooth_l1", by.TORCH_SMOOTH_L1, "real"
    return "torch_bce", by.TORCH_BCE, "binary"


def sigmoid_peers() -> Iterator[Pair]:
    """The sigmoid family beside other packages and formulas."""
    focal, plain = CARD["sigmoid_focal"], CARD["sigmoid_cross_entropy"]
    for size, shape in ELEMENTS.items():
        yield Pair(focal.name, size, "torchvision", ours(focal), by.TORCHVISION, Task("binary", shape))
    for size in ("256", "4 M"):
        task = Task("binary", ELEMENTS[size])
        yield Pair(focal.name, size, "torch_compile", ours(focal), by.compiled(focal), task)
    big = Task("binary", ELEMENTS["4 M"])
    for label, peer in (
        ("kornia", by.KORNIA_SIGMOID),
        ("monai", by.MONAI_SIGMOID),
        ("imbalanced_losses", by.IMBALANCED_SIGMOID),
    ):
        yield Pair(focal.name, "4 M", label, ours(focal), peer, big)
    fractional = ours(focal, gamma=1.7)
    yield Pair("sigmoid_focal_gamma_1.7", "4 M", "torch_bce", fractional, by.TORCH_BCE, big, "goals", YARDSTICK)
    yield Pair(plain.name, "4 M", "timm", ours(plain), by.TIMM_BCE, big)


def balanced_peers() -> Iterator[Pair]:
    """The class-balanced sigmoid loss beside balanced-loss: its function on many labels, its module on one."""
    card, size, shape = CARD["class_balanced_sigmoid_focal"], "[4096, 1000]", ROWS["[4096, 1000]"]
    many, one = Task("binary", shape), Task("classes", shape)
    summed = by.over_positives(card)
    yield Pair(f"{card.name}_multilabel", size, "balanced_loss", summed, by.BALANCED_MULTILABEL, many)
    yield Pair(f"{card.name}_classes", size, "balanced_loss", ours(card), by.BALANCED_CLASSES, one)


def softmax_peers() -> Iterator[Pair]:
    """The softmax family beside other packages."""
    focal, plain = CARD["softmax_focal"], CARD["softmax_cross_entropy"]
    for size in ("[16384, 100]", "[4096, 1000]"):
        task = Task("classes", ROWS[size])
        for label, peer in (
            ("torch_compile", by.compiled(focal)),
            ("kornia", by.KORNIA_SOFTMAX),
            ("monai", by.MONAI_SOFTMAX),
            ("imbalanced_losses", by.IMBALANCED_SOFTMAX),
        ):
            yield Pair(focal.name, size, label, ours(focal), peer, task)
        smoothed = ours(plain, label_smoothing=0.1)
        yield Pair(f"{plain.name}_smoothed", size, "timm", smoothed, by.TIMM_SMOOTHED, task)


def harmonizing_peers() -> Iterator[Pair]:
    """Gradient harmonizing beside mmdet's loop, and the regression loss beside the yardstick that its goal names."""
    classification, regression = CARD["ghm_c"], CARD["ghm_r"]
    task = Task("binary", ELEMENTS["1 M"])
    yield Pair("ghm_c", "1 M", "mmdet", ours(classification), by.MMDET, task)
    task = Task("binary", ELEMENTS["256"])
    yield Pair("ghm_r", "256", "torch_bce", ours(regression), by.TORCH_BCE, task, "goals", YARDSTICK)


PAIRS: tuple[Pair, ...] = (
    *catalogue(),
    *sigmoid_peers(),
    *balanced_peers(),
    *softmax_peers(),
    *harmonizing_peers(),
)

LARGEST = 32_000_000
"""Pairs of so many scores are left out of a quick run, but for those that carry a goal."""
