"""Linear layer and loss in one: scores come a few rows or labels at a time and are never all there.

Each family has an operator with the signature

    op(input, linear_weight, linear_bias, *tensors, upstream, *options, chunk, product, *wanted) -> (loss, *gradients)

which computes the gradients that are `wanted` (of input, weight and bias, in the computing dtype or bfloat16, whose
range is as wide) together with the loss, and an eager form
`eager(input, linear_weight, linear_bias, *tensors, *options) -> loss` in plain torch, which holds all scores: the way
to second derivatives and through `torch.func`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import fused
from .products import Layer, full_precision, product_dtype


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
    """Registers a family for every device; `fake` tells the compiler the shapes and dtypes of the results.

    Its derivative, for torch.compile and torch.export, is what the forward pass computed or a further call does.
    """
    operator = fused.register(schema, _plainly(implementation), fake, place="CompositeExplicitAutograd")
    name = schema.partition("(")[0]
    head = HEADS[name] = Head(name, operator, _plainly(eager), tensors)

    def set_up(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.set_materialize_grads(False)
        ctx.head, ctx.options, ctx.known = head, inputs[tensors + 4 : -3], inputs[-3:]
        ctx.save_for_backward(*inputs[: tensors + 3], *output[1:])

    def backward(ctx: Any, upstream: Tensor | None, *others: Tensor | None) -> tuple[Tensor | None, ...]:
        if any(other is not None for other in others):
            raise RuntimeError(f"{operator} has no second derivative: call the loss, not its operator")
        wanted = ctx.needs_input_grad[:3]
        found: list[Any] = [None] * 3
        if upstream is not None and ctx.options[-4] == "none":
            found = _again(ctx, upstream, wanted)
        elif upstream is not None:
            known = all(had or not needed for had, needed in zip(ctx.known, wanted, strict=True))
            found = [each * upstream for each in (ctx.saved_tensors[-3:] if known else _again(ctx, None, wanted))]
        return *_cast(found, ctx.saved_tensors, wanted), *(None,) * (len(ctx.options) + tensors + 4)

    torch.library.register_autograd(operator, backward, setup_context=set_up, lib=fused.LIBRARY)
    return head


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
    # of tensors on several devices torch says what is wrong: a kernel would read what is not there
    together = all(each is None or each.device == layer[0].device for each in (*layer, *tensors))
    if numbers is None or not (together and _fits(layer, tensors)):
        loss: Tensor = head.eager(*layer, *tensors, *options)
        return loss
    wanted = [torch.is_grad_enabled() and each is not None and each.requires_grad for each in layer]
    numbers = (*numbers, chunk, product_dtype(layer))
    found: Tensor
    if any(wanted) and not torch.compiler.is_compiling():
        found = _Fused.apply(head.name, *layer, *tensors, *numbers)  # type: ignore[no-untyped-call]
        return found
    at_once = numbers[-4] != "none"  # else each value has an upstream gradient of its own to wait for
    return head.operator(*layer, *tensors, None, *numbers, *(needed and at_once for needed in wanted))[0]


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
    computing dtype or bfloat16 until they have met their upstream factor: float16 would lose small numbers before a
    loss scale could save them. Without reduction every row has a factor of its own, and the gradients wait for it.
    """

    @staticmethod
    def forward(ctx: Any, name: str, *arguments: Any) -> Tensor:
        head = HEADS[name]
        last = 3 + head.tensors
        ctx.head, ctx.options = head, arguments[last:]
        ctx.save_for_backward(*arguments[:last])
        ctx.rest = len(arguments) - 3
        ctx.per_value = ctx.options[-4] == "none"
        wanted = (False,) * 3 if ctx.per_value else ctx.needs_input_grad[1:4]
        loss, *gradients = head.operator(*arguments[:last], None, *ctx.options, *wanted)
        ctx.gradients = None if ctx.per_value else gradients
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[1:4]
        gradients, ctx.gradients = ctx.gradients, None
        found: list[Any]
        if torch.is_grad_enabled() or fused.several_at_once(upstream):
            found = _differentiable(ctx, upstream, wanted)
        elif ctx.per_value:
            found = _again(ctx, upstream, wanted)
        else:
            found = _again(ctx, None, wanted) if gradients is None else gradients
            for each in found:
                fused.scale(each, upstream)
        return None, *_cast(found, ctx.saved_tensors, wanted), *(None,) * ctx.rest


def _again(ctx: Any, upstream: Tensor | None, wanted: Sequence[bool]) -> list[Tensor]:
    """The gradients, computed once more."""
    saved = ctx.saved_tensors[: 3 + ctx.head.tensors]
    gradients: list[Tensor]
    _loss, *gradients = ctx.head.operator(*saved, upstream, *ctx.options, *wanted)
    return gradients


def _differentiable(ctx: Any, upstream: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
    """The gradients through the eager form, with graphs of their own if this pass builds one."""
    graph = torch.is_grad_enabled()
    with torch.enable_grad(), full_precision(upstream.device):
        # views: the input may come from the weight (a tied embedding) or be it, and each must get its own part
        layer = [None if each is None else each.view_as(each) for each in ctx.saved_tensors[:3]]
        loss = ctx.head.eager(*layer, *ctx.saved_tensors[3 : 3 + ctx.head.tensors], *ctx.options[:-2])
        inputs = [each for each, needed in zip(layer, wanted, strict=True) if each is not None and needed]
        found = iter(torch.autograd.grad(loss, inputs, upstream, create_graph=graph))
    return [next(found) if needed else None for needed in wanted]


def _cast(gradients: list[Any], layer: Sequence[Tensor | None], wanted: Sequence[bool]) -> list[Tensor | None]:
    """Takes each gradient out of its list and gives those that are wanted, in the dtype of what they belong to."""
    found: list[Tensor | None] = []
    for each, needed in zip(layer, wanted, strict=False):
        gradient = gradients.pop(0)  # freed before the next is copied: the weight's is large
        found.append(gradient.to(each.dtype) if needed and gradient is not None and each is not None else None)
    return found
