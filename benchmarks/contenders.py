"""The two sides of a pair: a name, the package it comes from, and a way to build its loss function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from equipoise import kernels
from equipoise.card import Card

from . import formulas, packages
from .inputs import Task, long_tail

LossFunction = Callable[[Tensor, Tensor], Tensor]

OPTIONS: dict[str, dict[str, Any]] = {"sigmoid_focal": {"alpha": 0.25}, "ghm_c": {"bins": 30}, "ghm_r": {"bins": 30}}
"""Options that people use these losses with, where the defaults are others."""


@dataclass(frozen=True)
class Contender:
    """One side of a pair.

    Attributes:
        name: as shown.
        build: makes the loss function for a task; ImportError says that the package is not installed.
        package: the distribution whose version is noted down.
        compiles: whether its first call compiles, so that only a later one shows its memory.
    """

    name: str
    build: Callable[[Task], LossFunction]
    package: str
    compiles: bool = False


def ours(card: Card, **options: Any) -> Contender:
    """The loss of a card: its function where it has one, else its module."""
    chosen = {**OPTIONS.get(card.name, {}), **options}
    name = (card.function or card.module).__name__
    return Contender(f"{name}({_written(chosen)})", partial(_build_ours, card, chosen), "equipoise")


def _build_ours(card: Card, options: dict[str, Any], task: Task) -> LossFunction:
    required = {**card.required}
    if "counts" in required:
        required["counts"] = long_tail(task.shape[1])
    if card.function:
        return partial(card.function, **{**required, **options})
    module: LossFunction = card.module(**{**required, **options})
    return module


def over_positives(card: Card) -> Contender:
    """The summed loss of a card over the number of ones in the target, which is what balanced-loss divides by."""

    def build(task: Task) -> LossFunction:
        loss = _build_ours(card, {"reduction": "sum"}, task)
        return lambda scores, target: loss(scores, target) / target.sum()

    return Contender(f"{card.module.__name__}(reduction='sum') / positives", build, "equipoise")


def compiled(card: Card) -> Contender:
    """`torch.compile` of the plain torch form of a card's loss."""
    return Contender("torch.compile of our eager form", partial(_build_compiled, card), "torch", compiles=True)


def _build_compiled(card: Card, task: Task) -> LossFunction:
    torch.compiler.reset()
    function = torch.compile(_build_ours(card, OPTIONS.get(card.name, {}), task), dynamic=False)

    def eager_form(scores: Tensor, target: Tensor) -> Tensor:
        with kernels.eager():  # at each call: a later trace must not find the kernels
            result: Tensor = function(scores, target)
        return result

    return eager_form


def _fixed(name: str, package: str, function: LossFunction) -> Contender:
    return Contender(name, lambda _: function, package)


TORCH_BCE = _fixed("torch binary_cross_entropy_with_logits", "torch", functional.binary_cross_entropy_with_logits)
TORCH_CE = _fixed("torch cross_entropy", "torch", functional.cross_entropy)
TORCH_SMOOTH_L1 = _fixed("torch smooth_l1_loss", "torch", functional.smooth_l1_loss)
TORCHVISION = _fixed("torchvision's formula (transcribed)", "torch", formulas.torchvision_focal)
MMDET = _fixed("mmdet's GHM-C loop (transcribed)", "torch", formulas.mmdet_ghm_c)
KORNIA_SIGMOID = Contender("kornia binary_focal_loss_with_logits", packages.kornia_sigmoid, "kornia")
KORNIA_SOFTMAX = Contender("kornia focal_loss, times C", packages.kornia_softmax, "kornia")
MONAI_SIGMOID = Contender("monai FocalLoss", packages.monai_sigmoid, "monai")
MONAI_SOFTMAX = Contender("monai FocalLoss(use_softmax), times C", packages.monai_softmax, "monai")
TIMM_BCE = Contender("timm BinaryCrossEntropy", packages.timm_sigmoid, "timm")
TIMM_SMOOTHED = Contender("timm LabelSmoothingCrossEntropy", packages.timm_softmax, "timm")
BALANCED_MULTILABEL = Contender("balanced-loss focal_loss", packages.balanced_multilabel, "balanced-loss")
BALANCED_CLASSES = Contender("balanced-loss Loss", packages.balanced_classes, "balanced-loss")
IMBALANCED_SIGMOID = Contender("imbalanced-losses SigmoidFocalLoss", packages.imbalanced_sigmoid, "imbalanced-losses")
IMBALANCED_SOFTMAX = Contender("imbalanced-losses SoftmaxFocalLoss", packages.imbalanced_softmax, "imbalanced-losses")


def _written(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())
