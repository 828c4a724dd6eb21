"""`python -m benchmarks.multitask`: what a balancer adds to a training step, beside a plain sum of the losses.

A step is the forward pass, the losses, the total, the backward pass and Adam, of a trunk of 128-512-512-64 with one
linear head a task, on 256 rows. Peers take the same step by their own documentation; each is timed in turn with the
plain sum, A B A B.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.catalog import CARDS

from . import machine, timing
from .report import table
from .timing import Patience

ROWS, WIDTHS = 256, (128, 512, 512, 64)
SIZES = (2, 8, 40)
RESULTS = Path(__file__).parent / "results"
SECONDS = 2.0
PACKAGES = ("torchjd", "gradnorm-pytorch")
LOSS_ONLY, NORMS = 1.15, 2.5
"""The goals: the time of a step over that of the plain sum; of GradNorm at 40 tasks."""

OTHERWISE = """\
torchjd and gradnorm-pytorch do less or otherwise: one form of uncertainty weighting for all losses, averages and Adam's
moments that are not saved, no absent tasks, nothing over ranks; gradnorm-pytorch differentiates a second time, which
adds to the model's gradient, turns alpha around, and lets weights fall below 0."""

Step = Callable[[], None]
SCALARIZERS = {"UW": (True,), "DWA": (), "FAMO": (True,), "IMTLL": (True,), "Random": ()}
"""TorchJD's, and whether they are told the number of tasks."""


class Model(nn.Module):
    """A trunk and a linear head for each task."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for wide, narrow in pairwise(WIDTHS):
            layers += [nn.Linear(wide, narrow), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleList([nn.Linear(WIDTHS[-1], 1) for _ in range(tasks)])

    @property
    def last(self) -> nn.Parameter:
        """The weight of the last layer that all tasks share."""
        layer = self.trunk[-2]
        assert isinstance(layer, nn.Linear)
        return layer.weight

    def forward(self, features: Tensor) -> list[Tensor]:
        """The score of each task."""
        hidden = self.trunk(features)
        return [head(hidden)[:, 0] for head in self.heads]


@dataclass(frozen=True)
class Method:
    """A way to make a total, and who makes it.

    Attributes:
        name: as in the table.
        maker: `equipoise` or a package.
        start: given the model and the losses' names, the parameters that it adds, and what makes the step's gradient
            from the losses.
        goal: the ratio to be met, by the number of tasks.
    """

    name: str
    maker: str
    start: Callable[[Model, list[str]], tuple[list[dict[str, Any]], Callable[[list[Tensor]], None]]]
    goal: Callable[[int], float | None] = lambda _: None


def plain(_: Model, __: list[str]) -> tuple[list[dict[str, Any]], Callable[[list[Tensor]], None]]:
    """The sum of the losses."""

    def gradient(losses: list[Tensor]) -> None:
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]

    return [], gradient


def ours() -> Iterator[Method]:
    """Every balancer of the catalogue."""
    for card in (card for card in CARDS if card.kind == "balancer"):

        def start(model: Model, names: list[str], card: Any = card) -> Any:
            options = {"shared": [model.last]} if "shared" in card.required else {}
            kinds = card.name == "uncertainty_weighting"
            balancer: Any = card.module(dict.fromkeys(names, "gaussian") if kinds else names, **options)
            if hasattr(balancer, "update_kpi"):
                balancer.update_kpi(dict.fromkeys(names, 0.5))

            def gradient(losses: list[Tensor]) -> None:
                balancer(dict(zip(names, losses, strict=True))).backward()

            return balancer.param_groups(), gradient

        if card.name == "grad_norm":
            yield Method(card.name, "equipoise", start, lambda tasks: NORMS if tasks == max(SIZES) else None)
        else:
            yield Method(card.name, "equipoise", start, lambda _: LOSS_ONLY)


def peers() -> Iterator[Method]:
    """TorchJD's scalarizers and gradnorm-pytorch."""
    for name, sized in SCALARIZERS.items():

        def start(_: Model, names: list[str], name: str = name, sized: tuple[bool, ...] = sized) -> Any:
            scalarization = import_module("torchjd.scalarization")
            scalarizer = getattr(scalarization, name)(*[len(names) for _ in sized])
            learned = [{"params": list(scalarizer.parameters())}] if name in ("UW", "IMTLL") else []

            def gradient(losses: list[Tensor]) -> None:
                values = torch.stack(losses)
                if name == "FAMO" and scalarizer._prev_losses is not None:
                    scalarizer.update(values)  # cheaper than by its documentation, which computes the losses again
                scalarizer(values).backward()

            return learned, gradient

        yield Method(f"torchjd {name}", "torchjd", start)

    def norms(model: Model, names: list[str]) -> Any:
        package = import_module("gradnorm_pytorch")
        weighter = package.GradNormLossWeighter(
            num_losses=len(names), restoring_force_alpha=1.5, grad_norm_parameters=model.last
        )

        def gradient(losses: list[Tensor]) -> None:
            weighter.backward(losses)

        return [], gradient

    yield Method("gradnorm-pytorch", "gradnorm-pytorch", norms)


def step_of(method: Callable[..., Any], model: Model, names: list[str]) -> Step:
    """One training step under a method."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(ROWS, WIDTHS[0], generator=generator)
    targets = torch.randn(len(names), ROWS, generator=generator)
    added, gradient = method(model, names)
    optimiser = torch.optim.Adam([{"params": list(model.parameters())}, *added], lr=1e-4)

    def step() -> None:
        optimiser.zero_grad()
        scores = model(features)
        gradient([(score - target).square().mean() for score, target in zip(scores, targets, strict=True)])
        optimiser.step()

    return step


def seconds(step: Step, calls: int) -> float:
    """The time of one step, over `calls` of them."""
    begin = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - begin) / calls


def timed(method: Method, tasks: int, patience: Patience) -> dict[str, Any]:
    """The method's step over the plain one; what stands in the JSON file."""
    names = [f"task_{index}" for index in range(tasks)]
    torch.manual_seed(0)
    model = Model(tasks)
    entry: dict[str, Any] = {"method": method.name, "maker": method.maker, "tasks": tasks, "goal": method.goal(tasks)}
    try:
        one = step_of(method.start, copy.deepcopy(model), names)
    except ImportError as error:
        return {**entry, "status": f"not installed: {error}"}
    other = step_of(plain, model, names)
    mine, theirs, _ = timing.time_in_turn(lambda n: seconds(one, n), lambda n: seconds(other, n), patience)
    return {**entry, "status": "timed", **timing.summary(mine, theirs)}


def markdown(results: dict[str, Any]) -> str:
    """The table, from nothing but what the JSON file holds."""
    box = results["machine"]
    names = dict.fromkeys(entry["method"] for entry in results["entries"])
    found = {(entry["method"], entry["tasks"]): entry for entry in results["entries"]}
    sizes = sorted({entry["tasks"] for entry in results["entries"]})
    rows = [(name, *(_shown(found.get((name, size))) for size in sizes)) for name in names]
    missed = [e for e in results["entries"] if e["goal"] and "ratio" in e and e["ratio"]["median"] > e["goal"]]
    verdict = (
        "All goals are met."
        if not missed
        else "Missed: " + ", ".join(f"{e['method']} at {e['tasks']} tasks (goal {e['goal']:g})" for e in missed) + "."
    )
    packages = ", ".join(f"{name} {version or 'not installed'}" for name, version in box["peers"].items())
    head = (
        f"{box['cpu']}, {box['cores']} cores, {box['threads']} threads; torch {box['torch']}, Python {box['python']}, "
        f"{packages}; {box['date']}. Forward, losses, total, backward and Adam; trunk {'-'.join(map(str, WIDTHS))}, a "
        f"linear head a task, {ROWS} rows, float32.\n\nGoals: balancers that look at losses alone <= {LOSS_ONLY}, "
        f"GradNorm at {max(SIZES)} tasks <= {NORMS}. {verdict}\n\nThe median of the ratios of neighbours and, in "
        "brackets, the middle half of them; then the time of the step."
    )
    title = "# Balancers: the time of a training step over that of a plain sum of the losses"
    return "\n\n".join([title, head, table(("method", *(f"{size} tasks" for size in sizes)), rows), OTHERWISE]) + "\n"


def _shown(entry: dict[str, Any] | None) -> str:
    if entry is None or "ratio" not in entry:
        return "" if entry is None else entry["status"]
    ratio = entry["ratio"]
    return f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}], {entry['ours_ms']:.1f} ms"


def main(arguments: list[str] | None = None) -> int:
    """Measures, and writes beside what earlier runs on this machine measured of other sizes and methods."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.multitask", description="Balancers of several tasks.")
    parser.add_argument("--tasks", type=int, metavar="N", choices=SIZES, help="one size (default: all)")
    parser.add_argument("--only", metavar="PATTERN", default="", help="methods whose name holds PATTERN")
    parser.add_argument("--maker", metavar="NAME", default="", help="methods of this package")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help="for each (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads of torch (default: 2)")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, metavar="DIR", help="where to write (default: %(default)s)"
    )
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    box = machine.described(chosen.threads)
    box["peers"] = {name: machine.installed(name) for name in PACKAGES}
    # a balancer has no kernels
    path = chosen.out / f"multitask-{machine.slug(box).removesuffix('-eager')}.json"
    earlier = json.loads(path.read_text(encoding="utf-8"))["entries"] if path.exists() else []
    found = {(entry["method"], entry["tasks"]): entry for entry in earlier}
    methods = list(ours()) + list(peers())
    order = [(method.name, tasks) for method in methods for tasks in SIZES]
    chosen.out.mkdir(parents=True, exist_ok=True)
    for tasks in [chosen.tasks] if chosen.tasks else SIZES:
        for method in (method for method in methods if chosen.only in method.name and chosen.maker in method.maker):
            found[method.name, tasks] = timed(method, tasks, Patience(chosen.seconds, 9, 2000))
            results = {"format": 1, "machine": box, "entries": [found[key] for key in order if key in found]}
            path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            path.with_suffix(".md").write_text(markdown(results), encoding="utf-8")
    sys.stdout.write(path.with_suffix(".md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
