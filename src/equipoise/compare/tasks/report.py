"""What the report of several tasks shows: charts of the document, for the template `tasks.html`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import charts
from ..charts.weights import LOOKS, shares_of
from ..report import DATA, PROTOCOL, headline, panels, scale_of
from .candidates import EQUAL

# What a document may lack: an older one, or one of a run that left something out.
CANDIDATE = {
    "plain": False,
    "against_constant": None,
    "milliseconds_per_step": None,
    "chosen": None,
    "trials": None,
    "curve": None,
    "weights": None,
}

Candidate = Mapping[str, Any]


def complete(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with nothing absent."""
    return {
        **document,
        "candidates": [{**CANDIDATE, **each} for each in document["candidates"]],
        "data": {**DATA, **document["data"]},
        "protocol": {**PROTOCOL, **document["protocol"]},
    }


def drawn(document: Mapping[str, Any]) -> dict[str, Any]:
    """The charts, by the names that the template has for them. They have escaped what comes from the data."""
    candidates, tasks = document["candidates"], document["problem"]["tasks"]
    others = candidates[1:]
    plain = next((each for each in candidates if each["name"] == EQUAL), candidates[0])
    # Candidates come from best to worst: the first of the constant weights is the reference of the balancers.
    constant = next((each["name"] for each in others if each["plain"]), None)
    beside_constant = [{**each, "difference": each["against_constant"]} for each in others if not each["plain"]]
    scale = scale_of(candidates)
    return {
        "headline": headline(document),
        "yardstick": "single-task models",
        "reference": EQUAL,
        "one": "way",
        "constant": constant,
        "best": next(iter(others), None),
        "looks": LOOKS,
        "intervals": charts.intervals(candidates, "Δm in per cent", yardstick="single-task models", places=1),
        "beside_constant": beside_constant,
        "against_constant": charts.intervals(
            beside_constant,
            "Δm in per cent",
            yardstick="constant weights",
            identity="chart-constant",
            places=1,
        ),
        "by_task": [(task, _of_task(number, task, others)) for number, task in enumerate(tasks)],
        "shares": [(each, shares_of(each["weights"])) for each in candidates if each["weights"]],
        "panels": {
            "training": panels(
                candidates, "curve", lambda n, each: charts.training(n, each, plain, scale, "geometric mean")
            ),
            "weights": panels(candidates, "weights", lambda n, each: charts.weights(n, each["name"], each["weights"])),
            "calibration": [],
            "gradient_norms": [],
        },
    }


def _of_task(number: int, task: Mapping[str, Any], others: Sequence[Candidate]) -> str:
    """What became of one task, candidate by candidate."""
    changes = [{"name": each["name"], "difference": each["tasks"][task["name"]]["change"]} for each in others]
    return charts.intervals(
        changes,
        f"{task['metric_in_words']} of {task['name']}, in per cent and larger for better,",
        yardstick="single-task model",
        identity=f"chart-task-{number}",
        places=1,
    )
