"""A small table as a file, and as a study."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_table import table
from small_tasks import table as table_of_tasks

from equipoise.compare.preparation import prepare
from equipoise.compare.study import Request, Study


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    table().to_csv(path, index=False)
    return path


@pytest.fixture
def study(csv: Path) -> Study:
    return prepare(Request(data=str(csv), losses="prior_corrected,softmax_focal", epochs=2))


@pytest.fixture
def tasks_csv(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.csv"
    table_of_tasks().to_csv(path, index=False)
    return path
