"""The answer as Python to paste into one's own training."""

from __future__ import annotations

from collections.abc import Sequence

import equipoise

from ..trials import Settings
from . import candidates
from .balanced import FASTER
from .study import TaskStudy
from .summary import TaskComparison, TaskRow

SETUP = """import torch
import equipoise

# losses: of each task on a batch, by its name; a task without a label in the batch is left out
# model: one trunk with a head for each task"""
ALONE = """import torch

# models: one for each task, by its name"""


def snippet(comparison: TaskComparison) -> str:
    """Code that builds the winner and its optimizer, and takes a step."""
    study = comparison.study
    row = next(row for row in comparison.rows if row.name == comparison.winner)
    if row.name == candidates.SINGLE:
        made = [
            f"    {name!r}: {_optimizer(f'models[{name!r}].parameters()', each)}," for name, each in row.chosen.items()
        ]
        return "\n".join([ALONE, "optimizers = {", *made, "}"]) + "\n"
    chosen = row.chosen[""]
    if row.name == candidates.EQUAL:
        lines = [f"optimizer = {_optimizer('model.parameters()', chosen)}", "total = sum(losses.values())"]
    else:
        groups = f"*balancer.param_groups(lr={FASTER * chosen.learning_rate:g})"
        parameters = f'[{{"params": model.parameters()}}, {groups}]'
        lines = [*_balancer(study, row), f"optimizer = {_optimizer(parameters, chosen)}", *_total(study, row)]
    return "\n".join([SETUP, *lines, "total.backward()", "optimizer.step()", *_afterwards(study, row)]) + "\n"


def _optimizer(parameters: str, chosen: Settings) -> str:
    return f"torch.optim.AdamW({parameters}, lr={chosen.learning_rate:g}, weight_decay={chosen.weight_decay:g})"


def _module(study: TaskStudy, row: TaskRow) -> type:
    card = study.candidates[row.name].card
    assert card is not None  # every balancer has one
    return card.module


def _balancer(study: TaskStudy, row: TaskRow) -> Sequence[str]:
    """The line that builds the balancer, as `candidates` does."""
    names = [task.name for task in study.tasks]
    module = _module(study, row)
    if module is equipoise.ConstantWeighting:
        weights = dict(zip(names, dict(row.chosen[""].options).values(), strict=True))
        return [f"balancer = equipoise.ConstantWeighting({names!r}, {weights!r})"]
    if module is equipoise.UncertaintyWeighting:
        kinds = {task.name: candidates.kind(task) for task in study.tasks}
        return [f"balancer = equipoise.UncertaintyWeighting({kinds!r})"]
    if module is equipoise.GradNorm:
        return [
            "# trunk: the last layer that all tasks share",
            f"balancer = equipoise.GradNorm({names!r}, list(trunk.parameters()))",
        ]
    return [f"balancer = equipoise.{module.__name__}({names!r})"]


def _total(study: TaskStudy, row: TaskRow) -> Sequence[str]:
    if _module(study, row) is equipoise.DynamicTaskPrioritization:
        return [
            "# kpis: how well each task does on the batch, between 0 and 1",
            "total = balancer(losses, kpis=kpis)",
        ]
    return ["total = balancer(losses)"]


def _afterwards(study: TaskStudy, row: TaskRow) -> Sequence[str]:
    if row.name != candidates.EQUAL and _module(study, row) is equipoise.DynamicWeightAverage:
        return ["# at the end of each epoch: balancer.end_epoch()"]
    return []
