"""The only code that talks to `torch.distributed`.

With `sync=True` a divisor or a statistic is summed over the default process group, and each rank returns
`world_size * local_sum / global_divisor`. DistributedDataParallel averages gradients over the ranks, so that average is
the gradient of one process on the joined batch. Without a process group, or with one rank, nothing happens.
"""

from __future__ import annotations

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
