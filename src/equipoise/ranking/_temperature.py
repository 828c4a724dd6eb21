"""A temperature: a number, or a parameter that is learned."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import checks
from ..checks import Scalar


def hold_temperature(temperature: Scalar) -> Tensor | float:
    """What a module keeps: a parameter as it is, anything else as a number."""
    found = checks.above_zero("temperature", temperature)
    return found if isinstance(found, torch.nn.Parameter) else float(found)


def temperature_of(temperature: Scalar, like: Tensor) -> Tensor | float:
    """The checked temperature in the precision of `like`."""
    found = checks.above_zero("temperature", temperature)
    return found.to(like.dtype) if isinstance(found, Tensor) else found
