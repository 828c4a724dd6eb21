"""Peak memory of one step in a fresh process: `python -m benchmarks.memory PAIR ours|peer THREADS`.

The process makes the input and warms up on a small one, then notes its resident memory and resets the system's
high-water mark (Linux: `/proc/self/clear_refs`). One step follows; the mark minus the note, minus the gradient that
any loss must leave behind, is the extra memory. Elsewhere the mark cannot be reset; the process's highest so far, which
holds making the input, stands in for the note, and the figure is a lower bound.
"""

from __future__ import annotations

import ctypes
import gc
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from .inputs import Task, make
from .pairs import PAIRS
from .timing import Side

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
PROJECT = Path(__file__).parent.parent


def measured(name: str, side: str, threads: int) -> dict[str, Any]:
    """Extra memory in bytes of one side of a pair, from a process of its own; `failed` where it did not come back."""
    command = [sys.executable, "-m", "benchmarks.memory", name, side, str(threads)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        return {"failed": last[0]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main(name: str, side: str, threads: int) -> dict[str, Any]:
    """What `measured` reads: the extra memory of one step."""
    torch.set_num_threads(threads)
    pair = next(pair for pair in PAIRS if pair.name == name)
    contender = pair.ours if side == "ours" else pair.peer
    small = Task(pair.task.kind, (8, pair.task.shape[1]))
    loss = contender.build(pair.task)
    Side(loss, *make(small)).step()
    subject = Side(loss, *make(pair.task))
    if contender.compiles:  # for this very size
        subject.step()
        subject.scores.grad = None
    _give_back_free_memory()
    before = _reset()
    subject.step()
    peak = _peak()
    gradient = subject.scores.numel() * subject.scores.element_size()
    return {"extra": peak - before - gradient, "gradient": gradient, "elements": pair.task.elements}


def _give_back_free_memory() -> None:
    """What lies free in the process would be used again unseen (glibc keeps blocks of megabytes)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform != "win32" else None
    if trim:
        trim(0)


def _reset() -> int:
    """The bytes resident now; the high-water mark is set down to them where the system lets us."""
    if not RESET.exists():
        return _peak()
    RESET.write_text("5", encoding="ascii")
    return _field("VmRSS")


def _peak() -> int:
    """The most bytes that were ever resident."""
    if STATUS.exists():
        return _field("VmHWM")
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _field(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(encoding="ascii"), flags=re.MULTILINE)
    assert found, f"{STATUS} has no {name}"
    return 1024 * int(found[1])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))) + "\n")
