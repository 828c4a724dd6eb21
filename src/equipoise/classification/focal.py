"""Focal loss. Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 4-5."""

from __future__ import annotations

from torch import Tensor

from .. import checks
from ..card import Card, Identity
from ..checks import Scalar, Vector
from ._sigmoid import SigmoidLoss, sigmoid_pipeline
from ._softmax import SoftmaxLoss, softmax_pipeline
from .cross_entropy import sigmoid_cross_entropy, softmax_cross_entropy


def sigmoid_focal_loss(
    input: Tensor,
    target: Tensor,
    *,
    gamma: Scalar = 2.0,
    alpha: Scalar | Vector | None = None,
    weight: Vector | Scalar | None = None,
    pos_weight: Vector | Scalar | None = None,
    label_smoothing: Scalar = 0.0,
    mask: Tensor | None = None,
    reduction: str = "mean",
    sync: bool = False,
) -> Tensor:
    r"""Cross-entropy of independent yes/no questions, turned down where the answer is right already.

    $\ell = \alpha_t\, (1 - p_t)^\gamma\, \mathrm{CE}(z, y)$ for the score z (`input`) and the target y, with
    $p_t = y\,\sigma(z) + (1 - y)\,\sigma(-z)$ the probability given to the right answer,
    $\alpha_t = \alpha y + (1 - \alpha)(1 - y)$ and CE the cross-entropy of `sigmoid_cross_entropy`.

    Args:
        input: scores (logits) of any shape, floating-point.
        target: numbers in [0, 1] in the input's shape; floating-point, integer or boolean.
        gamma: $\gamma \ge 0$; the larger, the less easy examples count. 0 is plain cross-entropy. Default: `2.0`.
        alpha: $\alpha$ in [0, 1], the weight of the positive class ($1 - \alpha$ is the negative's); a number, or
            broadcastable to the input (a `[C]` vector meets the last dimension). None weighs both 1. Lin et al. use
            0.25 for detection with gamma=2, which has silenced most negatives already. Default: `None`.
        weight: weight of each element, broadcastable to the input (a `[C]` vector weighs the last dimension; dense maps
            pass `[C, 1, 1]`). It enters no divisor. Default: `None`.
        pos_weight: weight of the positive term of CE, broadcastable to the input. $p_t$ does not see it. Default:
            `None`.
        label_smoothing: ε in [0, 1]: targets become $y (1 - ε) + ε / 2$, in $\alpha_t$ and $p_t$ too. Default: `0.0`.
        mask: boolean, broadcastable to the input; True keeps an element. Default: `None`.
        reduction: `"none"`; `"sum"`; `"mean"`: the sum divided by the number of kept elements; `"mean_positive"`: the
            sum divided by max(1, sum of the kept, unsmoothed targets), as RetinaNet normalises. Default: `"mean"`.
        sync: whether divisors are global over the process group; scalars are then scaled so that their average over
            ranks, which DDP takes, is that of one process on the joined batch. Default: `False`.

    Returns:
        A scalar, or the input's shape for `"none"`; float32 for half-precision input. 0 where no element is kept.

    Raises:
        TypeError: if `input` is not a floating-point tensor, `target` not a tensor or `mask` not boolean.
        ValueError: if shapes do not fit, a value leaves its range, or `target` requires a gradient.

    Example:
        >>> import torch
        >>> from equipoise import sigmoid_focal_loss
        >>> score = torch.tensor([0.0, 0.0, 4.0], requires_grad=True)
        >>> loss = sigmoid_focal_loss(score, torch.tensor([1, 0, 1]), alpha=0.25, reduction="none")
        >>> loss.detach()
        tensor([4.3322e-02, 1.2997e-01, 1.4679e-06])

    Differs from:
        The paper: `alpha` is off by default, and soft targets are allowed. Many implementations compute
        $(1 - p)^\gamma$ from a rounded p, or through `exp(-z)`, and lose or poison the gradient of the hardest
        examples; here it comes from the log of $1 - p_t$ itself.

    References:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 4-5.
    """
    return sigmoid_pipeline(
        input,
        target,
        gamma=gamma,
        alpha=alpha,
        weight=weight,
        pos_weight=pos_weight,
        label_smoothing=label_smoothing,
        mask=mask,
        reduction=reduction,
        sync=sync,
    )


class SigmoidFocalLoss(SigmoidLoss):
    r"""Focal loss of independent yes/no questions; the module of `sigmoid_focal_loss`.

    $\ell = \alpha_t\, (1 - p_t)^\gamma\, \mathrm{CE}(z, y)$

    Args:
        gamma: $\gamma \ge 0$; the larger, the less easy examples count. Default: `2.0`.
        alpha: $\alpha$ in [0, 1], the weight of the positive class; a number, or broadcastable to the input; None
            weighs both 1. Default: `None`.
        weight: weight of each element, broadcastable to the input. Default: `None`.
        pos_weight: weight of the positive term, broadcastable to the input. Default: `None`.
        label_smoothing: ε in [0, 1]: targets become $y (1 - ε) + ε / 2$. Default: `0.0`.
        reduction: `"none"`, `"sum"`, `"mean"` over kept elements, or `"mean_positive"`. Default: `"mean"`.
        sync: whether divisors are global over the process group. Default: `False`.

    Shape:
        `input` and `target` of one shape; the result is a scalar, or that shape for `"none"`.

    Example:
        >>> import torch
        >>> from equipoise import SigmoidFocalLoss
        >>> criterion = SigmoidFocalLoss(gamma=2.0, alpha=0.25, reduction="mean_positive")
        >>> criterion(torch.zeros(2, 3), torch.eye(2, 3))
        tensor(0.3033)

    References:
        See `sigmoid_focal_loss`.
    """

    alpha: Tensor | float | None

    def __init__(
        self,
        *,
        gamma: Scalar = 2.0,
        alpha: Scalar | Vector | None = None,
        weight: Vector | Scalar | None = None,
        pos_weight: Vector | Scalar | None = None,
        label_smoothing: Scalar = 0.0,
        reduction: str = "mean",
        sync: bool = False,
    ) -> None:
        super().__init__(
            weight=weight, pos_weight=pos_weight, label_smoothing=label_smoothing, reduction=reduction, sync=sync
        )
        self.gamma = checks.number("gamma", gamma, 0)
        self._hold("alpha", alpha, 0, 1)

    def forward(self, input: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """The loss of `input` against `target`; `mask` keeps elements where True."""
        return sigmoid_focal_loss(
            input,
            target,
            gamma=self.gamma,
            alpha=self.alpha,
            weight=self.weight,
            pos_weight=self.pos_weight,
            label_smoothing=self.label_smoothing,
            mask=mask,
            reduction=self.reduction,
            sync=self.sync,
        )


def softmax_focal_loss(
    input: Tensor,
    target: Tensor,
    *,
    gamma: Scalar = 2.0,
    weight: Vector | None = None,
    sample_weight: Tensor | None = None,
    logit_adjustment: Vector | None = None,
    ignore_index: int = -100,
    label_smoothing: Scalar = 0.0,
    reduction: str = "mean",
    sync: bool = False,
) -> Tensor:
    r"""Cross-entropy of one class out of C, turned down where the answer is right already.

    $\ell = -\sum_c y_c w_c (1 - p_c)^\gamma \log p_c$ with $p = \mathrm{softmax}(z)$ of the scores z (`input`), the
    target distribution y and class weights w (`weight`); with `logit_adjustment` $p = \mathrm{softmax}(z + a)$.

    Args:
        input: scores (logits) `[N, C, ...]` or `[C]`, floating-point.
        target: class indices `[N, ...]` (integers), or probabilities in the input's shape (floating-point).
        gamma: $\gamma \ge 0$; the larger, the less easy samples count. 0 is plain cross-entropy. Default: `2.0`.
        weight: weight of each class, `[C]` (what alpha is in a multi-class focal loss). $p_c$ does not see it.
            Default: `None`.
        sample_weight: weight of each sample, in the shape of index targets. It enters no divisor. Default: `None`.
        logit_adjustment: $a_c$, added to the scores before the softmax, `[C]`: class counts (integers), of which the
            log of each class's share is taken, or log priors (floating-point, at most 0; see `log_priors`). The model
            then learns scores that favour no frequent class: use them as they are to decide. Default: `None`.
        ignore_index: class index of samples to leave out (index targets). Default: `-100`.
        label_smoothing: ε in [0, 1]: targets become $(1 - ε) y + ε / C$, each class with its own modulator. Default:
            `0.0`.
        reduction: `"none"`; `"sum"`; `"mean"`: the sum divided by the sum of `weight[target]` over kept samples for
            index targets, by the number of samples for probability targets, as in torch's cross-entropy. Default:
            `"mean"`.
        sync: whether the divisor is global over the process group; scalars are then scaled so that their average over
            ranks, which DDP takes, is that of one process on the joined batch. Default: `False`.

    Returns:
        A scalar, or one loss per sample `[N, ...]` for `"none"`; float32 for half-precision input. 0 where no sample
        is kept.

    Raises:
        TypeError: if `input` is not a floating-point tensor or `target` not a tensor.
        ValueError: if shapes do not fit, a value leaves its range, or `target` requires a gradient.

    Example:
        >>> import torch
        >>> from equipoise import softmax_focal_loss
        >>> score = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, 2.0]])
        >>> softmax_focal_loss(score, torch.tensor([2, 1]), weight=[0.25, 0.25, 0.25], reduction="sum") / 2
        tensor(0.3496)

    Differs from:
        Implementations that apply a sigmoid to each class and call it multi-class; that is `sigmoid_focal_loss` on
        one-hot targets. Here the modulator is that of the softmax probability of the target class.

    References:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 3 (the extension to many classes).
        Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, eq. 10 (`logit_adjustment`).
    """
    return softmax_pipeline(
        input,
        target,
        gamma=gamma,
        weight=weight,
        sample_weight=sample_weight,
        logit_adjustment=logit_adjustment,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        sync=sync,
    )


class SoftmaxFocalLoss(SoftmaxLoss):
    r"""Focal loss of one class out of C; the module of `softmax_focal_loss`.

    $\ell = -\sum_c y_c w_c (1 - p_c)^\gamma \log p_c$ with $p = \mathrm{softmax}(z)$

    Args:
        gamma: $\gamma \ge 0$; the larger, the less easy samples count. Default: `2.0`.
        weight: weight of each class, `[C]`. Default: `None`.
        logit_adjustment: added to the scores before the softmax, `[C]`: class counts (integers) or log priors (see
            `log_priors`). Default: `None`.
        ignore_index: class index of samples to leave out (index targets). Default: `-100`.
        label_smoothing: ε in [0, 1]: targets become $(1 - ε) y + ε / C$. Default: `0.0`.
        reduction: `"none"`, `"sum"` or `"mean"` (divided as in `softmax_focal_loss`). Default: `"mean"`.
        sync: whether the divisor is global over the process group. Default: `False`.

    Shape:
        `input` `[N, C, ...]`, `target` `[N, ...]` or the input's shape; a scalar, or `[N, ...]` for `"none"`.

    Example:
        >>> import torch
        >>> from equipoise import SoftmaxFocalLoss
        >>> criterion = SoftmaxFocalLoss(gamma=2.0)
        >>> criterion(torch.zeros(4, 10), torch.tensor([0, 3, 3, 9]))
        tensor(1.8651)

    References:
        See `softmax_focal_loss`.
    """

    def __init__(
        self,
        *,
        gamma: Scalar = 2.0,
        weight: Vector | None = None,
        logit_adjustment: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Scalar = 0.0,
        reduction: str = "mean",
        sync: bool = False,
    ) -> None:
        super().__init__(
            weight=weight,
            logit_adjustment=logit_adjustment,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
            sync=sync,
        )
        self.gamma = checks.number("gamma", gamma, 0)

    def forward(self, input: Tensor, target: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
        """The loss of `input` against `target`; `sample_weight` multiplies each sample."""
        return softmax_focal_loss(
            input,
            target,
            gamma=self.gamma,
            weight=self.weight,
            sample_weight=sample_weight,
            logit_adjustment=self.logit_adjustment,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
            sync=self.sync,
        )


SIGMOID_CARD = Card(
    name="sigmoid_focal",
    summary="turns easy yes/no examples down, so that the hard ones are heard",
    module=SigmoidFocalLoss,
    function=sigmoid_focal_loss,
    family="Focal loss",
    kind="elementwise",
    problems=frozenset({"binary", "multilabel"}),
    op_family="elementwise",
    paper='Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 4-5',
    formula=r"\alpha_t (1 - p_t)^\gamma \, \mathrm{CE}(z, y)",
    use_when="easy negatives drown the rest by their number: dense detection, segmentation, 1 % positives",
    avoid_when=(
        "labels are noisy (it listens to outliers most: ghm_c), or the probabilities have to be calibrated: gamma "
        "> 0 pulls them towards 1/2"
    ),
    samples=(
        {},
        {"gamma": 2.0, "alpha": 0.25, "reduction": "mean_positive"},
        {"gamma": 0.5, "pos_weight": 3.0},
        {"gamma": 3.5, "label_smoothing": 0.1},
    ),
    identities=(
        Identity(
            statement="gamma=0 equals sigmoid_cross_entropy",
            options={"gamma": 0.0, "pos_weight": 3.0},
            other=sigmoid_cross_entropy,
            other_options={"pos_weight": 3.0},
        ),
        Identity(
            statement="gamma=0, alpha=0.5 is half of sigmoid_cross_entropy",
            options={"gamma": 0.0, "alpha": 0.5},
            other=lambda input, target: sigmoid_cross_entropy(input, target) / 2,
        ),
    ),
    differs=("alpha is off by default (the paper's detection setting is alpha=0.25)", "soft targets are allowed"),
)

SOFTMAX_CARD = Card(
    name="softmax_focal",
    summary="turns easy samples down in a choice of one class out of C",
    module=SoftmaxFocalLoss,
    function=softmax_focal_loss,
    family="Focal loss",
    kind="rows",
    problems=frozenset({"multiclass"}),
    op_family="rowwise",
    paper='Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 3',
    formula=r"-\sum_c y_c w_c (1 - p_c)^\gamma \log p_c",
    use_when="most samples are easy and the network is too sure of itself",
    avoid_when=(
        "rare classes are the trouble (gamma knows nothing of frequencies: class_balanced_softmax_focal), or "
        "labels are noisy: it listens to outliers most"
    ),
    samples=(
        {},
        {"gamma": 0.5},
        {"gamma": 3.5, "label_smoothing": 0.1},
        {"gamma": 1.0, "ignore_index": 0},
        {"logit_adjustment": [3000, 400, 60, 5]},
    ),
    identities=(
        Identity(
            statement="gamma=0 equals softmax_cross_entropy",
            options={"gamma": 0.0, "label_smoothing": 0.1},
            other=softmax_cross_entropy,
            other_options={"label_smoothing": 0.1},
        ),
    ),
    differs=("probability targets: each class has its own modulator",),
)
