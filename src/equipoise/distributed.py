"""The only code that talks to `torch.distributed`.

With `sync=True` a divisor or a statistic is summed over the default process group, and each rank returns
`world_size * local_sum / global_divisor`. DistributedDataParallel averages gradients over the ranks, so that average is
the gradient of one process on the joined batch. Without a process group, or with one rank, nothing happens.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size(sync: bool) -> int:
    """The number of ranks to reduce over: 1 without `sync`, without a process group or in a group of one."""
    if not (sync and dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size()


def sum_over_ranks(local: Tensor, sync: bool) -> Tensor:
    """The sum of `local` over the ranks, without a gradient; `local` itself where there is one rank."""
    if world_size(sync) == 1:
        return local
    total = local.detach().clone()
    dist.all_reduce(total)
    return total


def gather_rows(local: Tensor, sync: bool) -> tuple[Tensor, int]:
    """The rows of all ranks in the order of the ranks, and where this rank's own begin.

    Ranks may hold different numbers of rows. The gradient of a rank's rows is the sum of what all ranks want of them;
    so every rank must take part in the backward pass. `local` itself where there is one rank.
    """
    if world_size(sync) == 1:
        return local, 0
    sizes = _gather_sizes(len(local), local.device)
    start = sum(sizes[: dist.get_rank()])
    if not local.is_floating_point():
        return _joined(local, sizes), start
    joined: Tensor = _Gather.apply(local, sizes)  # type: ignore[no-untyped-call]
    return joined, start


def _gather_sizes(size: int, device: torch.device) -> list[int]:
    sizes = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=device)
    sizes[dist.get_rank()] = size
    dist.all_reduce(sizes)
    return [int(each) for each in sizes]


def _joined(local: Tensor, sizes: list[int]) -> Tensor:
    """All ranks' rows; each sends as many as the largest has."""
    padded = local.new_zeros((max(sizes), *local.shape[1:]))
    padded[: len(local)] = local.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def _own_sum(joined: Tensor, sizes: list[int]) -> Tensor:
    """The sum over ranks, of which each takes its own rows."""
    total = joined.detach().contiguous().clone()
    dist.all_reduce(total)
    start = sum(sizes[: dist.get_rank()])
    return total[start : start + sizes[dist.get_rank()]]


class _Gather(torch.autograd.Function):
    """`_joined`, whose gradient is `_own_sum`, whose gradient is `_joined`: right to any order."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        return _joined(local, sizes)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return _OwnSum.apply(upstream, ctx.sizes), None  # type: ignore[no-untyped-call]


class _OwnSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, joined: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        return _own_sum(joined, sizes)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return _Gather.apply(upstream, ctx.sizes), None  # type: ignore[no-untyped-call]
