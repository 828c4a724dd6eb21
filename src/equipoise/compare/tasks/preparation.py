"""From a request for several targets to a study."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .. import columns, data, models, preparation, problem, profile, splits, training, trials
from ..errors import CompareError
from ..features import Preprocessing
from ..study import Request
from . import candidates
from .metrics import RANK
from .study import TaskStudy
from .target import Wanted
from .task import Task, pose, strata


def prepare_tasks(request: Request, source: data.Source, wanted: Sequence[Wanted]) -> TaskStudy:
    """Decide what is compared where there are several targets.

    Raises:
        CompareError: where the request cannot be met.
    """
    _refuse(request)
    names = [each.column for each in wanted]
    for name in names:
        data.require(source, name)
    ordering = preparation.ordering_column(source, names, request)
    frame, sampled = _sample(source.frame, names, request.rows)
    posed = [pose(frame[each.column], each) for each in wanted]
    used = np.flatnonzero(np.any([task.known for task, _ in posed], axis=0))
    frame = frame.iloc[used]
    tasks = [replace(task, labels=task.labels[used]) for task, _ in posed]
    table = columns.encode(frame.drop(columns=list({*names, *ordering, *source.outcomes})))
    if not table.numeric.shape[1] + table.codes.shape[1]:
        raise CompareError(f"{source.name} has no usable feature beside the targets")
    order = preparation.order_of(frame, request)
    shares = _shares(tasks, names)
    counted, train_rows, thin = _counted(tasks, shares, order, request.seeds)
    plan = training.budget(request.model, train_rows, request.epochs, request.device)
    if request.model not in models.LEARNING_RATE:
        width = Preprocessing.fit(table, splits.split(shares, 0, order).train).width
        models.check(request.model, width, sum(task.outputs for task in counted))
    notes = [note for _, each in posed for note in each]
    features = frame.drop(columns=[*names, *ordering])
    return TaskStudy(
        source_name=source.name,
        fingerprint=source.fingerprint,
        target_reason="as no target was named" if source.tasks == request.target else "as asked",
        notes=(*source.notes, *sampled, *notes, *_unlabelled(counted), *preparation.about_order(order)),
        warnings=(
            *_nothing_shared(request.model),
            *thin,
            *profile.warnings(table, shares, features, order is not None),
            *_leaks(table, counted),
        ),
        total_rows=len(source.frame),
        table=table,
        problem=shares,
        order=order,
        test_rows=(),
        counted=(),
        candidates=candidates.choose(counted, request.losses),
        metric=RANK,
        settings=tuple(trials.settings(request.model, request.trials)),
        plan=plan,
        model_source=hashlib.sha256(models.source(request.model)).hexdigest(),
        tasks=tuple(counted),
    )


def _refuse(request: Request) -> None:
    """Options that only one target knows."""
    if request.problem is not None:
        raise CompareError("--problem is for one target; several say their kinds in --target")
    if request.metric is not None:
        raise CompareError("--metric is for one target; of several the mean relative change decides")


def _sample(frame: pd.DataFrame, names: Sequence[str], rows: int | None) -> tuple[pd.DataFrame, list[str]]:
    """At most that many rows that have a target, drawn always alike, in the order of the table."""
    some = np.flatnonzero(frame[list(names)].notna().any(axis=1).to_numpy(bool))
    notes = [f"rows without any target were left out: {len(frame) - len(some):,}"] if len(some) < len(frame) else []
    if rows is not None and rows < len(some):
        notes.append(f"a random sample of {rows:,} of {len(some):,} rows; --rows says how many")
        some = np.sort(np.random.default_rng(0).permutation(some)[:rows])
    return frame.iloc[some], notes


def _shares(tasks: Sequence[Task], names: Sequence[str]) -> problem.Problem:
    """What the splits hold in proportion, as a problem of several labels."""
    classes, labels = strata(tasks)
    counts = tuple(int(count) for count in labels.sum(axis=0, dtype=np.int64))
    return problem.Problem("multilabel", tuple(names), classes, counts, np.arange(len(labels)), labels, ())


def _counted(
    tasks: Sequence[Task], shares: problem.Problem, order: splits.Order | None, seeds: int
) -> tuple[list[Task], int, list[str]]:
    """The tasks with the classes that count in their averages, the training rows of the first seed, and warnings."""
    cuts = [splits.split(shares, seed, order) for seed in range(min(seeds, splits.MOST_LOOKS))]
    for seed, cut in enumerate(cuts):
        for name, rows in (("training", cut.train), ("validation", cut.validation), ("test", cut.test)):
            for task in tasks:
                if len(np.unique(task.labels[rows][task.known[rows]])) < 2:
                    raise CompareError(
                        f"the {name} rows of seed {seed} hold fewer than two different values of {task.name!r}: too"
                        " few labelled rows, groups or times"
                    )
    found, warnings = [], []
    for task in tasks:
        if task.kind == "regression":
            found.append(task)
            continue
        per_class = [
            [int((task.labels[cut.test] == index).sum()) for index in range(len(task.classes))] for cut in cuts
        ]
        fewest = tuple(np.min(per_class, axis=0).tolist())
        counted, thin = preparation.counted_classes(_alone(task), fewest)
        found.append(replace(task, test_rows=fewest, counted=counted))
        warnings += [f"{task.name}: {sentence}" for sentence in thin]
    return found, len(cuts[0].train), warnings


def _nothing_shared(model: str) -> list[str]:
    if model != "linear":
        return []
    return ["a linear model shares nothing between tasks: what their losses weigh changes little more than their steps"]


def _alone(task: Task) -> problem.Problem:
    """A classification as the problem of one target, of the rows that have its label."""
    rows = np.flatnonzero(task.known)
    labels: NDArray[np.int64] = task.labels[rows].astype(np.int64)
    kind: problem.Kind = "binary" if task.kind == "binary" else "multiclass"
    return problem.Problem(kind, (task.name,), task.classes, task.counts, rows, labels, ())


def _unlabelled(tasks: Sequence[Task]) -> list[str]:
    """How many rows lack each task's label."""
    missing = {task.name: int((~task.known).sum()) for task in tasks}
    return [
        f"{name}: rows without a label, which train and test the other tasks: {count:,}"
        for name, count in missing.items()
        if count
    ]


def _leaks(table: columns.Table, tasks: Sequence[Task]) -> Iterator[str]:
    """Columns that give the class of a task away."""
    for task in tasks:
        if task.kind != "regression":
            posed = _alone(task)
            for sentence in profile.leaks(columns.rows_of(table, posed.rows), posed):
                yield f"{task.name}: {sentence}"
