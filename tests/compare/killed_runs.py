"""Runs comparisons in forked processes, kills each at a random moment, and goes on: `killed_runs.py TABLE FOLDER RUNS`.

Forked after a first run, so that each has its imports behind it and the moment falls into the work. Prints a JSON list:
the results of an unbroken run, then for each killed one how many trainings it had finished, the results after it went
on, and how many unfinished files it left.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

from equipoise.cli import main

OPTIONS = ["--losses=softmax_focal", "--seeds=2", "--trials=2", "--epochs=2", "--workers=1"]


def run(out: Path) -> int:
    """A comparison into a folder, without a word."""
    with redirect_stdout(io.StringIO()):
        return main(["compare", sys.argv[1], *OPTIONS, "--out", str(out)])


def start(out: Path) -> int:
    """The process of a comparison into a folder."""
    return os.fork() or os._exit(run(out))


def finish(out: Path) -> dict[str, object]:
    """Run to the end and return what is in the results but for times and dates."""
    assert run(out) == 0
    document = json.loads((out / "results.json").read_text())
    for candidate in document["candidates"]:
        del candidate["seconds"], candidate["milliseconds_per_step"]
    for name in ("finished", "report", "command"):
        del document[name]
    return document


def killed_runs() -> None:
    """All of it, as JSON."""
    folder, runs = Path(sys.argv[2]), int(sys.argv[3])
    finish(folder / "first")
    began = time.monotonic()
    whole = finish(folder / "whole")
    length = time.monotonic() - began
    moments = random.Random(int.from_bytes(os.urandom(4), "big"))
    found = []
    for index in range(runs):
        out = folder / str(index)
        child = start(out)
        time.sleep(moments.random() * length)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        left = len(list(out.glob("runs/*.json")))
        found.append([left, finish(out), len(list(out.rglob("*.unfinished")))])
    sys.stdout.write(json.dumps([whole, found]))


if __name__ == "__main__":
    killed_runs()
