"""Focal loss of a linear layer that never stores its scores: one of many classes, or many labels at once.

Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 4-5, with the scores z = W x + b computed inside.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from .. import checks
from ..card import Card, Identity
from ..checks import Scalar, Vector
from ._linear import check_chunk, linear_sigmoid_pipeline, linear_softmax_pipeline
from ._sigmoid import SigmoidLoss
from ._softmax import SoftmaxLoss
from .focal import sigmoid_focal_loss, softmax_focal_loss


def linear_softmax_focal_loss(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    gamma: Scalar = 0.0,
    weight: Vector | None = None,
    sample_weight: Tensor | None = None,
    logit_adjustment: Vector | None = None,
    label_smoothing: Scalar = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    chunk_rows: int | None = None,
    sync: bool = False,
) -> Tensor:
    r"""Softmax focal loss of a linear layer, for so many classes that the scores should never be stored.

    `softmax_focal_loss` of the scores $z = W x + b$ (`linear_weight`, `input`, `linear_bias`), R rows at a time:
    $\ell = -\sum_c y_c w_c (1 - p_c)^\gamma \log p_c$ with $p = \mathrm{softmax}(z + a)$, the target distribution y,
    class weights w (`weight`) and `logit_adjustment` a. Its gradients come out of the forward pass, for three matrix
    products in all.

    Beyond the gradients it takes $4 R (C + D)$ bytes (float64: twice as many) for R rows at a time (`chunk_rows`), C
    classes and D features, whatever the number of rows N; in half precision $4 (2 C + N) D$ more, for the weight and
    both gradients in float32. The kernels of a GPU take $6 R C$ of half precision, which is not copied
    (its weight's gradient is summed in $4 C D$), and $8 R C$ of float32. Without compiled kernels smoothed and
    probability targets take some ten times R C.
    `reduction="none"` computes the scores anew in the backward pass: four products. Second derivatives
    (`create_graph=True`) and `torch.func` go through plain torch, with all scores in memory.

    Args:
        input: features $x$, `[..., D]`, floating-point.
        linear_weight: $W$, `[C, D]`, floating-point; its dtype may differ from the input's.
        target: class indices `[...]` (integers), or probabilities `[..., C]` (floating-point).
        linear_bias: $b$, `[C]`. Default: `None`.
        gamma: $\gamma \ge 0$; the larger, the less easy rows count. 0 is plain cross-entropy. Default: `0.0`.
        weight: weight of each class, `[C]`. Default: `None`.
        sample_weight: weight of each row, `[...]`. It enters no divisor. Default: `None`.
        logit_adjustment: $a_c$, added to the scores before the softmax, `[C]`: class counts (integers), of which the
            log of each class's share is taken, or log priors (floating-point, at most 0; see `log_priors`). It joins
            the bias and costs nothing. Default: `None`.
        label_smoothing: ε in [0, 1]: targets become $(1 - ε) y + ε / C$, each class with its own modulator. Default:
            `0.0`.
        ignore_index: class index of rows to leave out (index targets). Default: `-100`.
        reduction: `"none"`; `"sum"`; `"mean"`: the sum divided by the sum of `weight[target]` over kept rows for index
            targets, by the number of rows for probability targets, as in torch's cross-entropy. Default: `"mean"`.
        chunk_rows: how many rows to take at a time, R. None: on a CPU as many as have 32 MiB of scores, but at least
            64; elsewhere at least 1024. Default: `None`.
        sync: whether the divisor is global over the process group; scalars are then scaled so that their average over
            ranks, which DDP takes, is that of one process on the joined batch. Default: `False`.

    Returns:
        A scalar, or one loss per row `[...]` for `"none"`; float32 for half precision. 0 where no row is kept.

    Raises:
        TypeError: if `input`, `linear_weight` or `linear_bias` is not a floating-point tensor, or `target` not a
            tensor.
        ValueError: if shapes do not fit, a value leaves its range, or `target` requires a gradient.

    Example:
        >>> import torch
        >>> from equipoise import linear_softmax_focal_loss
        >>> head = torch.nn.Linear(8, 30_000)
        >>> features, target = torch.ones(4, 8), torch.tensor([0, 17, 29_999, -100])
        >>> loss = linear_softmax_focal_loss(features, head.weight, target, linear_bias=head.bias, gamma=2.0)
        >>> loss.backward()
        >>> head.weight.grad.shape
        torch.Size([30000, 8])

    Differs from:
        `torch.nn.functional.linear_cross_entropy`, whose names it takes: dimensions before the last of the input are
        all rows, the weight has two dimensions, gradients of a second backward pass and of gradients are right, and all
        rows ignored give a differentiable 0. Mixed and half precision compute in float32, autocast or not. Only where
        the kernels of a GPU are in use are numbers of half precision multiplied as they are (those of input and weight,
        or autocast's), and summed in float32; gradients of scores are rounded once on their way. For faster products of
        float32 there is `torch.set_float32_matmul_precision`. A GPU is waited for where `gamma` or `label_smoothing` is
        a tensor on it.

    References:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 3.
        Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, eq. 10 (`logit_adjustment`).
        Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models", ICLR 2025 (scores that are not stored).
    """
    return linear_softmax_pipeline(
        input,
        linear_weight,
        target,
        linear_bias=linear_bias,
        gamma=gamma,
        weight=weight,
        sample_weight=sample_weight,
        logit_adjustment=logit_adjustment,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
        reduction=reduction,
        chunk_rows=chunk_rows,
        sync=sync,
    )


class LinearSoftmaxFocalLoss(SoftmaxLoss):
    r"""Softmax focal loss of a linear layer whose scores are never stored; the module of `linear_softmax_focal_loss`.

    $\ell = -\sum_c y_c w_c (1 - p_c)^\gamma \log p_c$ with $p = \mathrm{softmax}(W x + b + a)$

    The layer's weight and bias come with each call: they are the model's, where decisions need them.

    Args:
        gamma: $\gamma \ge 0$; the larger, the less easy rows count. 0 is plain cross-entropy. Default: `0.0`.
        weight: weight of each class, `[C]`. Default: `None`.
        logit_adjustment: added to the scores before the softmax, `[C]`: class counts (integers) or log priors (see
            `log_priors`). Default: `None`.
        label_smoothing: ε in [0, 1]: targets become $(1 - ε) y + ε / C$. Default: `0.0`.
        ignore_index: class index of rows to leave out (index targets). Default: `-100`.
        reduction: `"none"`, `"sum"` or `"mean"` (divided as in `linear_softmax_focal_loss`). Default: `"mean"`.
        chunk_rows: how many rows to take at a time; None: as many as are good on the device. Default: `None`.
        sync: whether the divisor is global over the process group. Default: `False`.

    Shape:
        `input` `[..., D]`, `linear_weight` `[C, D]`, `target` `[...]` or `[..., C]`; a scalar, or `[...]` for `"none"`.

    Example:
        >>> import torch
        >>> from equipoise import LinearSoftmaxFocalLoss
        >>> criterion = LinearSoftmaxFocalLoss(gamma=2.0)
        >>> criterion(torch.zeros(4, 8), torch.zeros(10, 8), torch.tensor([0, 3, 3, 9]))
        tensor(1.8651)

    References:
        See `linear_softmax_focal_loss`.
    """

    def __init__(
        self,
        *,
        gamma: Scalar = 0.0,
        weight: Vector | None = None,
        logit_adjustment: Vector | None = None,
        label_smoothing: Scalar = 0.0,
        ignore_index: int = -100,
        reduction: str = "mean",
        chunk_rows: int | None = None,
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
        check_chunk("chunk_rows", chunk_rows)
        self.chunk_rows = chunk_rows

    def forward(
        self,
        input: Tensor,
        linear_weight: Tensor,
        target: Tensor,
        *,
        linear_bias: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """The loss of the layer's scores of `input` against `target`; `sample_weight` multiplies each row."""
        return linear_softmax_focal_loss(
            input,
            linear_weight,
            target,
            linear_bias=linear_bias,
            gamma=self.gamma,
            weight=self.weight,
            sample_weight=sample_weight,
            logit_adjustment=self.logit_adjustment,
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            chunk_rows=self.chunk_rows,
            sync=self.sync,
        )


def linear_sigmoid_focal_loss(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    gamma: Scalar = 2.0,
    alpha: Scalar | Vector | None = None,
    weight: Vector | Scalar | None = None,
    pos_weight: Vector | Scalar | None = None,
    label_smoothing: Scalar = 0.0,
    mask: Tensor | None = None,
    reduction: str = "mean",
    chunk_labels: int | None = None,
    sync: bool = False,
) -> Tensor:
    r"""Sigmoid focal loss of a linear layer, for so many labels that the scores should never be stored.

    `sigmoid_focal_loss` of the scores $z = W x + b$ (`linear_weight`, `input`, `linear_bias`), L labels at a time:
    $\ell = \alpha_t\, (1 - p_t)^\gamma\, \mathrm{CE}(z, y)$ for each label's target y, with
    $p_t = y\,\sigma(z) + (1 - y)\,\sigma(-z)$ and $\alpha_t = \alpha y + (1 - \alpha)(1 - y)$. Its gradients come out
    of the forward pass, for three matrix products in all, and each slice of the weight's is written once.

    Beyond the gradients it takes $5 L N + 4 L D$ bytes (float64: about twice as many) for L labels at a time
    (`chunk_labels`), N rows and D features, whatever the number of labels C; in half precision $4 (2 N + C) D$ more,
    for the input and both gradients in float32. Without the compiled kernels it takes some ten times L N.
    `reduction="none"` returns all N C losses and computes the scores anew in the backward pass. Second derivatives
    (`create_graph=True`) and `torch.func` go through plain torch, with all scores in memory.

    Args:
        input: features $x$, `[..., D]`, floating-point.
        linear_weight: $W$, `[C, D]`, floating-point; its dtype may differ from the input's.
        target: integers: the indices of each row's labels that are on, `[..., K]`, padded with numbers below 0, or a
            nested tensor of them; or, floating-point or boolean, a number in [0, 1] for every label, `[..., C]`.
        linear_bias: $b$, `[C]`. Default: `None`.
        gamma: $\gamma \ge 0$; the larger, the less easy labels count. 0 is plain cross-entropy. Default: `2.0`.
        alpha: $\alpha$ in [0, 1], the weight of labels that are on ($1 - \alpha$ is that of the others); a number, or
            broadcastable to `[..., C]`. None weighs both 1. Default: `None`.
        weight: weight of each score, broadcastable to `[..., C]`. It enters no divisor. Default: `None`.
        pos_weight: weight of the positive term of CE, broadcastable to `[..., C]`. Default: `None`.
        label_smoothing: ε in [0, 1]: targets become $y (1 - ε) + ε / 2$, in $\alpha_t$ and $p_t$ too. Default: `0.0`.
        mask: boolean, broadcastable to `[..., C]`; True keeps a label of a row. Default: `None`.
        reduction: `"none"`; `"sum"`; `"mean"`: the sum divided by the number of kept scores; `"mean_positive"`: the sum
            divided by max(1, sum of the kept, unsmoothed targets). Default: `"mean"`.
        chunk_labels: how many labels to take at a time, L. None: on a CPU as many as have 32 MiB of scores, but at
            least 64; elsewhere at least 1024. Default: `None`.
        sync: whether divisors are global over the process group; scalars are then scaled so that their average over
            ranks, which DDP takes, is that of one process on the joined batch. Default: `False`.

    Returns:
        A scalar, or `[..., C]` for `"none"`; float32 for half precision. 0 where no score is kept.

    Raises:
        TypeError: if `input`, `linear_weight` or `linear_bias` is not a floating-point tensor, `target` not a tensor or
            `mask` not boolean.
        ValueError: if shapes do not fit, a value leaves its range, `target` requires a gradient, or it is C integers a
            row, which could be zeros and ones or indices.

    Example:
        >>> import torch
        >>> from equipoise import linear_sigmoid_focal_loss
        >>> head = torch.nn.Linear(8, 100_000)
        >>> features, labels = torch.ones(2, 8), torch.tensor([[5, 99_999, 17], [3, -1, -1]])
        >>> loss = linear_sigmoid_focal_loss(
        ...     features, head.weight, labels, linear_bias=head.bias, reduction="mean_positive"
        ... )
        >>> loss.backward()
        >>> head.weight.grad.shape
        torch.Size([100000, 8])

    Differs from:
        `sigmoid_focal_loss` of the layer's scores in one thing: integer targets are indices, not zeros and ones.
        Mixed and half precision compute in float32, autocast or not; only the kernels of a GPU multiply half precision
        as it is, and sum in float32.

    References:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 4-5.
    """
    return linear_sigmoid_pipeline(
        input,
        linear_weight,
        target,
        linear_bias=linear_bias,
        gamma=gamma,
        alpha=alpha,
        weight=weight,
        pos_weight=pos_weight,
        label_smoothing=label_smoothing,
        mask=mask,
        reduction=reduction,
        chunk_labels=chunk_labels,
        sync=sync,
    )


class LinearSigmoidFocalLoss(SigmoidLoss):
    r"""Sigmoid focal loss of a linear layer whose scores are never stored; the module of `linear_sigmoid_focal_loss`.

    $\ell = \alpha_t\, (1 - p_t)^\gamma\, \mathrm{CE}(W x + b, y)$

    The layer's weight and bias come with each call: they are the model's, where decisions need them.

    Args:
        gamma: $\gamma \ge 0$; the larger, the less easy labels count. Default: `2.0`.
        alpha: $\alpha$ in [0, 1], the weight of labels that are on; a number, or broadcastable to `[..., C]`; None
            weighs both sides 1. Default: `None`.
        weight: weight of each score, broadcastable to `[..., C]`. Default: `None`.
        pos_weight: weight of the positive term, broadcastable to `[..., C]`. Default: `None`.
        label_smoothing: ε in [0, 1]: targets become $y (1 - ε) + ε / 2$. Default: `0.0`.
        reduction: `"none"`, `"sum"`, `"mean"` over kept scores, or `"mean_positive"`. Default: `"mean"`.
        chunk_labels: how many labels to take at a time; None: as many as are good on the device. Default: `None`.
        sync: whether divisors are global over the process group. Default: `False`.

    Shape:
        `input` `[..., D]`, `linear_weight` `[C, D]`, `target` `[..., K]` (indices) or `[..., C]`; a scalar, or
        `[..., C]` for `"none"`.

    Example:
        >>> import torch
        >>> from equipoise import LinearSigmoidFocalLoss
        >>> criterion = LinearSigmoidFocalLoss(gamma=2.0, reduction="mean_positive")
        >>> criterion(torch.zeros(2, 8), torch.zeros(5, 8), torch.tensor([[0, 3], [4, -1]]))
        tensor(0.5776)

    References:
        See `linear_sigmoid_focal_loss`.
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
        chunk_labels: int | None = None,
        sync: bool = False,
    ) -> None:
        super().__init__(
            weight=weight, pos_weight=pos_weight, label_smoothing=label_smoothing, reduction=reduction, sync=sync
        )
        self.gamma = checks.number("gamma", gamma, 0)
        self._hold("alpha", alpha, 0, 1)
        check_chunk("chunk_labels", chunk_labels)
        self.chunk_labels = chunk_labels

    def forward(
        self,
        input: Tensor,
        linear_weight: Tensor,
        target: Tensor,
        *,
        linear_bias: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The loss of the layer's scores of `input` against `target`; `mask` keeps labels where True."""
        return linear_sigmoid_focal_loss(
            input,
            linear_weight,
            target,
            linear_bias=linear_bias,
            gamma=self.gamma,
            alpha=self.alpha,
            weight=self.weight,
            pos_weight=self.pos_weight,
            label_smoothing=self.label_smoothing,
            mask=mask,
            reduction=self.reduction,
            chunk_labels=self.chunk_labels,
            sync=self.sync,
        )


def _torch_cross_entropy(input: Tensor, linear_weight: Tensor, target: Tensor, **options: float) -> Tensor:
    return functional.cross_entropy(functional.linear(input, linear_weight), target, **options)  # type: ignore[arg-type]


SOFTMAX_CARD = Card(
    name="linear_softmax_focal",
    summary="a linear layer and softmax focal loss over very many classes, without storing the scores",
    module=LinearSoftmaxFocalLoss,
    function=linear_softmax_focal_loss,
    family="Linear layer and loss in one",
    kind="heads",
    problems=frozenset({"multiclass"}),
    op_family="linear",
    paper='Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 3; the scores inside',
    formula=r"-\sum_c y_c w_c (1 - p_c)^\gamma \log p_c, \quad p = \mathrm{softmax}(W x + b + a)",
    use_when=(
        "the scores of a batch fill the memory: tens of thousands of classes, a language model's vocabulary; plain "
        "(gamma=0), focal, weighted by class or adjusted by log priors"
    ),
    avoid_when=(
        "the scores are needed anyway (for the accuracy of every step, say), or are few: softmax_focal of the scores "
        "is then as good"
    ),
    samples=(
        {},
        {"gamma": 2.0},
        {"gamma": 0.5, "label_smoothing": 0.1},
        {"gamma": 1.0, "ignore_index": 0, "chunk_rows": 3},
        {"gamma": 2.0, "logit_adjustment": [3000, 400, 60, 5], "chunk_rows": 5},
    ),
    identities=(
        Identity(
            statement="gamma=0 equals torch's cross_entropy of linear",
            options={"label_smoothing": 0.1},
            other=_torch_cross_entropy,
            other_options={"label_smoothing": 0.1},
        ),
        Identity(
            statement="equals softmax_focal_loss of linear",
            options={"gamma": 2.0},
            other=lambda input, linear_weight, target: softmax_focal_loss(
                functional.linear(input, linear_weight), target
            ),
        ),
    ),
    differs=(
        "all rows ignored: a differentiable 0, not torch's NaN",
        "half precision and autocast compute in float32, but for the products on a GPU",
    ),
)

SIGMOID_CARD = Card(
    name="linear_sigmoid_focal",
    summary="a linear layer and sigmoid focal loss over very many labels, without storing the scores",
    module=LinearSigmoidFocalLoss,
    function=linear_sigmoid_focal_loss,
    family="Linear layer and loss in one",
    kind="heads",
    problems=frozenset({"multilabel"}),
    op_family="linear",
    paper='Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 4-5; the scores inside',
    formula=r"\alpha_t (1 - p_t)^\gamma \, \mathrm{CE}(W x + b, y)",
    use_when=(
        "extreme multi-label: each row has a few of a hundred thousand labels, and neither scores nor zeros and ones "
        "of all of them should be stored"
    ),
    avoid_when="the scores are needed anyway, or are few (sigmoid_focal), or each row has exactly one label "
    "(linear_softmax_focal)",
    samples=(
        {},
        {"gamma": 2.0, "alpha": 0.25, "reduction": "mean_positive", "chunk_labels": 3},
        {"gamma": 0.0, "pos_weight": 3.0},
        {"gamma": 0.5, "label_smoothing": 0.1, "chunk_labels": 1},
    ),
    identities=(
        Identity(
            statement="equals sigmoid_focal_loss of linear, for zeros and ones",
            options={"alpha": 0.25},
            other=lambda input, linear_weight, target: sigmoid_focal_loss(
                functional.linear(input, linear_weight), target, alpha=0.25
            ),
        ),
    ),
    differs=("integer targets are indices of labels, not zeros and ones",),
)
