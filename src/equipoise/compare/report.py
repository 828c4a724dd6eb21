"""The report: one HTML file that needs nothing else, drawn from the document of a comparison."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


def render(document: Mapping[str, Any]) -> str:
    """The page as text. Everything from the data is escaped: a column name may hold anything."""
    loader = FileSystemLoader(Path(__file__).with_name("templates"))
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = _number
    environment.filters["half"] = _half_width
    environment.filters["breakable"] = _breakable
    environment.filters["words"] = _words
    return environment.get_template("report.html").render(**document)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _half_width(estimate: Mapping[str, float | None]) -> str:
    """` ± 0.014`, or nothing where there is no interval."""
    mean, high = estimate["mean"], estimate["high"]
    return "" if mean is None or high is None else f" ± {high - mean:.3f}"


def _breakable(name: str) -> Markup:
    """A name that may be broken after an underscore, a hyphen or a slash, and reads and copies as before."""
    return Markup("<wbr>").join(re.split("(?<=[_/-])", name))


def _words(metric: str) -> str:
    """A metric's name as people write it."""
    return metric.replace("_", " ").replace("f1", "F1")
