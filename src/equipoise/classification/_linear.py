"""The path that the losses of a linear layer take: check, flatten, compute, reduce."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import checks
from ..checks import Scalar, Vector
from ..ops import linear_labels, linear_rows, products, rowwise
from ..reduction import SIGMOID_REDUCTIONS, across_ranks, check_reduction
from ._sigmoid import element_weight, sides, split_weight
from ._softmax import adjustment, check_indices


def check_layer(input: Tensor, linear_weight: Tensor, linear_bias: Tensor | None) -> products.Layer:
    """The layer's tensors, the input as rows `[N, D]`."""
    rows, weight = checks.scores("input", input), checks.scores("linear_weight", linear_weight)
    if not rows.ndim:
        raise ValueError("`input` must have a feature dimension ([..., D]), got a 0-d tensor")
    if weight.ndim != 2 or weight.shape[1] != rows.shape[-1] or not len(weight):
        raise ValueError(
            f"`linear_weight` must have shape [C, {rows.shape[-1]}], a row for each class with as many numbers as "
            f"`input` has features, got {list(weight.shape)}"
        )
    if linear_bias is not None:
        checks.same_shape("linear_bias", checks.scores("linear_bias", linear_bias), weight.shape[:1], "one per class")
    return rows.reshape(rows.shape[:-1].numel(), rows.shape[-1]), weight, linear_bias


def check_chunk(name: str, chunk: int | None) -> int:
    """Rows or labels at once; 0: as many as are good on the device."""
    return 0 if chunk is None else checks.whole(name, chunk, 1)


def linear_softmax_pipeline(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None,
    gamma: Scalar,
    weight: Vector | None,
    sample_weight: Tensor | None,
    logit_adjustment: Vector | None,
    label_smoothing: Scalar,
    ignore_index: int,
    reduction: str,
    chunk_rows: int | None,
    sync: bool,
) -> Tensor:
    """The loss of `ops.linear_rows` with all options of the softmax family."""
    check_reduction(reduction)
    layer = check_layer(input, linear_weight, linear_bias)
    dtype, classes, lead = products.compute_dtype(*layer), len(linear_weight), input.shape[:-1]
    gamma = checks.scalar("gamma", gamma, 0)
    smoothing = checks.scalar("label_smoothing", label_smoothing, 0, 1)
    class_weight = None if weight is None else checks.per_class("weight", weight, classes, dtype, input.device)
    checks.whole("ignore_index", ignore_index)
    labels = checks.labels("target", target)
    if labels.is_floating_point():
        if ignore_index >= 0:
            raise ValueError(f"`ignore_index` must be negative for probability targets, got {ignore_index}")
        checks.same_shape("target", labels, (*lead, classes), "one probability per class (indices are integers)")
        checks.within("target", labels, 0, 1)
        labels = labels.reshape(-1, classes)
    else:
        checks.same_shape("target", labels, lead, "one class index per row of the input")
        check_indices(labels)
        labels = labels.reshape(-1)
        rowwise.class_index(labels, classes, ignore_index)
    if sample_weight is not None:
        sample_weight = checks.vector("sample_weight", sample_weight, dtype, input.device)
        checks.same_shape("sample_weight", sample_weight, lead, "one weight per row of the input")
        sample_weight = sample_weight.reshape(-1)
    if logit_adjustment is not None:
        added = adjustment(logit_adjustment, classes, dtype, input.device)
        layer = (*layer[:2], added if linear_bias is None else linear_bias.to(dtype) + added)

    def own_divisor() -> Tensor:
        return rowwise.row_divisor(labels, len(labels), class_weight, ignore_index)

    divisor, scale = across_ranks(own_divisor, reduction=reduction, sync=sync)
    loss = linear_rows.linear_softmax_loss(
        layer,
        (labels, class_weight, sample_weight, divisor),
        (gamma, smoothing, ignore_index, reduction, scale),
        check_chunk("chunk_rows", chunk_rows),
    )
    return loss.reshape(lead) if reduction == "none" else loss


def linear_sigmoid_pipeline(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None,
    gamma: Scalar,
    alpha: Scalar | Vector | None,
    weight: Vector | Scalar | None,
    pos_weight: Vector | Scalar | None,
    label_smoothing: Scalar,
    mask: Tensor | None,
    reduction: str,
    chunk_labels: int | None,
    sync: bool,
) -> Tensor:
    """The loss of `ops.linear_labels` with all options of the sigmoid family."""
    check_reduction(reduction, SIGMOID_REDUCTIONS)
    layer = check_layer(input, linear_weight, linear_bias)
    lead, labels = input.shape[:-1], len(linear_weight)
    rows = len(layer[0])
    # stands for the scores, which are never there: their shape, dtype and device in memory of one number
    scores = input.new_empty((), dtype=products.compute_dtype(*layer)).expand(*lead, labels)
    gamma = checks.scalar("gamma", gamma, 0)
    smoothing = checks.scalar("label_smoothing", label_smoothing, 0, 1)
    on = check_targets(target, lead, labels)
    if mask is not None:
        mask = _flat(checks.keep_mask("mask", mask, scores.shape), lead)
    factor, weight = split_weight(weight, scores)
    positive, negative, pair = sides(alpha, scores)

    def own_divisor() -> Tensor:
        return linear_labels.label_divisor(on, mask, rows, labels, reduction)

    divisor, scale = across_ranks(own_divisor, reduction=reduction, sync=sync)
    options = (weight, element_weight("pos_weight", pos_weight, scores), *pair)
    loss = linear_labels.linear_sigmoid_loss(
        layer,
        (on, mask, *(_flat(option, lead) for option in options), divisor),
        (factor * positive, factor * negative, gamma, smoothing, reduction, scale),
        check_chunk("chunk_labels", chunk_labels),
    )
    return loss.reshape(*lead, labels) if reduction == "none" else loss


def check_targets(target: Tensor, lead: torch.Size, labels: int) -> Tensor:
    """Dense targets `[N, C]`, or indices of the labels that are on, `[N, K]`, padded with numbers below 0."""
    on = checks.labels("target", target)
    if on.is_nested:
        on = torch.nested.to_padded_tensor(on, -1)
    if linear_labels.is_dense(on):
        checks.same_shape("target", on, (*lead, labels), "a number for each label (indices are integers)")
        return on.reshape(-1, labels)
    if on.shape[:-1] != lead or on.ndim != len(lead) + 1:
        raise ValueError(
            f"`target` must have the indices of each row's labels, [{', '.join(map(str, [*lead, 'K']))}], "
            f"got shape {list(on.shape)}"
        )
    if on.shape[-1] == labels:
        raise ValueError(
            f"`target` must not be {labels} integers for {labels} labels, which could be zeros and ones or indices: "
            "pass `target.bool()` for the former, another number of columns (-1 is no label) for the latter"
        )
    if checks.can_read_values(on) and on.numel() and int(on.max()) >= labels:
        raise ValueError(f"`target` must hold label indices below {labels} (below 0: none), got {int(on.max())}")
    return on.reshape(lead.numel(), on.shape[-1])


def _flat(option: Tensor | None, lead: torch.Size) -> Tensor | None:
    """An option that broadcasts to `[..., C]` as one that broadcasts to `[N, C]`."""
    if option is None or option.ndim < 2 or len(lead) == 1:
        return option
    return option.expand(*lead, option.shape[-1]).reshape(-1, option.shape[-1])
