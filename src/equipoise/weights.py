"""Class counts, and the weights and biases derived from them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import checks, distributed
from .checks import Vector


def class_counts(
    labels: Tensor | Vector,
    num_classes: int,
    *,
    multilabel: bool | None = None,
    ignore_index: int = -100,
    sync: bool = False,
) -> Tensor:
    r"""Counts the samples of each class.

    $n_c = \#\{i : y_i = c\}$ for class indices, $n_c = \sum_i y_{ic}$ for multi-label targets.

    Args:
        labels: class indices of any shape, or multi-label targets `[..., C]` of zeros and ones; a tensor, array or
            list.
        num_classes: the number of classes C.
        multilabel: True for multi-label targets, False for class indices. With None the dtype decides: floating-point
            and boolean labels are multi-label, integers are indices. Integers of two or more dimensions that end in C
            could be either: then it must be given. Default: `None`.
        ignore_index: the class index that is not counted. Default: `-100`.
        sync: whether to add the counts of all ranks, where each rank passes its own part of the labels (on a device
            that the process group can reduce). Default: `False`.

    Returns:
        int64 counts `[C]`.

    Raises:
        TypeError: if `labels` is not real numbers.
        ValueError: if a label is outside `[0, num_classes)`, a multi-label target is not 0 or 1, or `multilabel` is
            needed.

    Example:
        >>> import torch
        >>> from equipoise import class_counts
        >>> class_counts(torch.tensor([0, 2, 2, 1, 2]), 3)
        tensor([1, 1, 3])
        >>> class_counts(torch.tensor([[1., 0.], [1., 1.]]), 2)
        tensor([2, 1])
    """
    labels = checks.labels("labels", checks.as_tensor("labels", labels))
    num_classes = checks.whole("num_classes", num_classes, 1)
    if multilabel is None:
        multilabel = labels.is_floating_point() or labels.dtype == torch.bool
        if not multilabel and labels.ndim > 1 and labels.shape[-1] == num_classes:
            raise ValueError(
                f"`multilabel` must be True or False for integer labels of shape {list(labels.shape)}: "
                "they could be zeros and ones for each class, or class indices"
            )
    local = _count_ones(labels, num_classes) if multilabel else _count_indices(labels, num_classes, ignore_index)
    return distributed.sum_over_ranks(local, sync)


def _count_ones(labels: Tensor, num_classes: int) -> Tensor:
    if labels.ndim == 0 or labels.shape[-1] != num_classes:
        raise ValueError(f"`labels` must have shape [..., {num_classes}] if multi-label, got {list(labels.shape)}")
    if not bool(((labels == 0) | (labels == 1)).all()):
        raise ValueError("`labels` must be zeros and ones if multi-label, got other values")
    return labels.reshape(-1, num_classes).to(torch.int64).sum(0)


def _count_indices(labels: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    if labels.is_floating_point():
        raise TypeError(f"`labels` must be integer class indices, got {checks.describe(labels)}")
    labels = labels.to(torch.int64)  # before the comparison: -100 is 156 in uint8
    kept = labels[labels != ignore_index]
    if kept.numel() and not bool(((kept >= 0) & (kept < num_classes)).all()):
        raise ValueError(
            f"`labels` must lie in [0, {num_classes}) or be {ignore_index}, got {int(kept.min())} to {int(kept.max())}"
        )
    return torch.bincount(kept, minlength=num_classes)


def effective_number_weights(counts: Vector, *, beta: float = 0.9999, normalize: bool = True) -> Tensor:
    r"""Class weights from the effective number of samples.

    $w_c = (1 - \beta) / (1 - \beta^{n_c})$: the inverse of $E_n = (1 - \beta^n) / (1 - \beta)$, the expected volume
    that n samples cover. `beta=0` gives ones, `beta=1` gives $1/n_c$.

    Args:
        counts: samples per class $n_c \ge 0$, `[C]`.
        beta: $\beta$ in [0, 1]; $1 / (1 - \beta)$ is the number of samples after which more of them stop counting.
            Default: `0.9999`.
        normalize: whether to scale the weights to sum to the number of classes seen. Default: `True`.

    Returns:
        float64 weights `[C]`, on the device of `counts`; a class with no sample has weight 0.

    Raises:
        TypeError: if `counts` are not numbers.
        ValueError: if `counts` is not a vector of numbers >= 0, or `beta` is outside [0, 1].

    Example:
        >>> from equipoise import effective_number_weights
        >>> effective_number_weights([5000, 500, 50], beta=0.999)
        tensor([0.1256, 0.3170, 2.5574], dtype=torch.float64)

    References:
        Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, eq. 4 and section 4.
    """
    samples = _as_counts(counts)
    beta = checks.number("beta", beta, 0, 1)
    if beta == 1:
        return _normalized(1 / samples, samples, normalize)
    # 1 - beta^n cancels for beta near 1: expm1 and log1p keep its digits; beta - 1 would drop those of a small beta
    log_beta = math.log1p(beta - 1) if beta > 0.5 else math.log(beta) if beta else -math.inf
    return _normalized((1 - beta) / -torch.expm1(samples * log_beta), samples, normalize)


def inverse_frequency_weights(counts: Vector, *, power: float = 1.0, normalize: bool = True) -> Tensor:
    r"""Class weights from inverse class frequency: $w_c = n_c^{-\text{power}}$.

    Args:
        counts: samples per class $n_c \ge 0$, `[C]`.
        power: the exponent, >= 0; 1 balances the classes fully, 0.5 half-way, 0 not at all. Default: `1.0`.
        normalize: whether to scale the weights to sum to the number of classes seen. Default: `True`.

    Returns:
        float64 weights `[C]`, on the device of `counts`; a class with no sample has weight 0.

    Raises:
        TypeError: if `counts` are not numbers.
        ValueError: if `counts` is not a vector of numbers >= 0, or `power` is negative.

    Example:
        >>> from equipoise import inverse_frequency_weights
        >>> inverse_frequency_weights([60, 30, 0])
        tensor([0.6667, 1.3333, 0.0000], dtype=torch.float64)

    References:
        The common heuristic; Huang et al., "Learning Deep Representation for Imbalanced Classification", CVPR 2016.
    """
    samples = _as_counts(counts)
    return _normalized(samples ** -checks.number("power", power, 0), samples, normalize)


def _as_counts(counts: Vector) -> Tensor:
    samples = checks.vector("counts", counts, torch.float64).detach()
    if samples.ndim != 1:
        raise ValueError(f"`counts` must be a vector, one number per class, got shape {list(samples.shape)}")
    checks.within("counts", samples, 0)
    return samples


def _normalized(weights: Tensor, samples: Tensor, normalize: bool) -> Tensor:
    seen = samples > 0
    weights = torch.where(seen, weights, torch.zeros_like(weights))
    if not normalize:
        return weights
    total = weights.sum()
    return weights * (seen.sum() / torch.where(total == 0, torch.ones_like(total), total))


def log_priors(counts: Vector, *, tau: float = 1.0) -> Tensor:
    r"""The log of each class's share of the samples, for `logit_adjustment`.

    $\tau \log(n_c / \sum_k n_k)$

    Args:
        counts: samples per class $n_c \ge 1$, `[C]`.
        tau: $\tau \ge 0$, how far to adjust; 1 aims at the mean of the classes' recalls, 0 changes nothing. Default:
            `1.0`.

    Returns:
        float64 `[C]`, at most 0, on the device of `counts`.

    Raises:
        TypeError: if `counts` are not numbers.
        ValueError: if `counts` is not a vector of numbers >= 1 (a class without samples has no prior: add 1 to all), or
            `tau` is negative.

    Example:
        >>> from equipoise import log_priors
        >>> log_priors([90, 10])
        tensor([-0.1054, -2.3026], dtype=torch.float64)

    References:
        Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, eq. 10.
    """
    samples = _as_counts(counts)
    if checks.can_read_values(samples) and samples.numel() and float(samples.min()) < 1:
        raise ValueError(
            f"`counts` must be >= 1 for a logarithm, got {float(samples.min()):g}: "
            "a class without samples has no prior; add 1 to all counts"
        )
    return checks.number("tau", tau, 0) * (samples.log() - samples.sum().log())


def balancing_alpha(target: Tensor | Vector, *, per_class: bool = False) -> Tensor:
    r"""The `alpha` that gives positives and negatives the same total weight.

    $\alpha = \text{negatives} / (\text{negatives} + \text{positives})$, so that
    $\alpha / (1 - \alpha) = \text{negatives} / \text{positives}$.

    Args:
        target: numbers in [0, 1] of any shape.
        per_class: whether to compute one alpha for each entry of the last dimension. Default: `False`.

    Returns:
        float64, 0-d or `[C]`; 0.5 where the labels are empty or of one class.

    Raises:
        TypeError: if `target` is not real numbers.
        ValueError: if `target` leaves [0, 1], or has no class dimension although `per_class` is set.

    Example:
        >>> import torch
        >>> from equipoise import balancing_alpha
        >>> balancing_alpha(torch.tensor([1, 0, 0, 0]))
        tensor(0.7500, dtype=torch.float64)

    References:
        Xie and Tu, "Holistically-Nested Edge Detection", ICCV 2015, eq. 2 (their $\beta$).
    """
    positive = checks.labels("target", checks.as_tensor("target", target)).to(torch.float64)
    checks.within("target", positive, 0, 1)
    if per_class and not positive.ndim:
        raise ValueError("`target` must have a class dimension for `per_class`, got a 0-d tensor")
    rows = positive.unsqueeze(0).flatten(0, -2) if per_class else positive.reshape(-1, 1)
    positives, negatives = rows.sum(0), (1 - rows).sum(0)
    balanced = negatives / (negatives + positives)
    alpha = torch.where((positives > 0) & (negatives > 0), balanced, torch.full_like(balanced, 0.5))
    return alpha if per_class else alpha[0]


def prior_bias(pi: float = 0.01) -> float:
    r"""The bias of a sigmoid head's last layer that makes every score start at probability `pi`.

    $b = -\log((1 - \pi) / \pi)$. With $\pi = 1/C$ it is $-\log(C - 1)$, the value of Cui et al.

    Args:
        pi: the initial probability, in (0, 1). Default: `0.01`.

    Returns:
        The bias.

    Raises:
        TypeError: if `pi` is not a number.
        ValueError: if `pi` is not inside (0, 1).

    Example:
        >>> from equipoise import prior_bias
        >>> round(prior_bias(0.01), 4)
        -4.5951

    References:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, sections 3.3 and 4.1.
    """
    pi = checks.number("pi", pi, 0, 1)
    if pi in (0.0, 1.0):
        raise ValueError(f"`pi` must lie inside (0, 1), got {pi!r}")
    return math.log(pi) - math.log1p(-pi)
