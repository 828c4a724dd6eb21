"""`python -m benchmarks.gpu`: the losses on one GPU beside named peers, and beside what the GPU can move.

First the bytes that each loss must move and the operations it must do, then the bandwidth that a copy reaches, then the
times, A B A B, forward and backward; the table comes last and goes into benchmarks/results with device and versions.
`--rehearse` runs the same on the CPU with small inputs: it shows that the script works, and says nothing of speed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import equipoise
from equipoise import kernels

from . import formulas, machine
from .report import table
from .timing import disagreement

LossFunction = Callable[[Tensor, Tensor], Tensor]

RESULTS = Path(__file__).parent / "results"
ROUNDS = 30
LANES = 128  # of a multiprocessor, each one instruction a cycle
SIZES = {torch.float32: 4, torch.bfloat16: 2}


@dataclass(frozen=True)
class Contest:
    """Our loss beside a peer.

    Attributes:
        name: the loss and its input, what `--only` is matched against.
        make: scores and target on a device; given True, small ones.
        ours: the loss.
        bytes: that forward and backward must move for each score, targets included; None: not bound by memory.
        instructions: of one lane for each score, as compiled for sm_90 (tests/gpu/test_ahead_of_time.py).
        peers: name, loss, and how many times faster than it ours is to be (None: no goal).
        fraction: of the copy bandwidth that is to be reached; None: no goal.
        milliseconds: in which a step is to be done; None: no goal.
    """

    name: str
    make: Callable[[bool], tuple[Tensor, Tensor]]
    ours: LossFunction
    bytes: float | None
    instructions: float | None
    peers: tuple[tuple[str, LossFunction, float | None], ...] = ()
    fraction: float | None = None
    milliseconds: float | None = None


# ---- inputs ------------------------------------------------------------------------------------------------------


def elements(dtype: torch.dtype, small: bool) -> tuple[Tensor, Tensor]:
    """Scores of a half-trained model and one positive in ten."""
    size = 2**12 if small else 2**26
    return torch.randn(size).mul_(2).to(dtype), (torch.rand(size) < 0.1).to(dtype)


def rows(dtype: torch.dtype, classes: int, small: bool) -> tuple[Tensor, Tensor]:
    """As many rows as make 2^27 scores."""
    count = 4 if small else 2**27 // classes
    classes = min(classes, 64) if small else classes
    return torch.randn(count, classes).to(dtype), torch.randint(classes, (count,))


def embeddings(size: int, small: bool) -> tuple[Tensor, Tensor]:
    """Embeddings of 128 numbers, eight of each class."""
    size = 64 if small else size
    return torch.randn(size, 128), torch.arange(size) // 8


# ---- contests ----------------------------------------------------------------------------------------------------


def passes(dtype: torch.dtype, target: float) -> float:
    """The bytes of a score: read and its gradient written; in half precision read once more, in the backward pass."""
    size = SIZES[dtype]
    return 2 * size + target if dtype == torch.float32 else 3 * size + 2 * target


def contests(rehearsal: bool) -> Iterator[Contest]:
    """All of them, with the goals that the project set itself."""
    focal = partial(equipoise.sigmoid_focal_loss, alpha=0.25)
    compiled = torch.compile(formulas.torchvision_focal, backend="eager" if rehearsal else "inductor")
    for dtype, instructions in ((torch.float32, 51.0), (torch.bfloat16, 87.0)):
        yield Contest(
            f"sigmoid_focal, 64 M, {named(dtype)}",
            partial(elements, dtype),
            focal,
            passes(dtype, SIZES[dtype]),
            instructions,
            (
                ("torchvision's formula", formulas.torchvision_focal, 8.0),
                ("the same, torch.compile", compiled, 1.5),
                ("binary_cross_entropy_with_logits", functional.binary_cross_entropy_with_logits, None),
            ),
            fraction=0.85,
        )
    for dtype in SIZES:
        for classes in (8, 128, 1024, 4096, 32768, 131072, 262144):
            blocks = classes > 16384
            yield Contest(
                f"softmax_focal, C={classes}, {named(dtype)}",
                partial(rows, dtype, classes),
                equipoise.softmax_focal_loss,
                passes(dtype, 8 / classes),
                (50.0 if blocks else 45.0) if dtype == torch.float32 else (81.0 if blocks else 78.0),
                (("cross_entropy", functional.cross_entropy, 1.0),),
                fraction=0.8 if classes <= 32768 else None,
            )
    yield Contest(
        "ghm_c, 64 M, float32, 30 bins",
        partial(elements, torch.float32),
        partial(equipoise.ghm_c_loss, bins=30),
        5 * 4,  # scores and targets to count, both again to weigh, the gradient
        82.0,
        (("mmdet's loop", formulas.mmdet_ghm_c, 20.0),),
    )
    yield Contest(
        "batch_triplet, all, N=32768",
        partial(embeddings, 32768),
        partial(equipoise.batch_triplet_loss, normalize=True),
        None,
        None,
        milliseconds=200.0,
    )


def named(dtype: torch.dtype) -> str:
    """The type without its module."""
    return str(dtype).removeprefix("torch.")


# ---- measuring ---------------------------------------------------------------------------------------------------


class Side:
    """One loss with its own copy of the scores."""

    def __init__(self, loss: LossFunction, scores: Tensor, target: Tensor) -> None:
        self.loss, self.target = loss, target
        self.scores = scores.clone().requires_grad_()

    def step(self) -> Tensor:
        """Forward and backward, to a fresh gradient."""
        self.scores.grad = None
        value = self.loss(self.scores, self.target)
        value.backward()  # type: ignore[no-untyped-call]
        return value


def milliseconds(step: Callable[[], Any], on_gpu: bool) -> float:
    """The time of one step, by the GPU's own clock."""
    if not on_gpu:
        start = time.perf_counter()
        step()
        return 1e3 * (time.perf_counter() - start)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    step()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


def in_turn(steps: list[Callable[[], Any]], on_gpu: bool) -> list[list[float]]:
    """Milliseconds of every step in every round, after three to warm up."""
    for step in steps:
        for _ in range(3):
            step()
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
    scores, target = (tensor.to(device) for tensor in contest.make(not on_gpu))
    ours = Side(contest.ours, scores, target)
    if on_gpu and contest.bytes is not None:
        ours.step()  # compiles
        without_waiting(ours.step)
    entry: dict[str, Any] = {"name": contest.name, "scores": scores.numel(), "peers": []}
    for name, loss, goal in contest.peers:
        peer = Side(loss, scores, target)
        mine, theirs = in_turn([ours.step, peer.step], on_gpu)
        ratios = [b / a for a, b in zip(mine, theirs, strict=True)]
        found = {"name": name, "ms": statistics.median(theirs), "faster": statistics.median(ratios), "goal": goal}
        if "torchvision" in name or "mmdet" in name:  # the others compute something less
            found["differ_by"] = disagreement(ours, peer)  # type: ignore[arg-type]
        entry["peers"].append(found)
        del peer
    (mine,) = in_turn([ours.step], on_gpu)
    entry["ms"] = statistics.median(mine)
    entry["goal_ms"], entry["goal_fraction"] = contest.milliseconds, contest.fraction
    if contest.bytes is not None:
        entry["fraction"] = contest.bytes * scores.numel() / (1e-3 * entry["ms"]) / bandwidth
    return entry


def measure(chosen: list[Contest], device: torch.device) -> dict[str, Any]:
    """Everything, with what a reader must know about device and versions."""
    bandwidth = copy_bandwidth(device)
    sys.stderr.write(f"copy: {bandwidth / 1e9:.0f} GB/s\n")
    entries = []
    for contest in chosen:
        try:
            entry = timed(contest, device, bandwidth)
        except torch.OutOfMemoryError as error:
            entry = {"name": contest.name, "status": f"out of memory: {str(error).splitlines()[0]}"}
        entries.append({**entry, **needs(contest, device, bandwidth)})
        sys.stderr.write(f"{json.dumps(entries[-1])}\n")
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return {"format": 1, "machine": described(device), "copy_bytes_per_second": bandwidth, "contests": entries}


def described(device: torch.device) -> dict[str, Any]:
    """Device and versions."""
    box = machine.described(torch.get_num_threads())
    del box["peers"]
    box["gpu"] = kernels.gpu_status().__dict__
    box["cuda"] = torch.version.cuda
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        box["memory_bytes"], box["multiprocessors"] = properties.total_memory, properties.multi_processor_count
    return box


# ---- what must be done -------------------------------------------------------------------------------------------


def needs(contest: Contest, device: torch.device, bandwidth: float) -> dict[str, Any]:
    """Bytes and instructions for each score, and in how many picoseconds the device could move and do them."""
    found: dict[str, Any] = {"bytes": contest.bytes, "instructions": contest.instructions}
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
    lines = [(contest.name, _number(contest.bytes), _number(contest.instructions)) for contest in chosen]
    head = "## What must be moved and done\n\nFor each score, forward and backward."
    return f"{head}\n\n{table(('loss', 'bytes', 'instructions of a lane'), lines)}"


def markdown(results: dict[str, Any]) -> str:
    """The table, from nothing but what the JSON file holds."""
    box = results["machine"]
    lines = []
    judged = box["gpu"]["device"] is not None
    for entry in results["contests"]:
        if "status" in entry:
            lines.append((entry["name"], entry["status"], "", "", ""))
            continue
        share = ""
        if "fraction" in entry:
            share = f"{entry['fraction']:.0%}{_verdict(entry['fraction'], judged and entry['goal_fraction'], '{:.0%}')}"
        late = _verdict(-entry["ms"], judged and -(entry["goal_ms"] or 0), "{:g} ms")
        lines.append((entry["name"], f"{entry['ms']:.3f}{late}", share, "", ""))
        for peer in entry["peers"]:
            faster = f"{peer['faster']:.2f}{_verdict(peer['faster'], judged and peer['goal'], '{:g}')}"
            lines.append(("", "", "", f"{peer['name']}, {peer['ms']:.3f} ms", faster))
    name = box["gpu"]["device"] or "REHEARSAL ON A CPU: the times mean nothing"
    head = (
        f"# Speed on a GPU\n\n{name}; a copy moves {results['copy_bytes_per_second'] / 1e9:.0f} GB/s. Losses:"
        f" {box['gpu']['active']}, {box['gpu']['reason']}. equipoise {box['equipoise']}, torch {box['torch']},"
        f" CUDA {box['cuda']}; {box['date']}.\n\nForward and backward; `of copy`: the bytes that must be moved, a"
        " second, over those of a copy; `faster`: the peer's time over ours, the median of neighbours."
    )
    return f"{head}\n\n{table(('loss', 'ms', 'of copy', 'peer', 'faster'), lines)}\n"


def _verdict(found: float, goal: float | None, form: str) -> str:
    """Nothing where there is no goal, and in a rehearsal."""
    if not goal:
        return ""
    return f" ({'met' if found >= goal else 'missed'}: {form.format(abs(goal))})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def main(arguments: list[str] | None = None) -> int:
    """Computes, measures, writes, and prints the table last; exit status 2: there is no GPU, 1: its memory is full."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="The losses on a GPU.")
    parser.add_argument("--only", metavar="PATTERN", help="contests whose name holds PATTERN")
    parser.add_argument("--rehearse", action="store_true", help="small inputs on the CPU: does the script run?")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, metavar="DIR", help="where to write (default: %(default)s)"
    )
    chosen = parser.parse_args(arguments)
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
