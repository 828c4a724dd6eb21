"""What a reader must know about the machine and the versions behind the figures."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from equipoise import kernels
from equipoise.processor import processor_name

PEERS = ("kornia", "monai", "timm", "balanced-loss", "imbalanced-losses")


def described(threads: int) -> dict[str, Any]:
    """CPU, path of the losses, threads, versions and date."""
    return {
        "cpu": processor_name(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": threads,
        "kernels": {name: value for name, value in asdict(kernels.status()).items() if name != "path"},
        "python": platform.python_version(),
        "torch": torch.__version__,
        "equipoise": version("equipoise"),
        "peers": {name: installed(name) for name in PEERS},
        "date": datetime.now(UTC).date().isoformat(),
    }


def installed(package: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def slug(machine: dict[str, Any]) -> str:
    """The machine as a file name: processor, threads, and `eager` where no kernels are in use."""
    words = re.sub(r"\(.*?\)|[^a-z0-9]+", " ", machine["cpu"].lower()).split()
    path = [] if machine["kernels"]["active"] == "native" else [machine["kernels"]["active"]]
    return "-".join([*words, str(machine["threads"]), "threads", *path])
