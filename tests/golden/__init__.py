"""Golden values: computed once with 50-digit arithmetic by a script that shares nothing with this project.

Each JSON file is a list of cases: `loss` (a public name), `kwargs` or `init` (the options of the function or module),
`input`, `target`, then `value` (reduction "none"), `grad_of_sum` (gradient of the sum with respect to the input) and,
for some, `mean`. In weights.json, `args` and the normalised weights.
"""

import json
from pathlib import Path

import pytest

# The smallest value that is exact. Below 1e-300 a value may be stored as 0. The softmax cases form 1 - p by
# subtraction, so that 50 digits leave nothing of a 1 - p below 1e-50; every value that this spoils is below 1e-60.
SMALLEST = {"sigmoid": 1e-300, "softmax": 1e-60, "ghm": 1e-300, "class_balanced": 1e-300, "weights": 0.0}


def load(name):
    return json.loads((Path(__file__).parent / f"{name}.json").read_text())


def parameters(name):
    """The cases of one file as pytest parameters, each with an id that says its loss and options."""
    return [pytest.param(case, id=f"{number}-{describe(case)}") for number, case in enumerate(load(name))]


def describe(case):
    options = case.get("kwargs") or case.get("init") or case["args"]
    said = [f"{key}={short(value)}" for key, value in options.items() if value is not None and key != "reduction"]
    if "target" in case:
        said.append("rows" if any(isinstance(y, list) for y in case["target"]) else f"target={case['target'][0]}")
    return "-".join([case["loss"], *said])


def short(value):
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
