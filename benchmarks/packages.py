"""The losses of other packages. Each is imported when its row comes up; one that is missing raises ImportError."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

from torch import Tensor

from equipoise import effective_number_weights

from .inputs import Task, long_tail

LossFunction = Callable[[Tensor, Tensor], Tensor]

ALPHA, GAMMA, BETA = 0.25, 2.0, 0.9999


def kornia_sigmoid(_task: Task) -> LossFunction:
    """The binary focal loss of kornia."""
    from kornia.losses import binary_focal_loss_with_logits

    return partial(binary_focal_loss_with_logits, alpha=ALPHA, gamma=GAMMA, reduction="mean")


def kornia_softmax(task: Task) -> LossFunction:
    """The focal loss of kornia. Its mean divides by N times C, ours by N: it is multiplied back."""
    from kornia.losses import focal_loss

    classes = task.shape[1]
    return lambda scores, target: classes * focal_loss(scores, target, alpha=None, gamma=GAMMA, reduction="mean")


def monai_sigmoid(_task: Task) -> LossFunction:
    """The focal loss in monai of independent scores."""
    from monai.losses import FocalLoss

    loss: LossFunction = FocalLoss(alpha=ALPHA, gamma=GAMMA)
    return loss


def monai_softmax(task: Task) -> LossFunction:
    """The softmax focal loss of monai. Its mean divides by N times C, ours by N: it is multiplied back."""
    from monai.losses import FocalLoss

    classes = task.shape[1]
    loss = FocalLoss(gamma=GAMMA, use_softmax=True, to_onehot_y=True)
    return lambda scores, target: classes * loss(scores, target[:, None])


def timm_sigmoid(_task: Task) -> LossFunction:
    """The binary cross-entropy of timm, on dense targets."""
    loss: LossFunction = _timm("binary_cross_entropy").BinaryCrossEntropy(smoothing=0.0)
    return loss


def timm_softmax(_task: Task) -> LossFunction:
    """The smoothed cross-entropy of timm."""
    loss: LossFunction = _timm("cross_entropy").LabelSmoothingCrossEntropy(smoothing=0.1)
    return loss


def _timm(name: str) -> ModuleType:
    """One file of timm's losses alone: `import timm` wants torchvision, which its losses do not."""
    package = importlib.util.find_spec("timm")
    if package is None or package.origin is None:
        raise ImportError("timm is not installed")
    spec = importlib.util.spec_from_file_location(f"timm_{name}", Path(package.origin).parent / "loss" / f"{name}.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"timm has no file loss/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def balanced_multilabel(task: Task) -> LossFunction:
    """The function of balanced-loss, its only part that takes multi-label targets, under the same class weights."""
    from balanced_loss.losses import focal_loss

    weight = effective_number_weights(long_tail(task.shape[1]), beta=BETA).float()[None]
    return partial(focal_loss, alpha=weight, gamma=GAMMA)


def balanced_classes(task: Task) -> LossFunction:
    """The module of balanced-loss, which takes class indices."""
    from balanced_loss import Loss

    counts = long_tail(task.shape[1])
    loss: LossFunction = Loss("focal_loss", beta=BETA, fl_gamma=GAMMA, samples_per_class=counts, class_balanced=True)
    return loss


def imbalanced_sigmoid(_task: Task) -> LossFunction:
    """The focal loss in imbalanced-losses of independent scores."""
    from imbalanced_losses import SigmoidFocalLoss

    loss: LossFunction = SigmoidFocalLoss(alpha=ALPHA, gamma=GAMMA)
    return loss


def imbalanced_softmax(_task: Task) -> LossFunction:
    """The focal loss in imbalanced-losses of one class out of C."""
    from imbalanced_losses import SoftmaxFocalLoss

    loss: LossFunction = SoftmaxFocalLoss(gamma=GAMMA)
    return loss
