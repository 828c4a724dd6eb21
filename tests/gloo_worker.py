"""One rank of the distributed tests: `python gloo_worker.py RANK RENDEZVOUS OUT` runs and saves every scenario.

`test_distributed.py` starts it once per rank, and calls the same functions itself, with the ranks' shares joined and no
process group, for the values to compare with.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

import equipoise
from cases import CARDS, Case, case_named, cases, is_regression, is_stateful, normal, rows_of, samples
from equipoise.card import Card
from harness import build

WORLD = 2
ROWS, FEATURES, CLASSES = 8, 3, 4

SHARES = {
    "uneven": (slice(0, 5), slice(5, 8)),
    "one rank empty": (slice(0, 8), slice(8, 8)),
    "all ranks empty": (slice(0, 0), slice(0, 0)),
    "one rank ignored": (slice(0, 5), slice(5, 8)),
    "all ranks ignored": (slice(0, 5), slice(5, 8)),
}
"""The rows that each rank gets; `whole` says which of them are ignored."""

Results = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One step of a training on shares of one batch."""

    card: Card
    sample: Mapping[str, Any]
    case: str
    shares: str
    reduction: str
    sync: bool = True

    def __str__(self) -> str:
        options = ",".join(self.sample) or "default"
        return f"{self.card.name}-{options}-{self.case}-{self.shares}-{self.reduction}" + "-local" * (not self.sync)


CASES = ("rows masked", "masked", "ignored", "probabilities, typical", "multi-label, masked")
"""The cases of eight rows: every kind of target, with something left out."""


def reductions(card: Card) -> tuple[str, ...]:
    sigmoid = card.op_family == "elementwise" and card.kind == "elementwise"
    return ("mean", "sum", "mean_positive") if sigmoid else ("mean", "sum")


def scenarios() -> list[Scenario]:
    found = []
    for card in CARDS:
        for _, sample in samples(card):
            if sample and not {"weight", "momentum"} & sample.keys():
                continue
            for case in cases(card, sample):
                found += [
                    Scenario(card=card, sample=sample, case=case.name, shares=shares, reduction=reduction)
                    for shares in SHARES
                    for reduction in reductions(card)
                    if case.name in CASES and not ("ignored" in shares and case.kind == "probabilities")
                ]
        first = next(case.name for case in cases(card) if case.name in CASES)
        found.append(Scenario(card=card, sample={}, case=first, shares="uneven", reduction="mean", sync=False))
    return found


def whole(scenario: Scenario) -> Case:
    """The joined batch; its input becomes the features of a linear model."""
    case = case_named(scenario.card, scenario.case, scenario.sample)
    ignored = torch.zeros(ROWS, dtype=torch.bool)
    if "ignored" in scenario.shares:
        ignored[0 if scenario.shares == "all ranks ignored" else SHARES[scenario.shares][1].start :] = True
    batch = {"mask": case.batch["mask"] & ~ignored[:, None]} if "mask" in case.batch else {}
    target = case.target.masked_fill(ignored, -100) if case.kind == "indices" else case.target
    features = normal("features", ROWS, FEATURES, scale=1.0)
    if "empty" in scenario.shares:
        rows = slice(0, sum(part.stop - part.start for part in SHARES[scenario.shares]))
    else:
        rows = slice(0, ROWS)
    return rows_of(replace(case, input=features, target=target, batch=batch), rows)


def linear() -> torch.nn.Linear:
    model = torch.nn.Linear(FEATURES, CLASSES, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(normal("model", CLASSES, FEATURES, scale=1.0))
        model.bias.copy_(normal("bias", CLASSES, scale=1.0))
    return model


def step(scenario: Scenario, case: Case, wrap: Callable[[torch.nn.Module], torch.nn.Module]) -> Results:
    """The loss of a linear model on `case`, the gradients of its parameters and the state of the loss."""
    model = linear()
    wrapped = wrap(model)  # must live until the backward: it is what averages the gradients
    loss = build(scenario.card, scenario.sample, case, reduction=scenario.reduction, sync=scenario.sync)
    value = loss(wrapped(case.input), case.target, **case.batch)
    value.backward()
    return {"value": value.detach(), "weight": model.weight.grad, "bias": model.bias.grad, **loss.state_dict()}


# ------------------------------------------------------------------------- statistics, state, and a wrong loss


LABELS = {
    "indices": torch.tensor([0, 3, 3, -100, 1, 3, 0, 3]),
    "multi-label": (normal("labels", ROWS, CLASSES) > 0).double(),
}


def counts(kind: str, labels: Tensor, sync: bool) -> Results:
    options = {"multilabel": True} if kind == "multi-label" else {}
    found = equipoise.class_counts(labels, CLASSES, sync=sync, **options)
    # `from_labels` counts what it is given: ranks that hold all labels must not count them twice
    loss = equipoise.ClassBalancedSigmoidFocalLoss.from_labels(LABELS[kind], CLASSES, sync=sync, **options)
    return {"counts": found, "weights": loss.class_weight}


BATCHES = (("first", "uneven"), ("second", "one rank empty"), ("third", "uneven"), ("fourth", "all ranks empty"))


def histories(card: Card, rank: int | None) -> Results:
    """The losses and the running histogram over several batches; `rank` None is one process."""
    loss = build(card, {"momentum": 0.75}, sync=rank is not None)
    values = []
    for name, shares in BATCHES:
        rows = SHARES[shares]
        part = slice(rows[0].start, rows[1].stop) if rank is None else rows[rank]
        scores, target = regression_or_labels(card, name)
        values.append(loss(scores[part], target[part]))
    return {"values": torch.stack(values), **loss.state_dict()}


def regression_or_labels(card: Card, name: str) -> tuple[Tensor, Tensor]:
    scores = normal(name, ROWS, CLASSES)
    return (
        (scores, scores + normal(name + " residual", ROWS, CLASSES, scale=0.03))
        if is_regression(card)
        else (
            scores,
            (normal(name + " labels", ROWS, CLASSES) > 0).double(),
        )
    )


def state_after_nan_on_the_last_rank(card: Card, rank: int) -> Results:
    loss = build(card, {"momentum": 0.75}, sync=True)
    scores, target = regression_or_labels(card, "first")
    loss(scores[SHARES["uneven"][rank]], target[SHARES["uneven"][rank]])
    before = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    if rank == WORLD - 1:
        scores[-1, 0] = float("nan")
    loss(scores[SHARES["uneven"][rank]], target[SHARES["uneven"][rank]])
    return {f"before {name}": tensor for name, tensor in before.items()} | loss.state_dict()


def reduced_loss(case: Case, wrap: Callable[[torch.nn.Module], torch.nn.Module]) -> Results:
    """What a published library does: all-reduces the loss itself. The value is right, the gradient 1 / WORLD of it."""
    model = linear()
    wrapped = wrap(model)
    local = equipoise.sigmoid_focal_loss(wrapped(case.input), case.target, reduction="sum")
    count = torch.tensor(float(case.target.numel()))
    total = local.detach().clone()
    dist.all_reduce(total)
    dist.all_reduce(count)
    value = (local + (total - local).detach()) / count
    value.backward()
    return {"value": value.detach(), "weight": model.weight.grad}


def run(rank: int) -> dict[str, Results]:
    results = {}
    for scenario in scenarios():
        part = rows_of(whole(scenario), SHARES[scenario.shares][rank])
        results[str(scenario)] = step(scenario, part, DistributedDataParallel)
    for kind, labels in LABELS.items():
        for shares in ("uneven", "one rank empty"):
            for sync in (True, False):
                results[f"counts-{kind}-{shares}-{sync}"] = counts(kind, labels[SHARES[shares][rank]], sync)
    for card in filter(is_stateful, CARDS):
        results[f"history-{card.name}"] = histories(card, rank)
        results[f"nan-{card.name}"] = state_after_nan_on_the_last_rank(card, rank)
    results["reduced loss"] = reduced_loss(rows_of(wrong_case(), SHARES["uneven"][rank]), DistributedDataParallel)
    return results


def wrong_case() -> Case:
    labels = LABELS["multi-label"]
    return Case(name="wrong", kind="elements", input=normal("features", ROWS, FEATURES, scale=1.0), target=labels)


def main(rank: int, rendezvous: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=WORLD, timeout=timedelta(seconds=60)
    )
    torch.save(run(rank), out)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
