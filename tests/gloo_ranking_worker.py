"""One rank of the ranking losses' distributed tests: `python gloo_ranking_worker.py RANK WORLD RENDEZVOUS OUT`.

`test_ranking_distributed.py` starts it once per rank, and calls the same functions itself, with the ranks' shares
joined and no process group, for the values to compare with.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

import equipoise
from cases import integers, normal, uniform

ROWS, FEATURES, WIDTH = 12, 5, 4

SHARES: dict[tuple[int, str], tuple[slice, ...]] = {
    (2, "uneven"): (slice(0, 8), slice(8, 12)),
    (2, "one rank empty"): (slice(0, 12), slice(12, 12)),
    (2, "all ranks empty"): (slice(0, 0), slice(0, 0)),
    (4, "uneven"): (slice(0, 5), slice(5, 6), slice(6, 10), slice(10, 12)),
    (4, "one rank empty"): (slice(0, 4), slice(4, 4), slice(4, 9), slice(9, 12)),
}
"""The rows that each rank gets, by the number of ranks."""

Results = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A loss with its options and what comes with the embeddings.

    Attributes:
        loss: the module's name.
        options: of its constructor.
        inputs: how many embeddings of each row go in by position.
        target: what follows them: `label`, `like` (0 and 1), `sign`, or nothing.
        batch: keywords: `masks`, `reference`, `label`, or nothing.
        learned: whether the temperature is a parameter.
    """

    loss: str
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: int = 1
    target: str | None = "label"
    batch: str | None = None
    learned: bool = False

    def __str__(self) -> str:
        options = ",".join(f"{name}={value}" for name, value in self.options.items()) or "default"
        return "-".join([self.loss, options, *([self.batch] if self.batch else []), *["learned"] * self.learned])


SCENARIOS = (
    *(
        Scenario(loss="BatchTripletLoss", options={"mining": mining, "soft": soft})
        for mining in ("all", "hard", "semihard")
        for soft in (False, True)
    ),
    Scenario(loss="BatchTripletLoss", options={"reduction": "sum", "distance": "cosine"}),
    Scenario(loss="BatchTripletLoss", options={"reduction": "mean"}, batch="reference"),
    Scenario(loss="BatchTripletLoss", target=None, batch="masks"),
    Scenario(loss="BatchContrastiveLoss", options={"margin": 3.0}),
    Scenario(loss="BatchContrastiveLoss", options={"margin": 3.0, "reduction": "sum"}, batch="reference"),
    Scenario(loss="SupConLoss", options={"temperature": 0.5}, learned=True),
    Scenario(loss="SupConLoss", options={"reduction": "sum"}, batch="reference"),
    Scenario(loss="InfoNCELoss", inputs=2, target=None, options={"temperature": 0.5}, learned=True),
    Scenario(loss="InfoNCELoss", inputs=2, target=None, batch="label", options={"symmetric": False}),
    Scenario(loss="ContrastiveLoss", inputs=2, target="like"),
    Scenario(loss="CosineEmbeddingLoss", inputs=2, target="sign"),
    Scenario(loss="TripletLoss", inputs=3, target=None, options={"margin": 3.0}),
    Scenario(loss="MarginRankingLoss", inputs=2, target="signs", options={"margin": 1.0}),
    Scenario(loss="RankHingeLoss", inputs=1, target=None, options={"num_neg": WIDTH - 1}),
    Scenario(loss="RankCrossEntropyLoss", inputs=1, target=None, options={"num_neg": WIDTH - 1}),
)


class Model(torch.nn.Module):
    """An encoder with its loss, so that a learned temperature is averaged with the other gradients."""

    def __init__(self, scenario: Scenario, sync: bool) -> None:
        super().__init__()
        self.encoder = torch.nn.Linear(FEATURES, WIDTH, dtype=torch.float64)
        with torch.no_grad():
            self.encoder.weight.copy_(normal("encoder", WIDTH, FEATURES, scale=1.0))
            self.encoder.bias.copy_(normal("bias", WIDTH, scale=1.0))
        options = dict(scenario.options)
        if scenario.learned:
            options["temperature"] = torch.nn.Parameter(torch.tensor(options["temperature"], dtype=torch.float64))
        self.criterion = getattr(equipoise, scenario.loss)(**options, sync=sync)

    def forward(self, features: list[Tensor], position: list[Tensor], batch: dict[str, Tensor]) -> Tensor:
        result: Tensor = self.criterion(*(self.encoder(each) for each in features), *position, **batch)
        return result


def labels() -> Tensor:
    return torch.tensor([0, 1, 1, 2, 0, 2, 2, 1, 3, 2, 0, 2])


def arguments(scenario: Scenario, rows: slice, total: int) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
    """What a rank with these of `total` rows passes to the model."""
    features = [normal(f"features {place}", ROWS, FEATURES, scale=1.0)[rows] for place in range(scenario.inputs)]
    yes = integers("pairs", 2, ROWS)
    targets = {
        "label": labels(),
        "like": yes,
        "sign": 2 * yes - 1,
        "signs": 2 * integers("signs", 2, ROWS, WIDTH) - 1,
    }
    position = [targets[scenario.target][rows]] if scenario.target else []
    batch = {}
    if scenario.batch == "label":
        batch = {"label": labels()[rows]}
    if scenario.batch == "reference":
        batch = {"reference": normal("bank", 7, WIDTH), "reference_label": integers("bank", 4, 7)}
    if scenario.batch == "masks":
        drawn = uniform("masks", ROWS, ROWS)[rows, :total]
        batch = {"positive": drawn < 0.3, "negative": drawn > 0.5}
    return features, position, batch


def step(scenario: Scenario, rows: slice, total: int, rank: int | None) -> Results:
    """The loss, and the gradients of encoder and temperature; `rank` None is one process."""
    model = Model(scenario, sync=rank is not None)
    wrapped = model if rank is None else DistributedDataParallel(model)
    value = wrapped(*arguments(scenario, rows, total))
    value.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {"value": value.detach(), **gradients}


def second_order(rows: slice, sync: bool) -> Tensor:
    """The gradient of the squared length of the gradient, with respect to this rank's embeddings."""
    embedding = normal("second order", ROWS, WIDTH)[rows].requires_grad_()
    loss = equipoise.batch_triplet_loss(embedding, labels()[rows], soft=True, reduction="mean", sync=sync)
    (gradient,) = torch.autograd.grad(loss, embedding, create_graph=True)
    (curvature,) = torch.autograd.grad(gradient.square().sum(), embedding)
    return curvature


def remembered(rows: slice, sync: bool) -> Results:
    """What a memory holds after two batches."""
    memory = equipoise.CrossBatchMemory(9, sync=sync)
    for name in ("first", "second"):
        memory.add(normal(name, ROWS, WIDTH)[rows], labels()[rows])
    return dict(memory.state_dict())


def run(rank: int, world: int) -> dict[str, Results]:
    results: dict[str, Results] = {}
    for (size, shares), parts in SHARES.items():
        if size != world:
            continue
        total = max(part.stop for part in parts)
        for scenario in SCENARIOS:
            results[f"{scenario}-{shares}"] = step(scenario, parts[rank], total, rank)
        if shares == "uneven":
            results["second order"] = {"curvature": second_order(parts[rank], True)}
            results["memory"] = remembered(parts[rank], True)
    return results


def main(rank: int, world: int, rendezvous: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world, timeout=timedelta(seconds=60)
    )
    torch.save(run(rank, world), out)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
