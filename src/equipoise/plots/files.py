"""Curves as a file: a picture, or the numbers behind it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from .curves import Curve, CurveError

COLUMNS = ("curve", "score", "probability", "loss", "gradient", "gradient_norm", "weight")
SUFFIXES = (".png", ".svg", ".csv")


def write(curves: Sequence[Curve], to: str) -> None:
    """Write curves in the format that the name of the file ends in.

    Raises:
        CurveError: for another ending.
        ModuleNotFoundError: for a picture, where matplotlib is not installed.
        OSError: where the file cannot be written.
    """
    suffix = Path(to).suffix.lower()
    if suffix not in SUFFIXES:
        raise CurveError(f"the file must end in .png, .svg or .csv, got {to!r}")
    if suffix == ".csv":
        _write_numbers(curves, Path(to))
        return
    from .figure import figure

    figure(curves, to, suffix.removeprefix("."))


def _write_numbers(curves: Sequence[Curve], to: Path) -> None:
    """One line per point, in as many digits as the number has."""
    with to.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(COLUMNS)
        for each in curves:
            known = each.probability.tolist() if each.probability is not None else [""] * len(each.score)
            numbers = (each.loss, each.gradient, each.norm, each.weight)
            rows = zip(each.score.tolist(), known, *(column.tolist() for column in numbers), strict=True)
            lines.writerows((each.name, *row) for row in rows)
