"""Decide what is to be learned: which classes there are, how many rows each has, and which of them can be split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .errors import CompareError

Kind = Literal["binary", "multiclass", "multilabel", "retrieval"]
# Those that are inferred from the target, and whose model gives a score for each class or label.
KINDS: tuple[Kind, ...] = ("binary", "multiclass", "multilabel")

# One row each for training, validation and test.
FEWEST_ROWS = 3
# A row to search for, and one to be found.
FEWEST_TO_FIND = 2
# A sample for retrieval that would have fewer rows of a class than this, on average, holds whole classes instead.
FEWEST_IN_SAMPLE = 4
# Numbers of an embedding.
EMBEDDING = 64
# Numbers with more different values than this are amounts to predict rather than names of classes.
MOST_WHOLE_NUMBERS = 100
MOST_FRACTIONS = 20
WORDS = {"false": 0.0, "no": 0.0, "0": 0.0, "true": 1.0, "yes": 1.0, "1": 1.0}


@dataclass(frozen=True)
class Problem:
    """The target of a comparison.

    Attributes:
        kind: `binary`, `multiclass`, `multilabel`, or `retrieval` of rows of one class by their embeddings.
        target: the columns that hold it.
        classes: their names from head to tail, in the order of `counts`; for `binary` the negative and the positive.
        counts: the rows of each class (for `multilabel` the rows that carry the label).
        rows: int64 [N]: which rows of the table are kept.
        labels: int64 [N] class indices, or uint8 [N, C] for `multilabel`.
        notes: what was left out, and why.
    """

    kind: Kind
    target: tuple[str, ...]
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64] | NDArray[np.uint8]
    notes: tuple[str, ...]

    @property
    def num_outputs(self) -> int:
        """The numbers that a model gives per row: scores, or an embedding."""
        if self.kind == "retrieval":
            return EMBEDDING
        return 1 if self.kind == "binary" else len(self.classes)


def pose(targets: pd.DataFrame, kind: Kind | None = None) -> Problem:
    """Infer the problem from its target columns, or take the kind that was asked for.

    Args:
        targets: the target columns, of all rows.
        kind: the kind of problem, or None to infer it: `multilabel` for several columns, `binary` for two classes,
            else `multiclass`.

    Returns:
        The problem, without rows that lack a target and without classes too rare to split.

    Raises:
        CompareError: where nothing can be learned from such a target.
    """
    if targets.shape[1] > 1 and kind not in (None, "multilabel"):
        raise CompareError(f"a {kind} problem has one target column, got {targets.shape[1]}")
    labelled = targets.map(is_label).to_numpy(bool).all(axis=1)
    notes = []
    if not labelled.all():
        notes.append(f"rows without a target were left out: {int((~labelled).sum()):,}")
    if not labelled.any():
        raise CompareError(f"target {_quoted(targets)} has no value in any row")
    rows = np.flatnonzero(labelled)
    if targets.shape[1] > 1 or kind == "multilabel":
        return _multilabel(targets.iloc[rows], rows, notes)
    return _single(targets.iloc[rows, 0], rows, notes, kind)


def sample(posed: Problem, rows: int) -> Problem:
    """At most that many rows of a problem, drawn always alike, each class in proportion but with at least three."""
    total = len(posed.rows)
    if rows >= total:
        return posed
    generator = np.random.default_rng(0)
    if posed.kind == "retrieval" and rows < FEWEST_IN_SAMPLE * len(posed.classes):
        return _whole_classes(posed, rows, generator)
    if posed.kind == "multilabel":
        kept = np.sort(generator.permutation(total)[:rows])
        counts = posed.labels[kept].sum(axis=0, dtype=np.int64)
        if min(counts) < FEWEST_ROWS or max(counts) > rows - FEWEST_ROWS:
            raise CompareError(f"of {rows:,} rows too few have, or lack, some label: a larger --rows is needed")
    else:
        wanted = [max(FEWEST_ROWS, round(count * rows / total)) for count in posed.counts]
        drawn = [
            generator.permutation(np.flatnonzero(posed.labels == label))[:count] for label, count in enumerate(wanted)
        ]
        kept = np.sort(np.concatenate(drawn))
        counts = np.bincount(posed.labels[kept], minlength=len(wanted))
    return replace(
        posed,
        counts=tuple(int(count) for count in counts),
        rows=posed.rows[kept],
        labels=posed.labels[kept],
        notes=(*posed.notes, f"a sample of {len(kept):,} of {total:,} rows, as asked"),
    )


def _whole_classes(posed: Problem, rows: int, generator: np.random.Generator) -> Problem:
    """All rows of some classes: of many small ones a sample in proportion would leave nothing to be found."""
    drawn = generator.permutation(len(posed.classes))
    reached = np.cumsum(np.array(posed.counts)[drawn])
    chosen = np.sort(drawn[: max(1, int((reached <= rows).sum()))])
    kept = np.isin(posed.labels, chosen)
    count = f"{len(chosen):,} of {len(posed.classes):,} classes, whole"
    return replace(
        posed,
        classes=tuple(posed.classes[each] for each in chosen),
        counts=tuple(posed.counts[each] for each in chosen),
        rows=posed.rows[kept],
        labels=np.searchsorted(chosen, posed.labels[kept]).astype(np.int64),
        notes=(*posed.notes, f"a sample of {int(kept.sum()):,} of {len(posed.rows):,} rows, as asked: {count}"),
    )


def is_label(cell: Any) -> bool:
    """Whether a cell names a class: not missing, not blank, not infinite."""
    if isinstance(cell, str):
        return bool(cell.strip())
    if isinstance(cell, float | np.floating):
        return bool(np.isfinite(cell))
    return not np.ndim(cell) and not pd.isna(cell)


def _quoted(targets: pd.DataFrame) -> str:
    return ", ".join(repr(str(name)) for name in targets.columns)


def _single(cells: pd.Series[Any], rows: NDArray[np.int64], notes: list[str], kind: Kind | None) -> Problem:
    """A target of one column: each row has one class."""
    target = str(cells.name)
    names, values = _class_names(cells.astype(object))
    if kind is None and values:
        _refuse_amounts(target, np.array(list(values.values())))
    counts = names.value_counts()
    notes = [*notes, *_same_but_for_case(list(counts.index))]
    fewest, why = (FEWEST_TO_FIND, "have nothing to find") if kind == "retrieval" else (FEWEST_ROWS, "cannot be split")
    rare = counts[counts < fewest]
    if len(rare):
        notes = [*notes, f"classes with fewer than {fewest} rows {why} and were left out: {_list(rare)}"]
        kept = ~names.isin(rare.index).to_numpy(bool)
        names, rows = names[kept], rows[kept]
        counts = counts[counts >= fewest]
    if len(counts) < 2:
        left = f"one class, {counts.index[0]!r} ({counts.iloc[0]:,} rows)" if len(counts) else "no class"
        after = f" after leaving out {_list(rare)}, fewer than {fewest} rows each" if len(rare) else ""
        raise CompareError(f"target {target!r} has {left}{after}; at least two are needed")
    if kind != "retrieval" and 2 * len(names) < len(cells):
        share = 100 * (1 - len(names) / len(cells))
        raise CompareError(
            f"target {target!r} has {len(counts) + len(rare):,} classes, most of them with fewer than {fewest} rows:"
            f" {share:.0f} % of the rows could not be split"
        )
    if kind == "binary" and len(counts) > 2:
        raise CompareError(f"target {target!r} has {len(counts)} classes, a binary problem has 2")
    kind = kind or ("binary" if len(counts) == 2 else "multiclass")
    natural = sorted(counts.index, key=lambda name: (values.get(name, 0.0), name))
    order = sorted(natural, key=lambda name: -counts[name])  # a stable sort: ties keep their natural order
    if kind == "binary":
        order = natural if values else order
        notes = [*notes, f"the positive class is {order[1]!r}, the negative {order[0]!r}"]
        share = counts[order[1]] / counts.sum()
        if share > 0.5:
            notes.append(
                f"the positive class {order[1]!r} is more than half of the rows, {100 * share:.1f} %: not the rare one"
            )
    labels = names.map({each: index for index, each in enumerate(order)}).to_numpy(np.int64)
    return Problem(
        kind, (target,), tuple(order), tuple(int(counts[each]) for each in order), rows, labels, tuple(notes)
    )


def _class_names(cells: pd.Series[Any]) -> tuple[pd.Series[str], dict[str, float]]:
    """The class of each row as text, and what each class is worth where the classes are numbers or yes and no.

    The positive class of a binary problem is the one worth more; of two other words it is the rarer.
    """
    inferred = pd.api.types.infer_dtype(cells)
    if inferred in ("integer", "floating", "mixed-integer-float", "decimal"):
        names = cells.map(_number_name)
        return names, {name: float(name) for name in names.unique()}
    names = cells.map(lambda cell: str(cell).strip())
    distinct = [str(name) for name in names.unique()]
    if all(name.lower() in WORDS for name in distinct):
        return names, {name: WORDS[name.lower()] for name in distinct}
    return names, {}


def _same_but_for_case(names: list[str]) -> list[str]:
    """A note on classes such as "No" and "no", which are more likely one class than two; or none."""
    folded = pd.Series([name.casefold() for name in names], names, dtype=object)
    alike = sorted(folded.index[folded.duplicated(keep=False)], key=lambda name: (name.casefold(), name))
    if not alike:
        return []
    more = f" and {len(alike) - 10} more" if len(alike) > 10 else ""
    return [f"class names that differ only by case are different classes: {', '.join(map(repr, alike[:10]))}{more}"]


def _number_name(cell: Any) -> str:
    """`3` for 3 and 3.0, `0.5` for 0.5."""
    number = cell if isinstance(cell, int) else float(cell)
    return str(int(number)) if number == int(number) else repr(number)


def _refuse_amounts(name: str, numbers: NDArray[np.float64]) -> None:
    """Raise where a numeric target looks like an amount rather than a class."""
    distinct = np.unique(numbers)
    whole = bool((distinct == np.round(distinct)).all())
    if len(distinct) > (MOST_WHOLE_NUMBERS if whole else MOST_FRACTIONS):
        raise CompareError(
            f"target {name!r} holds {len(distinct):,} different numbers: an amount to predict rather than classes"
            " (name another column with --target, or say --problem multiclass)"
        )


def _multilabel(targets: pd.DataFrame, rows: NDArray[np.int64], notes: list[str]) -> Problem:
    """A target of several columns of 0 and 1: each row has any number of labels."""
    labels = np.stack([_zeros_and_ones(targets.iloc[:, index]) for index in range(targets.shape[1])], axis=1)
    if labels.shape[1] > 1 and (labels.sum(axis=1, dtype=np.int64) == 1).all():
        one_hot = "each row has exactly one label: for a multi-class comparison pass one column of class names"
        notes = [*notes, one_hot]
    positives = labels.sum(axis=0, dtype=np.int64)
    fewest = np.minimum(positives, len(labels) - positives)
    names = [str(name) for name in targets.columns]
    rare = {name: int(count) for name, count, few in zip(names, positives, fewest, strict=True) if few < FEWEST_ROWS}
    if rare:
        notes = [
            *notes,
            f"labels that fewer than {FEWEST_ROWS} rows have, or lack, cannot be split and were left out: "
            + _list(pd.Series(rare)),
        ]
    order = [index for index in np.argsort(-positives, kind="stable") if names[index] not in rare]
    if not order:
        raise CompareError(f"no label of {_quoted(targets)} has {FEWEST_ROWS} rows with it and {FEWEST_ROWS} without")
    return Problem(
        "multilabel",
        tuple(names),
        tuple(names[index] for index in order),
        tuple(int(positives[index]) for index in order),
        rows,
        labels[:, order],
        tuple(notes),
    )


def _zeros_and_ones(cells: pd.Series[Any]) -> NDArray[np.uint8]:
    """A label column as 0 and 1."""
    values = {0: 0, 1: 1, "0": 0, "1": 1, "true": 1, "false": 0}  # True == 1 and 1.0 == 1
    mapped = cells.map(lambda cell: values.get(str(cell).strip().lower() if isinstance(cell, str) else cell, -1))
    if (mapped == -1).any():
        found = cells[(mapped == -1).to_numpy(bool)].iloc[0]
        shown = repr(found) if isinstance(found, str) else str(found)  # not `np.float64(2.0)`
        raise CompareError(f"label column {str(cells.name)!r} holds {shown}, expected only 0 and 1")
    return mapped.to_numpy(np.uint8)


def _list(counts: pd.Series[int]) -> str:
    """`'a' (2 rows), 'b' (1 row)`, cut after ten."""
    shown = [f"{name!r} ({count:,} row{'s' * (count != 1)})" for name, count in list(counts.items())[:10]]
    return ", ".join(shown) + (f" and {len(counts) - 10} more" if len(counts) > 10 else "")
