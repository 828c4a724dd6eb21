"""`python -m benchmarks.gpu`: the losses on one GPU beside named peers, and beside what the GPU can move.

First the bytes that each loss must move and the operations it must do, then the bandwidth that a copy reaches, then the
times, A B A B, forward and backward; the table comes last and goes into benchmarks/results with device and versions.
`--rehearse` runs the same on the CPU with small inputs: it shows that the script works, and says nothing of speed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise import kernels

from . import machine, timing
from .gpu_contests import Contest, LossFunction, Problem, contests
from .report import table

RESULTS = Path(__file__).parent / "results"
ROUNDS = 30
WARM = 0.3  # seconds of steps before any is timed: a GPU that idled runs at a low clock
AHEAD = 5_000_000  # cycles, some 3 ms, that the GPU is kept busy while the host prepares what is timed
LANES = 128  # of a multiprocessor, each one instruction a cycle


# ---- measuring ---------------------------------------------------------------------------------------------------


class Side:
    """One loss with its own copy of what gradients are wanted of."""

    def __init__(self, loss: LossFunction, problem: Problem) -> None:
        self.loss, self.target = loss, problem.target
        self.leaves = [leaf.clone().requires_grad_() for leaf in problem.leaves]

    def step(self) -> Tensor:
        """Forward and backward, to fresh gradients."""
        for leaf in self.leaves:
            leaf.grad = None
        value = self.loss(*self.leaves, self.target)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    def memory(self) -> int:
        """The most bytes that a step has beside what it is given, its gradients among them."""
        for leaf in self.leaves:
            leaf.grad = None
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self.step()
        return torch.cuda.max_memory_allocated() - before


def disagreement(first: Side, second: Side) -> float:
    """How far values and gradients lie apart, each relative to its size; the largest of them."""
    values = first.step().detach(), second.step().detach()
    gradients = [(mine.grad, theirs.grad) for mine, theirs in zip(first.leaves, second.leaves, strict=True)]
    return timing.apart([values, *gradients])  # type: ignore[list-item]


def milliseconds(step: Callable[[], Any], on_gpu: bool) -> float:
    """The time of one step, by the GPU's own clock.

    The GPU sleeps first, so that all of a step that waits for nothing is in its queue when the clock starts: else the
    time of a quick loss would be that of Python on its way to the first launch.
    """
    if not on_gpu:
        start = time.perf_counter()
        step()
        return 1e3 * (time.perf_counter() - start)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(AHEAD)
    begin.record()
    step()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


def in_turn(steps: list[Callable[[], Any]], on_gpu: bool) -> list[list[float]]:
    """Milliseconds of every step in every round, after as many as it takes to warm up."""
    for step in steps:
        start, done = time.perf_counter(), 0
        while done < 3 or (on_gpu and time.perf_counter() - start < WARM):
            step()
            done += 1
            if on_gpu:
                torch.cuda.synchronize()
    rounds = [[milliseconds(step, on_gpu) for step in steps] for _ in range(ROUNDS if on_gpu else 2)]
    return [list(times) for times in zip(*rounds, strict=True)]


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second that torch's copy reads and writes, of an array far larger than the caches."""
    on_gpu = device.type == "cuda"
    source = torch.empty(2**30 if on_gpu else 2**20, dtype=torch.uint8, device=device)
    goal = torch.empty_like(source)
    (times,) = in_turn([lambda: goal.copy_(source)], on_gpu)
    return 2 * source.numel() / (1e-3 * statistics.median(times))


def without_waiting(step: Callable[[], Any]) -> None:
    """A step in which it is an error to wait for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def timed(contest: Contest, device: torch.device, bandwidth: float) -> dict[str, Any]:
    """One contest."""
    on_gpu = device.type == "cuda"
    torch.manual_seed(0)
    problem = contest.make(not on_gpu)
    problem = Problem(tuple(leaf.to(device) for leaf in problem.leaves), problem.target.to(device), problem.scores)
    ours = Side(contest.ours, problem)
    ours.step()  # compiles
    if on_gpu and not contest.waits:
        without_waiting(ours.step)
    entry: dict[str, Any] = {"name": contest.name, "scores": problem.scores, "peers": []}
    for peer in contest.peers:
        found: dict[str, Any] = {"name": peer.name, "goal": peer.faster, "goal_memory": peer.memory}
        entry["peers"].append(found)
        if peer.loss is None:
            found["status"] = "not installed: the extra `bench` has it"
            continue
        try:
            found |= beside(ours, peer.loss, problem, on_gpu, peer.agrees)
        except Exception as error:  # whatever a peer cannot do must not cost us our own numbers
            found["status"] = trouble(error)
        if on_gpu:
            torch.cuda.empty_cache()
    (mine,) = in_turn([ours.step], on_gpu)
    entry["ms"] = statistics.median(mine)
    entry["goal_ms"], entry["goal_fraction"] = contest.milliseconds, contest.fraction
    if on_gpu:
        entry["peak_bytes"] = ours.memory()
    if contest.bytes is not None:
        entry["fraction"] = contest.bytes * problem.scores / (1e-3 * entry["ms"]) / bandwidth
    if contest.operations is not None:
        entry["operations_per_second"] = contest.operations * problem.scores / (1e-3 * entry["ms"])
    return entry


def beside(ours: Side, loss: LossFunction, problem: Problem, on_gpu: bool, agrees: bool) -> dict[str, Any]:
    """A peer's times and memory; whatever it holds goes when this returns."""
    other = Side(loss, problem)
    mine, theirs = in_turn([ours.step, other.step], on_gpu)
    ratios = [b / a for a, b in zip(mine, theirs, strict=True)]
    found: dict[str, Any] = {"ms": statistics.median(theirs), "faster": statistics.median(ratios)}
    if on_gpu:
        found["bytes"] = other.memory()
    if agrees:
        found["differ_by"] = disagreement(ours, other)
    return found


def trouble(error: Exception) -> str:
    """What went wrong, in a line."""
    if isinstance(error, torch.OutOfMemoryError):
        return f"out of memory: {str(error).splitlines()[0]}"
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def measure(chosen: list[Contest], device: torch.device) -> dict[str, Any]:
    """Everything, with what a reader must know about device and versions."""
    bandwidth = copy_bandwidth(device)
    sys.stderr.write(f"copy: {bandwidth / 1e9:.0f} GB/s\n")
    entries = []
    for contest in chosen:
        try:
            entry = timed(contest, device, bandwidth)
        except Exception as error:  # the other contests go on
            entry = {"name": contest.name, "status": trouble(error)}
        entries.append({**entry, **needs(contest, device, bandwidth)})
        sys.stderr.write(f"{json.dumps(entries[-1])}\n")
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return {"format": 1, "machine": described(device), "copy_bytes_per_second": bandwidth, "contests": entries}


def described(device: torch.device) -> dict[str, Any]:
    """Device and versions."""
    box = machine.described(torch.get_num_threads())
    box["peers"] = {"liger-kernel": machine.installed("liger-kernel")}
    box["gpu"] = kernels.gpu_status().__dict__
    box["cuda"] = torch.version.cuda
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        box["memory_bytes"], box["multiprocessors"] = properties.total_memory, properties.multi_processor_count
    return box


# ---- what must be done -------------------------------------------------------------------------------------------


def needs(contest: Contest, device: torch.device, bandwidth: float) -> dict[str, Any]:
    """Bytes, instructions and operations for each score, and in how many picoseconds the device could do them."""
    counted = {"bytes": contest.bytes, "instructions": contest.instructions, "operations": contest.operations}
    found: dict[str, Any] = dict(counted)
    if contest.bytes is not None:
        found["ps_to_move"] = 1e12 * contest.bytes / bandwidth
    if contest.instructions is not None and device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        clock = getattr(properties, "clock_rate", 0) * 1e3  # kHz, where torch knows it
        if clock:
            found["ps_to_do"] = 1e12 * contest.instructions / (properties.multi_processor_count * LANES * clock)
    return found


def work(chosen: list[Contest]) -> str:
    """The two numbers before any time: what each loss must move and do for a score."""
    lines = [
        (contest.name, *map(_number, (contest.bytes, contest.instructions, contest.operations))) for contest in chosen
    ]
    head = "## What must be moved and done\n\nFor each score, forward and backward."
    return f"{head}\n\n{table(('loss', 'bytes', 'instructions of a lane', 'operations of products'), lines)}"


def markdown(results: dict[str, Any]) -> str:
    """The table, from nothing but what the JSON file holds."""
    box = results["machine"]
    lines: list[tuple[str, ...]] = []
    judged = box["gpu"]["device"] is not None
    for entry in results["contests"]:
        if "status" in entry:
            lines.append((entry["name"], entry["status"], "", "", "", ""))
            continue
        late = _verdict(-entry["ms"], judged and -(entry["goal_ms"] or 0), "{:g} ms")
        own = entry.get("peak_bytes")
        lines.append((entry["name"], f"{entry['ms']:.3f}{late}", _reached(entry, judged), _mebibytes(own), "", ""))
        for peer in entry["peers"]:
            if "status" in peer:
                lines.append(("", "", "", "", peer["name"], peer["status"]))
                continue
            faster = f"{peer['faster']:.2f}{_verdict(peer['faster'], judged and peer['goal'], '{:g}')}"
            theirs = peer.get("bytes")
            less = ""
            if own and theirs:
                less = _verdict(-own / theirs, peer["goal_memory"] and -peer["goal_memory"], "ours at most {:g} times")
            lines.append(("", "", "", f"{_mebibytes(theirs)}{less}", f"{peer['name']}, {peer['ms']:.3f} ms", faster))
    name = box["gpu"]["device"] or "REHEARSAL ON A CPU: the times mean nothing"
    head = (
        f"# Speed on a GPU\n\n{name}; a copy moves {results['copy_bytes_per_second'] / 1e9:.0f} GB/s. Losses:"
        f" {box['gpu']['active']}, {box['gpu']['reason']}. equipoise {box['equipoise']}, torch {box['torch']},"
        f" CUDA {box['cuda']}, Liger-Kernel {box['peers']['liger-kernel']}; {box['date']}.\n\nForward and backward."
        " `reached`: the bytes that must be moved, a second, over those of a copy, and what the matrix products do;"
        " `MiB`: the most that a step has beside what it is given; `faster`: the peer's time over ours, the median of"
        " neighbours."
    )
    return f"{head}\n\n{table(('loss', 'ms', 'reached', 'MiB', 'peer', 'faster'), lines)}\n"


def _reached(entry: dict[str, Any], judged: bool) -> str:
    """What share of the copy, and how much of matrix products."""
    parts = []
    if "fraction" in entry:
        share = entry["fraction"]
        parts.append(f"{share:.0%} of copy{_verdict(share, judged and entry['goal_fraction'], '{:.0%}')}")
    if "operations_per_second" in entry:
        parts.append(f"{entry['operations_per_second'] / 1e12:.3g} Tflop/s")
    return ", ".join(parts)


def _mebibytes(number: int | None) -> str:
    return "" if number is None else f"{number / 2**20:.0f}"


def _verdict(found: float, goal: float | None, form: str) -> str:
    """Nothing where there is no goal, and in a rehearsal."""
    if not goal:
        return ""
    return f" ({'met' if found >= goal else 'missed'}: {form.format(abs(goal))})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def main(arguments: list[str] | None = None) -> int:
    """Computes, measures, writes, and prints the table last; exit status 2: there is no GPU, 1: a contest broke off."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="The losses on a GPU.")
    parser.add_argument("--only", metavar="PATTERN", help="contests whose name holds PATTERN")
    parser.add_argument("--rehearse", action="store_true", help="small inputs on the CPU: does the script run?")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, metavar="DIR", help="where to write (default: %(default)s)"
    )
    chosen = parser.parse_args(arguments)
    if chosen.rehearse:
        os.environ.setdefault("TRITON_INTERPRET", "1")  # for peers that are written in Triton
    found = [contest for contest in contests(chosen.rehearse) if not chosen.only or chosen.only in contest.name]
    if not found:
        parser.error(f"no contest's name holds {chosen.only!r}")
    sys.stdout.write(work(found) + "\n\n")
    if not (chosen.rehearse or torch.cuda.is_available()):
        sys.stderr.write("torch sees no CUDA GPU: nothing is measured\n")
        return 2
    results = measure(found, torch.device("cpu" if chosen.rehearse else "cuda"))
    if not chosen.rehearse:
        name = "-".join(["gpu", *results["machine"]["gpu"]["device"].lower().split()])
        name += "-part" if chosen.only else ""
        chosen.out.mkdir(parents=True, exist_ok=True)
        (chosen.out / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (chosen.out / f"{name}.md").write_text(f"{work(found)}\n\n{markdown(results)}", encoding="utf-8")
    sys.stdout.write(markdown(results))
    return int(any("status" in entry for entry in results["contests"]))


if __name__ == "__main__":
    sys.exit(main())
