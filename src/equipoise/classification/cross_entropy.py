"""Plain cross-entropy of sigmoid and of softmax scores: the yardstick, and the base of what follows."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from ..card import Card, Identity
from ..checks import Scalar, Vector
from ._sigmoid import SigmoidLoss, sigmoid_pipeline
from ._softmax import SoftmaxLoss, softmax_pipeline


def sigmoid_cross_entropy(
    input: Tensor,
    target: Tensor,
    *,
    weight: Vector | Scalar | None = None,
    pos_weight: Vector | Scalar | None = None,
    label_smoothing: Scalar = 0.0,
    mask: Tensor | None = None,
    reduction: str = "mean",
    sync: bool = False,
) -> Tensor:
    r"""Cross-entropy of independent yes/no questions.

    $\ell = -w_+\, y \log \sigma(z) - (1 - y) \log \sigma(-z)$ for the score z (`input`), the target y and $w_+$
    (`pos_weight`).

    Args:
        input: scores (logits) of any shape, floating-point.
        target: numbers in [0, 1] in the input's shape; floating-point, integer or boolean.
        weight: weight of each element, broadcastable to the input (a `[C]` vector weighs the last dimension). It
            enters no divisor. Default: `None`.
        pos_weight: weight of the positive term, broadcastable to the input. Default: `None`.
        label_smoothing: ε in [0, 1]: targets become $y (1 - ε) + ε / 2$. Default: `0.0`.
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
        >>> from equipoise import sigmoid_cross_entropy
        >>> sigmoid_cross_entropy(torch.tensor([0.0, 2.0]), torch.tensor([1, 1]))
        tensor(0.4100)

    Differs from:
        `torch.nn.functional.binary_cross_entropy_with_logits`: nothing cancels (at z = 40, y = 1 the value is 4e-18,
        not 0), targets may be integers, and an empty batch gives 0, not NaN.

    References:
        Good, "Rational Decisions", Journal of the Royal Statistical Society B 14, 1952.
    """
    return sigmoid_pipeline(
        input,
        target,
        alpha=None,
        weight=weight,
        pos_weight=pos_weight,
        label_smoothing=label_smoothing,
        mask=mask,
        reduction=reduction,
        sync=sync,
    )


class SigmoidCrossEntropyLoss(SigmoidLoss):
    r"""Cross-entropy of independent yes/no questions; the module of `sigmoid_cross_entropy`.

    $\ell = -w_+\, y \log \sigma(z) - (1 - y) \log \sigma(-z)$

    Args:
        weight: weight of each element, broadcastable to the input. Default: `None`.
        pos_weight: weight of the positive term, broadcastable to the input. Default: `None`.
        label_smoothing: ε in [0, 1]: targets become $y (1 - ε) + ε / 2$. Default: `0.0`.
        reduction: `"none"`, `"sum"`, `"mean"` over kept elements, or `"mean_positive"`. Default: `"mean"`.
        sync: whether divisors are global over the process group. Default: `False`.

    Shape:
        `input` and `target` of one shape; the result is a scalar, or that shape for `"none"`.

    Example:
        >>> import torch
        >>> from equipoise import SigmoidCrossEntropyLoss
        >>> criterion = SigmoidCrossEntropyLoss(pos_weight=[1.0, 5.0])
        >>> criterion(torch.zeros(1, 2), torch.ones(1, 2))
        tensor(2.0794)

    References:
        See `sigmoid_cross_entropy`.
    """

    def __init__(
        self,
        *,
        weight: Vector | Scalar | None = None,
        pos_weight: Vector | Scalar | None = None,
        label_smoothing: Scalar = 0.0,
        reduction: str = "mean",
        sync: bool = False,
    ) -> None:
        super().__init__(
            weight=weight, pos_weight=pos_weight, label_smoothing=label_smoothing, reduction=reduction, sync=sync
        )

    def forward(self, input: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """The loss of `input` against `target`; `mask` keeps elements where True."""
        return sigmoid_cross_entropy(
            input,
            target,
            weight=self.weight,
            pos_weight=self.pos_weight,
            label_smoothing=self.label_smoothing,
            mask=mask,
            reduction=self.reduction,
            sync=self.sync,
        )


def softmax_cross_entropy(
    input: Tensor,
    target: Tensor,
    *,
    weight: Vector | None = None,
    sample_weight: Tensor | None = None,
    logit_adjustment: Vector | None = None,
    ignore_index: int = -100,
    label_smoothing: Scalar = 0.0,
    reduction: str = "mean",
    sync: bool = False,
) -> Tensor:
    r"""Cross-entropy of one class out of C.

    $\ell = -\sum_c y_c w_c \log p_c$ with $p = \mathrm{softmax}(z)$ of the scores z (`input`), the target distribution
    y and class weights w (`weight`); with `logit_adjustment` $p = \mathrm{softmax}(z + a)$.

    Args:
        input: scores (logits) `[N, C, ...]` or `[C]`, floating-point.
        target: class indices `[N, ...]` (integers), or probabilities in the input's shape (floating-point).
        weight: weight of each class, `[C]`. Default: `None`.
        sample_weight: weight of each sample, in the shape of index targets. It enters no divisor. Default: `None`.
        logit_adjustment: $a_c$, added to the scores before the softmax, `[C]`: class counts (integers), of which the
            log of each class's share is taken, or log priors (floating-point, at most 0; see `log_priors`). The model
            then learns scores that favour no frequent class: use them as they are to decide. Default: `None`.
        ignore_index: class index of samples to leave out (index targets). Default: `-100`.
        label_smoothing: ε in [0, 1]: targets become $(1 - ε) y + ε / C$. Default: `0.0`.
        reduction: `"none"`; `"sum"`; `"mean"`: the sum divided by the sum of `weight[target]` over kept samples for
            index targets, by the number of samples for probability targets. Default: `"mean"`.
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
        >>> from equipoise import softmax_cross_entropy
        >>> softmax_cross_entropy(torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), torch.tensor([0, -100]))
        tensor(0.2395)

    Differs from:
        `torch.nn.functional.cross_entropy`, which it equals in value, divisor and gradient, in one case: if every
        sample is ignored (or the batch empty, or all weights 0) the mean is a differentiable 0, not NaN.

    References:
        Bridle, "Training Stochastic Model Recognition Algorithms as Networks can Lead to Maximum Mutual Information
        Estimation of Parameters", NIPS 1989.
        Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, eq. 10 (`logit_adjustment`).
    """
    return softmax_pipeline(
        input,
        target,
        weight=weight,
        sample_weight=sample_weight,
        logit_adjustment=logit_adjustment,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        sync=sync,
    )


class SoftmaxCrossEntropyLoss(SoftmaxLoss):
    r"""Cross-entropy of one class out of C; the module of `softmax_cross_entropy`.

    $\ell = -\sum_c y_c w_c \log p_c$ with $p = \mathrm{softmax}(z)$

    Args:
        weight: weight of each class, `[C]`. Default: `None`.
        logit_adjustment: added to the scores before the softmax, `[C]`: class counts (integers) or log priors (see
            `log_priors`). Default: `None`.
        ignore_index: class index of samples to leave out (index targets). Default: `-100`.
        label_smoothing: ε in [0, 1]: targets become $(1 - ε) y + ε / C$. Default: `0.0`.
        reduction: `"none"`, `"sum"` or `"mean"` (divided as in `softmax_cross_entropy`). Default: `"mean"`.
        sync: whether the divisor is global over the process group. Default: `False`.

    Shape:
        `input` `[N, C, ...]`, `target` `[N, ...]` or the input's shape; a scalar, or `[N, ...]` for `"none"`.

    Example:
        >>> import torch
        >>> from equipoise import SoftmaxCrossEntropyLoss, inverse_frequency_weights
        >>> criterion = SoftmaxCrossEntropyLoss(weight=inverse_frequency_weights([90, 10]))
        >>> criterion(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor(0.6931)

    References:
        See `softmax_cross_entropy`.
    """

    def __init__(
        self,
        *,
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

    def forward(self, input: Tensor, target: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
        """The loss of `input` against `target`; `sample_weight` multiplies each sample."""
        return softmax_cross_entropy(
            input,
            target,
            weight=self.weight,
            sample_weight=sample_weight,
            logit_adjustment=self.logit_adjustment,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
            sync=self.sync,
        )


SIGMOID_CARD = Card(
    name="sigmoid_cross_entropy",
    summary="plain cross-entropy of independent yes/no questions",
    module=SigmoidCrossEntropyLoss,
    function=sigmoid_cross_entropy,
    family="Cross-entropy",
    kind="elementwise",
    problems=frozenset({"binary", "multilabel"}),
    op_family="elementwise",
    paper='Good, "Rational Decisions", JRSS B 14, 1952',
    formula=r"-w_+\, y \log \sigma(z) - (1 - y) \log \sigma(-z)",
    use_when=(
        "always first: it is what every other loss is compared with, its probabilities are honest, and the "
        "decision threshold can be moved after training at no cost"
    ),
    avoid_when=(
        "a row has exactly one of several classes (softmax_cross_entropy), or `equipoise compare` has shown that "
        "another loss helps"
    ),
    samples=({}, {"pos_weight": 3.0}, {"label_smoothing": 0.1}, {"reduction": "mean_positive"}),
    identities=(
        Identity(
            statement="equals torch's binary_cross_entropy_with_logits",
            options={"pos_weight": 3.0},
            other=lambda input, target: functional.binary_cross_entropy_with_logits(
                input, target.to(input.dtype), pos_weight=input.new_tensor(3.0)
            ),
        ),
    ),
    differs=("nothing cancels where torch's form gives 0; integer targets; an empty batch gives 0, not NaN",),
)

SOFTMAX_CARD = Card(
    name="softmax_cross_entropy",
    summary="plain cross-entropy of one class out of C",
    module=SoftmaxCrossEntropyLoss,
    function=softmax_cross_entropy,
    family="Cross-entropy",
    kind="rows",
    problems=frozenset({"multiclass"}),
    op_family="rowwise",
    paper='Bridle, "Training Stochastic Model Recognition Algorithms as Networks", NIPS 1989',
    formula=r"-\sum_c y_c w_c \log p_c",
    use_when=(
        "always first: it is what every other loss is compared with, its probabilities are honest, and subtracting"
        " the log of the class frequencies from the scores balances the decisions at no cost"
    ),
    avoid_when=(
        "a row may have several labels at once, or none (sigmoid_cross_entropy), or `equipoise compare` has shown "
        "that another loss helps"
    ),
    samples=({}, {"label_smoothing": 0.1}, {"ignore_index": 0}, {"logit_adjustment": [3000, 400, 60, 5]}),
    identities=(
        Identity(
            statement="equals torch's cross_entropy",
            options={"label_smoothing": 0.1},
            other=functional.cross_entropy,
            other_options={"label_smoothing": 0.1},
        ),
    ),
    differs=("all samples ignored: a differentiable 0, not torch's NaN",),
)
