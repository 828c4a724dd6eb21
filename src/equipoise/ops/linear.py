"""Linear layer and loss in one: scores come a few rows or labels at a time and are never all there.

Each family has an operator with the signature

    op(input, linear_weight, linear_bias, *tensors, upstream, *options, chunk, *wanted) -> (loss, *gradients)

which computes the gradients that are `wanted` (of input, weight and bias, in the computing dtype) together with the
loss, and an eager form `eager(input, linear_weight, linear_bias, *tensors, *options) -> loss` in plain torch, which
holds all scores: the way to second derivatives and through `torch.func`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import fused

Layer = tuple[Tensor, Tensor, Tensor | None]
"""Input `[N, D]`, weight `[C, D]` and bias `[C]` of the linear layer."""

CPU_BYTES = 2**25
"""Bytes of scores at once on a CPU: larger chunks are no faster there."""

LEAST, LEAST_ELSEWHERE = 64, 2048
"""Rows or labels at once, at the least: on a CPU, and on a device that wants large products."""


@dataclass(frozen=True)
class Head:
    """A family's ways to compute a loss of linear scores.

    Attributes:
        name: the operator's name.
        operator: the registered operator.
        eager: the loss in plain torch.
        tensors: how many tensors follow the layer.
    """

    name: str
    operator: Callable[..., tuple[Tensor, ...]]
    eager: Callable[..., Tensor]
    tensors: int


HEADS: dict[str, Head] = {}


def register(
    schema: str,
    implementation: Callable[..., Any],
    fake: Callable[..., Any],
    eager: Callable[..., Tensor],
    tensors: int,
) -> Head:
    """Registers a family for every device; `fake` tells the compiler the shapes and dtypes of the results."""
    operator = fused.register(schema, _plainly(implementation), fake, "CompositeExplicitAutograd")
    name = schema.partition("(")[0]
    HEADS[name] = Head(name, operator, _plainly(eager), tensors)
    return HEADS[name]


def compute_dtype(*tensors: Tensor | None) -> torch.dtype:
    """float64 if one of the tensors has it, else float32."""
    return torch.float64 if any(each is not None and each.dtype == torch.float64 for each in tensors) else torch.float32


def outputs(layer: Layer, losses: Sequence[int], reduction: str, wanted: Sequence[bool]) -> tuple[Tensor, ...]:
    """Uninitialised memory for the loss and for the gradients; one that is not wanted has no elements."""
    dtype = compute_dtype(*layer)
    loss = layer[0].new_empty(losses if reduction == "none" else (), dtype=dtype)
    gradients = (
        loss.new_empty(each.shape if each is not None and needed else 0)
        for each, needed in zip(layer, wanted, strict=True)
    )
    return loss, *gradients


def at_once(chunk: int, total: int, others: int, like: Tensor, dtype: torch.dtype) -> int:
    """How many of `total` rows (or labels) to take at once, each of which meets `others` labels (or rows)."""
    if not chunk:
        least = LEAST if like.is_cpu else LEAST_ELSEWHERE
        chunk = max(least, CPU_BYTES // (max(1, others) * dtype.itemsize))
    return max(1, min(chunk, total))


def multiply(rows: Tensor, columns: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Writes `rows @ columns + bias`."""
    if bias is None:
        torch.mm(rows, columns, out=out)
    else:
        torch.addmm(bias, rows, columns, out=out)


def factor(divisor: Tensor | None, reduction: str, scale: float, like: Tensor) -> Tensor:
    """What each value is multiplied by, 0 for a mean over nothing; no value is looked at."""
    if divisor is None or reduction in ("none", "sum"):
        return like.new_full((), scale)
    nothing = divisor == 0
    whole = scale / torch.where(nothing, torch.ones_like(divisor), divisor).to(torch.float64)
    return torch.where(nothing, torch.zeros_like(whole), whole).to(like.dtype)


def reduced(values: Tensor, reduction: str, factor: Tensor) -> Tensor:
    """A chunk's part of the loss; a mean over nothing is 0, whatever the numbers at ignored places."""
    if reduction == "none":
        return values
    total = values.sum(dtype=torch.float64)
    return torch.where(factor == 0, torch.zeros_like(total), total * factor)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No autocast: products are taken in the computing dtype."""
    if torch.amp.is_autocast_available(device.type):
        with torch.autocast(device.type, enabled=False):
            yield
    else:
        yield


def _plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(input: Tensor, *rest: Any) -> Any:
        with full_precision(input.device):
            return function(input, *rest)

    return run


def run(head: Head, layer: Layer, tensors: fused.Tensors, options: fused.Options, chunk: int) -> Tensor:
    """The loss, with gradients with respect to the layer's tensors where they are wanted.

    Args:
        head: the family.
        layer: input, weight and bias.
        tensors: the tensors that the eager form takes after the layer.
        options: what it takes after them, last the reduction and the factor of a scalar.
        chunk: rows or labels at once; 0: as many as are good on the device.
    """
    numbers = _numbers(options)
    if numbers is None or not _fits(layer, tensors):
        loss: Tensor = head.eager(*layer, *tensors, *options)
        return loss
    wanted = [each is not None and each.requires_grad for each in layer]
    if not (torch.is_grad_enabled() and any(wanted)):
        return head.operator(*layer, *tensors, None, *numbers, chunk, False, False, False)[0]
    function = _Traced if torch.compiler.is_compiling() else _Fused
    found: Tensor = function.apply(head.name, *layer, *tensors, *numbers, chunk)  # type: ignore[no-untyped-call]
    return found


def _numbers(options: fused.Options) -> fused.Options | None:
    """The options with tensors read; None where one cannot be read yet, or wants a gradient."""
    if fused.NUMBERS.issuperset(map(type, options)):
        return options
    scalars = [option for option in options if isinstance(option, Tensor)]
    if torch.compiler.is_compiling() or not _fits((), scalars):
        return None
    return tuple(option.item() if isinstance(option, Tensor) else option for option in options)


def _fits(layer: Sequence[Tensor | None], tensors: Sequence[Tensor | None]) -> bool:
    """Whether the operators can take these tensors: plain ones, no gradient but the layer's, no transform."""
    if any(each is not None and each.requires_grad for each in tensors):
        return False
    return torch.compiler.is_compiling() or (
        fused.PLAIN_OR_NONE.issuperset(map(type, (*layer, *tensors)))
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
        and torch._C._get_tracing_state() is None
    )


class _Fused(torch.autograd.Function):
    """The first backward pass hands out the gradients of the forward pass, scaled in place, and drops them.

    A later one computes them again, and one that builds a graph goes through the eager form. The gradients have the
    computing dtype until they have met their upstream factor: half precision would lose small numbers before a loss
    scale could save them. Without reduction every row has a factor of its own, and the gradients wait for it.
    """

    @staticmethod
    def forward(ctx: Any, name: str, *arguments: Any) -> Tensor:
        head = HEADS[name]
        last = 3 + head.tensors
        ctx.head, ctx.options = head, arguments[last:]
        ctx.save_for_backward(*arguments[:last])
        ctx.rest = len(arguments) - 3
        ctx.per_value = ctx.options[-3] == "none"
        wanted = (False,) * 3 if ctx.per_value else ctx.needs_input_grad[1:4]
        loss, *gradients = head.operator(*arguments[:last], None, *ctx.options, *wanted)
        ctx.gradients = None if ctx.per_value else gradients
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[1:4]
        gradients, ctx.gradients = ctx.gradients, None
        found: Sequence[Tensor | None]
        if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            found = _differentiable(ctx, upstream, wanted)
        elif ctx.per_value:
            found = _again(ctx, upstream, wanted)
        else:
            known = _again(ctx, None, wanted) if gradients is None else gradients
            # 1 is what a plain `backward()` sends; elsewhere than on a CPU to ask would be to wait
            found = known if upstream.is_cpu and upstream.item() == 1 else [each.mul_(upstream) for each in known]
        return None, *_cast(found, ctx.saved_tensors, wanted), *(None,) * ctx.rest


class _Traced(torch.autograd.Function):
    """The same for the compiler, which keeps nothing but what is saved, and knows no second derivative."""

    @staticmethod
    def forward(ctx: Any, name: str, *arguments: Any) -> Tensor:
        head = HEADS[name]
        last = 3 + head.tensors
        ctx.head, ctx.options = head, arguments[last:]
        ctx.rest = len(arguments) - 3
        ctx.per_value = ctx.options[-3] == "none"
        wanted = (False,) * 3 if ctx.per_value else ctx.needs_input_grad[1:4]
        loss, *gradients = head.operator(*arguments[:last], None, *ctx.options, *wanted)
        ctx.save_for_backward(*arguments[:last], *gradients)
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[1:4]
        known = ctx.saved_tensors[-3:]
        found = _again(ctx, upstream, wanted) if ctx.per_value else [each * upstream for each in known]
        return None, *_cast(found, ctx.saved_tensors, wanted), *(None,) * ctx.rest


def _again(ctx: Any, upstream: Tensor | None, wanted: Sequence[bool]) -> Sequence[Tensor]:
    """The gradients, computed once more."""
    saved = ctx.saved_tensors[: 3 + ctx.head.tensors]
    results: tuple[Tensor, ...] = ctx.head.operator(*saved, upstream, *ctx.options, *wanted)
    return results[1:]


def _differentiable(ctx: Any, upstream: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
    """The gradients through the eager form, with graphs of their own if this pass builds one."""
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # views: the input may come from the weight (a tied embedding) or be it, and each must get its own part
        layer = [None if each is None else each.view_as(each) for each in ctx.saved_tensors[:3]]
        loss = ctx.head.eager(*layer, *ctx.saved_tensors[3 : 3 + ctx.head.tensors], *ctx.options[:-1])
        inputs = [each for each, needed in zip(layer, wanted, strict=True) if each is not None and needed]
        found = iter(torch.autograd.grad(loss, inputs, upstream, create_graph=graph))
    return [next(found) if needed else None for needed in wanted]


def _cast(
    gradients: Sequence[Tensor | None], layer: Sequence[Tensor | None], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Each gradient that is wanted, in the dtype of what it belongs to."""
    return [
        gradient.to(each.dtype) if needed and gradient is not None and each is not None else None
        for gradient, each, needed in zip(gradients, layer, wanted, strict=False)
    ]
