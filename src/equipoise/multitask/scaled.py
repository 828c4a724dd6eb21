"""The cross-entropy at a learned temperature. Kendall, Gal, Cipolla, CVPR 2018, eq. 8-9."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from .. import checks
from ..reduction import check_reduction, compute_dtype


def scaled_softmax_cross_entropy(
    input: Tensor, target: Tensor, log_variance: Tensor, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    r"""The cross-entropy of scores at a temperature that is learned: what uncertainty weighting approximates.

    $-\log \mathrm{softmax}(z / \sigma^2)_y$ with $s = \log \sigma^2$.

    Args:
        input: scores, `[N, C, ...]`, floating-point.
        target: class indices, `[N, ...]`, or probabilities, `[N, C, ...]`.
        log_variance: s, a 0-d tensor.
        ignore_index: class index of samples that are left out. Default: `-100`.
        reduction: `"none"`, `"sum"`, or `"mean"` over kept samples. Default: `"mean"`.

    Returns:
        A scalar, or `[N, ...]` for `"none"`; float32 for half-precision input. 0 where no sample is kept.

    Raises:
        TypeError: if `input` or `log_variance` is not a floating-point tensor.
        ValueError: if `log_variance` is not 0-d, or `reduction` is none of those.

    Example:
        >>> import torch
        >>> from equipoise import scaled_softmax_cross_entropy
        >>> scaled_softmax_cross_entropy(torch.tensor([[2.0, 0.0]]), torch.tensor([0]), torch.tensor(0.0))
        tensor(0.1269)

    Differs from:
        `UncertaintyWeighting`, which multiplies the plain cross-entropy by 1/σ² and adds s/2 (eq. 10). Here s has an
        optimum of its own only while the scores are fixed: scores that are trained take its place.

    References:
        Kendall, Gal, Cipolla, CVPR 2018, eq. 8-9.
    """
    check_reduction(reduction)
    if checks.scores("log_variance", log_variance).ndim:
        raise ValueError(f"`log_variance` must be a 0-d tensor, got {checks.describe(log_variance)}")
    dtype = compute_dtype(checks.scores("input", input))
    scores = input.to(dtype) * torch.exp(-log_variance.to(dtype))
    if target.is_floating_point():
        each, kept = cross_entropy(scores, target.to(dtype), reduction="none"), None
    else:
        each = cross_entropy(scores, target.long(), ignore_index=ignore_index, reduction="none")
        kept = target != ignore_index
    if reduction == "none":
        return each
    total = each.sum()
    if reduction == "sum":
        return total
    return total / (max(each.numel(), 1) if kept is None else kept.sum().clamp_min(1))
