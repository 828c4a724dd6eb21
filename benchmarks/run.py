"""Runs pairs and gathers what they say. One pair that fails leaves the others alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from . import memory, timing
from .goals import BOUND, MEMORY_PAIRS
from .inputs import make
from .pairs import LARGEST, PAIRS, Pair
from .timing import Patience, Side

MEMORY_SIZES = ("4 M", "[4096, 1000]")
Say = Callable[[str], None]


def chosen(pattern: str | None, quick: bool) -> list[Pair]:
    """The pairs whose name holds `pattern`; a quick run leaves out the largest that carry no goal."""
    found = [pair for pair in PAIRS if pattern is None or pattern.lower() in pair.name.lower()]
    if quick and pattern is None:
        return [pair for pair in found if pair.task.elements < LARGEST or pair.name in BOUND]
    return found


def timed(pair: Pair, patience: Patience) -> dict[str, Any]:
    """What is known of a pair after timing it, or why it was not timed."""
    entry = {
        "pair": pair.name,
        "loss": pair.loss,
        "size": pair.size,
        "shape": list(pair.task.shape),
        "ours": pair.ours.name,
        "peer": pair.peer.name,
        "package": pair.peer.package,
        "table": pair.table,
        "differs": pair.differs,
    }
    try:
        return {**entry, **_measured(pair, patience)}
    except ImportError as missing:
        return {**entry, "status": "not installed", "why": str(missing)}
    except Exception as failure:  # a peer may raise anything, and the run goes on
        first = str(failure).strip().splitlines()[:1]
        return {**entry, "status": "failed", "why": f"{type(failure).__name__}: {' '.join(first)}"}


def _measured(pair: Pair, patience: Patience) -> dict[str, Any]:
    functions = [contender.build(pair.task) for contender in (pair.ours, pair.peer)]
    scores, target = make(pair.task)
    ours, peer = (Side(function, scores, target) for function in functions)
    result: dict[str, Any] = {}
    if pair.differs is None:
        result["disagreement"] = timing.disagreement(ours, peer)
        if result["disagreement"] > timing.TOLERANCE:
            why = f"value or gradient lie {result['disagreement']:.1e} apart"
            return {**result, "status": "not timed: results differ", "why": why}
    mine, theirs, calls = timing.time_in_turn(ours.seconds, peer.seconds, patience)
    return {**result, "status": "timed", **timing.summary(mine, theirs), "calls": calls}


def remembered(pairs: Iterable[Pair], entries: dict[str, dict[str, Any]], threads: int, say: Say) -> dict[str, Any]:
    """Peak memory of each side, once for each loss and peer at 4 M scores, and at the sizes of the memory goal.

    Args:
        pairs: the pairs that were run.
        entries: what timing said of them; a pair that was not timed is left out.
        threads: of torch.
        say: told each figure.

    Returns:
        By the pair's name, `ours` and `peer`, each with `name`, `extra`, `gradient` and `elements`, or `failed`.
    """
    found: dict[str, Any] = {}
    seen: set[tuple[str, object]] = set()
    for pair in pairs:
        if entries[pair.name]["status"] != "timed":
            continue
        if pair.size not in MEMORY_SIZES and pair.name not in MEMORY_PAIRS:
            continue
        for side, contender in (("ours", pair.ours), ("peer", pair.peer)):
            if (contender.name, pair.task) in seen:
                continue
            seen.add((contender.name, pair.task))
            result = {"name": contender.name, **memory.measured(pair.name, side, threads)}
            found.setdefault(pair.name, {})[side] = result
            say(f"memory {pair.name} {side}: {result.get('failed') or per_score(result)}")
    return found


def per_score(result: dict[str, Any]) -> str:
    """Extra memory of a side, in bytes for each score."""
    return f"{result['extra'] / result['elements']:.2f} bytes/score"
