"""The paired difference of each loss to plain cross-entropy, with its interval and a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from . import svg
from .svg import NARROW, element, percent, text

SHARE = 0.8
"""Of the width, for the intervals; the values stand beside them."""
TOP, ROW, BOTTOM = 24, 46, 40
NAME, VALUE, SMALL = 13, 12, 11
MARKS = {"helps": "▲ helps", "hurts": "▼ hurts", "no evidence": "no evidence"}
LOOKS = {"helps": "helps", "hurts": "hurts"}
LONGEST = 4.0
"""Intervals longer than this many times the largest difference are cut, or a single one would make all others dots."""

Difference = Mapping[str, Any]


def intervals(
    candidates: Sequence[Mapping[str, Any]],
    metric: str,
    *,
    lower_is_better: bool = False,
    yardstick: str = "plain cross-entropy",
    identity: str = "chart-intervals",
    places: int = 3,
) -> str:
    """One row per loss; the yardstick, which has no difference, is the line at 0.

    Args:
        candidates: of the document.
        metric: what the differences are of, in words.
        lower_is_better: whether a difference below 0 is an improvement.
        yardstick: what the line at 0 is called.
        identity: of the chart in the page.
        places: digits after the point of the differences.
    """
    rows = [(each["name"], each["difference"]) for each in candidates if each["difference"]]
    if not rows:
        return ""
    low, high = _domain([difference for _, difference in rows])
    height = TOP + ROW * len(rows) + BOTTOM
    scale = _scale(low, high, height, lower_is_better, yardstick)
    bands = [_band(TOP + ROW * number + 28, row[1], low, high) for number, row in enumerate(rows)]
    drawn = [_row(TOP + ROW * number, *row, low, high, places) for number, row in enumerate(rows)]
    # The bands first, or they would hide the line at 0.
    content = "".join((*bands, scale, *(mark for mark, _ in drawn)))
    marks = element("svg", content, width=f"{100 * SHARE:g}%", height=height)
    words = "".join(label for _, label in drawn)
    says = "; ".join(f"{name} {_in_words(difference)}" for name, difference in rows)
    name = f"Difference in {metric} to {yardstick}, with its interval"
    return svg.picture(identity, name, f"{says}.", [marks, words], height=height)


def _domain(differences: Sequence[Difference]) -> tuple[float, float]:
    """From where to where the axis goes: all means and 0, and of the intervals what leaves the others visible."""
    means = [each["mean"] for each in differences if each["mean"] is not None]
    halves = [(each["high"] - each["low"]) / 2 for each in differences if each["low"] is not None]
    reach = LONGEST * max(*map(abs, means), *([median(halves)] if halves else []), 1e-6, 0)
    ends = [each[end] for each in differences for end in ("low", "high") if each[end] is not None]
    low, high = min(0, *means, *ends, 0), max(0, *means, *ends, 0)
    low, high = max(low, -reach), min(high, reach)
    if low == high:
        low, high = -reach, reach
    room = 0.07 * (high - low)
    return low - room, high + room


def _scale(low: float, high: float, height: int, lower_is_better: bool, yardstick: str) -> str:
    """The line at 0 with its name, the other lines of the axis, and which way is better."""
    bottom, wide = height - BOTTOM + 4, SHARE * NARROW
    spaced = svg.ticks(low, high, 5)
    places = svg.digits(spaced)
    drawn = []
    for value in spaced:
        label, at = svg.signed(value, places if value else 0), percent(value, low, high)
        if value:
            drawn.append(element("line", x1=at, x2=at, y1=TOP - 4, y2=bottom, class_="grid"))
        half = svg.letters(label, SMALL) / 2
        if half <= wide * (value - low) / (high - low) <= NARROW - half:
            drawn.append(text(label, at, bottom + 14, anchor="middle", look="tick"))
    zero, words = percent(0, low, high), yardstick
    drawn.append(element("line", x1=zero, x2=zero, y1=TOP - 6, y2=bottom, class_="zero"))
    place, half = wide * -low / (high - low), svg.letters(words, VALUE) / 2
    anchor = "start" if place < half else "end" if place > NARROW - half else "middle"
    drawn.append(text(words, zero, 12, anchor=anchor, look="zero-name"))
    left, right = ("better", "worse") if lower_is_better else ("worse", "better")
    drawn.append(text(f"← {left}", "0%", bottom + 32, look="tick"))
    drawn.append(text(f"{right} →", "100%", bottom + 32, anchor="end", look="tick"))
    return "".join(drawn)


def _row(top: int, name: str, difference: Difference, low: float, high: float, places: int) -> tuple[str, str]:
    """What is drawn on the scale, and the labels beside it."""
    verdict = MARKS.get(difference.get("verdict") or "", "")
    look = LOOKS.get(difference.get("verdict") or "", "undecided")
    room = NARROW - (svg.letters(verdict, VALUE) + 10 if verdict else 0)
    labels = text(svg.fitted(name, NAME, room), 0, top + 14, look="name")
    if verdict:
        labels += text(verdict, "100%", top + 14, anchor="end", look=f"verdict {look}")
    mean = difference["mean"]
    value = "no value" if mean is None else svg.signed(mean, places)
    labels += text(value, "100%", top + 32, anchor="end", look="value")
    if mean is None:
        return "", labels
    return "".join(_marks(top + 28, difference, look, low, high)), labels


def _band(y: int, difference: Difference, low: float, high: float) -> str:
    """The true differences that were more likely missed than the power asks for."""
    detectable = difference.get("detectable")
    if detectable is None or difference["mean"] is None:
        return ""
    start, end = max(-detectable, low), min(detectable, high)
    if start >= end:
        return ""
    width = f"{100 * (end - start) / (high - low):.2f}%"
    return element("rect", x=percent(start, low, high), y=y - 7, width=width, height=14, class_="band")


def _marks(y: int, difference: Difference, look: str, low: float, high: float) -> list[str]:
    """The interval and the mean; an arrow where the interval goes on."""
    drawn = []
    if difference["low"] is not None:
        start, end = max(difference["low"], low), min(difference["high"], high)
        ends = {"x1": percent(start, low, high), "x2": percent(end, low, high)}
        drawn.append(element("line", **ends, y1=y, y2=y, class_=f"interval {look}"))
        for value, cut, shape in (
            (start, start > difference["low"], "M2,-5 L-5,0 L2,5"),
            (end, end < difference["high"], "M-2,-5 L5,0 L-2,5"),
        ):
            shape = shape if cut else "M0,-5 L0,5"
            drawn.append(at(percent(value, low, high), y, element("path", d=shape, class_=f"interval {look}")))
    drawn.append(element("circle", cx=percent(difference["mean"], low, high), cy=y, r=5, class_=f"mean {look}"))
    return drawn


def at(x: str, y: float, content: str) -> str:
    """`content`, drawn around the origin, moved to a place of which one side is per cent."""
    return element("svg", content, x=x, y=y)


def _in_words(difference: Difference) -> str:
    if difference["mean"] is None:
        return "has no value"
    words = svg.signed(difference["mean"])
    if difference["low"] is not None:
        words += f" ({svg.signed(difference['low'])} to {svg.signed(difference['high'])})"
    verdict = difference.get("verdict")
    return f"{words}, {verdict}" if verdict else words
