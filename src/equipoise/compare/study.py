"""Everything that decides a comparison's numbers."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import equipoise
from equipoise import kernels
from equipoise.processor import processor_name

from . import columns, metrics, problem, splits, training, trials
from .candidates import Candidate
from .store import digest

PACKAGES = ("torch", "numpy", "pandas", "scikit-learn", "scipy", "pyarrow")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a person asked for; the defaults of `equipoise compare`."""

    data: str = "fars"
    target: str | None = None
    problem: problem.Kind | None = None
    losses: str | None = None
    metric: metrics.Name | None = None
    seeds: int = 5
    trials: int = 3
    group: str | None = None
    time: str | None = None
    rows: int | None = None
    model: str = "mlp"
    epochs: int | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Study:
    """A table, a problem, the candidates and the budget of each training.

    Attributes:
        source_name: what to call the table in print.
        fingerprint: a hash of its content.
        target_reason: why the target is the target, in words.
        notes: what was changed or left out on the way.
        warnings: what may spoil the comparison.
        total_rows: of the table as it was read.
        table: the features of the rows that are used.
        problem: their labels.
        order: which rows stay together or come first; None for neither.
        test_rows: of each class, the fewest on any seed.
        counted: the classes that count in averages over classes, by position.
        candidates: what is compared, by name.
        metric: what decides.
        settings: the trials of each candidate.
        plan: the budget of each training.
        model_source: a hash of the source of a model of the person's own, else empty.
    """

    source_name: str
    fingerprint: str
    target_reason: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    total_rows: int
    table: columns.Table
    problem: problem.Problem
    order: splits.Order | None
    test_rows: tuple[int, ...]
    counted: tuple[int, ...]
    candidates: Mapping[str, Candidate]
    metric: metrics.Name
    settings: tuple[trials.Settings, ...]
    plan: training.Budget
    model_source: str

    @property
    def larger_is_better(self) -> bool:
        """Which way the metric points."""
        return self.metric not in metrics.SMALLER_IS_BETTER

    @cached_property
    def overlap(self) -> float:
        """Test rows, or classes, per training one."""
        return splits.overlap(self.problem, self.order)

    @cached_property
    def identity(self) -> str:
        """A hash of everything but the candidate, the seed and its settings that decides the numbers of a training."""
        return digest(self._determinants)

    @cached_property
    def _determinants(self) -> dict[str, Any]:
        return {
            "data": self.fingerprint,
            "target": list(self.problem.target),
            "problem": self.problem.kind,
            "rows": len(self.problem.rows),
            "order": None
            if self.order is None
            else [self.order.by, self.order.column, self.order.seeds if self.order.by == "time" else 0],
            "split": list(splits.shares(self.problem, self.order)),
            "metric": self.metric,
            "counted": list(self.counted),
            "budget": asdict(self.plan),
            "model_source": self.model_source,
            "versions": versions(),
            "code": code_fingerprint(),
            "kernels": kernels.status().active,  # EQUIPOISE_EAGER=1 gives other last digits
        }

    def key(self, candidate: str, seed: int) -> dict[str, Any]:
        """Everything but its settings that decides the numbers of one training."""
        return {**self._determinants, "candidate": candidate, "seed": seed}

    def targets(self, rows: NDArray[np.int64]) -> Tensor:
        """The targets of some rows in the form that losses take: class indices [N], or zeros and ones [N, C]."""
        labels = torch.from_numpy(self.problem.labels[rows].astype(np.int64))
        if self.problem.kind in ("multiclass", "retrieval"):
            return labels
        return labels.reshape(len(rows), -1).to(torch.float32)


@cache
def versions() -> dict[str, str]:
    """The versions of Python and of all packages that have a say in the numbers."""
    packages = {name: metadata.version(name) for name in PACKAGES}
    return {"equipoise": equipoise.__version__, "python": platform.python_version(), **packages}


def machine() -> dict[str, str]:
    """The machine in words."""
    return {"system": platform.platform(), "processor": processor_name(), "cores": str(os.cpu_count())}


@cache
def code_fingerprint() -> str:
    """A hash of the package's own code: a version number alone would let changed code pass for the same."""
    root = Path(equipoise.__file__).parent
    files = sorted(path for pattern in ("*.py", "*.so", "*.pyd") for path in root.rglob(pattern))
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.relative_to(root)}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
