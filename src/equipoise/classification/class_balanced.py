"""Class-balanced loss. Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, eq. 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from .. import checks
from ..card import Card, Identity
from ..checks import Scalar, Vector
from ..loss import Loss
from ..ops import rowwise
from ..reduction import check_reduction, compute_dtype, count
from ..weights import class_counts, effective_number_weights
from ._sigmoid import sigmoid_pipeline
from ._softmax import check_indices, softmax_pipeline
from .focal import sigmoid_focal_loss, softmax_focal_loss


class ClassBalancedLoss(Loss):
    """What both class-balanced losses share: class weights from counts, and the constructor from labels."""

    counts: Tensor
    class_weight: Tensor

    def __init__(
        self,
        counts: Vector,
        *,
        beta: float,
        gamma: Scalar,
        label_smoothing: Scalar,
        ignore_index: int,
        reduction: str,
        sync: bool,
    ) -> None:
        super().__init__()
        self.register_buffer("class_weight", effective_number_weights(counts, beta=beta))
        self.register_buffer("counts", checks.as_tensor("counts", counts).detach().clone())
        self.beta = checks.number("beta", beta, 0, 1)
        self.gamma = checks.number("gamma", gamma, 0)
        self.label_smoothing = checks.number("label_smoothing", label_smoothing, 0, 1)
        self.ignore_index = checks.whole("ignore_index", ignore_index)
        self.reduction = check_reduction(reduction)
        self.sync = sync

    @classmethod
    def from_labels(
        cls, labels: Tensor | Vector, num_classes: int, *, multilabel: bool | None = None, **options: Any
    ) -> Self:
        """The loss for the class counts of `labels`.

        Args:
            labels: all training labels: class indices, or multi-label targets `[N, C]`; a tensor, array or list. If
                each rank holds a part of them, add the counts up instead: `cls(class_counts(labels, C, sync=True))`.
            num_classes: the number of classes C.
            multilabel: see `class_counts`. Default: `None`.
            options: further options of the constructor.

        Returns:
            The module with counts from `class_counts`.
        """
        ignored = options.get("ignore_index", -100)
        counts = class_counts(labels, num_classes, multilabel=multilabel, ignore_index=ignored)
        return cls(counts, **options)

    def _weight_for(self, input: Tensor, dim: int) -> Tensor:
        """The class weights in the computing dtype, if they fit the classes on `dim`."""
        weight = self.class_weight
        classes = weight.shape[0]
        if not input.ndim or input.shape[dim] != classes:
            place = "the last dimension" if dim == -1 else f"dimension {dim}"
            raise ValueError(
                f"`input` must have the {classes} classes of `counts` on {place}, got shape {list(input.shape)}"
            )
        return weight.to(dtype=compute_dtype(input), device=input.device)


class ClassBalancedSoftmaxFocalLoss(ClassBalancedLoss):
    r"""Softmax focal loss with each sample weighed by the effective number of its class.

    $\ell = w_y\, (1 - p_y)^\gamma\, (-\log p_y)$ with $w_c \propto (1 - \beta) / (1 - \beta^{n_c})$ scaled to sum to
    the number of classes seen.

    Args:
        counts: training samples of each class $n_c$, `[C]`.
        beta: $\beta$ in [0, 1]; 0 is no balancing, 1 is inverse class frequency. Default: `0.9999`.
        gamma: $\gamma \ge 0$; 0 is class-balanced cross-entropy. Default: `2.0`.
        label_smoothing: ε in [0, 1]: targets become $(1 - ε) y + ε / C$; the weight stays $w_y$. Default: `0.0`.
        ignore_index: class index of samples to leave out. Default: `-100`.
        reduction: `"none"`, `"sum"` or `"mean"`: the sum divided by the number of kept samples. Default: `"mean"`.
        sync: whether the divisor is global over the process group. Default: `False`.

    Shape:
        `input` `[N, C, ...]`, `target` `[N, ...]` (class indices) or the input's shape (probabilities: each class's
        term has its own weight); a scalar, or `[N, ...]` for `"none"`.

    Raises:
        ValueError: if `counts` is not a vector of numbers >= 0, or does not fit the input.

    Example:
        >>> import torch
        >>> from equipoise import ClassBalancedSoftmaxFocalLoss
        >>> score = torch.tensor([[0.78, 0.1, 0.05], [0.78, 0.83, 0.05]])
        >>> criterion = ClassBalancedSoftmaxFocalLoss([30, 100, 25], beta=0.999, gamma=0.0)
        >>> criterion(score, torch.tensor([0, 2]))
        tensor(1.5994)

    Differs from:
        PyTorch ports that apply a sigmoid loss to softmax probabilities. `mean` divides by the number of samples, as in
        the paper, where torch's weighted mean divides by the sum of the weights.

    References:
        Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, eq. 4 and section 4.
    """

    def __init__(
        self,
        counts: Vector,
        *,
        beta: float = 0.9999,
        gamma: Scalar = 2.0,
        label_smoothing: Scalar = 0.0,
        ignore_index: int = -100,
        reduction: str = "mean",
        sync: bool = False,
    ) -> None:
        super().__init__(
            counts,
            beta=beta,
            gamma=gamma,
            label_smoothing=label_smoothing,
            ignore_index=ignore_index,
            reduction=reduction,
            sync=sync,
        )

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of `input` against `target`."""
        weight = self._weight_for(input, 0 if checks.scores("input", input).ndim == 1 else 1)
        by_class = checks.labels("target", target).is_floating_point()
        return softmax_pipeline(
            input,
            target,
            gamma=self.gamma,
            weight=weight if by_class else None,
            target_weight=None if by_class else weight,
            sample_weight=None,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
            sync=self.sync,
        )


class ClassBalancedSigmoidFocalLoss(ClassBalancedLoss):
    r"""Sigmoid focal loss weighed by the effective number of samples of each class.

    Class indices: $\ell = w_y \sum_c \mathrm{FL}(z_c, [c = y])$, the whole row of a sample has the weight of its class.
    Multi-label targets: $\ell_c = w_c\, \mathrm{FL}(z_c, y_c)$. FL is `sigmoid_focal_loss`, and
    $w_c \propto (1 - \beta) / (1 - \beta^{n_c})$ scaled to sum to the number of classes seen.

    Args:
        counts: training samples (multi-label: positives) of each class $n_c$, `[C]`.
        beta: $\beta$ in [0, 1]; 0 is no balancing, 1 is inverse class frequency. Default: `0.9999`.
        gamma: $\gamma \ge 0$; 0 is class-balanced cross-entropy. Default: `2.0`.
        alpha: weight of the positive side in [0, 1], a number or `[C]`; None weighs both sides 1. Default: `None`.
        label_smoothing: ε in [0, 1]: each yes/no target becomes $y (1 - ε) + ε / 2$. Default: `0.0`.
        ignore_index: class index of samples to leave out. Default: `-100`.
        reduction: `"none"`; `"sum"`; `"mean"`: the sum divided by the number of kept samples for class indices, by the
            number of kept elements for multi-label targets. Default: `"mean"`.
        sync: whether the divisor is global over the process group. Default: `False`.

    Shape:
        `input` `[..., C]`, classes last; `target` `[...]` (class indices: `"none"` gives `[...]`) or `[..., C]`
        (multi-label: `"none"` gives `[..., C]`, and `mask` may keep elements).

    Raises:
        ValueError: if `counts` is not a vector of numbers >= 0, does not fit the input, or `mask` meets class indices.

    Example:
        >>> import torch
        >>> from equipoise import ClassBalancedSigmoidFocalLoss
        >>> score = torch.tensor([[0.78, 0.1, 0.05], [0.78, 0.83, 0.05]])
        >>> criterion = ClassBalancedSigmoidFocalLoss([30, 100, 25], beta=0.999)
        >>> criterion(score, torch.tensor([0, 2]))
        tensor(1.1751)

    Differs from:
        The paper, in multi-label targets, which it does not treat.

    References:
        Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, eq. 4 and section 4.
    """

    alpha: Tensor | float | None

    def __init__(
        self,
        counts: Vector,
        *,
        beta: float = 0.9999,
        gamma: Scalar = 2.0,
        alpha: Scalar | Vector | None = None,
        label_smoothing: Scalar = 0.0,
        ignore_index: int = -100,
        reduction: str = "mean",
        sync: bool = False,
    ) -> None:
        super().__init__(
            counts,
            beta=beta,
            gamma=gamma,
            label_smoothing=label_smoothing,
            ignore_index=ignore_index,
            reduction=reduction,
            sync=sync,
        )
        self._hold("alpha", alpha, 0, 1)

    def forward(self, input: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """The loss of `input` against `target`; `mask` keeps elements of multi-label targets where True."""
        class_weight = self._weight_for(checks.scores("input", input), -1)
        labels = checks.labels("target", target)
        if labels.ndim == input.ndim:
            return self._elements(input, labels, class_weight, mask)
        if mask is not None:
            raise ValueError("`mask` must be None for class indices: mark samples with ignore_index instead")
        checks.same_shape("target", labels, input.shape[:-1], "one class index per row, or the input's shape")
        check_indices(labels)
        index, kept = rowwise.class_index(labels, len(class_weight), self.ignore_index)
        one_hot = rowwise.is_class(input, index, -1)
        weight = rowwise.poisoned(class_weight[index], index, len(class_weight)).unsqueeze(-1)
        loss = self._elements(input, one_hot, weight, kept.unsqueeze(-1), own_divisor=lambda: count(kept, index))
        return loss.sum(-1) if self.reduction == "none" else loss

    def _elements(
        self,
        input: Tensor,
        target: Tensor,
        weight: Tensor,
        mask: Tensor | None,
        own_divisor: Callable[[], Tensor] | None = None,
    ) -> Tensor:
        return sigmoid_pipeline(
            input,
            target,
            gamma=self.gamma,
            alpha=self.alpha,
            weight=weight,
            pos_weight=None,
            label_smoothing=self.label_smoothing,
            mask=mask,
            reduction=self.reduction,
            sync=self.sync,
            own_divisor=own_divisor,
        )


SIGMOID_CARD = Card(
    name="class_balanced_sigmoid_focal",
    summary="sigmoid focal loss weighed by the effective number of samples of each class",
    module=ClassBalancedSigmoidFocalLoss,
    family="Class-balanced loss",
    kind="rows",
    problems=frozenset({"multiclass", "multilabel"}),
    op_family="elementwise",
    paper='Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, eq. 4',
    formula=r"w_y \sum_c \mathrm{FL}(z_c, [c = y]), \quad w_c \propto \frac{1 - \beta}{1 - \beta^{n_c}}",
    use_when=(
        "a long tail of classes whose recall counts as much as the head's, with a sigmoid for each class or "
        "several labels per row"
    ),
    avoid_when=(
        "balanced decisions are enough (prior correction costs no training), or the probabilities have to be "
        "calibrated; where classes have a handful of rows, take a smaller beta"
    ),
    samples=({}, {"beta": 0.99, "gamma": 0.5}, {"beta": 0.999, "alpha": 0.25, "label_smoothing": 0.1}),
    required={"counts": [3000, 400, 60, 5]},
    identities=(
        Identity(
            statement="beta=0 is sigmoid_focal_loss on one-hot rows, summed over classes",
            options={"beta": 0.0},
            other=lambda input, target: (
                sigmoid_focal_loss(input, torch.nn.functional.one_hot(target, input.shape[-1]), reduction="none")
                .sum(-1)
                .mean()
            ),
        ),
    ),
    differs=("multi-label targets, which the paper does not treat: class c has the weight of its own count",),
)

SOFTMAX_CARD = Card(
    name="class_balanced_softmax_focal",
    summary="softmax focal loss weighed by the effective number of samples of each class",
    module=ClassBalancedSoftmaxFocalLoss,
    family="Class-balanced loss",
    kind="rows",
    problems=frozenset({"multiclass"}),
    op_family="rowwise",
    paper='Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, eq. 4 and section 4',
    formula=r"w_y (1 - p_y)^\gamma (-\log p_y), \quad w_c \propto \frac{1 - \beta}{1 - \beta^{n_c}}",
    use_when=(
        "a long tail of classes whose recall counts as much as the head's; gamma=0 makes it class-balanced cross-"
        "entropy"
    ),
    avoid_when=(
        "balanced decisions are enough (prior correction costs no training), or the probabilities have to be "
        "calibrated; where classes have a handful of rows, take a smaller beta"
    ),
    samples=({}, {"beta": 0.99, "gamma": 0.5}, {"beta": 0.999, "gamma": 0.0, "label_smoothing": 0.1}),
    required={"counts": [3000, 400, 60, 5]},
    identities=(
        Identity(
            statement="beta=0 equals softmax_focal_loss",
            options={"beta": 0.0},
            other=softmax_focal_loss,
        ),
    ),
    differs=("mean divides by the number of samples, not by the sum of their weights, as in the paper",),
)
