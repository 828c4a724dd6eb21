"""One rank of the distributed tests of a linear layer's losses: `python gloo_head_worker.py RANK WORLD RENDEZVOUS OUT`.

`test_head_distributed.py` starts it once per rank, and calls `step` itself for the joined batch.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

import equipoise
from cases import integers, normal, uniform

ROWS, FEATURES, CLASSES = 12, 5, 7
PARTS = {"uneven": (slice(0, 9), slice(9, 12)), "one rank empty": (slice(0, 12), slice(12, 12))}

SCENARIOS: dict[str, tuple[str, dict[str, Any]]] = {
    "softmax mean": ("LinearSoftmaxFocalLoss", {"gamma": 2.0, "chunk_rows": 2}),
    "softmax weighted": ("LinearSoftmaxFocalLoss", {"weight": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]}),
    "softmax sum": ("LinearSoftmaxFocalLoss", {"reduction": "sum", "label_smoothing": 0.1}),
    "sigmoid mean": ("LinearSigmoidFocalLoss", {"chunk_labels": 3}),
    "sigmoid positives": ("LinearSigmoidFocalLoss", {"reduction": "mean_positive"}),
    "sigmoid masked positives": ("LinearSigmoidFocalLoss", {"reduction": "mean_positive", "alpha": 0.25}),
}


class Model(torch.nn.Module):
    """A head with its loss."""

    def __init__(self, loss: str, options: dict[str, Any], sync: bool) -> None:
        super().__init__()
        self.head = torch.nn.Linear(FEATURES, CLASSES, dtype=torch.float64)
        with torch.no_grad():
            self.head.weight.copy_(normal("head", CLASSES, FEATURES, scale=1.0))
            self.head.bias.copy_(normal("bias", CLASSES, scale=1.0))
        self.criterion = getattr(equipoise, loss)(**options, sync=sync)

    def forward(self, input: Tensor, target: Tensor, batch: dict[str, Tensor]) -> Tensor:
        result: Tensor = self.criterion(input, self.head.weight, target, linear_bias=self.head.bias, **batch)
        return result


def step(scenario: str, rows: slice, rank: int | None) -> dict[str, Tensor]:
    """The loss and the gradients of the head; `rank` None is one process."""
    loss, options = SCENARIOS[scenario]
    model = Model(loss, options, sync=rank is not None)
    wrapped = model if rank is None else DistributedDataParallel(model)
    one, many = integers("one", CLASSES, ROWS), integers("many", CLASSES, ROWS, 4)
    one[uniform("ignored", ROWS) < 0.3] = -100
    many[uniform("padded", ROWS, 4) < 0.4] = -1
    batch = {"mask": uniform("mask", ROWS, CLASSES)[rows] < 0.6} if "masked" in scenario else {}
    target = one if "softmax" in scenario else many
    value = wrapped(normal("features", ROWS, FEATURES, scale=1.0)[rows], target[rows], batch)
    value.backward()
    return {"value": value.detach(), **{name: each.grad for name, each in model.named_parameters()}}


def main(rank: int, world: int, rendezvous: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world, timeout=timedelta(seconds=60)
    )
    torch.save({(each, parts): step(each, PARTS[parts][rank], rank) for each in SCENARIOS for parts in PARTS}, out)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
