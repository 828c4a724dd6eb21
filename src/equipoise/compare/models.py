"""The two models that losses are compared on."""

from __future__ import annotations

from typing import Literal

from torch import nn

Name = Literal["linear", "mlp"]
HIDDEN = 64


def build(name: Name, inputs: int, outputs: int) -> nn.Module:
    """A linear model, or one hidden layer of 64 with ReLU; initialised from torch's global generator."""
    if name == "linear":
        return nn.Linear(inputs, outputs)
    return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs))


def output_layer(model: nn.Module) -> nn.Linear:
    """The layer that gives the scores."""
    layer = model[-1] if isinstance(model, nn.Sequential) else model
    assert isinstance(layer, nn.Linear)
    return layer


def describe(name: Name) -> str:
    """The model in words."""
    return "linear model" if name == "linear" else f"one hidden layer of {HIDDEN}"
