"""One rank of the balancers' distributed tests: `python gloo_tasks_worker.py RANK WORLD RENDEZVOUS OUT`.

`test_task_distributed.py` starts it once per rank, and calls the same functions itself, with all rows and no process
group, for the values to compare with.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

import equipoise
from cases import normal, uniform
from equipoise.catalog import find
from equipoise.multitask._balancer import Balancer
from task_cases import BALANCERS, TASKS, Model, build

WORLD, ROWS, STEPS = 2, 12, 6
SHARES = (slice(0, 8), slice(8, 12))
WHOLE = slice(0, ROWS)

Wrap = Callable[[torch.nn.Module], torch.nn.Module]
Results = dict[str, Any]


def labelled(step: int, missing: str) -> dict[str, Tensor]:
    """Which rows have a label of each task; the second rank has none of b.

    In step 2 nobody has any of c, where losses may be left out: DDP must then look for parameters without a gradient.
    """
    found = {name: uniform(f"labelled {name} {step}", ROWS) < 0.7 for name in TASKS}
    found["b"][SHARES[1]] = False
    found["b"][0] = True
    if step == 2 and missing == "key":
        found["c"][:] = False
    return found


def losses(model: torch.nn.Module, step: int, rows: slice, missing: str) -> dict[str, Tensor]:
    """What each task's loss is: the sum over this rank's labels, over the number of all, times the number of ranks.

    Where a rank has no label its loss is a 0 that depends on the model (`missing="zero"`), or there is none ("key").
    """
    found = model(normal(f"features {step}", ROWS, 5, scale=1.0)[rows])
    kept = {name: each[rows] for name, each in labelled(step, missing).items()}
    counts = torch.stack([each.sum() for each in kept.values()])
    world = dist.get_world_size() if dist.is_initialized() else 1
    total = counts.clone()
    if world > 1:
        dist.all_reduce(total)
    results = {}
    for place, name in enumerate(TASKS):
        if total[place] == 0 or (missing == "key" and counts[place] == 0):
            continue
        truth = normal(f"target {name} {step}", ROWS, scale=1.0)[rows]
        squared = torch.where(kept[name], (found[name] - truth).square(), 0.0)
        results[name] = world * 10.0**place * squared.sum() / total[place]
    return results


def indicators(model: torch.nn.Module, step: int, rows: slice, missing: str) -> dict[str, tuple[Tensor, Tensor]]:
    """How many of this rank's residuals are small, and how many there are: (0, 0) where it has no label."""
    with torch.no_grad():
        found = model(normal(f"features {step}", ROWS, 5, scale=1.0)[rows])
    return {
        name: equipoise.within_tolerance_kpi(
            found[name],
            normal(f"target {name} {step}", ROWS, scale=1.0)[rows],
            tolerance=1.0,
            mask=labelled(step, missing)[name][rows],
        )
        for name in TASKS
    }


def training(name: str, rows: slice, wrap: Wrap, missing: str = "zero", sync: bool | None = None) -> Results:
    """Some steps with a balancer: totals, weights, the model, and what the balancer holds."""
    model = Model()
    options = {} if name == "constant_weighting" or sync is None else {"sync": sync}
    balancer = build(find(name), model, **options)
    wrapped = wrap(model)
    groups = [{"params": list(model.parameters())}, *balancer.param_groups(lr=0.1)]
    optimise = torch.optim.SGD(groups, lr=0.01)
    totals, weights = [], []
    for step in range(STEPS):
        given = {"kpis": indicators(model, step, rows, missing)} if hasattr(balancer, "update_kpi") else {}
        total = balancer(losses(wrapped, step, rows, missing), **given)
        optimise.zero_grad()
        total.backward()
        optimise.step()
        totals.append(total.detach())
        weights.append({task: weight.clone() for task, weight in balancer.weights.items()})
        if step % 2 and hasattr(balancer, "end_epoch"):
            balancer.end_epoch()
    return {"totals": torch.stack(totals), "weights": weights, "model": model.state_dict(), **held(balancer)}


def held(balancer: Balancer) -> Results:
    return {"balancer": {name: tensor.clone() for name, tensor in balancer.state_dict().items()}}


def nan_on_the_last_rank(name: str, rank: int) -> Results:
    """State before and after, and whether the total says so."""
    model = Model()
    options = {} if name == "constant_weighting" else {"sync": True}
    balancer = build(find(name), model, **options)
    balancer(losses(model, 0, SHARES[rank], "zero"))
    before = held(balancer)["balancer"]
    found = losses(model, 1, SHARES[rank], "zero")
    if rank == WORLD - 1:
        found["a"] = found["a"] * torch.nan
    total = balancer(found)
    return {"before": before, "after": held(balancer)["balancer"], "finite": total.isfinite()}


def bare_indicator() -> Results:
    try:
        equipoise.DynamicTaskPrioritization(TASKS, sync=True).update_kpi({"a": 0.5})
    except ValueError as error:
        return {"error": str(error)}
    return {"error": ""}


def run(rank: int) -> dict[str, Results]:
    rows = SHARES[rank]
    results = {}
    for card in BALANCERS:
        results[f"{card.name} zero"] = training(card.name, rows, DistributedDataParallel, "zero", sync=True)
        results[f"{card.name} key"] = training(
            card.name, rows, lambda model: DistributedDataParallel(model, find_unused_parameters=True), "key", sync=True
        )
        results[f"{card.name} apart"] = training(card.name, rows, DistributedDataParallel, "zero", sync=False)
        results[f"{card.name} nan"] = nan_on_the_last_rank(card.name, rank)
    results["bare"] = bare_indicator()
    return results


def main(rank: int, world: int, rendezvous: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world, timeout=timedelta(seconds=60)
    )
    torch.save(run(rank), out)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
