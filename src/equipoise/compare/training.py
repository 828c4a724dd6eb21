"""Train one model with one loss: the same weights to start from, batches and budget whichever loss it is.

The biases of the scores start at the best constant prediction under the loss at hand. From one common start a loss
that leaves rare classes rare would spend its first steps on learning how rare they are, a loss that weighs them up
would not, and a short training would count that as a merit.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import models
from .features import Features

LEARNING_RATE = {"linear": 1e-2, "mlp": 3e-3}
WEIGHT_DECAY = 1e-4
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
        learning_rate: AdamW's, at its peak; it falls to 0 on a half cosine.
        weight_decay: AdamW's.
    """

    model: models.Name
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = WEIGHT_DECAY


def budget(model: models.Name, rows: int, epochs: int | None = None) -> Budget:
    """The budget for a number of training rows: small tables get small batches and more epochs."""
    batch_size = min(LARGEST_BATCH, max(SMALLEST_BATCH, 2 ** round(math.log2(max(rows, 1) / 32))))
    steps = math.ceil(rows / batch_size)
    epochs = epochs or min(MOST_EPOCHS, max(FEWEST_EPOCHS, math.ceil(FEWEST_STEPS / steps)))
    return Budget(model, epochs, batch_size, LEARNING_RATE[model])


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


def train(loss: nn.Module, features: Features, targets: Tensor, bias: Tensor, plan: Budget, seed: int) -> nn.Module:
    """Train a fresh model.

    Args:
        loss: called as `loss(scores, targets)`.
        features: of the training rows.
        targets: the loss's targets [N] or [N, C].
        bias: what the biases of the scores start at, one per score.
        plan: the budget.
        seed: decides the weights to start from and the batches, and nothing else does.

    Returns:
        The trained model, in evaluation mode.
    """
    with _seeded(seed):
        model = models.build(plan.model, features.width, len(bias))
        with torch.no_grad():
            models.output_layer(model).bias.copy_(bias)
        steps = plan.epochs * math.ceil(len(features) / plan.batch_size)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps))
        )
        for _ in range(plan.epochs):
            for rows in torch.split(torch.randperm(len(features)), plan.batch_size):
                optimizer.zero_grad()
                loss(model(features.dense(rows)), targets[rows]).backward()
                optimizer.step()
                schedule.step()
    return model.eval()


@torch.no_grad()
def predict(model: nn.Module, features: Features) -> Tensor:
    """The scores [N, C] of a model for all rows."""
    starts = range(0, len(features), 8192)
    return torch.cat([model(features.dense(slice(start, start + 8192))) for start in starts])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the block; the caller's generator is as before afterwards."""
    with torch.random.fork_rng(devices=[]):
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
