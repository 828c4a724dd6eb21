"""Training: the same start, batches and budget for each loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from equipoise.compare import training
from equipoise.compare.features import Features
from equipoise.compare.models import build

ROWS = 40


def features() -> Features:
    generator = torch.Generator().manual_seed(0)
    return Features(torch.randn(ROWS, 3, generator=generator), torch.zeros(ROWS, 0, dtype=torch.int32), 3)


TARGETS = torch.arange(ROWS) % 2
PLAN = training.Budget("mlp", epochs=3, batch_size=16, learning_rate=1e-2)


class Watched(nn.Module):
    """Cross-entropy that remembers what it was called with."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.calls: list[tuple[Tensor, Tensor]] = []

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        self.calls.append((scores.detach().clone(), targets.clone()))
        return self.scale * nn.functional.cross_entropy(scores, targets)


def test_losses_start_alike_and_see_the_same_batches() -> None:
    first, second = Watched(), Watched(scale=-1.0)
    for loss in (first, second):
        training.train(loss, features(), TARGETS, 2, PLAN, seed=7)
    assert torch.equal(first.calls[0][0], second.calls[0][0])
    assert not torch.equal(first.calls[1][0], second.calls[1][0])
    assert all(torch.equal(a[1], b[1]) for a, b in zip(first.calls, second.calls, strict=True))


def test_the_budget_is_spent_exactly_and_each_epoch_sees_each_row_once() -> None:
    loss = Watched()
    identity = torch.arange(ROWS)
    training.train(lambda scores, rows: loss(scores, rows % 2), features(), identity, 2, PLAN, seed=0)
    assert [len(targets) for _, targets in loss.calls] == [16, 16, 8] * 3
    rows: list[Tensor] = []
    training.train(lambda scores, batch: rows.append(batch) or scores.sum(), features(), identity, 2, PLAN, seed=0)
    epochs = torch.cat(rows).reshape(3, ROWS)
    assert all(sorted(epoch.tolist()) == list(range(ROWS)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])


def test_a_seed_decides_everything_and_leaves_the_callers_generator_alone() -> None:
    def scores(seed: int) -> Tensor:
        model = training.train(nn.CrossEntropyLoss(), features(), TARGETS, 2, PLAN, seed)
        return training.predict(model, features())

    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = scores(3)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(scores(3), first)
    assert not torch.equal(scores(4), first)


def test_training_learns() -> None:
    targets = (features().numeric[:, 0] > 0).long()
    model = training.train(nn.CrossEntropyLoss(), features(), targets, 2, training.budget("mlp", ROWS), seed=0)
    assert (training.predict(model, features()).argmax(dim=1) == targets).float().mean() > 0.9


@pytest.mark.parametrize(
    ("rows", "batch_size", "epochs"), [(10, 16, 100), (360, 16, 18), (4000, 128, 13), (60_582, 512, 4), (10**6, 512, 4)]
)
def test_small_tables_get_small_batches_and_more_epochs(rows: int, batch_size: int, epochs: int) -> None:
    plan = training.budget("mlp", rows)
    assert (plan.batch_size, plan.epochs) == (batch_size, epochs)
    assert training.budget("mlp", rows, epochs=7).epochs == 7


def test_models() -> None:
    assert isinstance(build("linear", 3, 2), nn.Linear)
    assert build("mlp", 3, 2)(torch.zeros(5, 3)).shape == (5, 2)


def test_one_thread_inside_and_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with training.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
