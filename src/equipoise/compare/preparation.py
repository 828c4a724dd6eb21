"""From a request to a study: read the data and decide, before the first training, what is compared on it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from . import candidates, columns, data, metrics, models, problem, profile, splits, training, trials
from .errors import CompareError
from .features import Preprocessing
from .problem import Problem
from .retrieval import batches, measures, splitting
from .retrieval import candidates as ranking
from .study import Request, Study
from .tasks import target

# Below this one row more or less moves a recall by more than 5 points.
FEWEST_TEST_ROWS = 20
# The same for classes, of which retrieval tests a few at a time.
FEWEST_TEST_CLASSES = 10
# A part of the rows that is meant to be a fifth, and is this much less or more, is worth a warning.
UNEVEN = 2.0


def prepare(request: Request) -> Study:
    """Read the data and decide what is compared on it.

    Raises:
        CompareError: where the request cannot be met.
    """
    check_device(request.device)
    source = data.load(request.data)
    request = _with_defaults(request, source)
    wanted = None if request.target is None else target.wanted(request.target, source.frame.columns)
    if wanted is not None:
        from .tasks.preparation import prepare_tasks  # here, because it takes its parts from this module

        return prepare_tasks(request, source, wanted)
    names, reason = data.choose_targets(source, request.target)
    ordering = ordering_column(source, names, request)
    posed = problem.pose(source.frame[list(names)], request.problem)
    _check_metric(request.metric, posed)
    if request.rows is not None:
        posed = problem.sample(posed, request.rows)
    frame = source.frame.drop(columns=list({*names, *ordering, *source.outcomes}))
    if len(posed.rows) < len(frame):
        frame = frame.iloc[posed.rows]
    table = columns.encode(frame)
    if not table.numeric.shape[1] + table.codes.shape[1]:
        why = "; ".join(f"{column.name!r}: {column.note}" for column in table.columns[:5])
        raise CompareError(f"{source.name} has no usable feature ({why})")
    order = order_of(source.frame.iloc[posed.rows], request)
    retrieves = posed.kind == "retrieval"
    look = _classes_of_parts if retrieves else _rows_of_parts
    test_rows, train_rows = look(posed, order)
    counted, thin = (tuple(range(len(test_rows))), _few(posed)) if retrieves else counted_classes(posed, test_rows)
    batch_size = batches.batch_size(train_rows) if retrieves else None
    plan = training.budget(request.model, train_rows, request.epochs, request.device, batch_size)
    if request.model not in models.LEARNING_RATE:
        models.check(request.model, _width(table, posed, order), posed.num_outputs)
    return Study(
        source_name=source.name,
        fingerprint=source.fingerprint,
        target_reason=reason,
        notes=(*source.notes, *posed.notes, *about_order(order)),
        warnings=(*thin, *_uneven(posed, order), *profile.warnings(table, posed, frame, order is not None)),
        total_rows=len(source.frame),
        table=table,
        problem=posed,
        order=order,
        test_rows=test_rows,
        counted=counted,
        candidates=ranking.choose(request.losses) if retrieves else candidates.choose(posed.kind, request.losses),
        metric=request.metric or metrics.HEADLINE[posed.kind],
        settings=tuple(trials.settings(request.model, request.trials)),
        plan=plan,
        model_source=hashlib.sha256(models.source(request.model)).hexdigest(),
    )


def _with_defaults(request: Request, source: data.Source) -> Request:
    """The request, with what a built-in table brings along where the person named nothing."""
    ordered = request.group is not None or request.time is not None
    return replace(
        request,
        target=request.target or source.tasks,
        group=request.group if ordered else source.group,
        rows=request.rows or source.rows,
    )


def check_device(device: str) -> None:
    """Make sure that torch can use a device.

    Raises:
        CompareError: where it cannot.
    """
    try:
        torch.zeros(1, device=device)
    except Exception as error:  # torch raises AssertionError, RuntimeError and others for devices that it lacks
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CompareError(f"--device {device} cannot be used: {reason}") from error


def _check_metric(name: metrics.Name | None, posed: Problem) -> None:
    known = metrics.names(posed.kind)
    if name is not None and name not in known:
        raise CompareError(f"--metric {name} does not measure a {posed.kind} problem; choose from {', '.join(known)}")


def ordering_column(source: data.Source, targets: Sequence[str], request: Request) -> list[str]:
    """The column that `--group` or `--time` names, if any."""
    if request.problem == "retrieval" and (request.group is not None or request.time is not None):
        option = "--group" if request.group is not None else "--time"
        raise CompareError(
            f"{option} splits rows, and --problem retrieval splits classes: each is whole in one part, and none that is"
            " tested was seen in training; leave it out"
        )
    if request.group is not None and request.time is not None:
        raise CompareError("give --group or --time, not both: a split by time keeps the rows of one moment together")
    name = request.group if request.group is not None else request.time
    if name is None:
        return []
    data.require(source, name)
    if name in targets:
        raise CompareError(f"column {name!r} is the target, and cannot say how to split the rows")
    return [name]


def order_of(frame: pd.DataFrame, request: Request) -> splits.Order | None:
    """What the column of `--group` or `--time` says of the rows that are used."""
    if request.group is not None:
        codes = pd.factorize(frame[request.group])[0].astype(np.int64)
        # Rows without a group are one each.
        alone = np.flatnonzero(codes == -1)
        codes[alone] = codes.max(initial=-1) + 1 + np.arange(len(alone))
        if codes.max() < 4:
            raise CompareError(f"column {request.group!r} has {codes.max() + 1} groups, at least 5 are needed to split")
        return splits.Order("group", request.group, codes, request.seeds)
    if request.time is not None:
        moments = columns.moments(frame[request.time])
        unknown = int(np.isnan(moments).sum())
        if unknown:
            raise CompareError(f"column {request.time!r} has {unknown:,} cells that are neither a date nor a number")
        distinct, ranks = np.unique(moments, return_inverse=True)
        if len(distinct) < 5:
            raise CompareError(f"column {request.time!r} has {len(distinct)} moments, at least 5 are needed to split")
        return splits.Order("time", request.time, ranks.astype(np.int64), request.seeds)
    return None


def about_order(order: splits.Order | None) -> list[str]:
    """A note on how the rows are split, where not at random."""
    if order is None:
        return []
    groups = f"{int(order.ranks.max()) + 1:,}"
    if order.by == "group":
        return [f"rows of one {order.column!r} stay together ({groups} of them); the column is no feature"]
    return [f"test rows are later than training rows by {order.column!r} ({groups} moments); the column is no feature"]


def _rows_of_parts(posed: Problem, order: splits.Order | None) -> tuple[tuple[int, ...], int]:
    """The fewest test rows of each class on any seed, and the training rows of the first."""
    cuts = splits.looked_at(posed, order)
    for seed, cut in enumerate(cuts):
        for name, rows in (("training", cut.train), ("validation", cut.validation), ("test", cut.test)):
            if (_per_class(posed, rows) > 0).sum() < min(2, len(posed.classes)):
                raise CompareError(
                    f"the {name} rows of seed {seed} hold fewer than two classes: too few groups or times"
                )
    fewest = np.min([_per_class(posed, cut.test) for cut in cuts], axis=0)
    return tuple(int(count) for count in fewest), len(cuts[0].train)


def _uneven(posed: Problem, order: splits.Order | None) -> list[str]:
    """A warning where few or uneven groups make parts of other sizes than were meant."""
    if order is None or order.by != "group":
        return []
    tests = [len(cut.test) / len(posed.rows) for cut in splits.looked_at(posed, order)]
    if min(tests) >= splits.TEST / UNEVEN and max(tests) <= splits.TEST * UNEVEN:
        return []
    found = f"{100 * min(tests):.0f} to {100 * max(tests):.0f} % of the rows are tested, not {100 * splits.TEST:.0f} %"
    return [
        f"the groups of {order.column!r} are too few or too uneven for parts of even size: {found}; the seeds are worth"
        " less than they seem"
    ]


def _classes_of_parts(posed: Problem, _: splits.Order | None) -> tuple[tuple[int, ...], int]:
    """The rows of each class that are searched where it is a test class, and the training rows of the first seed."""
    classes = len(posed.classes)
    if classes < splitting.FEWEST_CLASSES:
        raise CompareError(
            f"target {', '.join(posed.target)!r} has {classes} classes of {problem.FEWEST_TO_FIND} rows or more;"
            f" retrieval needs at least {splitting.FEWEST_CLASSES}: {splitting.FEWEST_TRAIN} to train on,"
            f" {splitting.FEWEST_VALIDATION} to tune on and {splitting.FEWEST_TEST} to test on, no class twice"
        )
    searched = tuple(min(count, measures.MOST_PER_CLASS) for count in posed.counts)
    return searched, len(splits.split(posed, 0).train)


def _few(posed: Problem) -> list[str]:
    """A warning where few classes are tested."""
    *_, test = splitting.shares(len(posed.classes))
    if test >= FEWEST_TEST_CLASSES:
        return []
    return [
        f"each seed tests on {test} classes, as there are {len(posed.classes)} in all: which ones they are has a large"
        " say, and among so few a row of the right class is soon found"
    ]


def _per_class(posed: Problem, rows: Any) -> Any:
    """How many of some rows each class has; of a label how many carry it, or do not, whichever is fewer."""
    labels = posed.labels[rows]
    if posed.kind == "multilabel":
        carried = labels.sum(axis=0, dtype=np.int64)
        return np.minimum(carried, len(labels) - carried)  # a label that nearly all rows carry rests on the others
    return np.bincount(labels, minlength=len(posed.classes))


def counted_classes(posed: Problem, test_rows: Sequence[int]) -> tuple[tuple[int, ...], list[str]]:
    """The classes that averages over classes count, and a warning about the others.

    A class with few test rows is left to chance. Where fewer than two classes would be left all count, as an average
    over one class says nothing (a label of a multi-label problem is a question of its own).
    """
    thin = [index for index, rows in enumerate(test_rows) if rows < FEWEST_TEST_ROWS]
    if not thin:
        return tuple(range(len(test_rows))), []
    named = [f"{posed.classes[index]!r} ({test_rows[index]:,})" for index in thin]
    names = ", ".join(named[:10]) + (f" and {len(named) - 10} more" if len(named) > 10 else "")
    what = f"fewer than {FEWEST_TEST_ROWS} test rows: {names}"
    if len(test_rows) - len(thin) < (1 if posed.kind == "multilabel" else 2):
        return tuple(range(len(test_rows))), [
            f"{what}; too few other classes to leave these out: chance has a large say"
        ]
    return tuple(index for index in range(len(test_rows)) if index not in thin), [
        f"{what}; shown, but left out of averages over classes"
    ]


def _width(table: columns.Table, posed: Problem, order: splits.Order | None) -> int:
    """How many features a model gets on the first seed."""
    return Preprocessing.fit(table, splits.split(posed, 0, order).train).width
