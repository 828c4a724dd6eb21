"""Compiles the kernels for an architecture without a GPU, and prints as JSON what became of each.

    python ahead_of_time.py 90

What is compiled is what a call on a GPU would launch: the same tensors' types and alignment, options and sizes. A
process of its own, for in the tests' Triton interprets.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from equipoise.kernels.triton import elementwise, histogram, launch, pairs, rowwise

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ELEMENTS = 2**16
EACH = ("sigmoid_kernel", "softmax_kernel", "count_kernel", "weigh_kernel", "pairs_kernel", "distances_kernel")


class NoGPU:
    """As much of a driver as it takes to compile."""

    def __init__(self, architecture: int) -> None:
        self.architecture = architecture

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.architecture, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        return 0


def calls() -> Iterator[tuple[str, Callable[[], None]]]:
    """Every skeleton with its point functions, in the forward pass alone and with the gradient."""
    for gamma in (0.0, 2.0, 0.5):
        yield f"sigmoid soft {gamma:g} float32", sigmoid(torch.float32, "soft", gamma, gradient=True)
    yield "sigmoid hard 2 float32", sigmoid(torch.float32, "hard", 2.0, gradient=True)
    for kind in ("hard", "soft"):  # in half precision the forward pass computes no gradient
        yield f"sigmoid {kind} 2 bfloat16 value", sigmoid(torch.bfloat16, kind, 2.0, gradient=False)
        yield f"sigmoid {kind} 2 bfloat16", sigmoid(torch.bfloat16, kind, 2.0, gradient=True)
    for name, dtype in DTYPES.items():
        yield f"softmax [512, 1024] {name}", softmax(dtype, (512, 1024))
        yield f"softmax class by class {name}", softmax(dtype, (2, 19, 4096))
        yield f"softmax smooth [512, 1024] {name}", softmax(dtype, (512, 1024), smoothing=0.1)
    for shape in ((4096, 8), (64, 16384), (4, 262144)):
        yield f"softmax {list(shape)} bfloat16", softmax(torch.bfloat16, shape)
    yield "softmax smooth [4, 262144] float32", softmax(torch.float32, (4, 262144), smoothing=0.1)
    for shape in ((512, 1024), (4, 262144)):
        yield f"softmax adjusted {list(shape)} float32", softmax(torch.float32, shape, adjusted=True)
    # what a linear layer calls: scores in float32, their gradient in what is multiplied
    yield "softmax head [4, 128256] float32", softmax(torch.float32, (4, 128256), slopes=torch.bfloat16)
    yield "sigmoid head 2 float32", sigmoid(torch.float32, "hard", 2.0, gradient=True, slopes=torch.bfloat16)
    yield "ghm hard float32", ghm(torch.float32, "hard")
    yield "ghm soft bfloat16", ghm(torch.bfloat16, "soft")
    yield "ghm regression float32", ghm(torch.float32, "regression")
    for columns in (512, 32768):
        yield f"hinge rooted [3, {columns}] float32", triplets(columns, soft=False, rooted=True)
    yield "hinge [3, 32768] float32", triplets(32768, soft=False, rooted=False)
    yield "hinge rooted masked [3, 32768] float32", triplets(32768, soft=False, rooted=True, masked=True)
    yield "soft margin rooted [3, 32768] float32", triplets(32768, soft=True, rooted=True)
    yield "distances [3, 32768] float32", distances(scaled=False, squared=True)
    yield "distances scaled [3, 32768] float32", distances(scaled=True, squared=True)
    yield "cosines [3, 32768] float32", distances(scaled=False, squared=False)


def target_of(kind: str, dtype: torch.dtype) -> Tensor:
    return torch.zeros(ELEMENTS, dtype=torch.uint8 if kind == "hard" else dtype)


def sigmoid(
    dtype: torch.dtype, kind: str, gamma: float, gradient: bool, slopes: torch.dtype | None = None
) -> Callable[[], None]:
    def call() -> None:
        scores = torch.zeros(ELEMENTS, dtype=dtype)
        written = torch.empty_like(scores, dtype=slopes) if gradient else None
        options = (0.25, 0.75, gamma, 0.0, "mean", 1.0)
        elementwise.sigmoid(scores, torch.empty(()), written, target_of(kind, dtype), *(None,) * 7, *options)

    return call


def softmax(
    dtype: torch.dtype,
    shape: tuple[int, ...],
    smoothing: float = 0.0,
    adjusted: bool = False,
    slopes: torch.dtype | None = None,
) -> Callable[[], None]:
    def call() -> None:
        scores = torch.zeros(shape, dtype=dtype)
        target = torch.zeros((shape[0], *shape[2:]), dtype=torch.int64)
        divisor = torch.ones((), dtype=torch.int64)
        tensors = (target, None, None, None, divisor, torch.zeros(shape[1]) if adjusted else None, None)
        gradient = torch.empty_like(scores, dtype=slopes)
        rowwise.softmax(scores, torch.empty(()), gradient, *tensors, 2.0, smoothing, -100, "mean", 1.0)

    return call


def ghm(dtype: torch.dtype, kind: str) -> Callable[[], None]:
    def call() -> None:
        scores = torch.zeros(ELEMENTS, dtype=dtype)
        mu = 0.02 if kind == "regression" else 0.0
        target = target_of(kind, dtype)
        options = (mu, 30, False, "mean", 1.0)
        histogram.ghm(scores, torch.empty(()), torch.empty_like(scores), target, *(None,) * 5, *options)

    return call


def triplets(columns: int, soft: bool, rooted: bool, masked: bool = False) -> Callable[[], None]:
    def call() -> None:
        tile, column = torch.ones(3, columns), torch.zeros(3, 7, dtype=torch.int64)
        mask = torch.ones(3, columns, dtype=torch.bool) if masked else None
        pairs.pairs(tile, column, column[:, 0], column[:, 0], mask, soft=soft, rooted=rooted, own=5, margin=0.2)

    return call


def distances(scaled: bool, squared: bool) -> Callable[[], None]:
    def call() -> None:
        tile, of_columns, of_rows = torch.ones(3, 32768), torch.ones(32768), torch.ones(3)
        near = torch.empty(3, dtype=torch.bool)
        squares = (of_columns, of_rows) if squared else (None, None)
        pairs.distances(tile, of_columns if scaled else None, *squares, 5, 1e-5, 1.0, near if squared else None)

    return call


def examine(compiled: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Registers, local memory, widths of global loads and stores, barriers and instructions, by NVIDIA's own tools."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage, code = (
            subprocess.run([TOOLS / tool, option, file.name], capture_output=True, text=True, check=True).stdout
            for tool, option in (("cuobjdump", "-res-usage"), ("nvdisasm", "-c"))
        )
    instructions = Counter(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", code, re.MULTILINE))
    memory = {place: widths(instructions, place) for place in ("LDG", "STG")}
    elements = options["block"] * options.get("count", 1) // (32 * options["num_warps"]) if "block" in options else 1
    return {
        "registers": int(re.findall(r"REG:(\d+)", usage)[0]),
        "local_bytes": int(re.findall(r"STACK:(\d+)", usage)[0]),
        "local_accesses": sum(number for name, number in instructions.items() if name.startswith(("LDL", "STL"))),
        "loads": memory["LDG"],
        "stores": memory["STG"],
        "barriers": sum(number for name, number in instructions.items() if name.startswith("BAR")),
        "elements": elements,
        "instructions": sum(n for name, n in instructions.items() if name.split(".")[0] not in ("NOP", "BRA")),
    }


def widths(instructions: Counter[str], place: str) -> dict[int, int]:
    """How many accesses of each width, in bytes, a thread makes."""
    found: Counter[int] = Counter()
    for name, number in instructions.items():
        if name.startswith(place):
            width = re.search(r"\.(U8|S8|U16|S16|64|128)(\.|$)", name)
            found[{"8": 1, "16": 2, "64": 8, "128": 16}[width[1].lstrip("US")] if width else 4] += number
    return dict(found)


def main(architecture: int) -> None:
    """Compile everything and print it."""
    driver.set_active(NoGPU(architecture))
    made: dict[str, tuple[Any, dict[str, Any]]] = {}

    def compile_only(kernel: Any, programs: int, *arguments: Any, **options: Any) -> None:
        compiled = kernel.warmup(*arguments, grid=(programs,), **launch.COMPILED, **options)
        made[kernel.__name__] = compiled, options

    launch.run = compile_only
    found: dict[str, dict[str, Any]] = {}
    for name, call in calls():
        made.clear()
        call()
        for kernel, (compiled, options) in made.items():
            # the small ones, of one program, are the same in all calls
            label = f"{name}: {kernel}" if kernel in EACH else kernel
            if label not in found:
                found[label] = examine(compiled, options)
    sys.stdout.write(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]))
