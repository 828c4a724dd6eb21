"""A table of three tasks that takes no time to train on; every task lacks some labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from equipoise.compare.preparation import prepare
from equipoise.compare.study import Request
from equipoise.compare.tasks.study import TaskStudy

TARGET = "hit:binary,amount:regression,sort:multiclass"
ROWS = 400


def table(rows: int = ROWS) -> pd.DataFrame:
    """A rare yes or no, an amount that is missing for each yes, and three sorts, of which some rows have none."""
    generator = np.random.default_rng(0)
    sort = generator.choice(3, rows, p=[0.6, 0.3, 0.1])
    number = sort + generator.normal(size=rows)
    hit = (number + generator.normal(size=rows) > 2.2).astype(int)
    amount = 100 + 30 * number + 10 * generator.normal(size=rows)
    return pd.DataFrame(
        {
            "number": np.where(generator.random(rows) < 0.1, np.nan, number),
            "noise": generator.normal(size=rows),
            "colour": np.array(["red", "green", "grey"])[generator.choice(3, rows)],
            "day": np.arange(rows) // 8,
            "hit": hit,
            "amount": np.where(hit == 1, np.nan, amount),
            "sort": np.where(generator.random(rows) < 0.2, None, np.array(["plain", "fancy", "odd"], object)[sort]),
        }
    )


def study_of(path: Path, **changes: object) -> TaskStudy:
    """A study of the three tasks."""
    asked: dict[str, object] = {"data": str(path), "target": TARGET, "epochs": 2, "seeds": 2, "trials": 2}
    study = prepare(Request(**{**asked, **changes}))  # type: ignore[arg-type]
    assert isinstance(study, TaskStudy)
    return study
