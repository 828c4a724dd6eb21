"""What each task's loss weighed, epoch by epoch, one panel per way to weigh."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from . import svg
from .panels import LEFT, RIGHT, WIDTH, ends, foot, frame
from .svg import polyline, text

LOOKS = 6
"""Tasks whose lines look different; further ones begin again."""
TOP, BOTTOM = 18, 118

Weights = Mapping[str, Sequence[float | None]]


def weights(number: int, name: str, by_task: Weights) -> str:
    """The share of each task in the sum of the weights; the scale of all together is left to the optimizer.

    Args:
        number: of the panel.
        name: of the candidate.
        by_task: of each task, epoch by epoch.
    """
    shares = shares_of(by_task)
    epochs = max((len(each) for each in shares.values()), default=0)
    wide = max(epochs - 1, 1)
    drawn = [frame(TOP, BOTTOM)]
    for position, values in enumerate(shares.values()):
        points: list[tuple[float, float | None]] = [
            (LEFT + (RIGHT - LEFT) * epoch / wide, None if share is None else BOTTOM - (BOTTOM - TOP) * share)
            for epoch, share in enumerate(values)
        ]
        drawn.append(polyline(points, f"line task-{position % LOOKS}"))
    drawn += [
        text("share of the weights", LEFT, 11, look="tick"),
        *ends(TOP, BOTTOM, "0", "1"),
        *foot(132, "1", "epoch", f"{epochs}"),
    ]
    says = "; ".join(_in_words(task, values) for task, values in shares.items())
    return svg.picture(
        f"chart-weights-{number}", f"Weights of {name}", f"{says or 'No task'}.", drawn, height=136, width=WIDTH
    )


def shares_of(by_task: Weights) -> dict[str, list[float | None]]:
    """Each weight over the sum of all tasks' in its epoch; None where one is missing or their sum is not above 0."""
    found: dict[str, list[float | None]] = {task: [] for task in by_task}
    for epoch in zip(*by_task.values(), strict=True):
        known = [each for each in epoch if each is not None and math.isfinite(each)]
        total = math.fsum(known) if len(known) == len(epoch) else 0.0
        for task, each in zip(found, epoch, strict=True):
            found[task].append(each / total if each is not None and total > 0 else None)
    return found


def _in_words(task: str, shares: Sequence[float | None]) -> str:
    known = [share for share in shares if share is not None]
    return f"{task} from {known[0]:.2f} to {known[-1]:.2f}" if known else f"{task} unknown"
