"""Training: the same start, batches and budget for each loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from equipoise import BalancedCrossEntropyLoss, GHMCLoss, SigmoidCrossEntropyLoss, SoftmaxCrossEntropyLoss
from equipoise.compare import training
from equipoise.compare.features import Features
from equipoise.compare.metrics import evaluate
from equipoise.compare.models import build
from equipoise.compare.trials import Settings, settings

ROWS = 40


def features() -> Features:
    generator = torch.Generator().manual_seed(0)
    return Features(torch.randn(ROWS, 3, generator=generator), torch.zeros(ROWS, 0, dtype=torch.int32), 3)


TARGETS = torch.arange(ROWS) % 2
PLAN = training.Budget("mlp", epochs=3, batch_size=16)
SETTINGS = Settings(learning_rate=1e-2, weight_decay=1e-4)


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
        training.train(loss, features(), TARGETS, torch.zeros(2), PLAN, SETTINGS, seed=7)
    assert torch.equal(first.calls[0][0], second.calls[0][0])
    assert not torch.equal(first.calls[1][0], second.calls[1][0])
    assert all(torch.equal(a[1], b[1]) for a, b in zip(first.calls, second.calls, strict=True))


def test_the_budget_is_spent_exactly_and_each_epoch_sees_each_row_once() -> None:
    loss = Watched()
    identity = torch.arange(ROWS)
    training.train(
        lambda scores, rows: loss(scores, rows % 2), features(), identity, torch.zeros(2), PLAN, SETTINGS, seed=0
    )
    assert [len(targets) for _, targets in loss.calls] == [16, 16, 8] * 3
    rows: list[Tensor] = []
    training.train(
        lambda scores, batch: rows.append(batch) or scores.sum(),
        features(),
        identity,
        torch.zeros(2),
        PLAN,
        SETTINGS,
        seed=0,
    )
    epochs = torch.cat(rows).reshape(3, ROWS)
    assert all(sorted(epoch.tolist()) == list(range(ROWS)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])


def test_a_seed_decides_everything_and_leaves_the_callers_generator_alone() -> None:
    def scores(seed: int) -> Tensor:
        trained = training.train(nn.CrossEntropyLoss(), features(), TARGETS, torch.zeros(2), PLAN, SETTINGS, seed)
        return training.predict(trained.model, features())

    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = scores(3)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(scores(3), first)
    assert not torch.equal(scores(4), first)


def test_training_learns() -> None:
    targets = (features().numeric[:, 0] > 0).long()
    plan = training.budget("mlp", ROWS)
    trained = training.train(nn.CrossEntropyLoss(), features(), targets, torch.zeros(2), plan, SETTINGS, seed=0)
    assert (training.predict(trained.model, features()).argmax(dim=1) == targets).float().mean() > 0.9
    assert len(trained.losses) == plan.epochs
    assert trained.losses[-1] < trained.losses[0] / 2
    assert trained.seconds > 0


def test_the_loss_of_an_epoch_is_the_mean_over_its_rows() -> None:
    """A last batch of eight rows counts half as much as one of sixteen."""
    loss = Watched()
    trained = training.train(loss, features(), TARGETS, torch.zeros(2), PLAN, SETTINGS, seed=0)
    values = [nn.functional.cross_entropy(*call) for call in loss.calls[:3]]
    assert trained.losses[0] == pytest.approx(float((16 * values[0] + 16 * values[1] + 8 * values[2]) / 40))


def test_looking_at_the_model_after_each_epoch_changes_nothing() -> None:
    seen: list[int] = []

    def look(epoch: int, model: nn.Module) -> None:
        assert not model.training
        training.predict(model, features())
        seen.append(epoch)

    watched = training.train(
        nn.CrossEntropyLoss(), features(), TARGETS, torch.zeros(2), PLAN, SETTINGS, seed=0, after_epoch=look
    )
    alone = training.train(nn.CrossEntropyLoss(), features(), TARGETS, torch.zeros(2), PLAN, SETTINGS, seed=0)
    assert seen == [1, 2, 3]
    assert torch.equal(training.predict(watched.model, features()), training.predict(alone.model, features()))


def test_the_settings_decide_the_step() -> None:
    def weights(**change: float) -> Tensor:
        found = training.train(
            nn.CrossEntropyLoss(), features(), TARGETS, torch.zeros(2), PLAN, replace(SETTINGS, **change), seed=0
        )
        return torch.cat([each.flatten() for each in found.model.parameters()])

    assert not torch.equal(weights(), weights(learning_rate=2e-2))
    assert weights(weight_decay=5.0).norm() < weights().norm()


@pytest.mark.parametrize(
    ("rows", "batch_size", "epochs"),
    [(10, 16, 100), (360, 16, 44), (4000, 128, 32), (60_582, 512, 12), (10**6, 512, 12)],
)
def test_small_tables_get_small_batches_and_more_epochs(rows: int, batch_size: int, epochs: int) -> None:
    plan = training.budget("mlp", rows)
    assert (plan.batch_size, plan.epochs) == (batch_size, epochs)
    assert training.budget("mlp", rows, epochs=7).epochs == 7


def test_models() -> None:
    assert isinstance(build("linear", 3, 2), nn.Linear)
    assert build("mlp", 3, 2)(torch.zeros(5, 3)).shape == (5, 2)


def test_the_best_constant_under_cross_entropy_is_the_log_of_the_frequencies() -> None:
    targets = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
    found = training.best_constant(SoftmaxCrossEntropyLoss(), targets, 3)
    assert torch.allclose(found.softmax(0), torch.tensor([0.7, 0.2, 0.1]), atol=1e-4)
    labels = (torch.arange(100) < 10).float()[:, None]
    found = training.best_constant(SigmoidCrossEntropyLoss(), labels, 1)
    assert torch.allclose(found.sigmoid(), torch.tensor([0.1]), atol=1e-4)


def test_the_best_constant_of_a_balanced_loss_is_even_and_that_of_an_unseen_class_bounded() -> None:
    labels = (torch.arange(100) < 10).float()[:, None]
    balanced = BalancedCrossEntropyLoss.from_labels(labels)
    assert torch.allclose(training.best_constant(balanced, labels, 1), torch.zeros(1), atol=1e-4)
    unseen = training.best_constant(SoftmaxCrossEntropyLoss(), torch.arange(60) % 2, 3)
    assert unseen[2] < unseen[:2].min() - 3
    assert (unseen.abs() <= training.FARTHEST_BIAS).all()


def test_the_search_for_the_best_constant_leaves_the_state_of_a_loss_alone() -> None:
    loss = GHMCLoss(momentum=0.5)
    assert training.best_constant(loss, (torch.arange(100) < 10).float()[:, None], 1).isfinite().all()
    assert loss.steps == 0


def test_reweighting_is_no_gain_where_plain_cross_entropy_is_the_right_model() -> None:
    """Two per cent of positives, log odds linear in the features: no loss ranks better than plain cross-entropy.

    From biases of 0 plain cross-entropy, and it alone, would spend this short training on learning how rare they are.
    """
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(12_000, 10, generator=generator)
    odds = numbers @ torch.linspace(-0.4, 0.4, 10) - 4.2
    labels = (torch.rand(12_000, generator=generator) < odds.sigmoid()).float()[:, None]
    rows = Features(numbers, torch.zeros(12_000, 0, dtype=torch.int32), 10)
    plan = training.budget("mlp", 12_000, epochs=4)

    def average_precision(loss: nn.Module, bias: Tensor) -> float:
        trained = training.train(loss, rows, labels, bias, plan, settings("mlp", 1)[0], seed=0)
        found = evaluate("binary", training.predict(trained.model, rows).double().numpy(), labels[:, 0].long().numpy())
        return found.by_class["average_precision"][1] or 0.0

    plain, balanced = SigmoidCrossEntropyLoss(), BalancedCrossEntropyLoss.from_labels(labels)
    scores = [average_precision(loss, training.best_constant(loss, labels, 1)) for loss in (plain, balanced)]
    assert scores[0] > scores[1] - 0.02
    assert average_precision(plain, torch.zeros(1)) < scores[0] - 0.02


def test_one_thread_inside_and_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with training.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("rows", "size", "expected"),
    [
        (193, 64, [64, 64, 65]),
        (192, 64, [64] * 3),
        (194, 64, [64, 64, 64, 2]),
        (1, 16, [1]),
        (17, 16, [17]),
        (0, 16, []),
    ],
)
def test_no_batch_but_an_only_one_has_a_single_row(rows: int, size: int, expected: list[int]) -> None:
    """Batch normalisation needs two."""
    assert training.batch_sizes(rows, size) == expected
    assert training.Budget("mlp", 3, size).steps(rows) == 3 * len(expected)
