"""Cut the rows into training, validation and test parts, afresh for each seed.

By default each part holds every class in proportion. Rows that belong together (the people of one accident) stay in one
part where a column says which they are, and where a column says when, the test rows lie after the training rows. For
retrieval each class is in one part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .problem import Problem
from .retrieval import splitting

VALIDATION = 0.2
TEST = 0.2
# By time, the seeds' tests share out this last share of the rows.
LATEST = 0.5
# Of how many seeds uneven splits are looked at.
MOST_LOOKS = 200

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Positions of the rows of each part, in increasing order: int64 arrays that share no row."""

    train: Ints
    validation: Ints
    test: Ints


@dataclass(frozen=True)
class Order:
    """What a column says of the rows.

    Attributes:
        by: `group` or `time`.
        column: its name.
        ranks: int64 [N]: the group of each row, or the rank of its time; equal ones stay together.
        seeds: how many splits there will be: by time each tests on a stretch of its own.
    """

    by: Literal["group", "time"]
    column: str
    ranks: Ints
    seeds: int


def shares(problem: Problem, order: Order | None = None) -> tuple[float, float]:
    """The shares of validation and test: of the rows, for retrieval of the classes."""
    if problem.kind != "retrieval":
        return VALIDATION, TEST if order is None or order.by != "time" else min(TEST, LATEST / order.seeds)
    classes = len(problem.classes)
    _, validation, test = splitting.shares(classes)
    return validation / classes, test / classes


def overlap(problem: Problem, order: Order | None = None) -> float:
    """Test rows, or classes, per training one, which decides how far the scores of different seeds go together.

    By groups, which may be few and uneven, it is the mean of what the splits are, and not less than was meant. By time
    no two seeds share a test row, and it is more than enough.
    """
    if order is not None and order.by == "group":
        cuts = looked_at(problem, order)
        meant = TEST / (1 - VALIDATION - TEST)
        return max(meant, float(np.mean([len(cut.test) / max(len(cut.train), 1) for cut in cuts])))
    validation, test = shares(problem)
    return test / (1 - validation - test)


def looked_at(problem: Problem, order: Order | None) -> list[Split]:
    """The splits that tell how large their parts are: of all seeds, or the first alone where all are alike."""
    return [split(problem, seed, order) for seed in range(1 if order is None else min(order.seeds, MOST_LOOKS))]


def split(problem: Problem, seed: int, order: Order | None = None) -> Split:
    """A fifth of the rows each for validation and test, the rest for training; for retrieval whole classes.

    Args:
        problem: the labels.
        seed: decides which rows.
        order: which rows stay together, or which come first; None for neither.
    """
    generator = np.random.default_rng(seed)
    if problem.kind == "retrieval":
        part = splitting.deal(problem.labels, problem.counts, seed)
    elif order is None:
        part = _stratified(problem, generator)
    elif order.by == "group":
        part = _grouped(_strata(problem), order.ranks, generator)
    else:
        part = _by_time(order.ranks, seed, order.seeds)
    return Split(*(np.flatnonzero(part == index) for index in range(3)))


def _stratified(problem: Problem, generator: np.random.Generator) -> NDArray[np.int8]:
    """Each class has at least one row in each part.

    For `multilabel` this holds as far as its rows have not gone elsewhere with a rarer label.
    """
    part = np.full(len(problem.labels), -1, np.int8)  # 0 train, 1 validation, 2 test
    if problem.kind == "multilabel":
        # Rarest label first, as its rows leave the least choice; the rows without any label come last.
        groups = [problem.labels[:, label] > 0 for label in np.argsort(problem.counts, kind="stable")]
        groups.append(np.ones(len(part), bool))
    else:
        groups = [problem.labels == label for label in range(len(problem.classes))]
    for group in groups:
        _deal(part, np.flatnonzero(group), generator)
    return part


def _deal(part: NDArray[np.int8], members: Ints, generator: np.random.Generator) -> None:
    """Deal the rows of one class that have no part yet so that all its rows are in proportion."""
    free = generator.permutation(members[part[members] == -1])
    for index, share in ((2, TEST), (1, VALIDATION)):
        wanted = round(share * len(members)) - int((part[members] == index).sum())
        taken, free = np.split(free, [max(0, wanted)])
        part[taken] = index
    part[free] = 0


def _strata(problem: Problem) -> Ints:
    """A class per row; for `multilabel` its rarest label, or one more than there are labels for none."""
    if problem.kind != "multilabel":
        return problem.labels.astype(np.int64)
    rarest_first = np.argsort(problem.counts, kind="stable")
    found = problem.labels[:, rarest_first] > 0
    return np.where(found.any(axis=1), rarest_first[found.argmax(axis=1)], len(problem.counts))


def _grouped(strata: Ints, groups: Ints, generator: np.random.Generator) -> NDArray[np.int8]:
    """Whole groups, one after the other, to the part that lacks most of what they hold; the rarest classes first."""
    count, classes = int(groups.max()) + 1, int(strata.max()) + 1
    held = np.zeros((count, classes), np.int64)
    np.add.at(held, (groups, strata), 1)
    total = held.sum(axis=0)
    rarest = np.where(held > 0, total, len(strata) + 1).min(axis=1)
    drawn = generator.permutation(count)
    shares = np.array([1 - VALIDATION - TEST, VALIDATION, TEST])
    lacking = shares[:, None] * np.ones(classes)  # of each class, as a share of all its rows
    part_of = np.empty(count, np.int8)
    for group in drawn[np.argsort(rarest[drawn], kind="stable")]:
        share = held[group] / np.maximum(total, 1)
        part_of[group] = part = (lacking @ share / shares).argmax()
        lacking[part] -= share
    return part_of[groups]


def _by_time(ranks: Ints, seed: int, seeds: int) -> NDArray[np.int8]:
    """A stretch of time for test, the fifth of the rows up to there for validation, all before that for training.

    Seed 0 tests on the last rows, each further seed on those before: the stretches share out the last half of the rows,
    at most a fifth each, and no row is tested twice. What the seeds say is then as independent as time allows. Rows of
    one moment stay together.
    """
    by_time = np.argsort(ranks, kind="stable")
    ordered, count = ranks[by_time], len(ranks)
    length = min(TEST, LATEST / seeds)
    start, end = (round(count * (1 - length * (seed + steps))) for steps in (1, 0))
    bounds = [round(start * (1 - VALIDATION)), start, end]
    # To the beginning of the moment that a bound cuts.
    first, second, end = (
        bound if bound >= count else int(np.searchsorted(ordered, ordered[bound])) for bound in bounds
    )
    part = np.full(count, -1, np.int8)
    part[by_time[:first]], part[by_time[first:second]], part[by_time[second:end]] = 0, 1, 2
    return part
