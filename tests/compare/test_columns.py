"""What each column is taken for, and what becomes of its cells."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from equipoise.compare.columns import LARGEST, Column, Table, encode


def one(cells: Any, **options: Any) -> tuple[Column, Table]:
    table = encode(pd.DataFrame({"x": pd.Series(cells, **options)}))
    return table.columns[0], table


@pytest.mark.parametrize(
    ("cells", "kind", "numbers"),
    [
        ([1, 2, 2], "numeric", [1, 2, 2]),
        ([1.5, None, 2], "numeric", [1.5, np.nan, 2]),
        ([Decimal("1.5"), None, Decimal(2)], "numeric", [1.5, np.nan, 2]),
        (pd.array([1, None, 2], "Int64"), "numeric", [1, np.nan, 2]),
        ([True, False, True], "boolean", [1, 0, 1]),
        ([True, None, False], "boolean", [1, np.nan, 0]),
        (["True", "FALSE", None], "boolean", [1, 0, np.nan]),
        ([dt.date(1970, 1, 2), None, dt.date(1970, 1, 4)], "date", [1, np.nan, 3]),
        (pd.to_datetime(["1970-01-02 12:00", None, "1970-01-04"], format="ISO8601"), "date", [1.5, np.nan, 3]),
        (pd.to_datetime(["1970-01-02", "1970-01-04"]).tz_localize("Asia/Tokyo"), "date", [1 - 9 / 24, 3 - 9 / 24]),
        (["1970-01-02", None, "1970-01-04T12:00:00"], "date", [1, np.nan, 3.5]),
        (pd.to_timedelta(["1s", None, "2m"]), "numeric", [1, np.nan, 120]),
    ],
)
def test_numbers(cells: Any, kind: str, numbers: list[float]) -> None:
    column, table = one(cells)
    assert column.kind == kind
    assert table.numeric[:, 0].tolist() == pytest.approx(numbers, nan_ok=True)
    assert column.missing == int(np.isnan(numbers).sum())


@pytest.mark.parametrize(
    "cells",
    [
        ["b", "a", None, "b"],
        pd.Categorical(["b", "a", None, "b"], categories=["b", "a", "unused"]),
        pd.Categorical([2, 1, None, 2]),
        [b"b", b"a", None, b"b"],
        [b"\xff\xfe", b"\x80", None, b"\xff\xfe"],
        ["b", 1, None, "b"],
        [{"b": 1}, {"a": 1}, None, {"b": 1}],
        [1j, 2j, np.nan, 1j],
        ["2024-02-29", "2024-02-30", None, "2024-02-29"],
    ],
)
def test_categories(cells: Any) -> None:
    column, table = one(cells)
    assert (column.kind, column.missing, column.distinct) == ("categorical", 1, 2)
    codes = table.codes[:, 0]
    assert codes[2] == -1
    assert codes[0] == codes[3] != codes[1]
    assert table.numeric.shape == (4, 0)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ([1, 1, 1], "constant"),
        (["a", "a"], "constant"),
        ([None, None], "all cells are missing"),
        ([np.nan, np.inf], "all cells are missing"),
        (range(100), "identifier: counts the rows"),
        ([f"name {index}" for index in range(100)], "identifier or free text: 100 different values in 100 cells"),
    ],
)
def test_useless_columns_are_left_out_with_the_reason(cells: Any, reason: str) -> None:
    column, table = one(cells)
    assert (column.kind, column.note) == ("left out", reason)
    assert table.numeric.shape[1] == table.codes.shape[1] == 0


def test_one_value_and_holes_are_still_a_difference() -> None:
    assert one([1, None, 1])[0].kind == "numeric"
    assert one(["a", None, "a"])[0].kind == "categorical"


def test_different_amounts_are_no_identifier() -> None:
    assert one(np.arange(100) * 7)[0].kind == "numeric"
    assert one(np.arange(100) / 7)[0].kind == "numeric"
    assert one(pd.date_range("2024-01-01", periods=100))[0].kind == "date"


def test_infinite_numbers_are_missing_and_huge_ones_are_cut() -> None:
    column, table = one([1.0, np.inf, -np.inf, 1e300])
    assert (column.missing, column.note) == (2, "2 infinite values counted as missing")
    assert table.numeric[:, 0].tolist() == pytest.approx([1, np.nan, np.nan, LARGEST], nan_ok=True)


def test_a_word_for_missing_among_numbers_is_missing() -> None:
    column, table = one([*map(str, range(1, 60, 2)), "None", "unknown"])
    assert (column.kind, column.missing) == ("numeric", 2)
    assert column.note == "2 cells of text ('None', 'unknown') counted as missing"
    assert table.numeric[1, 0] == 3


def test_numbers_written_as_text_are_numbers() -> None:
    assert one(pd.Series([str(index * 3) for index in range(60)], dtype=object))[0].kind == "numeric"


def test_columns_keep_their_order_and_rows_line_up() -> None:
    frame = pd.DataFrame({"a": ["u", "v"], "b": [1, 2], "c": [0, 0], "d": ["w", "w2"], "e": [3.0, 4.0]}, index=[5, 9])
    table = encode(frame)
    assert [column.name for column in table.columns] == ["a", "b", "c", "d", "e"]
    assert table.numeric.tolist() == [[1, 3], [2, 4]]
    assert table.codes.tolist() == [[0, 0], [1, 1]]
