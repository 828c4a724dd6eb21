"""The goals: what each asks for, of which pairs, and whether a run met them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from equipoise.catalog import CARDS


@dataclass(frozen=True)
class Goal:
    """A bound on the median ratio, ours over the peer's.

    Attributes:
        statement: the goal in words.
        limit: the largest median ratio that meets it.
        pairs: the names of the pairs it binds, all of them.
    """

    statement: str
    limit: float
    pairs: tuple[str, ...]


def _smallest() -> tuple[str, ...]:
    cards = [card for card in CARDS if card.kind in ("elementwise", "rows")]
    rows = tuple(f"{card.name}/[32,8]/torch_ce" for card in cards if card.op_family == "rowwise")
    return tuple(f"{card.name}/256/torch_bce" for card in cards if card.op_family != "rowwise") + rows


GOALS: tuple[Goal, ...] = (
    Goal("sigmoid focal, 4 M, against torch plain BCE", 0.33, ("sigmoid_focal/4M/torch_bce",)),
    Goal("sigmoid focal, 4 M, against torchvision's formula", 0.10, ("sigmoid_focal/4M/torchvision",)),
    Goal("sigmoid focal, 4 M, against torch.compile of eager", 0.35, ("sigmoid_focal/4M/torch_compile",)),
    Goal(
        "softmax focal, [16384, 100] and [4096, 1000], against torch plain cross_entropy",
        0.50,
        ("softmax_focal/[16384,100]/torch_ce", "softmax_focal/[4096,1000]/torch_ce"),
    ),
    Goal(
        "softmax focal, [1024, 32000], against torch plain cross_entropy",
        0.60,
        ("softmax_focal/[1024,32000]/torch_ce",),
    ),
    Goal("GHM-C, 1 M, 30 bins, against mmdet's loop", 0.04, ("ghm_c/1M/mmdet",)),
    Goal(
        "class-balanced sigmoid focal, multi-label [4096, 1000], against balanced-loss",
        0.15,
        (
            "class_balanced_sigmoid_focal_multilabel/[4096,1000]/balanced_loss",
            "class_balanced_sigmoid_focal_classes/[4096,1000]/balanced_loss",
        ),
    ),
    Goal("softmax focal, [65536, 10], against torch plain cross_entropy", 0.50, ("softmax_focal/[65536,10]/torch_ce",)),
    Goal("sigmoid focal, gamma 1.7, 4 M, against torch plain BCE", 0.50, ("sigmoid_focal_gamma_1.7/4M/torch_bce",)),
    Goal("any loss, 256 elements, and softmax [32, 8], against torch plain BCE or CE", 1.3, _smallest()),
)

MEMORY_GOAL = "extra memory of sigmoid focal over the input's own gradient: none that grows with the input"
MEMORY_PAIRS = ("sigmoid_focal/4M/torch_bce", "sigmoid_focal/32M/torch_bce")
GROWTH_LIMIT = 0.04
"""Bytes per score that count as none: a hundredth of a float32, as much as the system's page counts are unsure of."""

BOUND = frozenset(name for goal in GOALS for name in goal.pairs)


def judged(measured: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each goal and each pair it binds.

    Args:
        measured: what was timed, by the pair's name.

    Returns:
        For each: `goal`, `limit`, `pair`, `median` (None where it was not measured) and `verdict`.
    """
    lines = []
    for goal in GOALS:
        for name in goal.pairs:
            median = measured.get(name, {}).get("ratio", {}).get("median")
            verdict = "not measured" if median is None else verdict_of(median, goal.limit)
            lines.append(
                {"goal": goal.statement, "limit": goal.limit, "pair": name, "median": median, "verdict": verdict}
            )
    return lines


def verdict_of(median: float, limit: float) -> str:
    """`met`, or by how much the goal was missed."""
    return "met" if median <= limit else f"missed: {median / limit:.2f} times the goal"


def growth(memory: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The line of the memory goal: how many bytes each further score takes beyond the gradient's own."""
    small, large = (memory.get(name, {}).get("ours", {}) for name in MEMORY_PAIRS)
    line: dict[str, Any] = {"goal": MEMORY_GOAL, "limit": GROWTH_LIMIT, "bytes_per_score": None}
    if "extra" not in small or "extra" not in large:
        return {**line, "verdict": "not measured"}
    slope = (large["extra"] - small["extra"]) / (large["elements"] - small["elements"])
    verdict = "met" if slope <= GROWTH_LIMIT else f"missed: {slope:.2f} bytes for each score"
    return {**line, "bytes_per_score": slope, "extra": large["extra"], "verdict": verdict}
