"""One training of a network with a head for each task, or of one task alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor, nn

from .. import jobs, training
from ..jobs import Job, Result
from . import metrics
from .balanced import Balanced
from .candidates import TaskCandidate, keys
from .losses import TaskLosses
from .study import TaskStudy
from .task import Task


def run_task_job(study: TaskStudy, job: Job) -> Result:
    """Train and score one candidate.

    Every candidate trains the same network, from the same weights, on the same batches; a single-task model is that
    network trained by the loss of its task alone.

    Returns:
        For the candidate its `validation` scores, and of a final training `test` scores, `seconds`, `steps`, `curve`
        and the `weights` that the tasks' losses had in each epoch.
    """
    candidate, settings = study.candidates[job.candidate], job.settings
    assert isinstance(candidate, TaskCandidate)  # what `tasks.preparation` makes
    tasks = [task for task in study.tasks if candidate.only in (None, task.name)]
    with training.one_thread():
        parts, _ = jobs.parts_of(study, job.seed)
        train = parts["train"]
        losses = TaskLosses(study.tasks, train.targets)
        bias = losses.best_constants(train.targets)
        total = Balanced(losses, keys(tasks)).to(study.plan.device)
        curve: dict[str, list[Any]] = {"epoch": [], "train_loss": [], "validation": []}
        every = math.ceil(study.plan.epochs / jobs.POINTS)

        def score(model: nn.Module, part: str) -> Result:
            return _scores(tasks, losses, training.predict(model, parts[part].features), parts[part].targets)

        def start(model: nn.Module) -> list[dict[str, Any]]:
            assert candidate.make is not None  # every candidate of several tasks is trained
            balancer = candidate.make(tasks, settings, shared_parameters(model))
            return total.start(balancer.to(study.plan.device), settings.learning_rate)

        def record(epoch: int, model: nn.Module) -> None:
            total.end_epoch()
            if job.stage == "final" and (epoch % every == 0 or epoch == study.plan.epochs):
                curve["epoch"].append(epoch)
                curve["validation"].append(score(model, "validation")["overall"][metrics.RANK])

        trained = training.train(
            total, train.features, train.targets, bias, study.plan, settings, job.seed, record, start
        )
        curve["train_loss"] = [jobs.finite(trained.losses[epoch - 1]) for epoch in curve["epoch"]]
        result: Result = {"validation": score(trained.model, "validation")}
        if job.stage == "final":
            result |= {
                "test": score(trained.model, "test"),
                "seconds": trained.seconds,
                "steps": study.plan.steps(len(train.features)),
                "curve": curve,
                "weights": total.weights,
            }
        return {job.candidate: result}


def shared_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Those of the last layer that all tasks share: the one before the heads.

    Of a model without one, or whose heads cannot be told from the rest, all parameters that are trained.
    """
    layers = [module for module in model.modules() if any(True for _ in module.parameters(recurse=False))]
    return [each for each in (layers[-2:] or [model])[0].parameters() if each.requires_grad]


def _scores(tasks: list[Task], losses: TaskLosses, scores: Tensor, targets: Tensor) -> Result:
    """The quality of each task's predictions, and what ranks them all together, as JSON can hold it."""
    predicted = {name: part.numpy() for name, part in losses.predicted(scores).items()}
    labels = dict(zip((task.name for task in losses.tasks), np.asarray(targets.T), strict=True))
    found = {task.name: metrics.evaluate(task, predicted[task.name], labels[task.name]) for task in tasks}
    return {"by_class": {}, "overall": {metrics.RANK: metrics.rank(tasks, found)}, "tasks": found}
