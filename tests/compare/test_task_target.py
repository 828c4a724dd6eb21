"""The grammar of `--target` for several tasks: what is one, what is not, and what is said of mistakes."""

from __future__ import annotations

import re

import pytest

from equipoise.compare.errors import CompareError
from equipoise.compare.tasks.target import Wanted, wanted

COLUMNS = ("a", "b", "c", "x:y", "p,q", "odd:binary", "this,that:binary")


@pytest.mark.parametrize(
    ("target", "tasks"),
    [
        ("a:binary,b:regression", (Wanted("a", "binary"), Wanted("b", "regression"))),
        (" a : binary , c:multiclass ", (Wanted("a", "binary"), Wanted("c", "multiclass"))),
        (
            "b:regression:absolute_error,c:multiclass:softmax_focal",
            (Wanted("b", "regression", "absolute_error"), Wanted("c", "multiclass", "softmax_focal")),
        ),
    ],
)
def test_columns_with_kinds_are_tasks_in_their_order(target: str, tasks: tuple[Wanted, ...]) -> None:
    assert wanted(target, COLUMNS) == tasks


@pytest.mark.parametrize("target", ["a", "a,b,c", "x:y", "p,q", "odd:binary", "a,x:y", "this,that:binary", "nowhere"])
def test_without_kinds_it_is_one_problem_as_before_whatever_columns_are_called(target: str) -> None:
    assert wanted(target, COLUMNS) is None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "a:binary",
            "names one task, and there is nothing to balance: at least two are needed (one target goes without",
        ),
        ("a:binary,b", "gives 'b' no kind, others have one: write one of b:binary, b:multiclass, b:regression"),
        ("a:binary,b:regresion", "gives 'b' the kind 'regresion', which is none; did you mean 'regression'?"),
        ("a:binary,b:zzz", "gives 'b' the kind 'zzz', which is none; choose from binary, multiclass, regression"),
        ("a:binary,a:regression", "names 'a' twice"),
        ("a:binary,,b:regression", "has nothing between two commas, expected COLUMN:KIND"),
        ("a:binary,b:regression,", "has nothing between two commas"),
        ("a:binary,:regression", "has ':regression', expected COLUMN:KIND or COLUMN:KIND:LOSS, as in cancelled:binary"),
        ("a:binary,b:", "has 'b:', expected COLUMN:KIND"),
        ("a:binary,b:regression:", "has 'b:regression:', expected COLUMN:KIND"),
        ("a:binary,b:regression:x:y", "has 'b:regression:x:y', expected COLUMN:KIND"),
    ],
)
def test_mistakes_are_one_readable_line(target: str, message: str) -> None:
    with pytest.raises(CompareError, match=re.escape(message)) as error:
        wanted(target, COLUMNS)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("--target ")
