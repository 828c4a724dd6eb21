"""Histogram family: every element is weighed by how many others have a gradient norm like its own."""

from __future__ import annotations

import torch
from torch import Tensor


def bin_index(norm: Tensor, bins: int) -> Tensor:
    """The bin of each gradient norm in [0, 1]: `bins` equal bins, closed on the left, the last one closed on both
    sides.

    The edges are `j / bins` in float64; `floor(norm * bins)` would put norms on an edge into the wrong bin.
    """
    inner_edges = torch.arange(1, bins, dtype=torch.float64, device=norm.device) / bins
    return torch.bucketize(norm.to(torch.float64).contiguous(), inner_edges, right=True)


def bin_counts(index: Tensor, kept: Tensor | None, bins: int) -> Tensor:
    """How many kept elements each bin holds, int64 (float32 stops counting at 2^24)."""
    ones = torch.ones_like(index) if kept is None else kept.expand_as(index).to(torch.int64)
    empty = torch.zeros(bins, dtype=torch.int64, device=index.device)
    return empty.scatter_add(0, index.flatten(), ones.flatten())


def harmonizing_weight(
    index: Tensor, counts: Tensor, density: Tensor, *, normalizer: str, dtype: torch.dtype
) -> Tensor:
    """`N / (R_b * M)` for each element.

    Args:
        index: the bin of each element.
        counts: kept elements per bin; their sum is N.
        density: R, the counts or a running average of them.
        normalizer: `"nonempty"`: M counts the bins that are not empty in this batch; `"all"`: M is the number of bins.
        dtype: the dtype of the result.
    """
    bins = torch.full_like(counts.sum(), counts.numel()) if normalizer == "all" else (counts > 0).sum().clamp_min(1)
    occupied = torch.where(counts > 0, density, torch.ones_like(density))
    return (counts.sum() / (occupied * bins)).to(dtype)[index]
