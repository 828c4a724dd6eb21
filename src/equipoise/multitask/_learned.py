"""Balancers that learn a number for each task by gradients, with the model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._balancer import Balancer, Call


class LearnedBalancer(Balancer):
    """One 0-d parameter for each task, so that an absent task has no gradient and its optimiser's state rests.

    Args:
        tasks: their names.
        symbol: what the parameters are called: `symbol_task`.
        sync: whether the parameters see the losses of all ranks.
    """

    def __init__(self, tasks: Sequence[str], symbol: str, *, sync: bool) -> None:
        super().__init__(tasks, sync=sync)
        self._keys = tuple(f"{symbol}_{name.replace('.', '_')}" for name in self.tasks)
        for name, key in zip(self.tasks, self._keys, strict=True):
            if hasattr(self, key):
                raise ValueError(f"`tasks` has the name {name!r}, and another that differs from it only by dots")
            self.register_parameter(key, torch.nn.Parameter(torch.zeros(())))

    def _learned(self, call: Call) -> Tensor:
        """The parameters of the tasks that are there, `[k]`; without a gradient where a loss is not finite."""
        numbers = torch.stack([getattr(self, self._keys[place]) for place in call.places]).to(call.values.dtype)
        return torch.where(call.finite, numbers, numbers.detach())

    def _balance(self, call: Call) -> tuple[Tensor, Tensor]:
        learned = self._learned(call)
        weights = self._scales(call, learned)
        if call.world > 1:  # this rank's losses move its model, those of all ranks the parameters
            total = weights.detach() * call.values + (weights - weights.detach()) * call.seen
        else:
            total = weights * call.values
        return weights, (total + self._costs(call, learned)).sum()

    def _scales(self, call: Call, /, learned: Tensor) -> Tensor:
        """What each loss is multiplied by, `[k]`."""
        raise NotImplementedError

    def _costs(self, call: Call, /, learned: Tensor) -> Tensor:
        """What keeps each scale from vanishing, `[k]`."""
        raise NotImplementedError
