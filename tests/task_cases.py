"""What the trainings with balancers share: a small model of several tasks, its losses, its optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cases import normal, uniform
from equipoise import catalog
from equipoise.card import Card
from equipoise.multitask._balancer import Balancer

BALANCERS = tuple(card for card in catalog.CARDS if card.kind == "balancer")
LOSS_ONLY = tuple(card for card in BALANCERS if card.name != "grad_norm")
LEARNED = ("uncertainty_weighting", "impartial_loss_weighting")
TASKS = ("a", "b", "c")
KINDS = ("gaussian", "softmax", "laplace")


class Model(torch.nn.Module):
    """A trunk and a head for each task."""

    def __init__(self, tasks: Sequence[str] = TASKS, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.trunk = torch.nn.Linear(5, 4, dtype=dtype)
        self.heads = torch.nn.ModuleList([torch.nn.Linear(4, 1, dtype=dtype) for _ in tasks])
        self.tasks = tuple(tasks)
        with torch.no_grad():
            for name, each in self.named_parameters():
                each.copy_(normal(name.replace("heads", "head"), *each.shape, scale=0.7))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        hidden = torch.tanh(self.trunk(features))
        return {name: head(hidden)[:, 0] for name, head in zip(self.tasks, self.heads, strict=True)}


def losses_of(model: torch.nn.Module, step: int, present: Sequence[str] = TASKS, rows: slice = slice(0, 12)) -> dict:
    """Mean squared residuals of the tasks that are there, on scales of their own."""
    scale = {"a": 1.0, "b": 10.0, "c": 0.1}
    dtype = next(model.parameters()).dtype
    found = model(normal(f"features {step}", 12, 5, scale=1.0)[rows].to(dtype))
    truth = {name: normal(f"target {name} {step}", 12, scale=1.0)[rows].to(dtype) for name in found}
    return {
        name: scale[name] * (predicted - truth[name]).square().mean()
        for name, predicted in found.items()
        if name in present
    }


def build(card: Card, model: Model, **options: Any) -> Balancer:
    """A balancer of the model's tasks."""
    named: Any = list(model.tasks)
    if card.name == "uncertainty_weighting":
        named = {name: KINDS[TASKS.index(name)] for name in model.tasks}
    if card.name == "grad_norm":
        options["shared"] = list(model.trunk.parameters())
    built = card.module(named, **options)
    assert isinstance(built, Balancer)
    return built


def kpis(step: int, present: Sequence[str]) -> dict[str, float]:
    """How well the tasks do, for the balancer that goes by it."""
    numbers = uniform(f"kpis {step}", 3).tolist()
    return {name: numbers[TASKS.index(name)] for name in present}


def call(balancer: Balancer, losses: Mapping[str, Tensor], step: int) -> Tensor:
    """The total; with indicators for the balancer that goes by them."""
    given = {"kpis": kpis(step, list(losses))} if hasattr(balancer, "update_kpi") else {}
    total: Tensor = balancer(losses, **given)
    return total


def optimizer(model: Model, balancer: Balancer) -> torch.optim.Optimizer:
    groups = [{"params": list(model.parameters()), "weight_decay": 0.01}, *balancer.param_groups(lr=0.05)]
    return torch.optim.AdamW(groups, lr=0.01)


def train(
    model: Model,
    balancer: Balancer,
    steps: Sequence[int],
    present: Callable[[int], Sequence[str]] = lambda step: TASKS,
    optimise: torch.optim.Optimizer | None = None,
) -> list[Tensor]:
    """The totals of a training; an epoch is three steps."""
    optimise = optimise or optimizer(model, balancer)
    totals = []
    for step in steps:
        there = present(step)
        total = call(balancer, losses_of(model, step, there), step)
        optimise.zero_grad()
        total.backward()
        optimise.step()
        totals.append(total.detach())
        if step % 3 == 2 and hasattr(balancer, "end_epoch"):
            balancer.end_epoch()
    return totals
