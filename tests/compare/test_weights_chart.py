"""The chart of what each task weighed: shares of each epoch, broken where one is unknown."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from equipoise.compare.charts import weights
from equipoise.compare.charts.weights import BOTTOM, TOP, shares_of


def test_shares_add_up_to_1_in_each_epoch() -> None:
    assert shares_of({"a": [1.0, 3.0], "b": [1.0, 1.0], "c": [2.0, 0.0]}) == {
        "a": [0.25, 0.75],
        "b": [0.25, 0.25],
        "c": [0.5, 0.0],
    }


@pytest.mark.parametrize("broken", [None, float("nan"), float("inf")])
def test_an_epoch_without_all_weights_has_no_shares(broken: float | None) -> None:
    assert shares_of({"a": [broken, 1.0], "b": [1.0, 1.0]}) == {"a": [None, 0.5], "b": [None, 0.5]}
    assert shares_of({"a": [0.0], "b": [0.0]}) == {"a": [None], "b": [None]}
    assert shares_of({}) == {}


def test_each_task_is_a_line_from_the_first_epoch_to_the_last() -> None:
    drawn = weights(3, "famo", {"a": [1.0, 3.0], "b": [1.0, 1.0]})
    chart = ElementTree.fromstring(drawn)
    assert chart.get("id") == "chart-weights-3"
    lines = {each.get("class"): each.get("points") for each in chart.iter() if each.tag == "polyline"}
    assert list(lines) == ["line task-0", "line task-1"]
    ends = [[float(point.split(",")[1]) for point in str(points).split()] for points in lines.values()]
    middle, high, low = (BOTTOM - (BOTTOM - TOP) * share for share in (0.5, 0.75, 0.25))
    assert ends == [pytest.approx([middle, high]), pytest.approx([middle, low])]
    assert "a from 0.50 to 0.75; b from 0.50 to 0.25." in drawn


def test_names_are_escaped_and_nothing_is_a_chart_of_nothing() -> None:
    drawn = weights(0, "<b>", {"<i>": [1.0]})
    assert not re.search("<b>|<i>", drawn)
    assert "No task." in weights(0, "x", {})
    for each in (drawn, weights(0, "x", {}), weights(0, "x", {"a": []}), weights(0, "x", {"a": [None]})):
        ElementTree.fromstring(each)
