"""The losses of a batch with missing labels, and their weighed sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import equipoise
from equipoise.compare.tasks.balanced import Balanced, kpi
from equipoise.compare.tasks.losses import NORMAL, TaskLosses
from equipoise.compare.tasks.task import Task

NAN = float("nan")
TARGETS = torch.tensor(
    [[0, 10, 0], [1, NAN, 2], [NAN, 30, 1], [0, 40, NAN], [1, 50, 0], [0, 90, 1], [NAN, NAN, 2]], dtype=torch.float64
)
HEADS = {"hit": slice(0, 1), "amount": slice(1, 2), "sort": slice(2, 5)}


def task(name: str, kind: str, classes: int, loss: str = "cross_entropy") -> Task:
    names = tuple(map(str, range(classes)))
    return Task(name, kind, loss, names, (2,) * classes, np.zeros(1), (1,) * classes, tuple(range(classes)))  # type: ignore[arg-type]


TASKS = (
    task("hit", "binary", 2),
    task("amount", "regression", 0, "squared_error"),
    task("sort", "multiclass", 3),
)


@pytest.fixture
def scores() -> torch.Tensor:
    return torch.randn(7, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)


def test_each_task_sees_the_rows_that_have_its_label(scores: torch.Tensor) -> None:
    """Against torch's own losses on rows that are picked by hand."""
    found = TaskLosses(TASKS, TARGETS)(scores, TARGETS)
    hit, amount, sort = [0, 1, 3, 4, 5], [0, 2, 3, 4, 5], [0, 1, 2, 4, 5, 6]
    spread = np.subtract(*np.percentile([10, 30, 40, 50, 90], [75, 25])) / NORMAL
    standardised = (torch.tensor([10.0, 30, 40, 50, 90]) - 40) / spread
    expected = {
        "hit": F.binary_cross_entropy_with_logits(scores[hit, 0], torch.tensor([0.0, 1, 0, 1, 0])),
        "amount": F.mse_loss(scores[amount, 1], standardised.float()),
        "sort": F.cross_entropy(scores[sort, 2:], torch.tensor([0, 2, 1, 0, 1, 2])),
    }
    assert list(found) == ["hit", "amount", "sort"]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


def test_a_row_without_a_label_gives_its_head_no_gradient(scores: torch.Tensor) -> None:
    for name, loss in TaskLosses(TASKS, TARGETS)(scores, TARGETS).items():
        (gradient,) = torch.autograd.grad(loss, scores, retain_graph=True)
        missing = TARGETS[:, list(HEADS).index(name)].isnan()
        assert not gradient[missing].any()
        assert gradient[~missing][:, HEADS[name]].abs().sum(dim=1).all()
        others = [index for index in range(5) if index not in range(5)[HEADS[name]]]
        assert not gradient[:, others].any()


def test_a_task_without_a_label_in_the_batch_is_absent(scores: torch.Tensor) -> None:
    losses = TaskLosses(TASKS, TARGETS)
    assert list(losses(scores[6:], TARGETS[6:])) == ["sort"]
    assert losses(scores[:0], TARGETS[:0]) == {}


def test_center_and_scale_come_from_training_rows_and_lead_back_to_the_unit(scores: torch.Tensor) -> None:
    losses = TaskLosses(TASKS, TARGETS)
    assert losses.center.tolist() == [0, 40, 0]
    assert losses.scale.tolist() == pytest.approx([1, 20 / NORMAL, 1])
    predicted = losses.predicted(torch.zeros(2, 5))
    assert predicted["amount"].tolist() == [[40.0], [40.0]]
    assert losses.predicted(torch.ones(1, 5))["amount"].item() == pytest.approx(40 + 20 / NORMAL)
    assert [part.shape[1] for part in predicted.values()] == [1, 1, 3]
    assert predicted["sort"].dtype == torch.float64


def test_an_amount_that_is_mostly_one_value_is_scaled_by_its_standard_deviation() -> None:
    targets = torch.tensor([[5.0]] * 9 + [[15.0]]).double()
    losses = TaskLosses([TASKS[1]], targets)
    assert losses.scale.tolist() == pytest.approx([3.0])


def test_scores_start_at_the_best_constant_of_each_task() -> None:
    found = TaskLosses(TASKS, TARGETS).best_constants(TARGETS)
    assert float(found[0].sigmoid()) == pytest.approx(2 / 5, abs=1e-3)
    assert float(found[1]) == pytest.approx((44 - 40) / (20 / NORMAL), abs=1e-3)
    assert found[2:].softmax(0).tolist() == pytest.approx([1 / 3] * 3, abs=1e-3)


def balanced(balancer: nn.Module, trained: tuple[str, ...] = tuple(HEADS)) -> Balanced:
    total = Balanced(TaskLosses(TASKS, TARGETS), {name: name for name in trained})
    total.start(balancer, 0.01)
    return total


def test_what_a_balancer_learns_moves_ten_times_as_fast_as_the_model() -> None:
    total = Balanced(TaskLosses(TASKS, TARGETS), {name: name for name in HEADS})
    (group,) = total.start(equipoise.ImpartialLossWeighting(list(HEADS)), 0.01)
    assert group["lr"] == pytest.approx(0.1)


def test_weights_of_1_are_the_plain_sum(scores: torch.Tensor) -> None:
    total = balanced(equipoise.ConstantWeighting(list(HEADS), dict.fromkeys(HEADS, 1.0)))
    plain = sum(TaskLosses(TASKS, TARGETS)(scores, TARGETS).values())
    torch.testing.assert_close(total(scores, TARGETS), plain, rtol=1e-6, atol=0)


def test_a_batch_without_any_label_moves_nothing(scores: torch.Tensor) -> None:
    total = balanced(equipoise.ConstantWeighting(["hit"], {"hit": 1.0}), ("hit",))
    value = total(scores[6:], TARGETS[6:])
    assert value.item() == 0
    (gradient,) = torch.autograd.grad(value, scores)
    assert not gradient.any()


def test_weights_are_kept_epoch_by_epoch_as_their_mean(scores: torch.Tensor) -> None:
    total = balanced(equipoise.ConstantWeighting(list(HEADS), {"hit": 0.5, "amount": 2.0, "sort": 1.0}))
    for _ in range(3):
        total(scores[6:], TARGETS[6:])
    total.end_epoch()
    total(scores, TARGETS)
    total.end_epoch()
    assert total.weights == {"hit": [None, 0.5], "amount": [None, 2.0], "sort": [1.0, 1.0]}


def test_a_balancer_that_goes_by_epochs_is_told_of_their_ends(scores: torch.Tensor) -> None:
    total = balanced(equipoise.DynamicWeightAverage(list(HEADS)))
    for epoch in range(3):
        total(scores * (1 + epoch), TARGETS)
        total.end_epoch()
    first, second, third = zip(*total.weights.values(), strict=True)
    assert first == second == (1.0, 1.0, 1.0)
    assert third != second
    assert sum(third) == pytest.approx(3, abs=1e-5)


def test_a_balancer_that_draws_at_random_leaves_the_batches_alone_and_draws_anew(scores: torch.Tensor) -> None:
    total = balanced(equipoise.RandomLossWeighting(list(HEADS)))
    torch.manual_seed(1)
    expected = torch.randperm(100)
    torch.manual_seed(1)
    drawn = []
    for _ in range(3):
        total(scores, TARGETS)
        drawn.append(float(total.balancer.weights["hit"]))
    assert torch.equal(torch.randperm(100), expected)
    assert len(set(drawn)) == 3


class Told(equipoise.DynamicTaskPrioritization):
    """Keeps what it is told."""

    kpis: Mapping[str, float]

    def forward(self, losses: Any, *, kpis: Any = None, mask: Any = None) -> torch.Tensor:
        self.kpis = kpis
        return super().forward(losses, kpis=kpis, mask=mask)


def test_kpis_are_those_of_the_rows_that_have_the_label() -> None:
    scores = torch.zeros(7, 5)
    scores[[1, 4, 5], 0] = 1.0  # of the labelled rows both positives are right, and two of three negatives
    scores[2, 1] = -10 / (20 / NORMAL)  # of five amounts two lie within 10 of what is said: 30 exactly, and 40
    scores[[0, 4, 6], 2:] = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 0, 1.0]])  # 2/2, 0/2 and 1/2 right
    scores[[1, 2, 5], 2] = 1.0
    total = balanced(Told(list(HEADS)))
    total(scores, TARGETS)
    assert total.balancer.kpis == pytest.approx({"hit": (1 + 2 / 3) / 2, "amount": 3 / 5, "sort": (1 + 0 + 1 / 2) / 3})


def test_kpis_are_high_where_all_is_right_and_the_same_for_all_that_know_nothing() -> None:
    labels = {"hit": torch.tensor([[1.0], [0.0], [0.0], [0.0]]), "sort": torch.tensor([0, 0, 0, 1])}
    assert kpi(TASKS[0], 2 * labels["hit"] - 1, labels["hit"]) == 1
    assert kpi(TASKS[0], -torch.ones(4, 1), labels["hit"]) == 0.5  # not the accuracy of 3/4
    assert kpi(TASKS[2], F.one_hot(labels["sort"], 3).float(), labels["sort"]) == 1
    assert kpi(TASKS[2], torch.tensor([[1.0, 0, 0]]).expand(4, 3), labels["sort"]) == 0.5
    normal = torch.distributions.Normal(0, 1).icdf(torch.linspace(0.001, 0.999, 999))[:, None]
    assert kpi(TASKS[1], torch.zeros(999, 1), normal) == pytest.approx(0.5, abs=0.01)
    assert kpi(TASKS[1], normal, normal) == 1
