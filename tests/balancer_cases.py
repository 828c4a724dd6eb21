"""The balancers that the tests run, each beside its oracle."""

from __future__ import annotations

import torch

from equipoise import catalog
from oracle import multitask as oracle

CARDS = tuple(card for card in catalog.CARDS if card.kind == "balancer")
TASKS = ["a", "b", "c"]
KINDS = {"a": "gaussian", "b": "softmax", "c": "laplace"}
ORACLES = {
    "constant_weighting": oracle.Constant,
    "uncertainty_weighting": oracle.Uncertainty,
    "dynamic_task_prioritization": oracle.Priority,
    "dynamic_weight_average": oracle.Average,
    "impartial_loss_weighting": oracle.Impartial,
    "famo": oracle.Famo,
}
SAMPLES = [(card, options) for card in CARDS for options in card.samples]


def name_of(value):
    return getattr(value, "name", None) or str(value)


def tasks_of(card, kept=TASKS):
    return {name: KINDS[name] for name in kept} if card.name == "uncertainty_weighting" else list(kept)


def made(card, options=None, kept=TASKS):
    """A balancer of some of the tasks, in training mode; options that list a number for each task are cut alike."""
    places = [TASKS.index(name) for name in kept]
    options = {
        key: [value[place] for place in places] if isinstance(value, list) else value
        for key, value in (options or {}).items()
    }
    if "shared" in card.required:
        options["shared"] = [SHARED]
    return card.module(tasks_of(card, kept), **options)


SHARED = torch.tensor([0.3, -0.7], requires_grad=True)
"""What all losses depend on, for the method that looks at their gradients."""


def tensors(losses, dtype=torch.float32):
    """Losses that depend on `SHARED`, and on nothing else that has a gradient."""
    pull = SHARED.sum().to(dtype) - SHARED.sum().to(dtype).detach()
    return {
        name: torch.tensor(loss, dtype=dtype) * (1 + pull * (1 + place))
        for place, (name, loss) in enumerate(losses.items())
    }


def history(steps=12, seed=0, absent=True):
    """Losses and KPIs of some steps; in some of them a task is absent."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for step in range(steps):
        numbers = torch.rand(6, generator=generator).tolist()
        losses = {name: 0.1 + 3 * numbers[place] * 0.9**step for place, name in enumerate(TASKS)}
        if absent and step % 4 == 2:
            del losses[TASKS[step % 3]]
        kpis = {name: (int(20 * numbers[3 + place]), 20) for place, name in enumerate(TASKS)}
        if step % 5 == 3:
            kpis["a"] = (0, 0)
        found.append((losses, kpis))
    return found


def step(balancer, losses, kpis=None, number=None):
    """One call; every third step ends an epoch for those that count them."""
    given = {"kpis": kpis} if kpis is not None and hasattr(balancer, "update_kpi") else {}
    total = balancer(losses, **given)
    if number is not None and number % 3 == 2 and hasattr(balancer, "end_epoch"):
        balancer.end_epoch()
    return total


def state_of(balancer):
    return {name: value.clone() for name, value in balancer.state_dict().items()}
