"""Preprocessing: fitted on training rows, applied to all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from equipoise.compare.columns import Table, encode
from equipoise.compare.features import FARTHEST, MOST_CATEGORIES, prepare


def dense(table: Table, train: list[int], *others: list[int]) -> list[np.ndarray]:
    prepared = prepare(table, np.array(train), *map(np.array, others))
    return [part.dense(slice(None)).numpy() for part in prepared]


def test_numbers_are_imputed_marked_and_scaled_by_the_training_rows_alone() -> None:
    table = encode(pd.DataFrame({"x": [1.0, 2.0, 6.0, np.nan, 100.0, np.nan]}))
    train, test = dense(table, [0, 1, 2, 3], [4, 5])
    filled = np.array([1, 2, 6, 2])  # the median of 1, 2 and 6
    assert train[:, 0] == pytest.approx((filled - filled.mean()) / filled.std())
    assert test[:, 0] == pytest.approx([FARTHEST, (2 - filled.mean()) / filled.std()])
    marks = np.array([0, 0, 0, 1])
    assert train[:, 1] == pytest.approx((marks - marks.mean()) / marks.std())
    assert test[:, 1] == pytest.approx((np.array([0, 1]) - marks.mean()) / marks.std())


def test_a_column_empty_or_constant_in_training_does_no_harm() -> None:
    table = encode(pd.DataFrame({"empty": [np.nan, np.nan, 1.0, 2.0], "same": [3.0, 3.0, 4.0, 1e30]}))
    train, test = dense(table, [0, 1], [2, 3])
    assert np.isfinite(train).all()
    assert np.isfinite(test).all()
    assert (np.abs(test) <= FARTHEST).all()


def test_categories_become_one_column_each_and_unknown_ones_none() -> None:
    table = encode(pd.DataFrame({"c": ["a", "b", None, "a", "z"], "d": ["u", "v", "u", "u", "v"]}))
    train, test = dense(table, [0, 1, 2, 3], [4])
    assert train.shape[1] == 3 + 2  # a, b and missing; u and v
    assert train.sum(axis=1).tolist() == [2, 2, 2, 2]
    assert (train[0] == train[3]).all()
    assert len(np.unique(train, axis=0)) == 3
    assert test[0, :3].tolist() == [0, 0, 0]
    assert test[0, 3:].tolist() == train[1, 3:].tolist()


def test_rare_categories_share_a_column() -> None:
    cells = np.repeat(["often", "also", *(f"rare {index}" for index in range(20))], [600, 400, *[2] * 20])
    (train,) = dense(encode(pd.DataFrame({"c": cells})), list(range(len(cells))))
    assert train.shape[1] == 3


def test_the_number_of_categories_is_bounded() -> None:
    cells = np.repeat(np.arange(1000).astype(str), 3)
    (train,) = dense(encode(pd.DataFrame({"c": pd.Categorical(cells)})), list(range(3000)))
    assert train.shape[1] <= MOST_CATEGORIES


def test_numbers_and_categories_side_by_side() -> None:
    table = encode(pd.DataFrame({"c": ["a", "b", "a"], "x": [1.0, 2.0, 3.0]}))
    (train,) = dense(table, [0, 1, 2])
    assert train == pytest.approx(np.array([[-(1.5**0.5), 1, 0], [0, 0, 1], [1.5**0.5, 1, 0]]))
