"""Charts of the classes: how many rows each has, and how many of them are found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from . import svg
from .intervals import at
from .svg import NARROW, element, percent, text

SHARE = 0.72
TOP, ROW, BOTTOM = 4, 36, 18
NAME, SMALL = 13, 11
MOST = 30
"""Rows of a chart: of more classes, those in the middle are left to the table."""
HEAD = 10
DIAMOND = "M0,-6 L6,0 L0,6 L-6,0 Z"

Class = Mapping[str, Any]
Candidate = Mapping[str, Any]


def recall(identity: str, classes: Sequence[Class], candidates: Sequence[Candidate], words: str) -> str:
    """A row per class: plain cross-entropy a ring, the best other candidate a diamond, the rest ticks.

    Args:
        identity: of the chart in the page.
        classes: from head to tail.
        candidates: of the document: plain cross-entropy first, the best of the others second.
        words: what the chart is called.
    """
    if not classes:
        return ""
    left_out = max(0, len(classes) - MOST)
    shown = [*classes[:HEAD], *classes[HEAD + left_out :]] if left_out else list(classes)
    height = TOP + ROW * (len(shown) + bool(left_out)) + BOTTOM
    sizes = [_size(each) for each in shown]
    rooms = [NARROW - svg.letters(size, SMALL) - 10 for size in sizes]
    names = svg.told_apart([each["name"] for each in shown], NAME, rooms)
    drawn, labels, says, top = [_grid(height)], [], [], TOP
    for number, (each, name, size) in enumerate(zip(shown, names, sizes, strict=True)):
        if left_out and number == HEAD:
            labels.append(text(f"{left_out:,} more, in the table below", 0, top + 21, look="tick"))
            top += ROW
        values = [_recall(candidate, each["name"]) for candidate in candidates]
        drawn.append(_marks(top + 24, values))
        labels.append(text(name, 0, top + 12, look="name") + text(size, "100%", top + 12, anchor="end", look="tick"))
        labels.append(text(_change(values), "100%", top + 28, anchor="end", look="value"))
        says.append(f"{each['name']} {_change(values) or 'unknown'}")
        top += ROW
    marks = element("svg", "".join(drawn), width=f"{100 * SHARE:g}%", height=height)
    return svg.picture(identity, words, f"{'; '.join(says)}.", [marks, *labels], height=height)


def _recall(candidate: Candidate, name: str) -> float | None:
    mean: float | None = (candidate["recall"].get(name) or {}).get("mean")
    return mean


def _grid(height: int) -> str:
    """Lines at 0, a half and 1, named at the foot."""
    drawn = ""
    for value, label in ((0.0, "0"), (0.5, "0.5"), (1.0, "1")):
        place = percent(value, -0.04, 1.04)
        drawn += element("line", x1=place, x2=place, y1=TOP + 14, y2=height - BOTTOM + 2, class_="grid")
        drawn += text(label, place, height - 4, anchor="middle", look="tick")
    return drawn


def _marks(y: int, values: Sequence[float | None]) -> str:
    plain, best, *others = [*values, None][: max(2, len(values))]
    places = [None if value is None else percent(value, -0.04, 1.04) for value in (plain, best)]
    drawn = "".join(
        at(percent(value, -0.04, 1.04), y, element("path", d="M0,-4 L0,4", class_="other"))
        for value in others
        if value is not None
    )
    if places[0] and places[1]:
        drawn += element("line", x1=places[0], x2=places[1], y1=y, y2=y, class_="change")
    if places[0]:
        drawn += element("circle", cx=places[0], cy=y, r=4.5, class_="plain-mark")
    if places[1]:
        drawn += at(places[1], y, element("path", d=DIAMOND, class_="best-mark"))
    return drawn


def _size(each: Class) -> str:
    rows = f"{each['rows']:,} row{'s' * (each['rows'] != 1)}"
    return f"{rows}, not in headline" if each.get("excluded") else rows


def _change(values: Sequence[float | None]) -> str:
    return " → ".join("–" if value is None else f"{value:.2f}" for value in values[:2])


def tail(classes: Sequence[Class]) -> str:
    """The rows of each class as bars from the largest to the smallest, on a logarithmic scale."""
    if not classes or not max(each["rows"] for each in classes):
        return ""
    most, full, top = max(each["rows"] for each in classes), 84, 42
    first, last, share = classes[0], classes[-1], 100 / len(classes)
    bars = ""
    for number, each in enumerate(classes):
        tall = max(2.0, full * math.log1p(each["rows"]) / math.log1p(most))
        group = each.get("group") or "head"
        place = {"x": f"{share * number:.3f}%", "width": f"{share * (0.62 if share > 3 else 0.85):.3f}%"}
        bars += element("rect", **place, y=top + full - tall, height=tall, class_=f"bar {group}")
    sizes = [(f"{_size({'rows': each['rows']})}: ", each["name"]) for each in (first, last)]
    words = [rows + svg.fitted(name, NAME, NARROW - svg.letters(rows, NAME)) for rows, name in sizes]
    labels = text(words[0], 0, 14, look="name") + text(words[1], "100%", 34, anchor="end", look="name")
    says = ", ".join(f"{each['name']} {each['rows']:,}" for each in classes)
    return svg.picture("chart-tail", "Rows of each class", f"{says}.", [bars, labels], height=top + full + 2)
