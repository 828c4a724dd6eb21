"""What is suspicious about a table: rows that leak from training to test, columns that give the answer away."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .columns import Table
from .problem import Problem

# Names under which rows that belong together are usually numbered.
GROUP_NAME = re.compile(
    r"(^|[_\W])(id|ids|key|uuid|case|group|patient|subject|person|user|customer|client|account|household|family|session"
    r"|visit|site|device|accident|incident)([_\W]*(id|no|num|nr|number|key|code))?$",
    re.IGNORECASE,
)
# Groups have more than one row on average, and are more than a handful.
FEWEST_GROUPS, ROWS_PER_GROUP = 20, (1.2, 200.0)
# A column that names the class of all but this share of its rows is too good to be true.
LEAK, FEWEST_PER_VALUE = 0.001, 5
# The number of equal rows worth a warning, as a share.
DUPLICATES = 0.001
# Beyond so many rows of a class a further one tells little; what Cui et al. use for long tails.
BETA = 0.999


def effective_numbers(counts: Sequence[int]) -> list[float]:
    """The effective number of samples of each class, `(1 - β^n) / (1 - β)` (Cui et al., CVPR 2019), β = 0.999."""
    return [(1 - BETA**count) / (1 - BETA) for count in counts]


def warnings(table: Table, problem: Problem, frame: pd.DataFrame, ordered: bool) -> list[str]:
    """Sentences about what may spoil the comparison.

    Args:
        table: the features of the rows that are used.
        problem: their labels.
        frame: the columns as they were read, of the same rows.
        ordered: whether the person already said which rows belong together, or when they were made.
    """
    sentences = list(leaks(table, problem))
    if ordered or problem.kind == "retrieval":  # neither groups nor dates decide the split of retrieval
        return [*_duplicates(table, problem), *sentences]
    return [*_duplicates(table, problem), *_groups(frame), *_dates(table), *sentences]


def _duplicates(table: Table, problem: Problem) -> Iterator[str]:
    """Rows that equal an earlier one in all features and labels."""
    labels = problem.labels.reshape(len(problem.labels), -1)
    mixed = np.zeros(len(labels), np.uint64)
    for column in (*table.numeric.T, *table.codes.T, *labels.T):
        # A missing value has many bit patterns; a polynomial of the columns' hashes tells their order apart.
        clean = np.where(np.isnan(column), 0.12345, column) if column.dtype.kind == "f" else column
        mixed = mixed * np.uint64(1_000_003) + pd.util.hash_array(np.ascontiguousarray(clean))
    count = int(pd.Series(mixed).duplicated().sum())
    if count > DUPLICATES * len(labels):
        trouble = (
            "a search finds them first, whatever the embedding; drop them"
            if problem.kind == "retrieval"
            else "test rows were seen in training, unless --group or --time keeps them on one side; drop them, or name"
            " with --group the column that says which rows belong together"
        )
        yield (
            f"{count:,} rows ({100 * count / len(labels):.1f} %) repeat an earlier one in every feature and the target:"
            f" if they are copies of one thing, {trouble}"
        )


def _groups(frame: pd.DataFrame) -> Iterator[str]:
    """Columns whose values number things of several rows each."""
    for name in frame.columns:
        if not GROUP_NAME.search(str(name)):
            continue
        cells = frame[name].dropna()
        distinct = int(cells.nunique()) if pd.api.types.is_scalar(cells.iloc[0] if len(cells) else None) else 0
        per_group = len(cells) / max(distinct, 1)
        if distinct >= FEWEST_GROUPS and ROWS_PER_GROUP[0] <= per_group <= ROWS_PER_GROUP[1]:
            yield (
                f"column {str(name)!r} looks like the number of a group ({distinct:,} values, {per_group:.1f} rows"
                f" each): rows of one group may leak from training to test; keep them together with --group {name}"
            )


def _dates(table: Table) -> Iterator[str]:
    """Columns of dates, where nobody said whether later rows are to be foretold from earlier ones."""
    names = [column.name for column in table.columns if column.kind == "date"]
    if names:
        yield (
            f"column {names[0]!r} is a date: if later rows are to be predicted from earlier ones, or rows of one day"
            f" are alike, a random split flatters; split by it with --time {names[0]}"
        )


def leaks(table: Table, problem: Problem) -> Iterator[str]:
    """Columns of which each value goes with one class."""
    if problem.kind == "multilabel":
        return
    labels, classes = problem.labels.astype(np.int64), len(problem.classes)
    if max(problem.counts) >= (1 - 10 * LEAK) * len(labels):
        return  # the largest class alone is as good
    numeric = (column.name for column in table.columns if column.kind in ("numeric", "boolean", "date"))
    coded = (column.name for column in table.columns if column.kind == "categorical")
    for name, values in [*zip(numeric, table.numeric.T, strict=True), *zip(coded, table.codes.T, strict=True)]:
        if _named_by(values, labels, classes) >= 1 - LEAK:
            yield (
                f"column {name!r} alone tells the class of nearly every row: if it is known only afterwards, the"
                " answer leaks into the features; leave it out of the file"
            )


def _named_by(values: NDArray[Any], labels: NDArray[np.int64], classes: int) -> float:
    """The share of rows whose class is the commonest one among rows of the same value; 0 for mostly unique values."""
    codes, distinct = pd.factorize(values, use_na_sentinel=False)
    if len(distinct) * FEWEST_PER_VALUE > len(labels) or len(distinct) < 2:
        return 0.0
    pairs, counts = np.unique(codes * classes + labels, return_counts=True)  # not a table: classes may be thousands
    values = pairs // classes
    most = np.maximum.reduceat(counts, np.flatnonzero(np.diff(values, prepend=-1)))
    return float(most.sum() / len(labels))
