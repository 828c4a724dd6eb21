"""Losses over all pairs or triplets of a batch, and their gradient, in one sweep over tiles of anchors.

A tile is some anchors against all candidates; how many anchors, a budget of memory says. Nothing of the size of all
pairs is kept, and nothing of the size of all triplets ever made. What happens within a row of a tile is in `_forms`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import _operators
from ._call import Call
from ._candidates import Partners
from ._eager import eager_total
from ._forms import form_of
from ._tiles import Geometry, Part, tiles


def total(anchors: Tensor, pool: Tensor, reference: Tensor | None, call: Call) -> tuple[Tensor, Tensor]:
    """The sum of the losses (float64), and two numbers: how many terms count, and how many there are."""
    if torch.compiler.is_compiling():  # its tracer takes no tensor twice
        anchors = anchors.view_as(anchors)
        call = call._replace(label=None if call.label is None else call.label.view_as(call.label))
    elif torch._C._are_functorch_transforms_active():
        return eager_total(anchors, pool, reference, call)
    wanted = torch.is_grad_enabled() and any(
        each is not None and each.requires_grad for each in (anchors, pool, reference)
    )
    if not wanted:
        loss, numbers, *_ = OPERATOR(anchors, pool, reference, *call, False, False, False)
    else:
        function = _Traced if torch.compiler.is_compiling() else _Swept
        loss, numbers = function.apply(anchors, pool, reference, *call)  # type: ignore[no-untyped-call]
    return loss, numbers


class _Swept(torch.autograd.Function):
    """Hands out the gradient of the forward pass; a backward pass that builds a graph goes through the eager form."""

    @staticmethod
    def forward(ctx: Any, anchors: Tensor, pool: Tensor, reference: Tensor | None, *call: Any) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad[:3]
        loss, numbers, *gradients = OPERATOR(anchors, pool, reference, *call, *wanted)
        # Not saved with the inputs: they may be asked for when a memory bank has been written to.
        ctx.gradients = gradients
        tensors, ctx.options = call[:5], call[5:]
        ctx.save_for_backward(anchors, pool, reference, *tensors)
        ctx.mark_non_differentiable(numbers)
        return loss, numbers

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():
            gradients = _differentiable(ctx, upstream, wanted)
        else:
            gradients = _scaled(ctx.gradients, upstream, wanted)
        return *gradients, *(None,) * (len(ctx.needs_input_grad) - 3)


class _Traced(torch.autograd.Function):
    """The same for the compiler, which keeps nothing but what is saved, and knows no second derivative."""

    @staticmethod
    def forward(ctx: Any, anchors: Tensor, pool: Tensor, reference: Tensor | None, *call: Any) -> tuple[Tensor, Tensor]:
        loss, numbers, *gradients = OPERATOR(anchors, pool, reference, *call, *ctx.needs_input_grad[:3])
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(numbers)
        return loss, numbers

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradients = _scaled(ctx.saved_tensors, upstream, ctx.needs_input_grad[:3])
        return *gradients, *(None,) * (len(ctx.needs_input_grad) - 3)


def _scaled(gradients: Sequence[Tensor], upstream: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
    return [
        gradient * upstream.to(gradient.dtype) if needed else None
        for gradient, needed in zip(gradients, wanted, strict=True)
    ]


def _differentiable(ctx: Any, upstream: Tensor, wanted: tuple[bool, ...]) -> list[Tensor | None]:
    """The gradients with graphs of their own."""
    # views: anchors and pool may be one tensor, and each must get its own part
    embeddings: list[Any] = [None if each is None else each.view_as(each) for each in ctx.saved_tensors[:3]]
    anchors, pool, reference = embeddings
    loss, _ = eager_total(anchors, pool, reference, Call(*ctx.saved_tensors[3:], *ctx.options))
    inputs: list[Tensor] = [each for each, needed in zip(embeddings, wanted, strict=True) if needed]
    found = iter(torch.autograd.grad(loss, inputs, upstream, create_graph=True, materialize_grads=True))
    return [next(found) if needed else None for needed in wanted]


def _sweep(anchors: Tensor, pool: Tensor, reference: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    """The operator: the sum, the numbers, and the gradients that are wanted of anchors, pool and reference."""
    call, wanted = Call(*rest[:-3]), rest[-3:]
    loss, numbers, *gradients = _allocate(anchors, pool, reference, *rest)
    candidates = len(pool) + (0 if reference is None else len(reference))
    # 0 times a sum is NaN if the sum is: no rule can lose sight of a NaN
    for each in (anchors, pool, reference):
        loss = loss if each is None else loss + 0 * each.sum(dtype=torch.float64)
    if not (len(anchors) and candidates):
        return loss, numbers, *gradients
    active = numbers.new_zeros(())
    partners = Partners(call)
    parts = [Part(pool, None, slice(0, len(pool)), gradients[1] if wanted[1] else None)]
    if reference is not None:
        place = slice(len(pool), candidates)
        parts.append(Part(reference, call.scale, place, gradients[2] if wanted[2] else None))
    form = form_of(call, anchors, partners.most)
    geometry = Geometry(anchors, parts, call, gradients[0] if wanted[0] else None, form.distances)
    for start, memory in tiles(anchors, candidates, partners.most, form.buffers, form.bytes, call.budget):
        geometry.fill(memory[0], start)
        weight, value, count = form.evaluate(memory, start, len(pool), geometry, partners, call)
        loss, active = loss + value, active + count
        if any(wanted):
            geometry.gather(weight, start)
    geometry.finish()
    terms = (partners.counts * partners.negatives).sum() if call.rule == "all" else active
    return loss, torch.stack([active, terms]), *gradients


def _allocate(anchors: Tensor, pool: Tensor, reference: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    """Sum, numbers and gradients, all zeros; a gradient that is not wanted has no elements."""
    gradients = [
        each.new_zeros(each.shape) if each is not None and needed else anchors.new_zeros(0)
        for each, needed in zip((anchors, pool, reference), rest[-3:], strict=True)
    ]
    return anchors.new_zeros((), dtype=torch.float64), anchors.new_zeros(2, dtype=torch.int64), *gradients


OPERATOR = _operators.register(
    "sweep(Tensor anchors, Tensor pool, Tensor? reference, Tensor? scale, Tensor? label,"
    " Tensor? candidate_label, Tensor? positive, Tensor? negative, int own, str rule, str distance, float margin,"
    " float power, int budget, bool anchors_wanted, bool pool_wanted, bool reference_wanted)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _sweep,
    _allocate,
)
