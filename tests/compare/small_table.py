"""A table that takes no time to train on."""

from __future__ import annotations

import numpy as np
import pandas as pd


def table(rows: int = 240) -> pd.DataFrame:
    """Three classes of shares 70, 25 and 5 %, a number with holes, a category and a boolean that know of them."""
    generator = np.random.default_rng(0)
    label = generator.choice(3, rows, p=[0.7, 0.25, 0.05])
    number = label + generator.normal(size=rows)
    return pd.DataFrame(
        {
            "number": np.where(generator.random(rows) < 0.1, np.nan, number),
            "noise": generator.normal(size=rows),
            "colour": np.where(generator.random(rows) < 0.2, "blue", np.array(["red", "green", "grey"])[label]),
            "flag": generator.random(rows) < 0.5,
            "label": np.array(["common", "rarer", "rare"])[label],
        }
    )
