"""The base class of all loss modules."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from . import checks
from .checks import Scalar, Vector


class Loss(torch.nn.Module):
    """A module that holds a loss's options.

    Numbers and words are plain attributes. Vectors and state are buffers: they move with `.to(device)`, are saved in
    the `state_dict`, and keep their dtype under `.half()`, `.bfloat16()` and `.float()`, because a class weight or a
    running count that is rounded to half precision is wrong for good; each is cast to the input's dtype where it is
    used.
    """

    def _hold(self, name: str, value: Vector | Scalar | None, low: float = -math.inf, high: float = math.inf) -> None:
        """Keeps a vector option as a float64 buffer, a number (or 0-d tensor) as a float, None as None.

        Args:
            name: the option's name.
            value: the option.
            low: the smallest value allowed.
            high: the largest value allowed.
        """
        if value is None:
            self.register_buffer(name, None)
            return
        tensor = checks.vector(name, value, torch.float64)
        checks.within(name, tensor, low, high)
        if tensor.ndim:
            self.register_buffer(name, tensor.detach().clone())
        else:
            setattr(self, name, tensor.item())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, old in before.items():
            new = self._buffers[name]
            if old is not None and new is not None and new.dtype != old.dtype:
                self._buffers[name] = old.to(device=new.device)
        return self

    def extra_repr(self) -> str:
        """The options as constructor arguments, so that `repr` can be pasted as code."""
        names = list(inspect.signature(type(self)).parameters)
        options = {name: _literal(getattr(self, name)) for name in names}
        return ", ".join(f"{name}={value!r}" for name, value in options.items() if value is not None)


def _literal(value: Any) -> Any:
    return value.tolist() if isinstance(value, Tensor) else value
