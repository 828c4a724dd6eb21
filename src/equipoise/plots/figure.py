"""The figure of curves. It needs matplotlib, the extra `plots`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .curves import Curve

# Okabe and Ito's colours, which colour-blind people tell apart; the yellow is too pale for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
BINS = 40
LETTER = 0.075
"""How wide a letter of the legend is, in inches."""
LEAST = 1e-3
"""The least weight that is shown: focal loss gives the easiest examples next to none."""
SETTINGS: Any = {
    "svg.hashsalt": "equipoise",  # the same curves give the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "font.size": 9,
    "axes.titlesize": 10,
}


def figure(curves: Sequence[Curve], to: str, kind: str) -> None:
    """Draw loss and gradient, and the weight where it depends on the batch.

    Args:
        curves: all of scores, or all of residuals.
        to: the path of the file.
        kind: `png` or `svg`.
    """
    regression = curves[0].probability is None
    harmonized = [each for each in curves if each.harmonizes]
    columns = (1 if regression else 2) + bool(harmonized)
    wide = 3.4 * columns + 0.4
    across = max(1, min(len(curves), int(wide / max(0.8 + LETTER * len(each.name) for each in curves))))
    with mpl.rc_context(SETTINGS):
        page = Figure(figsize=(wide, 5.4 + 0.2 * math.ceil(len(curves) / across)), layout="constrained")
        axes = page.subplots(2, columns, squeeze=False)
        lines = [_draw(each, axes, bool(harmonized), number) for number, each in enumerate(curves)]
        names = ["residual"] if regression else ["probability of the true class", "logit of the true class"]
        for column, name in enumerate(names):
            axes[0, column].set(xlabel=name, ylabel="loss")
            axes[1, column].set(xlabel=name, ylabel=f"gradient by the {'residual' if regression else 'logit'}")
        if harmonized:
            _name_batch(axes[0, -1], axes[1, -1], harmonized[0])
        page.legend(handles=lines, loc="outside lower center", ncols=across, frameon=False)
        title = f"Loss and gradient: {'; '.join(each.name for each in curves)}"
        page.savefig(to, format=kind, dpi=160, metadata={"Title": title} | ({"Date": None} if kind == "svg" else {}))


def _draw(curve: Curve, axes: Any, harmonized: bool, number: int) -> Line2D:
    """One curve in every panel; what stands for it in the legend."""
    look = {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)], "linewidth": 1.6}
    places = ([] if curve.probability is None else [curve.probability]) + [curve.score]
    for column, place in enumerate(places):
        axes[0, column].plot(place.numpy(), curve.loss.numpy(), **look)
        axes[1, column].plot(place.numpy(), curve.gradient.numpy(), **look)
    if harmonized:
        norm, order = curve.norm.sort()
        axes[0, -1].plot(norm.numpy(), curve.weight[order].numpy(), **look)
    return Line2D([], [], label=curve.name, **look)


def _name_batch(weights: Axes, shares: Axes, curve: Curve) -> None:
    """Name the axes of the weights, and show how many elements of the batch have which gradient norm."""
    norms = curve.norm.numpy()
    edges = np.linspace(0, 1, BINS + 1)
    shares.hist(norms, bins=edges.tolist(), weights=np.full(len(norms), 1 / len(norms)), color="#8a939b")
    weights.set(xlabel="gradient norm", ylabel="weight", yscale="log")
    weights.set_ylim(bottom=max(LEAST, weights.get_ylim()[0]))
    shares.set(xlabel="gradient norm", ylabel="share of the batch", yscale="log")
    for axis in (weights.yaxis, shares.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
