"""How a fused kernel takes part in autograd: loss and gradient are computed together, in the forward pass.

Each family has an operator with the signature

    op(input, *tensors, upstream, *options, gradient) -> (loss, gradient)

and an eager form `eager(input, *tensors, *options) -> loss` in plain torch: the fallback, and the way to second
derivatives. Two things know the derivative: the operator itself, for torch.compile and torch.export, which trace it;
and an `autograd.Function` around it, for all other calls, because it is quicker than a small loss and can hand out
memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..kernels import native
from ..kernels import triton as gpu

Tensors = tuple[Any, ...]  # each a tensor or None
Options = tuple[Any, ...]
Gradients = tuple[Tensor | None, ...]

LIBRARY = torch.library.Library("equipoise", "DEF")  # type: ignore[no-untyped-call]
HALF = (torch.float16, torch.bfloat16)
PLAIN = {Tensor, torch.nn.Parameter}
PLAIN_OR_NONE = {*PLAIN, type(None)}
NUMBERS = {float, int, bool, str}


def register(
    schema: str,
    implementation: Callable[..., Any],
    fake: Callable[..., Any],
    *,
    place: str = "CPU",
    on_gpu: Callable[..., Any] | None = None,
) -> Any:
    """Registers an operator for a dispatch key; `fake` tells the compiler the shapes and dtypes of its results.

    Args:
        schema: name, arguments and results.
        implementation: what computes them.
        fake: what tells their shapes and dtypes.
        place: the dispatch key of the implementation.
        on_gpu: what computes them on CUDA tensors, where that is something else.
    """
    name = schema.partition("(")[0]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
    LIBRARY.impl(name, implementation, place)  # type: ignore[no-untyped-call]
    if on_gpu is not None:
        LIBRARY.impl(name, on_gpu, "CUDA")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"equipoise::{name}", fake, lib=LIBRARY)
    return getattr(torch.ops.equipoise, name).default


@dataclass(frozen=True)
class Kernel:
    """A family's ways to compute a loss and its gradient.

    Attributes:
        operator: the registered operator.
        implementation: what the operator calls on the CPU.
        on_gpu: what it calls on a GPU.
        eager: the loss in plain torch.
    """

    operator: Callable[..., tuple[Tensor, Tensor]]
    implementation: Callable[..., tuple[Tensor, Tensor]]
    on_gpu: Callable[..., tuple[Tensor, Tensor]]
    eager: Callable[..., Tensor]


def kernel(
    schema: str,
    implementation: Callable[..., tuple[Tensor, Tensor]],
    on_gpu: Callable[..., tuple[Tensor, Tensor]],
    fake: Callable[..., tuple[Tensor, Tensor]],
    eager: Callable[..., Tensor],
) -> Kernel:
    """Registers a family's operator and tells torch.compile and torch.export its derivative.

    That is its second result, or what a further call computes, which takes the upstream gradient along: for half
    precision, and for calls that asked for no gradient.
    """
    operator = register(schema, implementation, fake, on_gpu=on_gpu)
    upstream_at = [argument.name for argument in operator._schema.arguments].index("upstream")

    def set_up(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.is_known = inputs[-1] and inputs[0].dtype not in HALF
        ctx.options = inputs[upstream_at + 1 : -1]
        ctx.save_for_backward(*((output[1],) if ctx.is_known else inputs[:upstream_at]))

    def backward(ctx: Any, upstream: Tensor | None, second: Tensor | None) -> Gradients:
        if second is not None:
            raise RuntimeError(f"{operator} has no second derivative: compute the loss in equipoise.kernels.eager()")
        gradient = None
        if upstream is not None and ctx.is_known:
            (gradient,) = ctx.saved_tensors
            gradient = gradient * _beside(upstream, gradient)
        elif upstream is not None:
            gradient = operator(*ctx.saved_tensors, upstream, *ctx.options, True)[1]
        return gradient, *(None,) * (upstream_at + len(ctx.options) + 1)

    torch.library.register_autograd(operator, backward, setup_context=set_up, lib=LIBRARY)
    return Kernel(operator, implementation, on_gpu, eager)


def outputs(input: Tensor, losses: Sequence[int], reduction: str, gradient: bool) -> tuple[Tensor, Tensor]:
    """Uninitialised memory for the loss, and for the gradient if it is wanted."""
    if input.dtype in HALF:
        loss = input.new_empty(losses if reduction == "none" else (), dtype=torch.float32)
    else:
        loss = input.new_empty(losses if reduction == "none" else ())
    if not gradient:
        return loss, input.new_empty(0)
    # a gradient is written in row-major order, however the input lies
    return loss, torch.empty_like(input) if input.is_contiguous() else input.new_empty(input.shape)


def fits(input: Tensor, tensors: Tensors) -> bool:
    """Whether the kernels can take these tensors: plain, on one device, no gradient but the input's, no transform."""
    on_cpu = input.is_cpu
    if not (native.is_active() if on_cpu else gpu.takes(input)):
        return False
    for other in tensors:
        if other is not None and (
            other.requires_grad or not (other.is_cpu if on_cpu else other.device == input.device)
        ):
            return False
    return torch.compiler.is_compiling() or (
        type(input) in PLAIN
        and PLAIN_OR_NONE.issuperset(map(type, tensors))
        and input.layout is torch.strided
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
        and torch._C._get_tracing_state() is None
    )


def run(kernel: Kernel, input: Tensor, tensors: Tensors, options: Options) -> Tensor | None:
    """The loss of a fused kernel, with a gradient with respect to `input` where one is wanted.

    None where the eager form must take over: because the kernels cannot take this call, or to say what is wrong with
    a target.
    """
    if not fits(input, tensors):
        return None
    if not NUMBERS.issuperset(map(type, options)):
        scalars = [option for option in options if isinstance(option, Tensor)]
        # while nothing is computed yet, an option in a tensor cannot be read; a GPU would have to be waited for
        if torch.compiler.is_compiling() or input.is_cuda or not fits(input, tuple(scalars)):
            return None
        options = tuple(option.item() if isinstance(option, Tensor) else option for option in options)
    wants_gradient = input.requires_grad and torch.is_grad_enabled()
    try:
        if wants_gradient and not torch.compiler.is_compiling():
            # the other arguments in one: each of its own would be looked at by torch
            return _apply(input, (kernel, tensors, options))
        return _way(kernel, input)(input, *tensors, None, *options, wants_gradient and input.dtype not in HALF)[0]
    except native.TargetError:
        return None


def several_at_once(upstream: Tensor) -> bool:
    """Whether an upstream gradient stands for many: under `vmap`, or in `autograd.grad` with `is_grads_batched`."""
    return torch._C._are_functorch_transforms_active() or torch._C._dispatch_keys(upstream).has("Batched")


def _way(kernel: Kernel, input: Tensor) -> Callable[..., tuple[Tensor, Tensor]]:
    """The operator where somebody watches (the compiler, a dispatch mode, the profiler), else what it calls: the way
    there is longer than a small loss.
    """
    watched = (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch.autograd.profiler._is_profiler_enabled
    )
    if watched:
        return kernel.operator
    return kernel.on_gpu if input.is_cuda else kernel.implementation


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
    def forward(ctx: Any, input: Tensor, call: tuple[Kernel, Tensors, Options]) -> Tensor:
        kernel, tensors, options = call
        ctx.is_half = input.dtype in HALF
        loss, gradient = _way(kernel, input)(input, *tensors, None, *options, not ctx.is_half)
        ctx.save_for_backward(input, *tensors)
        ctx.kernel, ctx.options = kernel, options
        ctx.gradient = None if ctx.is_half else gradient
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        gradient, ctx.gradient = ctx.gradient, None
        if torch.is_grad_enabled():
            gradient = _differentiable(ctx, upstream)
        elif several_at_once(upstream):
            gradient = _again(ctx, None)
            gradient = gradient * _beside(upstream, gradient)
        elif ctx.is_half:
            gradient = _again(ctx, upstream)
        else:
            gradient = _again(ctx, None) if gradient is None else gradient
            scale(gradient, upstream)
        return gradient, None


# What `_Fused.apply` calls after it has seen to function transforms, which `fits` leaves to the eager form.
_apply: Callable[..., Tensor] = super(torch.autograd.Function, _Fused).apply


def scale(gradient: Tensor, upstream: Tensor) -> None:
    """Multiplies the gradient in place; by 1, as nearly always, it is not touched."""
    if upstream.ndim:
        gradient.mul_(_beside(upstream, gradient))
    elif gpu.takes(gradient):
        gpu.multiply(gradient, upstream)
    elif not upstream.is_cpu or upstream.item() != 1:  # elsewhere to look would be to wait
        gradient.mul_(upstream)


def _again(ctx: Any, upstream: Tensor | None) -> Tensor:
    """The gradient, computed once more."""
    score, *tensors = ctx.saved_tensors
    gradient: Tensor = _way(ctx.kernel, score)(score, *tensors, upstream, *ctx.options, True)[1]
    return gradient


def _differentiable(ctx: Any, upstream: Tensor) -> Tensor:
    """The gradient with a graph of its own."""
    score, *tensors = ctx.saved_tensors
    loss: Tensor = ctx.kernel.eager(score, *tensors, *ctx.options)
    gradient: Tensor = torch.autograd.grad(loss, score, upstream, create_graph=True)[0]
    return gradient
