"""The charts say what the numbers say, whatever is missing and however long the names are."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import documents
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.compare import charts
from equipoise.compare.charts import svg
from equipoise.compare.charts.panels import half_of_the_gradient


def drawn(chart: str) -> ElementTree.Element:
    """The chart, which must be well-formed."""
    return ElementTree.fromstring(chart)


def words(chart: str) -> list[str]:
    return [each.text or "" for each in drawn(chart).iter("text")]


def looks(chart: str, look: str) -> Iterator[ElementTree.Element]:
    """The elements of a class."""
    return (each for each in drawn(chart).iter() if look in (each.get("class") or "").split())


def difference(mean: float | None, half: float | None = None, **more: Any) -> dict[str, Any]:
    ends = (None, None) if mean is None or half is None else (mean - half, mean + half)
    return {"mean": mean, "low": ends[0], "high": ends[1], **more}


def candidates(*differences: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"name": "cross_entropy", "difference": None}]
    return rows + [{"name": f"loss_{place}", "difference": each} for place, each in enumerate(differences)]


# -------------------------------------------------------------------------------------------------------- intervals


def places(chart: str) -> list[float]:
    """Where the means stand, in per cent of the scale."""
    return [float((each.get("cx") or "").rstrip("%")) for each in looks(chart, "mean")]


def test_a_mean_stands_where_the_axis_says() -> None:
    chart = charts.intervals(candidates(difference(0.1, 0.02), difference(-0.05, 0.01)), "balanced accuracy")
    ticks = {each.text: float((each.get("x") or "").rstrip("%")) for each in looks(chart, "tick")}
    first, second = places(chart)
    assert first == pytest.approx(ticks["+0.10"], abs=0.01)
    assert second == pytest.approx(ticks["−0.05"], abs=0.01)
    (zero,) = looks(chart, "zero")
    assert float((zero.get("x1") or "").rstrip("%")) == ticks["0"]


def test_no_band_hides_the_line_at_0() -> None:
    chart = drawn(charts.intervals(candidates(*(difference(0.1, 0.02, detectable=0.05) for _ in range(3))), "accuracy"))
    order = [each.get("class") for each in chart.iter() if each.get("class") in ("band", "zero", "mean undecided")]
    assert order == ["band"] * 3 + ["zero"] + ["mean undecided"] * 3


def test_the_verdict_is_a_word_and_a_sign_and_not_a_colour_alone() -> None:
    verdicts = ("helps", "hurts", "no evidence")
    chart = charts.intervals(candidates(*(difference(0.1, 0.02, verdict=each) for each in verdicts)), "accuracy")
    assert [each.text for each in looks(chart, "verdict")] == ["▲ helps", "▼ hurts", "no evidence"]
    assert "loss_0 +0.100 (+0.080 to +0.120), helps" in words_of_description(chart)


def words_of_description(chart: str) -> str:
    return "".join(each.text or "" for each in drawn(chart).iter("desc"))


def test_better_is_to_the_right_only_where_more_is_better() -> None:
    rows = candidates(difference(0.1, 0.02))
    assert {"← worse", "better →"} <= set(words(charts.intervals(rows, "accuracy")))
    assert {"← better", "worse →"} <= set(words(charts.intervals(rows, "log loss", lower_is_better=True)))


def test_one_endless_interval_does_not_make_dots_of_the_others() -> None:
    chart = charts.intervals(
        candidates(difference(0.1, 0.02), difference(0.05, 0.02), difference(0.0, 90.0)), "accuracy"
    )
    first, second, _ = places(chart)
    assert first - second > 3
    arrows = [each.get("d") for each in looks(chart, "interval") if each.tag == "path"]
    assert arrows[-2:] == ["M2,-5 L-5,0 L2,5", "M-2,-5 L5,0 L-2,5"], "cut ends are arrows"
    assert set(arrows[:-2]) == {"M0,-5 L0,5"}


@pytest.mark.parametrize(
    "differences", [[difference(None)], [difference(0.0)], [difference(0.0, 0.0)], [difference(-0.3)]]
)
def test_whatever_is_missing_there_is_a_chart(differences: list[dict[str, Any]]) -> None:
    chart = charts.intervals(candidates(*differences), "accuracy")
    assert "nan" not in chart
    assert len(places(chart)) == sum(each["mean"] is not None for each in differences)


def test_nothing_to_compare_is_no_chart() -> None:
    assert charts.intervals(candidates(), "accuracy") == ""


# ---------------------------------------------------------------------------------------------------------- classes


def recalled(name: str, *recalls: float | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return {"name": name, "rows": 5}, [{"name": "a", "recall": {name: {"mean": each}}} for each in recalls]


def test_plain_is_a_ring_the_best_a_diamond_and_the_others_ticks() -> None:
    each, all_ = recalled("rare", 0.2, 0.7, 0.5, None)
    chart = charts.recall("chart", [each], all_, "Recall")
    assert [len(list(looks(chart, look))) for look in ("plain-mark", "best-mark", "other", "change")] == [1, 1, 1, 1]
    assert {"rare", "5 rows", "0.20 → 0.70"} <= set(words(chart))


@pytest.mark.parametrize("recalls", [(None,), (0.5,), (None, 0.5), (0.5, None), (None, None, None)])
def test_a_recall_that_there_is_not_is_a_dash(recalls: tuple[float | None, ...]) -> None:
    each, all_ = recalled("rare", *recalls)
    chart = charts.recall("chart", [each], all_, "Recall")
    marks = [*looks(chart, "plain-mark"), *looks(chart, "best-mark")]
    assert len(marks) == sum(each is not None for each in recalls)
    assert not list(looks(chart, "change"))


def test_of_very_many_classes_the_middle_is_left_to_the_table() -> None:
    classes = [{"name": f"class {place}", "rows": 100 - place} for place in range(90)]
    all_ = [{"name": "a", "recall": {each["name"]: {"mean": 0.5} for each in classes}}]
    said = words(charts.recall("chart", classes, all_, "Recall"))
    assert "60 more, in the table below" in said
    assert {"class 0", "class 9", "class 70", "class 89"} <= set(said)
    assert "class 10" not in said


def test_the_tail_has_a_bar_for_each_class_and_taller_ones_for_larger() -> None:
    chart = charts.tail([{"name": "a", "rows": 1_000}, {"name": "b", "rows": 1}, {"name": "c", "rows": 0}])
    tall = [float(each.get("height") or 0) for each in looks(chart, "bar")]
    assert tall[0] > tall[1] > tall[2] > 0
    assert charts.tail([]) == ""


# ----------------------------------------------------------------------------------------------------------- panels


def test_a_gap_in_a_curve_is_a_gap() -> None:
    curve = {
        "epoch": [1, 2, 3, 4, 5],
        "train_loss": [2.0, 1.5, None, 1.0, 0.9],
        "validation": [0.1, 0.2, None, 0.3, 0.4],
    }
    each = {"name": "a", "curve": curve}
    chart = charts.training(0, each, each, (0.0, 0.5), "accuracy")
    assert len(list(looks(chart, "this"))) == len(list(looks(chart, "loss"))) == 2
    assert not list(looks(chart, "plain")), "plain cross-entropy has no second line of itself"


def test_one_epoch_is_a_dot() -> None:
    each = {"name": "a", "curve": {"epoch": [1], "train_loss": [2.0], "validation": [0.1]}}
    assert len(list(looks(charts.training(0, each, {}, (0.0, 0.5), "accuracy"), "dot"))) == 2


def test_a_training_without_a_value_is_an_empty_panel() -> None:
    each = {"name": "a", "curve": {"epoch": [1, 2], "train_loss": [None, None], "validation": [None, None]}}
    chart = charts.training(0, each, {}, (0.0, 0.5), "accuracy")
    assert "No validation accuracy" in words_of_description(chart)
    assert not list(looks(chart, "line"))


def test_calibration_stands_on_the_diagonal_where_it_is_perfect() -> None:
    bins = {"confidence": [None, 0.25, 0.75], "accuracy": [None, 0.25, 0.75], "rows": [0, 10, 30]}
    chart = charts.calibration(0, {"name": "a", "calibration": bins})
    (ideal,) = looks(chart, "ideal")
    x1, y1, x2, y2 = (float(ideal.get(end) or 0) for end in ("x1", "y1", "x2", "y2"))
    dots = [(float(each.get("cx") or 0), float(each.get("cy") or 0)) for each in looks(chart, "size")]
    assert len(dots) == 2
    for x, y in dots:
        assert y == pytest.approx(y1 + (y2 - y1) * (x - x1) / (x2 - x1), abs=0.05)


def test_the_line_of_a_calibration_passes_by_bins_of_a_few_rows() -> None:
    bins = {"confidence": [0.1, 0.5, 0.9], "accuracy": [0.1, 1.0, 0.9], "rows": [40, 1, 60]}
    chart = charts.calibration(0, {"name": "a", "calibration": bins})
    (line,) = looks(chart, "line")
    assert len((line.get("points") or "").split()) == 2
    assert len(list(looks(chart, "size"))) == 3


def test_half_of_the_gradient_is_counted_from_the_hardest_examples_down() -> None:
    norms = {"edges": [0.0, 0.25, 0.5, 0.75, 1.0], "share": [0.9, 0.06, 0.03, 0.01], "mass": [0.1, 0.3, 0.4, 0.2]}
    says = "60 % of the gradient comes from the 4 % of examples whose right answer has a probability below 0.5."
    assert half_of_the_gradient(norms) == says
    assert half_of_the_gradient({**norms, "mass": [0.0, None, 0.0, 0.0]}) == ""
    assert drawn(charts.gradient_norms(0, {"name": "a", "gradient_norms": norms})) is not None


# ----------------------------------------------------------------------------------------------------------- labels


@given(st.text(min_size=1, max_size=300), st.floats(40, 400))
def test_a_fitted_name_fits_and_keeps_its_ends(name: str, room: float) -> None:
    fitted = svg.fitted(name, 13, room)
    assert svg.letters(fitted, 13) <= room
    assert fitted == name or ("…" in fitted and fitted[0] in (name[0], "…"))


def test_names_that_begin_and_end_alike_are_told_apart() -> None:
    names = [documents.LONG.format(number) for number in range(30)]
    shown = svg.told_apart(names, 13, [200.0] * 30)
    assert len(set(shown)) == 30
    assert all(svg.letters(each, 13) <= 200 for each in shown)
    assert [each.split()[0] for each in shown] == [f"…{number}" for number in range(30)], "words stay whole"


@given(st.floats(-100, 100), st.floats(1e-3, 1e3), st.integers(2, 8))
def test_ticks_are_few_and_round_and_inside(low: float, width: float, most: int) -> None:
    high = low + width
    spaced = svg.ticks(low, high, most)
    assert len(spaced) <= most
    assert all(low - 1e-6 * width <= each <= high + 1e-6 * width for each in spaced)
    steps = [b - a for a, b in pairwise(spaced)]
    for step in steps:
        leading = round(step / 10 ** math.floor(math.log10(step) + 1e-9), 3)
        assert leading in (1, 2, 5, 10)


def test_texts_are_escaped_everywhere() -> None:
    hostile = "<b>&\"'"
    each, all_ = recalled(hostile, 0.5, 0.6)
    for chart in (
        charts.intervals([{"name": hostile, "difference": difference(0.1, 0.1)}], hostile),
        charts.recall("chart", [each], all_, hostile),
        charts.tail([each]),
        charts.calibration(0, {"name": hostile, "calibration": {"confidence": [0.5], "accuracy": [0.5], "rows": [1]}}),
    ):
        assert hostile in "".join(drawn(chart).itertext())
        assert "<b>" not in chart


def test_every_chart_names_no_colour_of_its_own() -> None:
    """The page's variables colour it: one drawing serves light and dark."""
    document = documents.long_tailed()
    everything = charts.intervals(document["candidates"], "accuracy") + charts.tail(document["problem"]["classes"])
    assert not re.search(r'(fill|stroke|style|color)="', everything)
