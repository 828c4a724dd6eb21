"""Balanced cross-entropy. Xie and Tu, "Holistically-Nested Edge Detection", ICCV 2015, eq. 2."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor

from .. import checks
from ..card import Card, Identity
from ..checks import Scalar, Vector
from ..weights import balancing_alpha
from ._sigmoid import SigmoidLoss, sigmoid_pipeline
from .cross_entropy import sigmoid_cross_entropy


def balanced_cross_entropy(
    input: Tensor,
    target: Tensor,
    *,
    alpha: Vector | Scalar,
    weight: Vector | Scalar | None = None,
    pos_weight: Vector | Scalar | None = None,
    label_smoothing: Scalar = 0.0,
    mask: Tensor | None = None,
    reduction: str = "mean",
    sync: bool = False,
) -> Tensor:
    r"""Sigmoid cross-entropy with a weight for each side.

    $\ell = \alpha_t \cdot \mathrm{CE}(z, y)$ with $\alpha_t = \alpha y + (1 - \alpha)(1 - y)$ and CE the cross-entropy
    of `sigmoid_cross_entropy`.

    Args:
        input: scores (logits) of any shape, floating-point.
        target: numbers in [0, 1] in the input's shape; floating-point, integer or boolean.
        alpha: $\alpha$ in [0, 1], the weight of the positive class; a number, or broadcastable to the input (a `[C]`
            vector meets the last dimension). `balancing_alpha(target)` balances both sides.
        weight: weight of each element, broadcastable to the input. It enters no divisor. Default: `None`.
        pos_weight: weight of the positive term, broadcastable to the input. Default: `None`.
        label_smoothing: ε in [0, 1]: targets become $y (1 - ε) + ε / 2$, in $\alpha_t$ too. Default: `0.0`.
        mask: boolean, broadcastable to the input; True keeps an element. Default: `None`.
        reduction: `"none"`; `"sum"`; `"mean"`: the sum divided by the number of kept elements; `"mean_positive"`: the
            sum divided by max(1, sum of the kept, unsmoothed targets). Default: `"mean"`.
        sync: whether divisors are global over the process group; scalars are then scaled so that their average over
            ranks, which DDP takes, is that of one process on the joined batch. Default: `False`.

    Returns:
        A scalar, or the input's shape for `"none"`; float32 for half-precision input. 0 where no element is kept.

    Raises:
        TypeError: if `input` is not a floating-point tensor, `target` not a tensor or `mask` not boolean.
        ValueError: if shapes do not fit, a value leaves its range, or `target` requires a gradient.

    Example:
        >>> import torch
        >>> from equipoise import balanced_cross_entropy, balancing_alpha
        >>> target = torch.tensor([1.0, 0.0, 0.0, 0.0])
        >>> balanced_cross_entropy(torch.zeros(4), target, alpha=balancing_alpha(target), reduction="none")
        tensor([0.5199, 0.1733, 0.1733, 0.1733])

    References:
        Xie and Tu, "Holistically-Nested Edge Detection", ICCV 2015, eq. 2; Lin et al., "Focal Loss for Dense Object
        Detection", ICCV 2017, eq. 3.
    """
    return sigmoid_pipeline(
        input,
        target,
        alpha=_required(alpha),
        weight=weight,
        pos_weight=pos_weight,
        label_smoothing=label_smoothing,
        mask=mask,
        reduction=reduction,
        sync=sync,
    )


class BalancedCrossEntropyLoss(SigmoidLoss):
    r"""Sigmoid cross-entropy with a weight for each side; the module of `balanced_cross_entropy`.

    $\ell = \alpha_t \cdot \mathrm{CE}(z, y)$ with $\alpha_t = \alpha y + (1 - \alpha)(1 - y)$

    Args:
        alpha: $\alpha$ in [0, 1], the weight of the positive class; a number, or broadcastable to the input.
        weight: weight of each element, broadcastable to the input. Default: `None`.
        pos_weight: weight of the positive term, broadcastable to the input. Default: `None`.
        label_smoothing: ε in [0, 1]: targets become $y (1 - ε) + ε / 2$. Default: `0.0`.
        reduction: `"none"`, `"sum"`, `"mean"` over kept elements, or `"mean_positive"`. Default: `"mean"`.
        sync: whether divisors are global over the process group. Default: `False`.

    Shape:
        `input` and `target` of one shape; the result is a scalar, or that shape for `"none"`.

    Example:
        >>> import torch
        >>> from equipoise import BalancedCrossEntropyLoss
        >>> BalancedCrossEntropyLoss.from_labels(torch.tensor([1, 0, 0, 0]))
        BalancedCrossEntropyLoss(alpha=0.75, label_smoothing=0.0, reduction='mean', sync=False)

    References:
        See `balanced_cross_entropy`.
    """

    alpha: Tensor | float

    def __init__(
        self,
        *,
        alpha: Vector | Scalar,
        weight: Vector | Scalar | None = None,
        pos_weight: Vector | Scalar | None = None,
        label_smoothing: Scalar = 0.0,
        reduction: str = "mean",
        sync: bool = False,
    ) -> None:
        super().__init__(
            weight=weight, pos_weight=pos_weight, label_smoothing=label_smoothing, reduction=reduction, sync=sync
        )
        self._hold("alpha", _required(alpha), 0, 1)

    @classmethod
    def from_labels(cls, labels: Tensor | Vector, num_classes: int | None = None, **options: Any) -> Self:
        """The loss that balances `labels`.

        Args:
            labels: training labels, numbers in [0, 1]; a tensor, array or list.
            num_classes: the size C of the labels' last dimension, for one alpha per class; None for one alpha in all.
                Default: `None`.
            options: further options of the constructor.

        Returns:
            The module with `alpha` from `balancing_alpha`.

        Raises:
            ValueError: if the labels' last dimension is not `num_classes`.
        """
        target = checks.labels("labels", checks.as_tensor("labels", labels))
        if num_classes is not None and target.shape[-1:] != (num_classes,):
            raise ValueError(f"`labels` must have shape [..., {num_classes}], got {list(target.shape)}")
        return cls(alpha=balancing_alpha(target, per_class=num_classes is not None), **options)

    def forward(self, input: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """The loss of `input` against `target`; `mask` keeps elements where True."""
        return balanced_cross_entropy(
            input,
            target,
            alpha=self.alpha,
            weight=self.weight,
            pos_weight=self.pos_weight,
            label_smoothing=self.label_smoothing,
            mask=mask,
            reduction=self.reduction,
            sync=self.sync,
        )


def _required(alpha: Vector | Scalar) -> Vector | Scalar:
    if alpha is None:
        raise TypeError("`alpha` must be a number or one number per class, got None; `balancing_alpha(target)` has one")
    return alpha


CARD = Card(
    name="balanced_cross_entropy",
    summary="cross-entropy with a weight for each side, for example to balance positives and negatives",
    module=BalancedCrossEntropyLoss,
    function=balanced_cross_entropy,
    family="Cross-entropy",
    kind="elementwise",
    problems=frozenset({"binary", "multilabel"}),
    op_family="elementwise",
    paper='Xie and Tu, "Holistically-Nested Edge Detection", ICCV 2015, eq. 2',
    formula=r"\alpha_t \, \mathrm{CE}(z, y), \quad \alpha_t = \alpha y + (1 - \alpha)(1 - y)",
    use_when=(
        "yes/no labels of one known imbalance, and training itself has to hear the rare side, as for the edges in "
        "an image"
    ),
    avoid_when=(
        "the decision threshold can be moved after training, which costs nothing, or the probabilities have to be "
        "calibrated: the weights bend them"
    ),
    samples=({}, {"alpha": 0.9, "label_smoothing": 0.1}, {"alpha": 0.25, "reduction": "mean_positive"}),
    required={"alpha": 0.75},
    identities=(
        Identity(
            statement="alpha=0.5 is half of sigmoid_cross_entropy",
            options={"alpha": 0.5},
            other=lambda input, target: sigmoid_cross_entropy(input, target) / 2,
        ),
    ),
)
