"""Checks of arguments: each message names the argument, what was expected and what came."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Scalar = float | Tensor
Vector = Tensor | NDArray[Any] | Sequence[float]


def can_read_values(tensor: Tensor) -> bool:
    """Whether looking at values is free of side effects: a plain CPU tensor, not being compiled or transformed."""
    return (
        not torch.compiler.is_compiling()
        and type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.device.type == "cpu"
        and not torch._C._are_functorch_transforms_active()
    )


def describe(value: object) -> str:
    """A short description of what came, for messages."""
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor of shape {list(value.shape)}"
    return f"{value!r} ({type(value).__name__})"


def scores(name: str, value: object) -> Tensor:
    """Checks that `value` is a floating-point tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"`{name}` must be a tensor, got {describe(value)}")
    if not value.is_floating_point():
        raise TypeError(f"`{name}` must be a floating-point tensor, got {describe(value)}")
    return value


def labels(name: str, value: object) -> Tensor:
    """Checks that `value` is a real tensor that asks for no gradient."""
    if not isinstance(value, Tensor):
        raise TypeError(f"`{name}` must be a tensor, got {describe(value)}")
    if value.is_complex():
        raise TypeError(f"`{name}` must be a real tensor, got {describe(value)}")
    if value.requires_grad:
        raise ValueError(
            f"`{name}` must not require a gradient: losses do not differentiate it; pass `{name}.detach()`"
        )
    return value


def same_shape(name: str, value: Tensor, expected: Sequence[int], what: str) -> None:
    """Checks that `value` has the shape `expected`, described as `what`."""
    if value.shape != expected and list(value.shape) != list(expected):
        raise ValueError(f"`{name}` must have {what}, {list(expected)}, got shape {list(value.shape)}")


def within(name: str, value: Tensor, low: float, high: float = math.inf) -> None:
    """Checks `low <= value <= high` everywhere, where values can be read; NaN fails."""
    if not (can_read_values(value) and value.numel()):
        return
    smallest, largest = (limit.item() for limit in value.detach().aminmax())
    if not (low <= smallest <= largest <= high and math.isfinite(smallest) and math.isfinite(largest)):
        raise ValueError(f"`{name}` must be {_limits(low, high)}, got {smallest:g} to {largest:g}")


def scalar(name: str, value: Scalar, low: float, high: float = math.inf) -> Scalar:
    """Checks that `value` is a number or 0-d tensor in `[low, high]`; numbers come back as `float`."""
    if type(value) is float and low <= value <= high and abs(value) != math.inf:
        return value  # nearly every call, and looking further takes longer than a small loss
    if isinstance(value, Tensor):
        if value.ndim:
            raise ValueError(f"`{name}` must be a number or a 0-d tensor, got {describe(value)}")
        within(name, value, low, high)
        return value
    if not is_number(value):
        raise TypeError(f"`{name}` must be a number, got {describe(value)}")
    if not (low <= value <= high and abs(value) != math.inf):
        raise ValueError(f"`{name}` must be {_limits(low, high)}, got {value!r}")
    return float(value)


def _limits(low: float, high: float) -> str:
    if high != math.inf:
        return f"in [{low:g}, {high:g}]"
    return f"finite and >= {low:g}" if low != -math.inf else "finite"


def is_zero(value: Scalar) -> bool:
    """Whether an option is known to be 0 without looking into a tensor."""
    return not isinstance(value, Tensor) and value == 0


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is a real number, Python's or NumPy's."""
    return isinstance(value, Real) and not isinstance(value, bool)


def number(name: str, value: Scalar, low: float, high: float = math.inf) -> float:
    """`scalar`, as a `float`."""
    return float(scalar(name, value, low, high))


def above_zero(name: str, value: Scalar) -> Scalar:
    """`scalar`, of a number above 0."""
    found = scalar(name, value, 0)
    readable = not isinstance(found, Tensor) or can_read_values(found)
    if readable and found == 0:
        raise ValueError(f"`{name}` must be > 0, got 0")
    return found


def whole(name: str, value: int, low: float = -math.inf) -> int:
    """Checks that `value` is a whole number of at least `low`."""
    if type(value) is int and value >= low:
        return value
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"`{name}` must be a whole number, got {describe(value)}")
    if value < low:
        raise ValueError(f"`{name}` must be >= {low}, got {value}")
    return int(value)


def choice(name: str, value: str, allowed: Sequence[str]) -> str:
    """Checks that `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def as_tensor(name: str, value: object, dtype: torch.dtype | None = None) -> Tensor:
    """`value` as a tensor; arrays are copied, because torch warns of those that cannot be written to."""
    if isinstance(value, Tensor):
        return value
    try:
        return torch.as_tensor(value if isinstance(value, (list, tuple, Real)) else np.array(value), dtype=dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"`{name}` must be numbers (a tensor, array or list), got {describe(value)}") from error


def vector(name: str, value: Vector | Scalar, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """`value`, a number or any shape of numbers, as a tensor."""
    if is_number(value):
        # made where it is needed: `as_tensor` would copy it from the CPU and wait
        return torch.full((), number(name, value, -math.inf), dtype=dtype, device=device)
    tensor = as_tensor(name, value, dtype)
    if tensor.is_complex():
        raise TypeError(f"`{name}` must be real, got {describe(value)}")
    # torch looks long before it finds that nothing is to be done
    return (
        tensor if tensor.dtype == dtype and device in (None, tensor.device) else tensor.to(dtype=dtype, device=device)
    )


def broadcastable(name: str, value: Tensor, shape: Sequence[int]) -> Tensor:
    """Checks that `value` broadcasts to `shape` without enlarging it."""
    fits = value.shape == shape[-value.ndim :] or (
        value.ndim <= len(shape)
        and all(have in (1, want) for have, want in zip(reversed(value.shape), reversed(shape), strict=False))
    )
    if not fits:
        raise ValueError(
            f"`{name}` must broadcast to the input's shape {list(shape)}, got shape {list(value.shape)}"
            " (a vector meets the last dimension)"
        )
    return value


def per_class(name: str, value: Vector, num_classes: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`value` as a vector of `num_classes` numbers."""
    numbers = vector(name, value, dtype, device)
    if numbers.shape != (num_classes,):
        raise ValueError(f"`{name}` must be a vector of {num_classes} classes, got shape {list(numbers.shape)}")
    return numbers


def keep_mask(name: str, value: object, shape: Sequence[int]) -> Tensor:
    """Checks that `value` is a boolean tensor that broadcasts to `shape`."""
    if not isinstance(value, Tensor) or value.dtype != torch.bool:
        raise TypeError(f"`{name}` must be a boolean tensor (True keeps an element), got {describe(value)}")
    return broadcastable(name, value, shape)
