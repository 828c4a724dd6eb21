"""The report: one HTML file that needs nothing else, drawn from the document of a comparison."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from . import charts
from .charts.panels import half_of_the_gradient
from .charts.svg import digits, signed, ticks
from .metrics import SPELLED

LOWER_IS_BETTER = ("log loss", "brier", "calibration error", "RMSE", "mean absolute error")
ABBREVIATED = {"rmse": "RMSE", "mae": "mean absolute error", "r2": "R²", "cross_entropy": "cross-entropy"}
GROUPS = {"head": "Head", "middle": "Middle", "tail": "Tail"}

# What a document may lack: an older one, or one of a run that left something out.
CANDIDATE = {
    "plain": False,
    "groups": {},
    "milliseconds_per_step": None,
    "chosen": None,
    "trials": None,
    "curve": None,
    "calibration": None,
    "gradient_norms": None,
}
DATA: dict[str, Any] = {"warnings": [], "effective_numbers": {}}
CLASS = {"test_rows": None, "group": None, "excluded": False}
PROTOCOL: dict[str, Any] = {"trials": [], "split": "stratified", "split_column": None, "device": None, "classes": None}
DOCUMENT = {"caveat": None, "larger_is_better": True, "winner": None, "saved": None, "code": None}

Candidate = Mapping[str, Any]


def render(document: Mapping[str, Any]) -> str:
    """The page as text. Everything from the data is escaped: a column name may hold anything."""
    loader = FileSystemLoader(Path(__file__).with_name("templates"))
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": _number,
        "half": _half_width,
        "probability": _probability,
        "signed": signed,
        "breakable": _breakable,
        "words": in_words,
        "options": _unbroken_options,
        "sentence": _sentence,
        "metric": _metric_head,
    }
    if document["problem"]["kind"] == "tasks":
        from .tasks import report as tasks  # here, because it takes its parts from this module

        complete = tasks.complete({**DOCUMENT, **document})
        return environment.get_template("tasks.html").render(**complete, **tasks.drawn(complete))
    complete = _complete(document)
    return environment.get_template("report.html").render(**complete, **_drawn(complete))


def _complete(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with nothing absent, and its classes from head to tail."""
    problem, data = document["problem"], {**DATA, **document["data"]}
    numbers = data["effective_numbers"]
    classes = [{**CLASS, **each, "effective_number": numbers.get(each["name"])} for each in problem["classes"]]
    return {
        **DOCUMENT,
        **document,
        "candidates": [{**CANDIDATE, **each} for each in document["candidates"]],
        "data": data,
        "protocol": {**PROTOCOL, **document["protocol"]},
        "problem": {**problem, "classes": sorted(classes, key=lambda each: -each["rows"])},
    }


def _drawn(document: Mapping[str, Any]) -> dict[str, Any]:
    """The charts, by the names that the template has for them. They have escaped what comes from the data."""
    candidates, classes = document["candidates"], document["problem"]["classes"]
    metric = in_words(document["metric"])
    scale = scale_of(candidates)
    plain, *others = candidates
    winner = [each for each in others if each["name"] == document["winner"]]
    best = next(iter(winner or others), None)
    ordered = sorted(candidates, key=lambda each: (each is not plain, each is not best))
    return {
        "headline": headline(document),
        "yardstick": "plain cross-entropy",
        "reference": "plain cross-entropy",
        "one": "loss",
        "best": best,
        "intervals": charts.intervals(candidates, metric, lower_is_better=not document["larger_is_better"]),
        "recalls": _recalls(classes, ordered),
        "tail": charts.tail(classes),
        "panels": {
            "training": panels(candidates, "curve", lambda n, each: charts.training(n, each, plain, scale, metric)),
            "calibration": panels(candidates, "calibration", charts.calibration),
            "gradient_norms": panels(candidates, "gradient_norms", charts.gradient_norms),
        },
        "half_of_the_gradient": half_of_the_gradient,
    }


def headline(document: Mapping[str, Any]) -> list[str]:
    """The first sentence of the verdict, its own first sentence apart from the rest."""
    return re.split(r"(?<=[.])\s+(?=[A-Z])", document["verdict"][0], maxsplit=1)


def panels(candidates: Sequence[Candidate], key: str, draw: Any) -> list[tuple[Candidate, str]]:
    """A panel for each candidate that has what the panel shows."""
    return [(each, draw(number, each)) for number, each in enumerate(candidates) if each[key]]


def _recalls(classes: Sequence[Mapping[str, Any]], candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """A chart for each group of classes that is not empty, or one for all where there are no groups."""
    if any(each["group"] is None for each in classes):
        groups = [("all", "All classes", list(classes))]
    else:
        groups = [(key, name, [each for each in classes if each["group"] == key]) for key, name in GROUPS.items()]
    return [
        {
            "name": name,
            "classes": members,
            "means": [(each["name"], (each["groups"].get(key) or {}).get("mean")) for each in candidates[:2]],
            "chart": charts.recall(f"chart-recall-{key}", members, candidates, f"Recall of {name.lower()}"),
        }
        for key, name, members in groups
        if members
    ]


def scale_of(candidates: Sequence[Candidate]) -> tuple[float, float]:
    """Round numbers between which all validation curves lie."""
    seen = [value for each in candidates if each["curve"] for value in each["curve"]["validation"] if value is not None]
    low, high = min(seen, default=0.0), max(seen, default=1.0)
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    spaced = ticks(low, high, 5)
    step = spaced[1] - spaced[0] if len(spaced) > 1 else high - low
    places = digits([0.0, step]) if len(spaced) > 1 else 2
    low = spaced[0] - step if spaced[0] > low else spaced[0]
    high = spaced[-1] + step if spaced[-1] < high else spaced[-1]
    return round(low, places), round(high, places)


def in_words(name: str) -> str:
    """`balanced_accuracy` as `balanced accuracy`, `macro_f1` as `macro F1`, `map_at_r` as `MAP@R`."""
    spelled = {**SPELLED, **ABBREVIATED}
    return spelled.get(name, re.sub(r"\bf1\b", "F1", name.replace("_", " ")))


def _sentence(words: str) -> str:
    """With a capital at the beginning, and all else as it is."""
    return words[:1].upper() + words[1:]


def _metric_head(name: str) -> str:
    """A metric's name at the head of a column, with an arrow where less is better."""
    words = in_words(name)
    return _sentence(words) + (" ↓" if words in LOWER_IS_BETTER else "")


def _number(value: float | None, places: int = 3) -> str:
    """Three digits after the point, fewer for a large number, a dash for none."""
    if value is None:
        return "–"
    return f"{value:.{places if abs(value) < 10 else 1}f}".replace("-", "−")


def _half_width(estimate: Mapping[str, float | None], places: int = 3) -> str:
    """` ± 0.014`, or nothing where there is no interval."""
    mean, high = estimate.get("mean"), estimate.get("high")
    if mean is None or high is None:
        return ""
    return f" ± {_number(high - mean, places if abs(mean) < 10 else 1)}"  # no more digits than the mean has


def _probability(value: float | None) -> str:
    """A p-value; no more than three digits of it say anything."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _unbroken_options(words: str) -> Markup:
    """A text whose `--options` stay whole: a browser would break the line after their hyphens."""
    return Markup(re.sub(r"(--[a-z-]+)", r'<code class="whole">\1</code>', str(escape(words))))  # noqa: S704  # escaped before


def _breakable(name: str) -> Markup:
    """A name that may be broken after `_`, `/` and a hyphen that is no minus, and reads and copies as before."""
    return Markup("<wbr>").join(re.split(r"(?<=[_/])|(?<=-)(?!\d)", name))
