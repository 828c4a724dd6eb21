"""Checks of what balancers are given: names, losses, masks, a number for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import checks

Losses = Mapping[str, Tensor] | Tensor
Mask = Mapping[str, bool] | Sequence[bool] | Tensor
Each = float | Mapping[str, float] | Sequence[float]


def names(tasks: Sequence[str]) -> tuple[str, ...]:
    """Checks the names of the tasks: at least one, and none twice."""
    if isinstance(tasks, str) or not isinstance(tasks, Sequence) or not all(isinstance(each, str) for each in tasks):
        raise TypeError(f"`tasks` must be a list of names, got {checks.describe(tasks)}")
    if not tasks:
        raise ValueError("`tasks` must name at least one task, got none")
    if len(set(tasks)) < len(tasks):
        raise ValueError(f"`tasks` must name each task once, got {listed(tasks)}")
    return tuple(tasks)


def known(argument: str, given: Mapping[str, Any], tasks: Sequence[str]) -> None:
    """Checks that a mapping speaks of known tasks."""
    for name in given:
        if name not in tasks:
            raise ValueError(f"`{argument}` has the task {name!r}, expected {listed(tasks)}")


def each_loss(losses: Losses, tasks: Sequence[str]) -> Mapping[str, Tensor] | None:
    """Checks the losses: the mapping, or None for a vector."""
    if isinstance(losses, Mapping):
        known("losses", losses, tasks)
        for name, loss in losses.items():
            if checks.scores(f"losses[{name!r}]", loss).ndim:
                raise ValueError(f"`losses[{name!r}]` must be a scalar, got {checks.describe(loss)}")
        return losses
    if checks.scores("losses", losses).shape != (len(tasks),):
        raise ValueError(
            f"`losses` must be a mapping, or a vector of the {len(tasks)} tasks, got shape {list(losses.shape)}"
        )
    return None


def wanted(mask: Mask | None, tasks: Sequence[str]) -> list[bool]:
    """Which tasks the mask leaves."""
    if mask is None:
        return [True] * len(tasks)
    if isinstance(mask, Mapping):
        known("mask", mask, tasks)
        return [bool(mask.get(name, True)) for name in tasks]
    if isinstance(mask, Tensor):
        if mask.dtype != torch.bool or mask.ndim != 1:
            raise TypeError(f"`mask` must be boolean, one for each task, got {checks.describe(mask)}")
        mask = mask.tolist()
    if not isinstance(mask, (list, tuple)):
        raise TypeError(f"`mask` must say of each task whether it is there, got {checks.describe(mask)}")
    if len(mask) != len(tasks):
        raise ValueError(f"`mask` must be of the {len(tasks)} tasks, got {len(mask)}")
    return [bool(each) for each in mask]


def per_task(argument: str, value: Each, tasks: Sequence[str], low: float) -> list[float]:
    """A number for each task: one for all, a mapping of all, or a list in their order."""
    if checks.is_number(value):
        return [checks.number(argument, value, low)] * len(tasks)
    if isinstance(value, Mapping):
        known(argument, value, tasks)
        missing = [name for name in tasks if name not in value]
        if missing:
            raise ValueError(f"`{argument}` has no number for {listed(missing)}")
        value = [value[name] for name in tasks]
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"`{argument}` must be a number, or one for each task, got {checks.describe(value)}")
    if len(value) != len(tasks):
        raise ValueError(f"`{argument}` must be one for each of {listed(tasks)}, got {len(value)}")
    return [checks.number(argument, each, low) for each in value]


def listed(words: Sequence[str]) -> str:
    """Names in quotes."""
    return ", ".join(map(repr, words))
