"""A table of things that are known again by a few of their features, as file and as frame."""

from __future__ import annotations

import numpy as np
import pandas as pd


def things(classes: int = 40, rows: int = 8, seed: int = 0, told: float = 1.0) -> pd.DataFrame:
    """Classes with a place in four features; twenty more, and larger ones, are noise.

    Args:
        classes: how many.
        rows: of each.
        seed: of the draw.
        told: how far the places lie apart; 0 for a table that tells nothing.
    """
    generator = np.random.default_rng(seed)
    label = np.repeat(np.arange(classes), rows)
    places = told * generator.normal(size=(classes, 4))[label] + 0.2 * generator.normal(size=(len(label), 4))
    noise = generator.normal(size=(len(label), 20))
    frame = pd.DataFrame(np.concatenate([places, noise], axis=1), columns=[f"x{place}" for place in range(24)])
    frame["thing"] = [f"thing {each}" for each in label]
    return frame.sample(frac=1, random_state=0, ignore_index=True)
