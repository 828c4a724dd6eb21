"""Read CSV, Parquet and NPZ files into data frames whose column names are distinct strings."""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
import zipfile
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import CompareError

# Narrower than pandas' own list: "None" and "none" are honest class names ("None", "Mild", "Severe").
MISSING = ["", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "<NA>", "#N/A", "?"]
SEPARATORS = (",", ";", "\t", "|")
SEPARATOR_NAMES = "comma, semicolon, tab, |"
# "01" is a code rather than a number: as numbers, 01 and 1 would be one class.
LEADING_ZERO = r"[+-]?0\d"


@dataclass(frozen=True)
class Read:
    """What a reader found: the columns, the target if the file says which it is, and what was changed on the way."""

    frame: pd.DataFrame
    targets: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read(path: Path, text: Collection[str] = ()) -> Read:
    """Read a file by the ending of its name.

    Args:
        path: the file.
        text: columns whose cells are to stay the text that they are in a CSV file, also where all are numbers.
    """
    reader = READERS.get(path.suffix.lower())
    try:
        if path.is_dir():
            raise CompareError(f"{path} is a folder, expected a CSV, Parquet or NPZ file")
        if not path.exists():
            known = "" if path.suffix else " and no built-in table (there are fars, digits and flights)"
            raise CompareError(f"there is no file {path}{known}{_near_files(path)}")
        if reader is None:
            raise CompareError(f"cannot tell what {path} is, expected a name that ends in {', '.join(READERS)}")
        if path.stat().st_size == 0:
            raise CompareError(f"{path} is empty")
        return reader(path, text)
    except OSError as error:
        raise CompareError(f"cannot read {path}: {error.strerror or error}") from error


def read_csv(path: Path, text: Collection[str] = ()) -> Read:
    """Read a CSV file: comma, semicolon, tab or bar; UTF-8, UTF-16 or Latin-1; with or without a line of names."""
    notes = []
    with path.open("rb") as file:
        start = file.read(1 << 16)
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    if encoding != "utf-16" and b"\0" in start:
        raise CompareError(f"cannot read {path} as CSV: it holds bytes that no text has")
    separator = _separator(start.decode(encoding, errors="replace"))
    try:
        frame = _parse(path, separator, encoding)
    except UnicodeError:
        frame = _parse(path, separator, "latin-1")
        notes.append("the file is not UTF-8: read as Latin-1")
    frame, dropped = _without_empty_end(frame)
    notes += dropped
    names: list[Any]
    if _is_data(frame.iloc[0]):
        names = [f"column_{index + 1}" for index in range(frame.shape[1])]
        notes.append("the first row holds numbers only: columns are named column_1, column_2, ...")
    else:
        names = list(frame.iloc[0])
        frame = frame.iloc[1:].reset_index(drop=True)
        notes += _like_data(names)
    found = _named(frame, names, notes)
    for position, name in enumerate(found.frame.columns):
        if name not in text:
            found.frame.isetitem(position, _numbers(found.frame.iloc[:, position]))  # type: ignore[arg-type]  # the stubs lack Series
    return found


def _separator(text: str) -> str:
    """The separator that cuts the first line with text into the most cells, not counting those inside quotes."""
    # Not a leading tab: it stands before an unnamed first column.
    text = text.lstrip("\r\n ")

    def cells(separator: str) -> tuple[int, int]:
        # Strict, so that text after a closing quote rules a separator out instead of opening the quoted ones to it.
        lines = io.StringIO(text, newline=None)
        try:
            found = len(next(csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True), []))
        except csv.Error:
            found = 1
        # The plain count decides where stray quotes rule out all of them.
        return max(found, 1), text.partition("\n")[0].count(separator)

    return max(SEPARATORS, key=cells)


def _without_empty_end(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Drop the last columns that hold neither a name nor a cell: one would pass for the target."""
    filled = np.flatnonzero(frame.notna().any().to_numpy(bool))
    width = int(filled[-1]) + 1 if len(filled) else frame.shape[1]
    empty = frame.shape[1] - width
    if not empty:
        return frame, []
    what = "the last column has" if empty == 1 else f"the last {empty} columns have"
    return frame.iloc[:, :width], [f"{what} no name and no cells, as lines end in a separator: left out"]


def _is_data(first_row: pd.Series[Any]) -> bool:
    """Whether the first row of a file is data rather than names: its filled cells are all numbers."""
    filled = first_row.dropna().astype(str)
    # pandas writes columns that were never named as ",0,1,2", the first of them being the index.
    if len(filled) > 1 and list(first_row.iloc[1:]) == [str(index) for index in range(len(filled))]:
        return False
    return len(filled) > 0 and bool(pd.to_numeric(filled, errors="coerce").notna().all())


def _like_data(names: Sequence[Any]) -> list[str]:
    """A note where names are numbers such as cells hold, and not the likes of 0, 1, 2 or 2019, 2020."""
    written = [str(name).strip() for name in names if not pd.isna(name)]
    numbers = [name for name in written if _is_number(name)]
    if all(name.isdecimal() for name in numbers) and numbers == sorted(set(numbers), key=int):
        return []
    return [f"the first row may be data, as names such as {numbers[0]!r} are numbers: a line of names is missed then"]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _parse(path: Path, separator: str, encoding: str) -> pd.DataFrame:
    """Every cell of a CSV file as text, the line of names included: pandas would rename repeated names unseen."""
    try:
        return pd.read_csv(
            path,
            sep=separator,
            encoding=encoding,
            header=None,
            dtype=str,
            keep_default_na=False,
            na_values=MISSING,
            skipinitialspace=True,
        )
    except pd.errors.EmptyDataError as error:
        raise CompareError(f"{path} is empty") from error
    except pd.errors.ParserError as error:
        raise CompareError(f"cannot read {path} as CSV: {_in_words(str(error))}") from error


def _in_words(error: str) -> str:
    """What pandas' parser says, in words of the file."""
    lengths = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", error)
    if lengths:
        expected, line, found = lengths.groups()
        return f"line {line} has {found} cells, the line of names {expected}"
    quote = re.search(r"EOF inside string starting at row (\d+)", error)
    if quote:
        return f"a quote that opens in line {int(quote[1]) + 1} is never closed"
    return error.removeprefix("Error tokenizing data. C error: ").strip()


def _numbers(column: pd.Series[str]) -> pd.Series[Any]:
    """The column as numbers where all its cells are numbers, and none a code with leading zeros."""
    try:
        numbers = pd.to_numeric(column)
    except (ValueError, TypeError, OverflowError):
        return column
    return column if column.astype("str").str.match(LEADING_ZERO, na=False).any() else numbers


def read_parquet(path: Path, _: Collection[str] = ()) -> Read:
    """Read a Parquet file, which knows what is text; a pandas index is read as one more column."""
    try:
        with pq.ParquetFile(path) as file:  # not `read_table`, which refuses repeated names
            table = file.read().replace_schema_metadata(None)
        names: list[Any] = list(table.column_names)
        frame = table.rename_columns([str(index) for index in range(len(names))]).to_pandas()
    except (pa.ArrowException, ValueError, TypeError, OverflowError, NotImplementedError) as error:
        raise CompareError(f"cannot read {path} as Parquet: {error}") from error
    # The index that pandas stores comes last and would pass for the target.
    order = sorted(range(len(names)), key=lambda index: str(names[index]).startswith("__index_level_"), reverse=True)
    return _named(frame.iloc[:, order], [names[index] for index in order], [])


def read_npz(path: Path, _: Collection[str] = ()) -> Read:
    """Read an NPZ file: arrays `X` [N, D] and `y` [N] or [N, C], or else one array [N] per column.

    With `X` and `y`, an array `feature_names` [D] names the columns of `X`; a `y` of two dimensions is a multi-label
    target. Arrays of Python objects are refused: reading them would run code from the file.
    """
    if not zipfile.is_zipfile(path):
        raise CompareError(f"cannot read {path} as NPZ: it is no archive of arrays")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in archive.files}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error):
            raise CompareError(
                f"{path} holds pickled Python objects, which can run code when read: save plain arrays"
            ) from error
        raise CompareError(f"cannot read {path} as NPZ: {error}") from error
    if {"X", "y"} <= arrays.keys():
        return _matrices(path, arrays)
    lengths = {array.shape for array in arrays.values()}
    if len(lengths) != 1 or len(lengths.pop()) != 1:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()) or "no arrays"
        raise CompareError(f"{path} holds {shapes}; expected X [N, D] and y [N] or [N, C], or one array [N] per column")
    frame = pd.DataFrame(dict(enumerate(arrays.values())))
    return _named(frame, list(arrays), [])


def _matrices(path: Path, arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]) -> Read:
    """The columns of `X`, then those of `y`."""
    x, y = arrays["X"], arrays["y"]
    if x.ndim < 2 or y.ndim not in (1, 2) or len(x) != len(y):
        raise CompareError(f"{path} holds X {list(x.shape)} and y {list(y.shape)}; expected [N, D] and [N] or [N, C]")
    notes = [f"X of shape {list(x.shape)} was flattened to one row per example"] if x.ndim > 2 else []
    x = x.reshape(len(x), int(np.prod(x.shape[1:])))
    y = y.reshape(len(y), -1) if y.size else y.reshape(len(y), 1)
    given = arrays.get("feature_names")
    if given is not None and given.shape != (x.shape[1],):
        raise CompareError(f"{path}: feature_names has shape {list(given.shape)}, expected [{x.shape[1]}]")
    features = [f"x{index}" for index in range(x.shape[1])] if given is None else [str(name) for name in given]
    targets = ["y"] if y.shape[1] == 1 else [f"y{index}" for index in range(y.shape[1])]
    columns = [*x.T, *y.T]
    named = _named(pd.DataFrame(dict(enumerate(columns))), [*features, *targets], notes)
    return Read(named.frame, tuple(named.frame.columns[-len(targets) :]), named.notes)


def _named(frame: pd.DataFrame, names: Iterable[Any], notes: list[str]) -> Read:
    """Give the columns names that are distinct, non-empty strings, and say so where that changed one."""
    taken: dict[str, None] = {}
    changed = []
    for position, original in enumerate(names):
        text = "" if pd.isna(original) else str(original).strip()
        base = name = text or f"column_{position + 1}"
        repeat = 2
        while name in taken:
            name = f"{base}_{repeat}"
            repeat += 1
        if name != text:
            changed.append(name)
        taken[name] = None
    if changed:
        shown = ", ".join(changed[:5]) + (", ..." if len(changed) > 5 else "")
        notes = [*notes, f"columns without a name of their own were renamed: {shown}"]
    return Read(frame.set_axis(list(taken), axis=1), notes=tuple(notes))


def _near_files(path: Path) -> str:
    """A question after files of a like name in the same folder, or an empty text."""
    files = (
        [each.name for each in path.parent.iterdir() if each.suffix.lower() in READERS] if path.parent.is_dir() else []
    )
    near = near_names(path.name, files)
    return f"; did you mean {' or '.join(repr(str(path.with_name(name))) for name in near)}?" if near else ""


def near_names(name: str, names: list[str]) -> list[str]:
    """Up to three of `names` that look like `name`, whatever the case of their letters."""
    lowered: dict[str, list[str]] = {}
    for each in names:
        lowered.setdefault(each.lower(), []).append(each)
    near = difflib.get_close_matches(name.lower(), list(lowered), n=3, cutoff=0.5)
    return [each for key in near for each in lowered[key]][:3]


READERS: dict[str, Callable[[Path, Collection[str]], Read]] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
    ".npz": read_npz,
}
