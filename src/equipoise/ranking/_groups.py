"""Groups of scores: one positive followed by its negatives, group after group, as MatchZoo lays them out."""

from __future__ import annotations

from torch import Tensor

from .. import checks
from ..reduction import compute_dtype


def groups(name: str, value: Tensor, num_neg: int) -> Tensor:
    """`value` as `[B, num_neg + 1]`, from that shape, from `[B * (num_neg + 1)]` or that with a trailing 1."""
    size = checks.whole("num_neg", num_neg, 1) + 1
    if value.ndim == 2 and value.shape[1] == size:
        return value
    if value.ndim == 2 and value.shape[1] == 1:
        value = value[:, 0]
    if value.ndim != 1:
        raise ValueError(
            f"`{name}` must have shape [B * {size}], [B * {size}, 1] or [B, {size}] for num_neg={num_neg},"
            f" got {list(value.shape)}"
        )
    if len(value) % size:
        raise ValueError(
            f"`{name}` must hold whole groups of one positive and num_neg={num_neg} negatives, a multiple of {size}"
            f" scores, got {len(value)}"
        )
    return value.reshape(-1, size)


def score_groups(input: Tensor, num_neg: int) -> Tensor:
    """The groups of `input`, in the precision of the arithmetic."""
    scores = checks.scores("input", input)
    return groups("input", scores, num_neg).to(compute_dtype(scores))
