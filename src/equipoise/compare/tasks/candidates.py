"""The ways to weigh the losses of several tasks: not at all, by constants, or by a balancer of the catalogue."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from torch import nn

import equipoise
from equipoise.card import Card
from equipoise.catalog import CARDS

from ..candidates import Candidate
from ..errors import CompareError
from ..readers import near_names
from ..remedies import EQUAL_WEIGHTS, REMEDIES, SINGLE_TASK
from ..store import digest
from ..trials import Settings, rounded
from .task import Task

SINGLE = SINGLE_TASK
EQUAL = EQUAL_WEIGHTS
CONSTANT = "constant_weighting"
# Without a balancer: what one has to be better than.
PLAIN = (EQUAL, CONSTANT)
# The weights that are tried lie between 1/10 and 10, before they are brought to the sum of the plain one.
SPAN = 10.0
FILE_NAME = r"[A-Za-z0-9_]{1,50}"


@dataclass(frozen=True)
class TaskCandidate(Candidate):
    """A way to weigh: its `make` takes the tasks, the settings and the parameters of the last shared layer.

    Attributes:
        only: the one task that is trained, for a single-task model; else None.
        weighed: the tasks whose weights are tried, too, for constant weighting; else none.
    """

    only: str | None = None
    weighed: tuple[str, ...] = ()

    def tried(self, settings: Sequence[Settings], /) -> tuple[Settings, ...]:
        """Its trials, given the ones that all candidates share."""
        if not self.weighed:
            return tuple(settings)
        names = [f"weight of {task}" for task in self.weighed]
        drawn = weights(len(settings), len(names))
        return tuple(
            replace(each, options=tuple(zip(names, numbers, strict=True)))
            for each, numbers in zip(settings, drawn, strict=True)
        )


def weights(count: int, tasks: int) -> list[tuple[float, ...]]:
    """The weights that are tried: all 1, then drawn at random; a larger count keeps those of a smaller one."""
    generator = np.random.default_rng(0)
    found = [(1.0,) * tasks]
    for _ in range(1, count):
        drawn = SPAN ** generator.uniform(-1, 1, tasks)
        found.append(tuple(rounded(weight) for weight in (tasks * drawn / drawn.sum()).tolist()))
    return found


def single(task: str) -> str:
    """The name of the single-task model of a task among the trainings; their files are called by it."""
    return f"{SINGLE}-{task if re.fullmatch(FILE_NAME, task) else digest(task)[:16]}"


def candidates(tasks: Sequence[Task]) -> dict[str, TaskCandidate]:
    """All candidates by name: the single-task models first, then constant weights, then every balancer."""
    found = [
        TaskCandidate(single(task.name), f"a model for {task.name} alone", _equal, None, task.name) for task in tasks
    ]
    found.append(TaskCandidate(EQUAL, REMEDIES[EQUAL].summary, _equal))
    found += [
        TaskCandidate(
            card.name,
            card.summary,
            partial(_from_card, card),
            card,
            weighed=tuple(task.name for task in tasks) if card.name == CONSTANT else (),
        )
        for card in CARDS
        if "tasks" in card.problems
    ]
    return {each.name: each for each in found}


def choose(tasks: Sequence[Task], names: str | None) -> dict[str, TaskCandidate]:
    """The candidates that were asked for, always with the single-task models and constant weights.

    Args:
        tasks: what is trained.
        names: names of balancers separated by commas; None for all.

    Raises:
        CompareError: for a name that is none.
    """
    known = candidates(tasks)
    if names is None:
        return known
    always = {single(task.name) for task in tasks} | set(PLAIN)
    offered = [name for name in known if name not in {single(task.name) for task in tasks}]
    asked = [part for part in (part.strip() for part in names.split(",")) if part]
    if not asked:
        raise CompareError(f"no balancer is named by {names!r}; choose from {', '.join(offered)}")
    for name in asked:
        if name in offered or name == SINGLE:
            continue
        if any(card.name == name for card in CARDS):
            raise CompareError(
                f"the loss {name!r} does not weigh tasks; choose from {', '.join(offered)}"
                " (the loss of a task stands in --target, as COLUMN:KIND:LOSS)"
            )
        near = near_names(name, offered)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"choose from {', '.join(offered)}"
        raise CompareError(f"there is no balancer {name!r}; {hint}")
    return {name: each for name, each in known.items() if name in always or name in asked}


def kind(task: Task) -> str:
    """What uncertainty weighting takes the loss of a task for."""
    if task.kind != "regression":
        return "softmax"
    return "gaussian" if task.loss == "squared_error" else "laplace"


def keys(tasks: Sequence[Task]) -> dict[str, str]:
    """What a balancer calls each task: a column may have a name that no parameter can have."""
    return {task.name: f"task_{index}" for index, task in enumerate(tasks)}


def _equal(tasks: Sequence[Task], _: Settings, __: Sequence[nn.Parameter]) -> nn.Module:
    return equipoise.ConstantWeighting(list(keys(tasks).values()))


def _from_card(card: Card, tasks: Sequence[Task], chosen: Settings, shared: Sequence[nn.Parameter]) -> nn.Module:
    """Build a balancer with its defaults, from what it asks for: names, kinds, tuned weights or parameters."""
    names = list(keys(tasks).values())
    module: Callable[..., nn.Module] = card.module
    if card.module is equipoise.ConstantWeighting:
        return module(names, [weight for _, weight in chosen.options])
    if card.module is equipoise.UncertaintyWeighting:
        return module({name: kind(task) for name, task in zip(names, tasks, strict=True)})
    if card.module is equipoise.GradNorm:
        return module(names, shared)
    return module(names)
