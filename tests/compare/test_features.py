"""Preprocessing: fitted on training rows, applied to all."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from equipoise.compare.columns import Table, encode, encode_alike
from equipoise.compare.features import FARTHEST, MOST_CATEGORIES, Preprocessing


def dense(table: Table, train: list[int], *others: list[int]) -> list[np.ndarray]:
    fitted = Preprocessing.fit(table, np.array(train))
    return [fitted.apply(table, np.array(part)).dense(slice(None)).numpy() for part in (train, *others)]


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


FRAME = pd.DataFrame(
    {
        "n": [1.0, np.nan, 3.0, 1e30, 5.0, 6.5],
        "c": ["a", None, "b", "a", "c", "b"],
        "f": [True, False, True, True, False, False],
        "d": pd.to_datetime(["2024-01-01", "2024-01-02", None, "2024-02-01", "2024-03-01", "2024-03-02"]),
        "k": ["same"] * 6,
    }
)


def test_preprocessing_survives_json_to_the_last_digit() -> None:
    table = encode(FRAME)
    fitted = Preprocessing.fit(table, np.array([0, 1, 2, 3]))
    restored = Preprocessing.from_json(json.loads(json.dumps(fitted.as_json())))
    rows = np.arange(6)
    assert restored.width == fitted.width
    assert (restored.apply(table, rows).dense(slice(None)) == fitted.apply(table, rows).dense(slice(None))).all()


def test_new_rows_are_encoded_as_the_fitted_ones_were() -> None:
    """From text as a CSV gives it, in another order of columns, with levels and words that were never seen."""
    table = encode(FRAME)
    fitted = Preprocessing.fit(table, np.arange(6))
    again = encode_alike(FRAME[["d", "f", "c", "n"]], table.columns, table.levels)
    rows = np.arange(6)
    expected = fitted.apply(table, rows).dense(slice(None)).numpy()
    assert (fitted.apply(again, rows).dense(slice(None)).numpy() == expected).all()
    text = pd.DataFrame({"n": ["1", "x"], "c": ["a", "new"], "f": ["True", "?"], "d": ["2024-01-01", "never"]})
    new = fitted.apply(encode_alike(text, table.columns, table.levels), np.arange(2)).dense(slice(None)).numpy()
    assert (new[0] == expected[0]).all()
    categories = slice(len(fitted.means), None)
    assert new[1, categories].sum() == 0
    medians = fitted.apply(encode_alike(FRAME.assign(n=np.nan, f=None, d=None), table.columns, table.levels), rows)
    assert new[1, :3] == pytest.approx(medians.numeric[0, :3].numpy())
