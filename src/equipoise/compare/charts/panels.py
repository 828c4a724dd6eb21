"""Small panels, one per loss: its training curves, its calibration and where its gradient comes from.

Each panel shows its loss alone beside plain cross-entropy or the ideal, so that no colour has to tell ten losses apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from . import svg
from .svg import element, polyline, text

WIDTH = 172
LEFT, RIGHT = 44, 168
FLOOR = 1e-3
"""The least share that the panel of gradient norms shows."""

FEWEST = 20
"""Rows of a bin of the calibration: one of fewer is a dot that the line passes by, for it may be anywhere."""

Candidate = Mapping[str, Any]
Points = list[tuple[float, float | None]]


def training(number: int, candidate: Candidate, plain: Candidate, between: tuple[float, float], metric: str) -> str:
    """Validation and training loss, epoch by epoch; plain cross-entropy's validation is dashed.

    Args:
        number: of the panel.
        candidate: whose training it is.
        plain: the yardstick, with its own curve or none.
        between: the scale of validation, the same for all panels.
        metric: what was validated, in words.
    """
    curve, reference = candidate["curve"], plain.get("curve")
    low, high = between
    first, last = curve["epoch"][0], curve["epoch"][-1]

    def points(
        epochs: Sequence[float], values: Sequence[float | None], start: float, end: float, box: Points
    ) -> Points:
        (top, _), (bottom, _) = box
        wide, tall = max(last - first, 1), (end - start) or 1
        return [
            (
                LEFT + (RIGHT - LEFT) * (x - first) / wide,
                None if y is None else bottom - (bottom - top) * (y - start) / tall,
            )
            for x, y in zip(epochs, values, strict=True)
        ]

    upper: Points = [(18, None), (86, None)]
    lower: Points = [(110, None), (146, None)]
    losses = [value for value in curve["train_loss"] if value is not None]
    most = max(losses, default=1.0) or 1.0
    drawn = [frame(18, 86), frame(110, 146)]
    if reference and candidate is not plain:
        drawn.append(polyline(points(reference["epoch"], reference["validation"], low, high, upper), "line plain"))
    drawn.append(polyline(points(curve["epoch"], curve["validation"], low, high, upper), "line this"))
    drawn.append(polyline(points(curve["epoch"], curve["train_loss"], 0.0, most, lower), "line loss"))
    places = svg.digits([low, high])
    drawn += [
        text("validation", LEFT, 11, look="tick"),
        *ends(18, 86, f"{low:.{places}f}", f"{high:.{places}f}"),
        text("training loss", LEFT, 103, look="tick"),
        *ends(110, 146, "0", _loss(most)),
        *foot(160, f"{first:g}", "epoch", f"{last:g}"),
    ]
    seen = [value for value in curve["validation"] if value is not None]
    says = f"Validation {metric} from {seen[0]:.3f} to {seen[-1]:.3f}" if seen else f"No validation {metric}"
    says += f"; training loss from {losses[0]:.3g} to {losses[-1]:.3g}." if losses else "."
    return svg.picture(
        f"chart-training-{number}", f"Training of {candidate['name']}", says, drawn, height=164, width=WIDTH
    )


def calibration(number: int, candidate: Candidate) -> str:
    """How often the model is right against how sure it is; on the diagonal it is as right as it is sure."""
    bins = candidate["calibration"]
    top, bottom = 18, 152
    pairs = zip(bins["confidence"], bins["accuracy"], bins["rows"], strict=True)
    known = sorted((sure, right, rows) for sure, right, rows in pairs if sure is not None and right is not None)
    total = sum(rows for *_, rows in known) or 1
    places = [(LEFT + (RIGHT - LEFT) * sure, bottom - (bottom - top) * right, rows) for sure, right, rows in known]
    drawn = [
        frame(top, bottom),
        element("line", x1=LEFT, y1=bottom, x2=RIGHT, y2=top, class_="ideal"),
        polyline([(x, y) for x, y, rows in places if rows >= FEWEST], "line this"),
    ]
    drawn += [
        element("circle", cx=x, cy=y, r=1.5 + 5 * math.sqrt(rows / total), class_="size") for x, y, rows in places
    ]
    drawn += [
        text("share that is right", LEFT, 11, look="tick"),
        *ends(top, bottom, "0", "1"),
        *foot(166, "0", "confidence", "1"),
    ]
    says = "; ".join(f"at confidence {sure:.2f}: {right:.2f} right ({rows:,} rows)" for sure, right, rows in known)
    name = f"Calibration of {candidate['name']}"
    return svg.picture(f"chart-calibration-{number}", name, f"{says or 'No row'}.", drawn, height=170, width=WIDTH)


def gradient_norms(number: int, candidate: Candidate) -> str:
    """The share of examples (dashed) and of the gradient (filled) by 1 - p, on a logarithmic scale."""
    norms = candidate["gradient_norms"]
    top, bottom = 18, 118
    edges = norms["edges"]

    def steps(shares: Sequence[float | None]) -> list[tuple[float, float]]:
        places = []
        for start, end, share in zip(edges[:-1], edges[1:], shares, strict=True):
            height = math.log(max(share or 0.0, FLOOR) / FLOOR) / math.log(1 / FLOOR)
            y = bottom - (bottom - top) * min(height, 1.0)
            places += [(LEFT + (RIGHT - LEFT) * each / edges[-1], y) for each in (start, end)]
        return places

    mass = steps(norms["mass"])
    area = [(mass[0][0], bottom), *mass, (mass[-1][0], bottom)]
    drawn = [frame(top, bottom)]
    for share in (0.01, 0.1):
        y = bottom - (bottom - top) * math.log(share / FLOOR) / math.log(1 / FLOOR)
        drawn.append(element("line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_="grid"))
        drawn.append(text(f"{100 * share:.0f} %", LEFT - 4, y + 4, anchor="end", look="tick"))
    drawn += [
        element("polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in area), class_="area"),
        polyline(mass, "line this"),
        polyline(steps(norms["share"]), "line plain"),
        text("share", LEFT, 11, look="tick"),
        *ends(top, bottom, "0.1 %", "100 %"),
        *foot(132, "0", "1 − p", f"{edges[-1]:g}"),
    ]
    name = f"Gradient norms under {candidate['name']}"
    says = half_of_the_gradient(norms) or "Nothing is known."
    return svg.picture(f"chart-gradient-{number}", name, says, drawn, height=136, width=WIDTH)


def half_of_the_gradient(norms: Mapping[str, Any]) -> str:
    """Which examples give half of the gradient, in a sentence: the fewest bins, from the hardest down."""
    total = math.fsum(each or 0.0 for each in norms["mass"])
    if not total:
        return ""
    mass, share, start = 0.0, 0.0, len(norms["mass"])
    while mass < 0.5 * total and start:
        start -= 1
        mass += norms["mass"][start] or 0.0
        share += norms["share"][start] or 0.0
    part = f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.1g} %" if share else "none"
    below = f"{1 - norms['edges'][start]:.2g}"
    from_ = f"{100 * mass / total:.0f} % of the gradient comes from the {part} of examples"
    return f"{from_} whose right answer has a probability below {below}."


def _loss(value: float) -> str:
    """A loss in the room that there is beside an axis: `1.3`, `0.0039`, `4e-04`, `1e+05`."""
    return f"{value:.2g}" if 1e-3 <= value < 100 else f"{value:.0f}" if 100 <= value < 1e5 else f"{value:.0e}"


def frame(top: float, bottom: float) -> str:
    """The two axes of a panel."""
    return element("path", d=f"M{LEFT},{top} L{LEFT},{bottom} L{RIGHT},{bottom}", class_="axis")


def ends(top: float, bottom: float, low: str, high: str) -> list[str]:
    """The ends of the upright axis."""
    return [
        text(low, LEFT - 4, bottom, anchor="end", look="tick"),
        text(high, LEFT - 4, top + 8, anchor="end", look="tick"),
    ]


def foot(y: float, low: str, name: str, high: str) -> list[str]:
    """The ends and the name of the level axis."""
    middle = (LEFT + RIGHT) / 2
    return [
        text(low, LEFT, y, anchor="start", look="tick"),
        text(name, middle, y, anchor="middle", look="tick"),
        text(high, RIGHT, y, anchor="end", look="tick"),
    ]
