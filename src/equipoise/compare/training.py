"""Train one model with one loss: the same weights to start from, batches and budget whichever loss it is.

The biases of the scores start at the best constant prediction under the loss at hand. From one common start a loss
that leaves rare classes rare would spend its first steps on learning how rare they are, a loss that weighs them up
would not, and a short training would count that as a merit.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import models
from .features import Features
from .trials import Settings

SMALLEST_BATCH, LARGEST_BATCH = 16, 512
# Without `--epochs`: twelve rounds, or as many as a small table needs for this many steps, within reason.
FEWEST_EPOCHS, FEWEST_STEPS, MOST_EPOCHS = 12, 1000, 100
# A score this far out is certain enough for a class that no training row has.
FARTHEST_BIAS = 10.0
MOST_SCORES = 10_000_000


@dataclass(frozen=True)
class Budget:
    """What every training gets.

    Attributes:
        model: the model.
        epochs: rounds over the training rows.
        batch_size: rows per step.
        device: where it is trained.
    """

    model: str
    epochs: int
    batch_size: int
    device: str = "cpu"

    def steps(self, rows: int) -> int:
        """The number of steps on that many training rows."""
        return self.epochs * len(batch_sizes(rows, self.batch_size))


def batch_sizes(rows: int, size: int) -> list[int]:
    """The rows of each step of an epoch; a last row goes with those before, as batch normalisation needs two."""
    full, rest = divmod(rows, size)
    sizes = [size] * full + [rest] * (rest > 0)
    return [*sizes[:-2], size + 1] if rest == 1 and full else sizes


@dataclass(frozen=True)
class Trained:
    """A trained model, in evaluation mode, and how it came about.

    Attributes:
        model: the model, on its device.
        losses: the mean training loss of each epoch.
        seconds: the time of the steps alone.
    """

    model: nn.Module
    losses: list[float]
    seconds: float


def budget(
    model: str, rows: int, epochs: int | None = None, device: str = "cpu", batch_size: int | None = None
) -> Budget:
    """The budget for a number of training rows: small tables get small batches and more epochs."""
    batch_size = batch_size or min(LARGEST_BATCH, max(SMALLEST_BATCH, 2 ** round(math.log2(max(rows, 1) / 32))))
    steps = math.ceil(rows / batch_size)
    epochs = epochs or min(MOST_EPOCHS, max(FEWEST_EPOCHS, math.ceil(FEWEST_STEPS / max(steps, 1))))
    return Budget(model, epochs, batch_size, device)


def best_constant(loss: nn.Module, targets: Tensor, outputs: int) -> Tensor:
    """The scores [C] that minimise a loss if every row gets the same ones; zeros where that search fails.

    Args:
        loss: called as `loss(scores, targets)`; its state is left alone.
        targets: of the training rows, [N] or [N, C].
        outputs: the number of scores C.
    """
    trial = copy.deepcopy(loss)
    rows = targets[:: 1 + len(targets) * outputs // MOST_SCORES]
    bias = torch.zeros(outputs, requires_grad=True)
    search = torch.optim.LBFGS([bias], max_iter=30, line_search_fn="strong_wolfe")

    def value() -> Tensor:
        search.zero_grad()
        total: Tensor = trial(bias.expand(len(rows), outputs), rows)
        total.backward()  # type: ignore[no-untyped-call]
        return total

    search.step(value)  # type: ignore[no-untyped-call]
    found = bias.detach()
    return found.clamp(-FARTHEST_BIAS, FARTHEST_BIAS) if bool(found.isfinite().all()) else torch.zeros(outputs)


def train(
    loss: Callable[[Tensor, Tensor], Tensor],
    features: Features,
    targets: Tensor,
    bias: Tensor,
    plan: Budget,
    settings: Settings,
    seed: int,
    after_epoch: Callable[[int, nn.Module], None] = lambda *_: None,
    further_groups: Callable[[nn.Module], Sequence[dict[str, Any]]] = lambda _: (),
    batches: Iterable[Tensor] | None = None,
) -> Trained:
    """Train a fresh model.

    Args:
        loss: called as `loss(scores, targets)`; on the device of the plan. A module's own parameters are trained, too.
        features: of the training rows.
        targets: the loss's targets [N] or [N, C].
        bias: what the biases of the scores start at, one per score.
        plan: the budget.
        settings: what is tuned.
        seed: decides the weights to start from and the batches, and nothing else does.
        after_epoch: called with the number of epochs done and the model, which it leaves alone.
        further_groups: called with the model before the first step; gives groups of parameters of the loss's own for
            the optimizer.
        batches: the rows of each step of an epoch, afresh each time it is gone through, as many as the plan has steps;
            None for all rows in a random order.
    """
    with seeded(seed, plan.device):
        model = models.build(plan.model, features.width, len(bias))
        layer = models.output_layer(model)
        if layer is not None and layer.out_features == len(bias):
            with torch.no_grad():
                layer.bias.copy_(bias)
        model, targets = model.to(plan.device), targets.to(plan.device)
        steps = plan.steps(len(features))
        own = loss.parameters() if isinstance(loss, nn.Module) else ()
        parameters = [*model.parameters(), *own]
        optimizer = torch.optim.AdamW(
            [{"params": parameters}, *further_groups(model)],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps))
        )
        losses, seconds = [], 0.0
        for epoch in range(plan.epochs):
            started = time.perf_counter()
            total, seen = torch.zeros((), dtype=torch.float64, device=plan.device), 0
            order = torch.randperm(len(features))
            all_rows = torch.split(order, batch_sizes(len(order), plan.batch_size)) if batches is None else batches
            for rows in all_rows:
                optimizer.zero_grad()
                value = loss(model(features.dense(rows).to(plan.device)), targets[rows.to(plan.device)])
                value.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                total += value.detach() * len(rows)
                seen += len(rows)
            losses.append(float(total) / max(seen, 1))
            seconds += time.perf_counter() - started
            after_epoch(epoch + 1, model.eval())
            model.train()
    return Trained(model.eval(), losses, seconds)


@torch.no_grad()
def predict(model: nn.Module, features: Features) -> Tensor:
    """What a model gives for all rows, [N, C], on the CPU."""
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    starts = range(0, max(len(features), 1), 8192)
    parts = [model(features.dense(slice(start, start + 8192)).to(device)).cpu() for start in starts]
    return torch.cat(parts)


@contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Seed torch inside the block; the caller's generators are as before afterwards."""
    kind = torch.device(device).type
    with torch.random.fork_rng(devices=[] if kind == "cpu" else None, device_type="cuda" if kind == "cpu" else kind):
        torch.manual_seed(seed)
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one torch thread inside the block: sums then do not depend on the number of cores or workers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
