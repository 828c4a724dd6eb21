"""Everything that decides a comparison's numbers, gathered before the first training."""

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

from . import candidates as candidates_module
from . import columns, data, problem, splits, training
from .candidates import Candidate
from .errors import CompareError
from .models import Name
from .store import digest

PACKAGES = ("torch", "numpy", "pandas", "scikit-learn", "scipy", "pyarrow")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a person asked for; the defaults of `equipoise compare`."""

    data: str = "fars"
    target: str | None = None
    problem: problem.Kind | None = None
    losses: str | None = None
    seeds: int = 5
    model: Name = "mlp"
    epochs: int | None = None


@dataclass(frozen=True)
class Study:
    """A table, a problem, the candidates and the budget of each training."""

    source_name: str
    fingerprint: str
    target_reason: str
    notes: tuple[str, ...]
    total_rows: int
    table: columns.Table
    problem: problem.Problem
    candidates: Mapping[str, Candidate]
    plan: training.Budget

    @cached_property
    def identity(self) -> str:
        """A hash of everything but the candidate and the seed that decides the numbers of a training."""
        return digest(self._determinants)

    @cached_property
    def _determinants(self) -> dict[str, Any]:
        return {
            "data": self.fingerprint,
            "target": list(self.problem.target),
            "problem": self.problem.kind,
            "split": [splits.VALIDATION, splits.TEST],
            "budget": asdict(self.plan),
            "versions": versions(),
            "code": code_fingerprint(),
        }

    def key(self, candidate: str, seed: int) -> dict[str, Any]:
        """Everything that decides the numbers of one training."""
        return {**self._determinants, "candidate": candidate, "seed": seed}

    def targets(self, rows: NDArray[np.int64]) -> Tensor:
        """The targets of some rows in the form that losses take: class indices [N], or zeros and ones [N, C]."""
        labels = torch.from_numpy(self.problem.labels[rows].astype(np.int64))
        if self.problem.kind == "multiclass":
            return labels
        return labels.reshape(len(rows), -1).to(torch.float32)


def prepare(request: Request) -> Study:
    """Read the data and decide what is compared on it.

    Raises:
        CompareError: where the request cannot be met.
    """
    source = data.load(request.data)
    names, reason = data.choose_targets(source, request.target)
    posed = problem.pose(source.frame[list(names)], request.problem)
    table = columns.encode(source.frame.drop(columns=list(names)).iloc[posed.rows])
    if not table.numeric.shape[1] + table.codes.shape[1]:
        why = "; ".join(f"{column.name!r}: {column.note}" for column in table.columns[:5])
        raise CompareError(f"{source.name} has no usable feature ({why})")
    train_rows = len(splits.split(posed, seed=0).train)
    return Study(
        source_name=source.name,
        fingerprint=source.fingerprint,
        target_reason=reason,
        notes=(*source.notes, *posed.notes, *_thin_classes(posed)),
        total_rows=len(source.frame),
        table=table,
        problem=posed,
        candidates=candidates_module.choose(posed.kind, request.losses),
        plan=training.budget(request.model, train_rows, request.epochs),
    )


def _thin_classes(posed: problem.Problem) -> list[str]:
    """A warning where a class has so few test rows that one of them moves its recall by more than 5 points."""
    thin = [name for name, rows in zip(posed.classes, posed.counts, strict=True) if round(splits.TEST * rows) < 20]
    if not thin:
        return []
    names = ", ".join(map(repr, thin[:10])) + (f" and {len(thin) - 10} more" if len(thin) > 10 else "")
    return [f"fewer than 20 test rows per seed, so that chance has a large say in the averages over classes: {names}"]


def versions() -> dict[str, str]:
    """The versions of Python and of all packages that have a say in the numbers."""
    packages = {name: metadata.version(name) for name in PACKAGES}
    return {"equipoise": equipoise.__version__, "python": platform.python_version(), **packages}


def machine() -> dict[str, str]:
    """The machine in words."""
    processor = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text().splitlines()
        processor = next((line.partition(":")[2].strip() for line in lines if "model name" in line), processor)
    return {"system": platform.platform(), "processor": processor, "cores": str(os.cpu_count())}


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
