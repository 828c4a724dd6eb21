"""The models that losses are compared on: two of our own, or one that the person brings."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .errors import CompareError

HIDDEN = 64
# What stands in for a model where the features are used as they are.
NONE = "none"
LEARNING_RATE = {"linear": 1e-2, "mlp": 3e-3}
# What AdamW's users start from.
USUAL_LEARNING_RATE = 1e-3


def build(name: str, inputs: int, outputs: int) -> nn.Module:
    """A linear model, one hidden layer of 64 with ReLU, or what `module:factory` gives; from torch's global generator.

    Raises:
        CompareError: where a person's factory cannot be found, or gives something else than a model.
    """
    if name == NONE:
        return nn.Identity()
    if name == "linear":
        return nn.Linear(inputs, outputs)
    if name == "mlp":
        return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs))
    model = _factory(name)(inputs, outputs)
    if not isinstance(model, nn.Module):
        raise CompareError(f"--model {name} gave {type(model).__name__}, expected a torch.nn.Module")
    return model


def check(name: str, inputs: int, outputs: int) -> None:
    """Make sure before the first training that a person's model takes the features and gives the scores.

    Raises:
        CompareError: where it does not.
    """
    if name in LEARNING_RATE:
        return
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            model = build(name, inputs, outputs)
            shape = list(model(torch.zeros(3, inputs)).shape)
    except CompareError:
        raise
    except Exception as error:  # whatever a person's code may raise
        raise CompareError(f"--model {name}, called with ({inputs}, {outputs}), failed: {error!r}") from error
    if shape != [3, outputs]:
        raise CompareError(f"--model {name} gave scores {shape} for 3 rows, expected [3, {outputs}]")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise CompareError(f"--model {name} has no parameters to train")


def source(name: str) -> bytes:
    """What decides a model beside its name: the source of a person's module and of what it imports beside it."""
    if name in LEARNING_RATE:
        return b""
    _factory(name)
    path = getattr(sys.modules[name.partition(":")[0]], "__file__", None)
    if path is None:
        return b""
    beside = Path(path).resolve().parent  # what a module imports from its own folder decides, too
    files = {Path(file).resolve() for each in tuple(sys.modules.values()) if (file := getattr(each, "__file__", None))}
    return b"".join(each.read_bytes() for each in sorted(files) if beside in each.parents and each.is_file())


def output_layer(model: nn.Module) -> nn.Linear | None:
    """The layer that gives the scores: the last one, where it is linear with a bias."""
    layers = list(model.modules())
    layer = layers[-1]
    return layer if isinstance(layer, nn.Linear) and layer.bias is not None else None


def default_learning_rate(name: str) -> float:
    """Where the trials start from."""
    return LEARNING_RATE.get(name, USUAL_LEARNING_RATE)


def describe(name: str) -> str:
    """The model in words."""
    return {"linear": "linear model", "mlp": f"one hidden layer of {HIDDEN}"}.get(name, f"your own model, {name}")


def _factory(name: str) -> Any:
    """The callable that `module:factory` names; the module may lie in the current folder."""
    module, colon, attribute = name.partition(":")
    if not (colon and module and attribute):
        raise CompareError(
            f"--model {name!r} is none of {', '.join(LEARNING_RATE)}, and not of the form module:factory"
        )
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:  # whatever importing a person's code may raise
        raise CompareError(f"--model {name}: cannot import {module}: {error!r}") from error
    if not callable(factory):
        raise CompareError(f"--model {name}: {module} has no callable {attribute!r}")
    return factory
