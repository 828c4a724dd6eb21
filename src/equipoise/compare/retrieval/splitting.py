"""Whole classes to training, validation and test, so that test classes are new to a model.

The classes of a part are of all sizes: the classes in order of their rows are cut into as many stretches as the part
has classes, and each stretch gives one. Otherwise a test part of three classes would now and then be the three largest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

VALIDATION = 0.2
TEST = 0.3
# With fewer, finding the right class is no question.
FEWEST_TRAIN, FEWEST_VALIDATION, FEWEST_TEST = 3, 2, 3
# From here on there are three classes to tune on, too.
ENOUGH = 10
FEWEST_CLASSES = FEWEST_TRAIN + FEWEST_VALIDATION + FEWEST_TEST


def shares(classes: int) -> tuple[int, int, int]:
    """How many of so many classes, at least `FEWEST_CLASSES`, are for training, validation and test."""
    test = max(FEWEST_TEST, round(TEST * classes))
    validation = max(FEWEST_VALIDATION + (classes >= ENOUGH), round(VALIDATION * classes))
    return classes - validation - test, validation, test


def deal(labels: NDArray[np.integer], counts: Sequence[int], seed: int) -> NDArray[np.int8]:
    """The part of each row: 0 training, 1 validation, 2 test; all rows of a class are in one.

    Args:
        labels: class indices [N].
        counts: the rows of each class.
        seed: decides which classes.
    """
    generator = np.random.default_rng(seed)
    _, validation, test = shares(len(counts))
    part_of = np.zeros(len(counts), np.int8)
    shuffled = generator.permutation(len(counts))  # so that classes of one size are in no order
    left = shuffled[np.argsort(-np.asarray(counts)[shuffled], kind="stable")]
    for part, wanted in ((2, test), (1, validation)):
        drawn = np.array([generator.choice(stretch) for stretch in np.array_split(left, wanted)])
        part_of[drawn] = part
        left = left[~np.isin(left, drawn)]
    dealt: NDArray[np.int8] = part_of[labels]
    return dealt
