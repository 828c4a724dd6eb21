"""The figures of the papers, drawn from the losses themselves: curves of loss and gradient."""

from __future__ import annotations

from .curves import Curve, CurveError, curves, gammas
from .files import write

__all__ = ["Curve", "CurveError", "curves", "gammas", "write"]
