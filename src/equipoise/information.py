"""What `equipoise info` shows: versions, the machine, the kernels and the extras."""

from __future__ import annotations

import json
import os
import platform
import re
import textwrap
from dataclasses import asdict, dataclass
from importlib import metadata

import numpy
import torch

from . import __version__
from .kernels import GPUStatus, Status, gpu_status, status
from .processor import processor_name

WIDTH = 80
LABEL = 11
# What a person may want installed beside the core; the other extras are for work on Equipoise itself.
EXTRAS = ("compare",)


@dataclass(frozen=True)
class Information:
    """The facts, in the order in which they are shown.

    Attributes:
        equipoise: version of this package.
        torch: version of torch.
        numpy: version of NumPy.
        python: version of Python.
        platform: the operating system.
        processor: the CPU's name.
        cores: how many cores there are.
        threads: how many of them torch uses.
        kernels: which path the losses take on the CPU.
        gpu: which path they take on the GPU.
        extras: for each extra the packages that are missing.
    """

    equipoise: str
    torch: str
    numpy: str
    python: str
    platform: str
    processor: str
    cores: int | None
    threads: int
    kernels: Status
    gpu: GPUStatus
    extras: dict[str, list[str]]


def collect() -> Information:
    """Look at this process and this machine."""
    return Information(
        equipoise=__version__,
        torch=torch.__version__,
        numpy=numpy.__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        processor=processor_name(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        kernels=status(),
        gpu=gpu_status(),
        extras={extra: _missing(extra) for extra in EXTRAS},
    )


def as_json(facts: Information) -> str:
    """The facts as one JSON document."""
    return json.dumps(asdict(facts), indent=1, ensure_ascii=False)


def as_lines(facts: Information) -> str:
    """The facts for a person, at most 80 columns wide but for the path, which stays in one piece."""
    kernels = facts.kernels
    shown = [
        ("equipoise", facts.equipoise),
        ("torch", f"{facts.torch}, numpy {facts.numpy}, Python {facts.python}"),
        ("platform", facts.platform),
        ("processor", f"{facts.processor}, {facts.cores} cores, torch uses {facts.threads}"),
        ("kernels", f"{kernels.active}: {kernels.reason}"),
    ]
    if kernels.active == "native":
        shown.append(("threads", kernels.threads))
    if kernels.path:
        shown.append(("library", kernels.path))
    device = f" ({facts.gpu.device})" if facts.gpu.device else ""
    shown.append(("gpu", f"{facts.gpu.active}: {facts.gpu.reason}{device}"))
    for extra, missing in facts.extras.items():
        shown.append(("extra", f"{extra}: {'missing ' + ', '.join(missing) if missing else 'installed'}"))
    return "\n".join(_line(label, text) for label, text in shown)


def _line(label: str, text: str) -> str:
    wrapped = textwrap.wrap(text, WIDTH - LABEL, break_long_words=False, break_on_hyphens=False)
    return f"\n{'':{LABEL}}".join([f"{label:{LABEL}}{wrapped[0]}", *wrapped[1:]])


def _missing(extra: str) -> list[str]:
    """The packages that the extra names and that are not installed."""
    wanted = [line for line in metadata.requires("equipoise") or () if re.search(rf"extra == ['\"]{extra}['\"]", line)]
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in wanted]
    return [name for name in names if not _is_installed(name)]


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
