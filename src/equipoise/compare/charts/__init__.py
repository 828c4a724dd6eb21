"""The charts of the report: pure functions from parts of a comparison's document to SVG as text.

Whatever may be null in the document may be null here: an interval is then a point, a line has a gap, a chart of nothing
is an empty text.
"""

from __future__ import annotations

from .classes import recall, tail
from .intervals import intervals
from .panels import calibration, gradient_norms, training
from .weights import weights

__all__ = ["calibration", "gradient_norms", "intervals", "recall", "tail", "training", "weights"]
