"""The comparison of several tasks as one JSON document, with the keys of any other and those that tasks add.

What tasks add: of each candidate `tasks` (metrics, `change` against the single-task model in per cent, recall),
`against_constant` and `weights`; of the problem its `tasks` with their classes. `metric` is `delta_m`, in per cent.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..document import about_data, circumstances, difference, estimate, protocol
from . import metrics
from .snippet import snippet
from .study import TaskStudy
from .summary import CAVEAT, OfTask, TaskComparison, TaskRow
from .task import Task

METRIC = "delta_m"


def document(comparison: TaskComparison, command: str, report: str, saved: str | None = None) -> dict[str, Any]:
    """Everything there is to know about a comparison, in types that JSON has.

    Args:
        comparison: the answer.
        command: the command line that asked for it.
        report: the path of the report.
        saved: where the winner was saved, if it was.
    """
    study = comparison.study
    return {
        "verdict": list(comparison.verdict),
        "caveat": CAVEAT,
        "metric": METRIC,
        "larger_is_better": True,
        "winner": comparison.winner,
        "candidates": [_candidate(row, study) for row in comparison.rows],
        "data": about_data(study),
        "problem": {
            "kind": "tasks",
            "target": [task.name for task in study.tasks],
            "target_reason": study.target_reason,
            "tasks": [_task(task) for task in study.tasks],
        },
        "protocol": protocol(study, comparison.seeds, comparison.workers),
        "code": snippet(comparison),
        "saved": None if saved is None else {"path": saved, "name": comparison.winner},
        **circumstances(command, report),
    }


def _candidate(row: TaskRow, study: TaskStudy) -> dict[str, Any]:
    return {
        "name": row.name,
        "summary": row.summary,
        "plain": row.plain,
        "values": list(row.values),
        "metrics": {METRIC: estimate(row.delta)},
        "tasks": {task.name: _of_task(row.tasks[task.name], task) for task in study.tasks},
        "difference": None if row.difference is None else difference(row.difference),
        "against_constant": None if row.against_constant is None else difference(row.against_constant),
        "seconds": row.seconds,
        "milliseconds_per_step": row.milliseconds_per_step,
        "chosen": _chosen(row),
        "trials": len(study.settings),
        "curve": row.curve,
        "weights": row.weights,
    }


def _of_task(found: OfTask, task: Task) -> dict[str, Any]:
    return {
        "metrics": {name: estimate(each) for name, each in found.metrics.items()},
        "change": estimate(found.change),
        "recall": dict(zip(task.classes, map(estimate, found.recall), strict=True)),
    }


def _chosen(row: TaskRow) -> dict[str, float]:
    """The settings by name, of single-task models with the task."""
    return {
        f"{name} of {task}" if task else name: value
        for task, settings in row.chosen.items()
        for name, value in settings.as_json().items()
    }


def _task(task: Task) -> dict[str, Any]:
    name = metrics.headline(task)
    known = task.labels[task.known]
    amounts = {"median": float(np.median(known)), "least": float(known.min()), "most": float(known.max())}
    return {
        "name": task.name,
        "kind": task.kind,
        "loss": task.loss,
        "metric": name,
        "metric_in_words": metrics.in_words(name),
        "larger_is_better": metrics.sign(task) > 0,
        "rows": len(known),
        "missing": len(task.labels) - len(known),
        "amounts": amounts if task.kind == "regression" else None,
        "classes": [
            {
                "name": each,
                "rows": task.counts[position],
                "test_rows": task.test_rows[position],
                "excluded": position not in task.counted,
            }
            for position, each in enumerate(task.classes)
        ],
    }
