"""Find the table that a person asked for: a built-in one by name, or a file by path."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from . import flights, readers
from .errors import CompareError

BUILT_IN = ("fars", "digits", "flights")
# The digit 9 keeps this share of the rows of the digit 0; the digits between lie on an exponential.
DIGITS_TAIL = 1 / 20


@dataclass(frozen=True)
class Source:
    """A table as it was read, before anything is decided about its columns.

    Attributes:
        name: what to call it in print.
        frame: the columns, features and targets alike; their names are distinct strings.
        targets: the columns that hold the target unless the person names others.
        target_reason: why these, in words.
        fingerprint: a hash of the content.
        notes: what was changed while reading.
        tasks: what `--target` asks for unless the person says; None for the one target.
        group: the column whose rows stay together unless the person says otherwise.
        rows: how many rows are used unless the person says; None for all.
        outcomes: columns that are known only afterwards, and no features whatever the target.
    """

    name: str
    frame: pd.DataFrame
    targets: tuple[str, ...]
    target_reason: str
    fingerprint: str
    notes: tuple[str, ...] = ()
    tasks: str | None = None
    group: str | None = None
    rows: int | None = None
    outcomes: tuple[str, ...] = ()


def load(data: str) -> Source:
    """Read a built-in table or a CSV, Parquet or NPZ file.

    Args:
        data: a name of `BUILT_IN`, or a path.

    Returns:
        The table, with at least two columns and one row.

    Raises:
        CompareError: where there is no such table, or it cannot be read or holds nothing.
    """
    if data == "digits":
        return long_tailed_digits()
    if data == "flights":
        return _flights()
    path = Path(__file__).with_name("datasets") / "fars.parquet" if data == "fars" else Path(data)
    read = readers.read(path)
    if read.frame.empty:
        raise CompareError(f"{data} has no rows of data")
    if read.frame.shape[1] < 2:
        is_text = readers.READERS.get(path.suffix.lower()) is readers.read_csv
        known = f" (known separators: {readers.SEPARATOR_NAMES})" if is_text else ""
        raise CompareError(f"{data} has one column, expected features and a target{known}")
    return Source(
        name=data if data in BUILT_IN else path.name,
        frame=read.frame,
        targets=read.targets or (str(read.frame.columns[-1]),),
        target_reason="the array y" if read.targets else "the last column",
        fingerprint=_file_hash(path),
        notes=read.notes,
    )


def _flights() -> Source:
    """The flights from New York City, whose rows of one day stay together: they share its weather and its delays."""
    frame, fingerprint, notes = flights.read(flights.folder())
    return Source(
        name="flights",
        frame=frame,
        targets=("carrier",),
        target_reason="the last column",
        fingerprint=fingerprint,
        notes=notes,
        tasks=flights.TARGET,
        group=flights.DAY,
        rows=flights.ROWS,
        outcomes=flights.OUTCOMES,
    )


def _file_hash(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def choose_targets(source: Source, target: str | None) -> tuple[tuple[str, ...], str]:
    """Decide which columns hold the target.

    Args:
        source: the table.
        target: what the person asked for: a column, or several separated by commas, or None.

    Returns:
        The names of the columns, and in words why these.
    """
    if target is None:
        return source.targets, f"{source.target_reason}, as no target was named"
    if target in source.frame.columns:
        return (target,), "as asked"
    names = tuple(dict.fromkeys(name.strip() for name in target.split(",")))
    for name in names:
        require(source, name)
    if len(names) == source.frame.shape[1]:
        raise CompareError("every column is a target, expected at least one feature")
    return names, "as asked"


def require(source: Source, name: str) -> None:
    """Raise where a table has no such column, and say which ones are near."""
    if name not in source.frame.columns:
        raise CompareError(f"no column {name!r} in {source.name}{_hint(name, list(source.frame.columns))}")


def _hint(name: str, columns: list[str]) -> str:
    """The end of an error message that names columns like the one asked for, or else the first few."""
    near = readers.near_names(name, columns)
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}?"
    more = f" and {len(columns) - 8} more" if len(columns) > 8 else ""
    return f"; it has {', '.join(columns[:8])}{more}"


def long_tailed_digits() -> Source:
    """Scikit-learn's digits, cut to an exponential long tail: always the same rows."""
    from sklearn.datasets import load_digits  # here, because it takes a moment and most runs do without it

    bunch = load_digits()
    labels = np.asarray(bunch.target)
    head = int((labels == 0).sum())
    keep = [round(head * DIGITS_TAIL ** (digit / 9)) for digit in range(10)]
    rows = np.sort(np.concatenate([np.flatnonzero(labels == digit)[:count] for digit, count in enumerate(keep)]))
    pixels = np.asarray(bunch.data)[rows]
    frame = pd.DataFrame(pixels, columns=[f"pixel_{index // 8}_{index % 8}" for index in range(64)])
    frame["digit"] = labels[rows]
    return Source(
        name="digits",
        frame=frame,
        targets=("digit",),
        target_reason="the last column",
        fingerprint=hashlib.sha256(frame.to_numpy().tobytes()).hexdigest(),
        notes=(f"cut to an exponential long tail: {len(rows):,} of {len(labels):,} rows",),
    )
