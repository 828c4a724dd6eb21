"""How a fused kernel takes part in autograd: loss and gradient are computed together, in the forward pass.

Each family registers one operator with the signature

    op(input, *tensors, upstream, *options, gradient) -> (loss, gradient)

and has an eager form `eager(input, *tensors, *options) -> loss` in plain torch: the fallback, and the way to second
derivatives. Two things know the derivative: the operator itself, for torch.compile and torch.export, which trace it; and
an `autograd.Function` around it, for all other calls, because it is quicker than a small loss and can hand out memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..kernels import native
from ..reduction import compute_dtype

Operator = Callable[..., tuple[Tensor, Tensor]]
Eager = Callable[..., Tensor]

LIBRARY = torch.library.Library("equipoise", "DEF")
HALF = (torch.float16, torch.bfloat16)
PLAIN = (Tensor, torch.nn.Parameter)


def register(schema: str, implementation: Operator, fake: Operator) -> Operator:
    """Registers an operator for the CPU; `fake` tells the compiler the shapes and dtypes of its results."""
    name = schema.partition("(")[0]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, implementation, "CPU")
    torch.library.register_fake(f"equipoise::{name}", fake, lib=LIBRARY)
    operator: Operator = getattr(torch.ops.equipoise, name).default
    return operator


def differentiable(operator: Operator) -> Operator:
    """Tells torch.compile and torch.export the derivative of an operator: its second result, or a further call.

    The further call takes the upstream gradient along. It serves half precision, and calls without a gradient.
    """
    upstream_at = [argument.name for argument in operator._schema.arguments].index("upstream")  # type: ignore[attr-defined]

    def set_up(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.is_known = inputs[-1] and inputs[0].dtype not in HALF
        ctx.options = inputs[upstream_at + 1 : -1]
        ctx.save_for_backward(*((output[1],) if ctx.is_known else inputs[:upstream_at]))

    def backward(ctx: Any, upstream: Tensor | None, second: Tensor | None) -> tuple[Tensor | None, ...]:
        if second is not None:
            raise RuntimeError(
                f"{operator} has no second derivative: compute the loss within equipoise.kernels.eager()"
            )
        gradient = None
        if upstream is not None and ctx.is_known:
            (gradient,) = ctx.saved_tensors
            gradient = gradient * _beside(upstream, gradient)
        elif upstream is not None:
            gradient = operator(*ctx.saved_tensors, upstream, *ctx.options, True)[1]
        return gradient, *(None,) * (upstream_at + len(ctx.options) + 1)

    torch.library.register_autograd(operator, backward, setup_context=set_up, lib=LIBRARY)
    return operator


def outputs(input: Tensor, losses: Sequence[int], reduction: str, gradient: bool) -> tuple[Tensor, Tensor]:
    """Uninitialised memory for the loss, and for the gradient if it is wanted."""
    loss = input.new_empty(losses if reduction == "none" else (), dtype=compute_dtype(input))
    # not empty_like: a gradient is written in row-major order, however the input lies
    return loss, input.new_empty(input.shape if gradient else (0,))


def fits(input: Tensor, tensors: Sequence[Tensor | None], options: Sequence[object]) -> bool:
    """Whether the kernels can take this call: plain CPU tensors, no gradient but the input's, no function transform."""
    if input.device.type != "cpu" or not native.is_active():
        return False
    for other in (*tensors, *options):
        if isinstance(other, Tensor) and (other.requires_grad or other.device.type != "cpu"):
            return False
    if torch.compiler.is_compiling():
        # an option in a tensor would have to be read while nothing is computed yet
        return not any(isinstance(option, Tensor) for option in options)
    return (
        type(input) in PLAIN
        and input.layout is torch.strided
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
    )


def run(
    operator: Operator, eager: Eager, input: Tensor, tensors: tuple[Tensor | None, ...], options: tuple[Any, ...]
) -> Tensor:
    """The loss of a fused kernel, with a gradient with respect to `input` where one is wanted."""
    options = tuple(option.item() if isinstance(option, Tensor) else option for option in options)
    wants_gradient = input.requires_grad and torch.is_grad_enabled()
    if torch.compiler.is_compiling() or not wants_gradient:
        return operator(input, *tensors, None, *options, wants_gradient and input.dtype not in HALF)[0]
    loss: Tensor = _Fused.apply(operator, eager, options, input, *tensors)
    return loss


def _beside(upstream: Tensor, gradient: Tensor) -> Tensor:
    """The upstream gradient of one loss per row, with a dimension for the row's classes."""
    return upstream if upstream.ndim in (0, gradient.ndim) else upstream.unsqueeze(1)


class _Fused(torch.autograd.Function):
    """The first backward pass hands out the gradient of the forward pass, scaled in place, and drops it.

    A later one computes it again, and one that builds a graph goes through the eager form. In half precision every
    backward pass computes it: a gradient that was rounded before it met its upstream factor (a loss scale, say) would
    have lost small numbers.
    """

    @staticmethod
    def forward(
        ctx: Any, operator: Operator, eager: Eager, options: tuple[Any, ...], input: Tensor, *tensors: Tensor | None
    ) -> Tensor:
        ctx.is_half = input.dtype in HALF
        loss, gradient = operator(input, *tensors, None, *options, not ctx.is_half)
        ctx.save_for_backward(input, *tensors)
        ctx.call = operator, eager, options
        ctx.gradient = None if ctx.is_half else gradient
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        gradient, ctx.gradient = ctx.gradient, None
        if torch.is_grad_enabled():
            gradient = _differentiable(ctx, upstream)
        elif torch._C._are_functorch_transforms_active():  # several upstream gradients at once
            gradient = _again(ctx, None)
            gradient = gradient * _beside(upstream, gradient)
        elif ctx.is_half:
            gradient = _again(ctx, upstream)
        else:
            gradient = _again(ctx, None) if gradient is None else gradient
            if upstream.ndim or upstream.item() != 1:
                gradient.mul_(_beside(upstream, gradient))
        return None, None, None, gradient, *(None,) * (len(ctx.needs_input_grad) - 4)


def _again(ctx: Any, upstream: Tensor | None) -> Tensor:
    """The gradient, computed once more."""
    operator, _, options = ctx.call
    input, *tensors = ctx.saved_tensors
    gradient: Tensor = operator(input, *tensors, upstream, *options, True)[1]
    return gradient


def _differentiable(ctx: Any, upstream: Tensor) -> Tensor:
    """The gradient with a graph of its own."""
    _, eager, options = ctx.call
    input, *tensors = ctx.saved_tensors
    loss = eager(input, *tensors, *options)
    (gradient,) = torch.autograd.grad(loss, input, upstream, create_graph=True)
    return gradient
