"""Decide what each column is (a number, a category, a date, or nothing of use) and bring it into plain arrays.

Nothing here looks at the target, and nothing is fitted: the arrays hold the cells as they are, missing ones marked.
What is learned from data (medians, scales, which categories are frequent) is learned in `features`, from training rows
alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Kind = Literal["numeric", "boolean", "date", "categorical", "left out"]

# Text with more different values than this, and in more than half of its cells, names rows rather than groups of rows.
FEW_LEVELS = 50
# Squares of larger numbers overflow where the scale is fitted.
LARGEST = 1e100
DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?")


@dataclass(frozen=True)
class Column:
    """What the data profile says of one feature.

    Attributes:
        name: its name.
        kind: how it is used.
        missing: the number of cells without a value.
        distinct: the number of different values.
        note: what was done with it beyond the usual, or why it is left out; may be empty.
    """

    name: str
    kind: Kind
    missing: int
    distinct: int
    note: str = ""


@dataclass(frozen=True)
class Table:
    """The features of all rows, ready for fitting.

    Attributes:
        columns: one record per feature, the ones left out included.
        numeric: float64 [N, K]: numbers, booleans as 0 and 1, dates as days; NaN where missing.
        codes: int32 [N, J]: the level of each categorical column; -1 where missing.
        levels: the text of each level of each categorical column, in the order of its code.
    """

    columns: tuple[Column, ...]
    numeric: NDArray[np.float64]
    codes: NDArray[np.int32]
    levels: tuple[tuple[str, ...], ...] = ()


def encode(frame: pd.DataFrame) -> Table:
    """Bring the columns of a frame with distinct names into a `Table`."""
    columns: list[Column] = []
    numeric: list[NDArray[np.float64]] = []
    codes: list[NDArray[np.int32]] = []
    levels: list[tuple[str, ...]] = []
    for name in frame.columns:
        column, numbers, coded = _encode(str(name), frame[name])
        columns.append(column)
        if numbers is not None:
            numeric.append(numbers)
        if coded is not None:
            codes.append(coded[0])
            levels.append(coded[1])
    return Table(tuple(columns), _side_by_side(numeric, frame), _side_by_side(codes, frame), tuple(levels))


def encode_alike(frame: pd.DataFrame, columns: Sequence[Column], levels: Sequence[Sequence[str]]) -> Table:
    """Bring a frame into a `Table` with the columns of another one: the same kinds, codes for the same levels.

    Args:
        frame: has at least the columns that are used.
        columns: those of the other table.
        levels: those of its categorical columns. A level that is not among them has the code -2.
    """
    used = [column for column in columns if column.kind != "left out"]
    numeric = [_clean(_numbers_of(column.kind, frame[column.name])) for column in used if column.kind != "categorical"]
    codes = []
    named = (column.name for column in used if column.kind == "categorical")
    for name, known in zip(named, levels, strict=True):
        index = {level: code for code, level in enumerate(known)}
        text = _text(frame[name])
        # A whole number among missing cells is 1.0 in one file, 1 in another.
        coded = text.astype(object).map(
            lambda level, index=index: index.get(level, index.get(level.removesuffix(".0"), -2)), na_action="ignore"
        )
        codes.append(coded.fillna(-1).to_numpy(np.int32))
    return Table(tuple(columns), _side_by_side(numeric, frame), _side_by_side(codes, frame), tuple(map(tuple, levels)))


def _side_by_side(columns: Sequence[NDArray[Any]], frame: pd.DataFrame) -> NDArray[Any]:
    return np.stack(columns, axis=1) if columns else np.empty((len(frame), 0), np.float64)


def rows_of(table: Table, rows: NDArray[np.int64]) -> Table:
    """Some rows of a table."""
    return replace(table, numeric=table.numeric[rows], codes=table.codes[rows])


Coded = tuple[NDArray[np.int32], tuple[str, ...]]
Encoded = tuple[Column, NDArray[np.float64] | None, Coded | None]


def _encode(name: str, cells: pd.Series[Any]) -> Encoded:
    """One column as numbers, or as levels, or as neither."""
    kind, numbers, note = _as_numbers(cells)
    if numbers is not None:
        finite = np.isfinite(numbers)
        infinite = int(np.isinf(numbers).sum())
        if infinite:
            note = f"{infinite:,} infinite values counted as missing"
        numbers = _clean(numbers)
        distinct = len(np.unique(numbers[finite]))
        missing = int((~finite).sum())
        reason = _useless(distinct, missing, len(cells))
        if kind == "numeric":
            reason = reason or _row_number(numbers, distinct)
        if reason:
            return Column(name, "left out", missing, distinct, reason), None, None
        return Column(name, kind, missing, distinct, note), numbers, None
    codes, values = pd.factorize(_text(cells), sort=True)
    missing, distinct = int((codes == -1).sum()), len(values)
    reason = _useless(distinct, missing, len(cells))
    if distinct > max(FEW_LEVELS, (len(cells) - missing) // 2):
        reason = f"identifier or free text: {distinct:,} different values in {len(cells) - missing:,} cells"
    if reason:
        return Column(name, "left out", missing, distinct, reason), None, None
    return Column(name, "categorical", missing, distinct), None, (codes.astype(np.int32), tuple(map(str, values)))


def _text(cells: pd.Series[Any]) -> pd.Series[Any]:
    """Every cell as text, missing ones left missing."""
    if pd.api.types.is_string_dtype(cells.dtype) and cells.dtype != object:
        return cells
    if isinstance(cells.dtype, pd.CategoricalDtype):
        names = [str(each) for each in cells.cat.categories]
        if len(set(names)) == len(names):
            return cells.cat.rename_categories(names)
    # Cell by cell: `astype(str)` decodes bytes, and not all are UTF-8.
    return cells.astype(object).map(str, na_action="ignore")


def _clean(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Infinite values as missing, and none so large that its square overflows."""
    return np.clip(np.where(np.isfinite(numbers), numbers, np.nan), -LARGEST, LARGEST)


def _numbers_of(kind: Kind, cells: pd.Series[Any]) -> NDArray[np.float64]:
    """The cells as numbers, read as a column of that kind; NaN where a cell is none."""
    if kind == "date":
        return _days(cells)
    if kind == "boolean":
        values = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
        return _floats(_text(cells).str.lower().map(values))
    if pd.api.types.infer_dtype(cells, skipna=True) in ("timedelta64", "timedelta"):
        return _floats(pd.to_timedelta(cells).dt.total_seconds())
    return _floats(cells)


def _useless(distinct: int, missing: int, rows: int) -> str:
    """Why a column tells nothing, or an empty string."""
    if distinct == 0:
        return "all cells are missing"
    # One value here and none there is still a difference.
    return "" if distinct > 1 or 0 < missing < rows else "constant"


def _row_number(numbers: NDArray[np.float64], distinct: int) -> str:
    """Why an all-different column of whole numbers is an identifier, or an empty string."""
    if distinct <= FEW_LEVELS or distinct < len(numbers) or (numbers != np.round(numbers)).any():
        return ""
    return "identifier: counts the rows" if np.ptp(numbers) < 2 * len(numbers) else ""


def _as_numbers(cells: pd.Series[Any]) -> tuple[Kind, NDArray[np.float64] | None, str]:
    """The kind of a column and its values as float64, where they can be numbers at all, and a note."""
    inferred = pd.api.types.infer_dtype(cells, skipna=True)
    if inferred == "boolean":
        return "boolean", _floats(cells.astype("boolean").astype("Float64")), ""
    if inferred in ("integer", "floating", "mixed-integer-float", "decimal"):
        return "numeric", _floats(cells), ""
    if inferred in ("datetime64", "datetime", "date"):
        return "date", _days(cells), "as days since 1970"
    if inferred in ("timedelta64", "timedelta"):
        return "numeric", _floats(pd.to_timedelta(cells).dt.total_seconds()), "as seconds"
    if inferred == "string":
        return _text_as_numbers(cells)
    return "categorical", None, ""


def _floats(cells: pd.Series[Any]) -> NDArray[np.float64]:
    """Numbers of any type as float64, missing ones as NaN."""
    numbers = pd.to_numeric(cells, errors="coerce").astype("Float64")
    return np.asarray(numbers.to_numpy(np.float64, na_value=np.nan), np.float64)


def _days(cells: pd.Series[Any]) -> NDArray[np.float64]:
    """Dates as days since 1970, missing or unreadable ones as NaN."""
    dates = pd.to_datetime(cells, errors="coerce", utc=True, format="ISO8601")
    # Nanoseconds would end in the year 2262.
    days = (dates.dt.as_unit("us") - pd.Timestamp(0, tz="UTC").as_unit("us")) / pd.Timedelta(days=1)
    return np.asarray(days, np.float64)


def moments(cells: pd.Series[Any]) -> NDArray[np.float64]:
    """When: dates, or numbers of any unit, as numbers; NaN for a cell that is neither."""
    numbers = _as_numbers(cells)[1]
    return np.full(len(cells), np.nan) if numbers is None else _clean(numbers)


def _text_as_numbers(cells: pd.Series[Any]) -> tuple[Kind, NDArray[np.float64] | None, str]:
    """Text that stands for booleans, for dates, or for numbers with a word for "missing" among them."""
    values = cells.dropna().astype(str)
    distinct = pd.Series(values.unique(), dtype=str)
    if set(distinct.str.lower()) in ({"true", "false"}, {"true"}, {"false"}):
        return "boolean", _floats(cells.str.lower().map({"true": 1.0, "false": 0.0})), ""
    if len(distinct) and distinct.str.fullmatch(DATE).all():
        days = _days(cells)
        if np.isfinite(days).sum() == len(values):
            return "date", days, "as days since 1970"
    words = distinct[pd.to_numeric(distinct, errors="coerce").isna()]
    if len(words) <= 2 and len(distinct) > 20:
        count = int(values.isin(words).sum())
        note = f"{count:,} cells of text ({', '.join(map(repr, words))}) counted as missing" if count else ""
        return "numeric", _floats(cells), note
    return "categorical", None, ""
