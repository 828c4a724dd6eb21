"""Distances and directions whose gradient is 0, not NaN, where there is none to give."""

from __future__ import annotations

import torch
from torch import Tensor

DISTANCES = ("euclidean", "squared_euclidean", "cosine")
NEAR = 1e-5
"""A squared distance below this share of the squared lengths has lost its digits if it came from a matrix product."""


def unit(rows: Tensor) -> Tensor:
    """Each row divided by its length; a row of zeros stays one, and its gradient is 0.

    The largest entry goes out first: the squares of long rows overflow, those of short ones vanish.
    """
    largest = rows.detach().abs().amax(-1, keepdim=True) if rows.shape[-1] else rows.new_zeros((*rows.shape[:-1], 1))
    nothing = largest == 0
    scaled = rows / torch.where(nothing, torch.ones_like(largest), largest)
    square = scaled.square().sum(-1, keepdim=True)
    length = torch.where(nothing, torch.ones_like(square), square).sqrt()
    return torch.where(nothing, torch.zeros_like(rows), scaled / length)


def root(square: Tensor) -> Tensor:
    """The square root, with a gradient of 0 at 0."""
    nothing = square == 0
    return torch.where(nothing, torch.zeros_like(square), torch.where(nothing, torch.ones_like(square), square).sqrt())


def pair_distance(first: Tensor, second: Tensor, distance: str) -> Tensor:
    """The distance of each row of `first` to the same row of `second`, along the last dimension."""
    if distance == "cosine":
        return 1 - (unit(first) * unit(second)).sum(-1)
    square = (first - second).square().sum(-1)
    return square if distance == "squared_euclidean" else root(square)


def all_distances(first: Tensor, second: Tensor, distance: str) -> Tensor:
    """The distances of all rows of `first` to all of `second`, differentiable twice; whole, so for small batches.

    For `"cosine"` the rows are units already.
    """
    product = first @ second.t()
    if distance == "cosine":
        return 1 - product
    sizes = first.square().sum(1)[:, None] + second.square().sum(1)
    square = sizes - 2 * product
    near = (square <= NEAR * sizes).nonzero(as_tuple=True)
    square = square.index_put(near, (first[near[0]] - second[near[1]]).square().sum(1))
    return square if distance == "squared_euclidean" else root(square)
