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

LONGEST_SHOWN = 32


class Loss(torch.nn.Module):
    """A module that holds a loss's options.

    Numbers and words are plain attributes. Vectors and state are buffers: they move with `.to(device)`, are saved in
    the `state_dict`, and keep their dtype under `.half()`, `.bfloat16()` and `.float()`, because a class weight or a
    running count that is rounded to half precision is wrong for good; each is cast to the input's dtype where it is
    used.
    """

    def _hold(self, name: str, value: Vector | Scalar | None, low: float = -math.inf, high: float = math.inf) -> None:
        """Keeps a number (or 0-d tensor) as a float, a vector as a float64 buffer, None as None.

        Args:
            name: the option's name.
            value: the option.
            low: the smallest value allowed.
            high: the largest value allowed.
        """
        if checks.is_number(value) or (isinstance(value, Tensor) and not value.ndim):
            setattr(self, name, checks.number(name, value, low, high))
            return
        vector = None if value is None else checks.vector(name, value, torch.float64)
        if vector is not None:
            if vector.requires_grad:
                raise ValueError(f"`{name}` must not require a gradient: a module keeps options, not parameters")
            checks.within(name, vector, low, high)
            vector = vector.clone()
        self.register_buffer(name, vector)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, old in before.items():
            new = self._buffers[name]
            if old is not None and new is not None and new.dtype != old.dtype:
                self._buffers[name] = old.to(device=new.device)
        return self

    def extra_repr(self) -> str:
        """The options as constructor arguments, so that `repr` can be pasted as code; long vectors are only named."""
        options = {name: getattr(self, name, None) for name in inspect.signature(type(self)).parameters}
        return ", ".join(f"{name}={_literal(value)}" for name, value in options.items() if value is not None)


def _literal(value: Any) -> str:
    if not isinstance(value, Tensor):
        return repr(value)
    if value.is_meta or value.numel() > LONGEST_SHOWN:
        return f"<{value.numel()} numbers>"
    return repr(value.tolist())
