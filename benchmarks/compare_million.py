"""`equipoise compare` on a CSV of a million rows: time and peak memory of the profile, and of a whole comparison.

`python -m benchmarks.compare_million` writes `benchmarks/results/compare_million.json`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from . import machine

RESULT = Path(__file__).with_name("results") / "compare_million.json"
ROWS, NUMBERS, WORDS = 1_000_000, 16, 4
POSITIVES = 0.02
COMPARISON = ["--losses=sigmoid_focal", "--seeds=2", "--trials=1", "--epochs=1"]
PROFILE = """
import sys
from equipoise.compare.preparation import prepare
from equipoise.compare.study import Request
prepare(Request(data=sys.argv[1]))
"""


def write(path: Path) -> None:
    """Numbers with two digits after the point, words of up to a thousand values, and a target that depends on both."""
    generator = np.random.default_rng(0)
    table: dict[str, Any] = {f"x{index}": generator.normal(size=ROWS).round(2) for index in range(NUMBERS)}
    words = np.array([f"word{index}" for index in range(1000)])
    table |= {f"c{index}": words[generator.integers(0, 10 ** (index % 3 + 1), ROWS)] for index in range(WORDS)}
    score = table["x0"] + table["x1"] + generator.normal(size=ROWS)
    table["y"] = np.where(score > np.quantile(score, 1 - POSITIVES), "yes", "no")
    pd.DataFrame(table).to_csv(path, index=False)


def measured(command: list[str]) -> dict[str, float]:
    """Seconds and peak memory of a process and those that it starts, the largest of them."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_gibibytes_of_the_largest_process_so_far": round(after.ru_maxrss / 2**20, 2),
    }


def run() -> None:
    """Measure, and write the result."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "million.csv"
        write(path)
        result = {
            "table": {"rows": ROWS, "numbers": NUMBERS, "words": WORDS, "megabytes": round(path.stat().st_size / 1e6)},
            "profile": measured(["-c", PROFILE, str(path)]),
            "comparison": {
                "options": COMPARISON,
                **measured(["-m", "equipoise", "compare", str(path), *COMPARISON, f"--out={folder}/out"]),
            },
            "machine": machine.described(threads=1),
        }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    run()
