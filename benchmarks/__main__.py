"""`python -m benchmarks`: times the pairs, prints the tables, writes them with the figures and a plot."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from . import goals, machine, plot, report, run
from .pairs import PAIRS, Pair
from .timing import FULL, QUICK

RESULTS = Path(__file__).parent / "results"


def say(text: str) -> None:
    """Progress, apart from the result."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Times the losses beside named peers.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and few of the largest sizes")
    parser.add_argument("--only", metavar="PATTERN", help="pairs whose name holds PATTERN (see --list)")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads of torch (default: 2)")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, metavar="DIR", help="where to write (default: %(default)s)"
    )
    parser.add_argument("--list", action="store_true", help="list the pairs and the peers' versions, and stop")
    chosen = parser.parse_args(arguments)
    if chosen.threads < 1:
        parser.error(f"--threads must be at least 1, got {chosen.threads}")
    if chosen.only is not None and not run.chosen(chosen.only, quick=False):
        parser.error(f"no pair's name holds {chosen.only!r}; `--list` shows all of them")
    if chosen.out.exists() and not chosen.out.is_dir():
        parser.error(f"--out must be a folder, and {chosen.out} is none")
    return chosen


def listing() -> str:
    """The names of all pairs with their goals, and the peers' versions."""
    limits = {name: goal.limit for goal in goals.GOALS for name in goal.pairs}
    lines = [pair.name + (f"  (goal: {limits[pair.name]:g})" if pair.name in limits else "") for pair in PAIRS]
    versions = [f"{name}: {machine.installed(name) or 'not installed'}" for name in machine.PEERS]
    return "\n".join([*lines, "", *versions]) + "\n"


def measure(pairs: list[Pair], threads: int, quick: bool) -> dict[str, Any]:
    """Runs the pairs; what the JSON file holds."""
    torch.set_num_threads(threads)
    entries: dict[str, dict[str, Any]] = {}
    for place, pair in enumerate(pairs, start=1):
        entry = entries[pair.name] = run.timed(pair, QUICK if quick else FULL)
        ratio = f"{entry['ratio']['median']:.3f}" if "ratio" in entry else f"{entry['status']}: {entry['why']}"
        say(f"[{place}/{len(pairs)}] {pair.name}: {ratio}")
    memory = run.remembered(pairs, entries, threads, say)
    return {
        "format": 1,
        "machine": machine.described(threads),
        "quick": quick,
        "goals": goals.judged(entries),
        "memory_goal": goals.growth(memory),
        "pairs": list(entries.values()),
        "memory": memory,
    }


def write(results: dict[str, Any], out: Path, name: str) -> None:
    """JSON, Markdown and the plot."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (out / f"{name}.md").write_text(report.markdown(results), encoding="utf-8")
    try:
        plot.draw(results, out / name)
    except ImportError:
        say("no plot: matplotlib is not installed")


def main(arguments: list[str] | None = None) -> int:
    """Exit status 1 says that a pair failed or its sides disagreed; a missed goal is a result like any other."""
    chosen = options(arguments)
    if chosen.list:
        sys.stdout.write(listing())
        return 0
    results = measure(run.chosen(chosen.only, chosen.quick), chosen.threads, chosen.quick)
    parts = (machine.slug(results["machine"]), "quick" if chosen.quick else "", "part" if chosen.only else "")
    name = "-".join(part for part in parts if part)
    write(results, chosen.out, name)
    sys.stdout.write(report.markdown(results) + f"\n{chosen.out / name}.md\n")
    return int(any(entry["status"] not in ("timed", "not installed") for entry in results["pairs"]))


if __name__ == "__main__":
    sys.exit(main())
