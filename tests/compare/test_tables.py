"""The built-in tables, and finding the target."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from equipoise.compare import data
from equipoise.compare.errors import CompareError


def test_fars_is_what_its_note_of_origin_says() -> None:
    source = data.load("fars")
    assert source.frame.shape == (100_968, 30)
    assert source.targets == ("INJURY_SEVERITY",)
    counts = source.frame["INJURY_SEVERITY"].value_counts()
    assert (len(counts), counts.max(), counts.min()) == (8, 42_116, 9)
    assert source.frame.isna().sum().sum() == 0
    numeric = source.frame.select_dtypes("number").columns
    assert list(numeric) == [
        "AGE",
        "ALCOHOL_TEST_RESULT",
        "DRUG_TEST_RESULTS_(1_of_3)",
        "DRUG_TEST_RESULTS_(2_of_3)",
        "DRUG_TEST_RESULTS_(3_of_3)",
    ]
    first = source.frame.iloc[0]
    assert (first["CASE_STATE"], first["AGE"], first["INJURY_SEVERITY"]) == ("Alabama", 34, "Fatal_Injury")


def test_digits_has_an_exponential_tail_and_is_always_the_same() -> None:
    source = data.load("digits")
    assert list(source.frame["digit"].value_counts().sort_index()) == [178, 128, 91, 66, 47, 34, 24, 17, 12, 9]
    assert source.fingerprint == data.load("digits").fingerprint


def test_the_fingerprint_follows_the_content(tmp_path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1,a\n2,b\n")
    first = data.load(str(path)).fingerprint
    path.write_text("x,y\n1,a\n2,c\n")
    assert data.load(str(path)).fingerprint != first


def source(*columns: str) -> data.Source:
    frame = pd.DataFrame([[0] * len(columns)], columns=list(columns))
    return data.Source("table.csv", frame, (columns[-1],), "the last column", "")


def test_the_target_is_the_last_column_and_this_is_said() -> None:
    assert data.choose_targets(source("a", "b"), None) == (("b",), "the last column, as no target was named")


def test_several_targets_are_separated_by_commas_unless_a_column_is_called_so() -> None:
    assert data.choose_targets(source("a", "b", "c"), "b, c")[0] == ("b", "c")
    assert data.choose_targets(source("a", "b", "b,a"), "b,a")[0] == ("b,a",)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("severty", "no column 'severty' in table.csv; did you mean 'severity'?"),
        ("SEVERITY", "no column 'SEVERITY' in table.csv; did you mean 'severity'?"),
        ("zzz", "no column 'zzz' in table.csv; it has age, severity"),
        ("age,severity", "every column is a target, expected at least one feature"),
    ],
)
def test_a_target_that_cannot_be(target: str, message: str) -> None:
    with pytest.raises(CompareError, match=re.escape(message)):
        data.choose_targets(source("age", "severity"), target)


def test_the_first_columns_are_named_where_none_is_near() -> None:
    with pytest.raises(CompareError, match="it has a, b, c, d, e, f, g, h and 2 more"):
        data.choose_targets(source(*"abcdefghij"), "zzz")
