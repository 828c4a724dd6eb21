"""What the papers prove or print of the balancers, and what their users trip over."""

from __future__ import annotations

import math

import pytest
import torch

import equipoise
from balancer_cases import KINDS, TASKS
from oracle.multitask import Uncertainty, grad_norm_slopes

LOSSES = {"a": 0.3, "b": 2.0, "c": 0.05}


def close(found, expected, tolerance=1e-4):
    assert found == pytest.approx(expected, rel=tolerance, abs=1e-7)


def settled(balancer, losses, steps=4000, rate=0.1):
    """What the balancer learns of losses that stay."""
    optimizer = torch.optim.Adam(balancer.param_groups(lr=rate))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    given = {name: torch.tensor(loss) for name, loss in losses.items()}
    for _ in range(steps):
        optimizer.zero_grad()
        balancer(given).backward()
        optimizer.step()
        schedule.step()
    balancer(given)
    return balancer


def test_uncertainty_finds_the_variance_that_is_best():
    balancer = settled(equipoise.UncertaintyWeighting(KINDS), LOSSES)
    variance = {name: each.exp().item() for name, each in balancer.log_variance.items()}
    close(variance, {"a": 0.3, "b": 2 * 2.0, "c": 0.05})
    close(
        {name: each.item() for name, each in balancer.weights.items()},
        {"a": 1 / (2 * 0.3), "b": 1 / (2 * 2.0), "c": 1 / 0.05},
    )


def test_uncertainty_with_log1p_finds_its_optimum_and_is_never_negative():
    balancer = settled(equipoise.UncertaintyWeighting(KINDS, regularizer="log1p"), LOSSES)
    expected = {name: (loss + math.sqrt(loss**2 + 8 * loss)) / 4 for name, loss in LOSSES.items()}
    close({name: each.exp().item() for name, each in balancer.log_variance.items()}, expected)
    assert balancer({name: torch.tensor(1e-6) for name in TASKS}).item() > 0


@pytest.mark.parametrize("regularizer", ["log", "log1p"])
def test_the_first_batch_sets_the_optimum_of_its_losses(regularizer):
    first = equipoise.UncertaintyWeighting(KINDS, regularizer=regularizer, init="first_batch")
    first({name: torch.tensor(loss) for name, loss in LOSSES.items()})
    best = Uncertainty(KINDS, regularizer)
    expected = {name: best.best(name, loss) for name, loss in LOSSES.items()}
    close({name: each.exp().item() for name, each in first.log_variance.items()}, expected)


def test_a_first_loss_of_zero_starts_at_zero():
    balancer = equipoise.UncertaintyWeighting(KINDS, init="first_batch")
    balancer({"a": torch.tensor(0.0), "b": torch.tensor(2.0)})
    assert balancer.log_variance["a"].item() == 0
    balancer({"a": torch.tensor(5.0), "c": torch.tensor(0.5)})
    assert balancer.log_variance["a"].item() == 0
    close(balancer.log_variance["c"].item(), math.log(0.5))


def test_two_regressions_of_known_noise_give_their_mean_squared_residuals():
    """The toy of the paper's authors: one input, two linear targets with noise of 10 and 1."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 1, generator=generator)
    targets = torch.cat([2 * x + 8, 3 * x + 3], 1) + torch.randn(20_000, 2, generator=generator) * torch.tensor(
        [10.0, 1]
    )
    model = torch.nn.Linear(1, 2)
    balancer = equipoise.UncertaintyWeighting({"loud": "gaussian", "quiet": "gaussian"})
    optimizer = torch.optim.LBFGS(
        [*model.parameters(), *balancer.parameters()], max_iter=200, line_search_fn="strong_wolfe"
    )

    def losses():
        return (model(x) - targets).square().mean(0)

    def total():
        optimizer.zero_grad()
        value = balancer(losses())
        value.backward()
        return value

    optimizer.step(total)
    found = torch.stack([balancer.log_variance[name].exp() for name in balancer.tasks])
    torch.testing.assert_close(found, losses().detach(), rtol=1e-3, atol=0)
    torch.testing.assert_close(found, torch.tensor([100.0, 1.0]), rtol=0.03, atol=0)


def test_the_optimum_of_uncertainty_points_where_impartial_weights_and_the_geometric_mean_do():
    start = torch.tensor([0.7, -0.3, 0.2], requires_grad=True)

    def losses(at):
        return torch.stack(
            [(at - 1).square().sum(), (at + 2).abs().sum(), (at * torch.tensor([1.0, 2, 3])).exp().sum()]
        )

    def direction(total):
        (gradient,) = torch.autograd.grad(total, start)
        return gradient / gradient.norm()

    values = dict(zip(TASKS, losses(start).tolist(), strict=True))
    geometric = direction(losses(start).log().sum())
    uncertain = settled(equipoise.UncertaintyWeighting(dict.fromkeys(TASKS, "laplace")), values)
    impartial = settled(equipoise.ImpartialLossWeighting(TASKS), values)
    for balancer in (uncertain, impartial):
        torch.testing.assert_close(direction(balancer(losses(start))), geometric, rtol=1e-3, atol=1e-4)


def test_a_logarithm_beyond_its_bounds_comes_back():
    """The clamp alone would leave it without a gradient for good."""
    balancer = equipoise.UncertaintyWeighting({"a": "gaussian", "b": "gaussian"}, clamp=(-2.0, 2.0))
    with torch.no_grad():
        balancer.log_variance["a"].fill_(3.0)
        balancer.log_variance["b"].fill_(-3.0)
    balancer({"a": torch.tensor(0.1), "b": torch.tensor(9.0)}).backward()
    assert balancer.log_variance["a"].grad > 0
    assert balancer.log_variance["b"].grad < 0
    assert {name: each.item() for name, each in balancer.weights.items()} == pytest.approx(
        {"a": math.exp(-2) / 2, "b": math.exp(2) / 2}
    )
    balancer.zero_grad()
    balancer({"a": torch.tensor(1e4), "b": torch.tensor(1e-4)}).backward()
    assert not balancer.log_variance["a"].grad
    assert not balancer.log_variance["b"].grad


def test_weight_decay_of_the_model_does_not_move_the_variances():
    """Decay on a logarithm of a variance draws the variance to 1: of 100 learned as 55, as in other code."""

    def learned(groups_of):
        balancer = equipoise.UncertaintyWeighting({"a": "gaussian"})
        optimizer = torch.optim.AdamW(groups_of(balancer), lr=0.02, weight_decay=0.1)
        for _ in range(3000):
            optimizer.zero_grad()
            balancer({"a": torch.tensor(100.0)}).backward()
            optimizer.step()
        return balancer.log_variance["a"].exp().item()

    close(learned(lambda balancer: balancer.param_groups()), 100, 1e-2)
    assert learned(lambda balancer: balancer.parameters()) < 90


def test_the_table_of_dynamic_task_prioritization():
    table = {
        0.5: {0: 0.693147, 0.5: 0.490129, 1: 0.346574, 2: 0.173287},
        0.1: {0: 2.302585, 0.5: 2.184424, 1: 2.072327, 2: 1.865094},
        0.9: {0: 0.105361, 0.5: 0.033318, 1: 0.010536, 2: 0.001054},
    }
    for kpi, row in table.items():
        for gamma, weight in row.items():
            balancer = equipoise.DynamicTaskPrioritization(["a"], gamma=gamma)
            balancer({"a": torch.tensor(1.0)}, kpis={"a": kpi})
            assert balancer.weights["a"].item() == pytest.approx(weight, abs=1e-6)


def test_kpis_of_a_validation_and_of_a_batch_are_one_average():
    by_call, by_update = (equipoise.DynamicTaskPrioritization(["a", "b"], alpha=0.25) for _ in range(2))
    losses = {"a": torch.tensor(1.0), "b": torch.tensor(2.0)}
    for kpis in ({"a": 0.5, "b": (3, 4)}, {"a": (1, 10)}, {"b": (0, 0)}, {"a": torch.tensor(0.9)}):
        by_call(losses, kpis=kpis)
        by_update.update_kpi(kpis)
    close(by_call.average.tolist(), [0.75 * (0.75 * 0.5 + 0.25 * 0.1) + 0.25 * 0.9, 0.75])
    assert by_call.state_dict().keys() == by_update.state_dict().keys()
    torch.testing.assert_close(by_call.average, by_update.average)
    assert by_call.seen.tolist() == by_update.seen.tolist() == [3, 1]


def test_micro_batches_whose_kpi_pairs_are_added_are_one_batch():
    whole, parts = (equipoise.DynamicTaskPrioritization(["a"]) for _ in range(2))
    whole.update_kpi({"a": (9, 30)})
    parts.update_kpi({"a": (2 + 3 + 4, 10 + 10 + 10)})
    assert whole.average.item() == parts.average.item()
    for name in ("uncertainty", "impartial"):
        one, four = (
            equipoise.UncertaintyWeighting({"a": "softmax"})
            if name == "uncertainty"
            else equipoise.ImpartialLossWeighting(["a"])
            for _ in range(2)
        )
        losses = torch.tensor([1.0, 3.0, 2.0, 6.0])
        one({"a": losses.mean()}).backward()
        for loss in losses:
            (four({"a": loss}) / 4).backward()
        for mine, other in zip(one.parameters(), four.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other.grad)


@pytest.mark.parametrize("wrong", [1.5, -0.1, (3, 2), (-1, 2), math.nan])
def test_a_kpi_that_is_none_is_named(wrong):
    with pytest.raises(ValueError, match=r"`kpis\['a'\]` must be"):
        equipoise.DynamicTaskPrioritization(["a"])({"a": torch.tensor(1.0)}, kpis={"a": wrong})


def test_the_helpers_count():
    scores, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0], [9.0, 0.0]]), torch.tensor([0, 1, 1, -100])
    assert [each.item() for each in equipoise.accuracy_kpi(scores, labels)] == [2, 3]
    yes = torch.tensor([1.0, -1.0, 2.0])
    assert [each.item() for each in equipoise.accuracy_kpi(yes, torch.tensor([1.0, 1.0, 1.0]))] == [2, 3]
    values, truth = torch.tensor([1.0, 2.0, 9.0, 4.0]), torch.tensor([1.5, 2.0, 3.0, math.nan])
    assert [each.item() for each in equipoise.within_tolerance_kpi(values, truth, tolerance=0.5)] == [2, 3]
    mask = torch.tensor([True, False, True, True])
    assert [each.item() for each in equipoise.within_tolerance_kpi(values, truth, tolerance=0.5, mask=mask)] == [1, 2]


def test_scaled_cross_entropy_is_that_of_scores_over_the_variance():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(6, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.tensor([0, 1, -100, 3, 2, 0])
    s = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    found = equipoise.scaled_softmax_cross_entropy(scores, labels, s)
    expected = torch.nn.functional.cross_entropy(scores / s.exp(), labels)
    torch.testing.assert_close(found, expected)
    assert torch.autograd.gradcheck(lambda z, t: equipoise.scaled_softmax_cross_entropy(z, labels, t), (scores, s))
    nothing = equipoise.scaled_softmax_cross_entropy(scores, torch.full((6,), -100), s)
    nothing.backward()
    assert nothing.item() == 0
    assert not scores.grad.any()


def test_weights_of_random_weighting_are_normal_under_a_softmax():
    balancer = equipoise.RandomLossWeighting(["a", "b", "c"], seed=1)
    drawn = []
    for _ in range(4000):
        balancer(torch.ones(3))
        drawn.append(torch.stack(list(balancer.weights.values())).log())
    gaps = torch.stack(drawn)[:, 0] - torch.stack(drawn)[:, 1]  # the difference of two normal numbers
    assert gaps.mean().item() == pytest.approx(0, abs=0.07)
    assert gaps.var().item() == pytest.approx(2, abs=0.15)
    within = ((gaps / math.sqrt(2)).abs() < 1).double().mean().item()
    assert within == pytest.approx(0.6827, abs=0.025)
    later = torch.corrcoef(torch.stack([gaps[1:], gaps[:-1]]))[0, 1].item()
    assert later == pytest.approx(0, abs=0.05)


class Net(torch.nn.Module):
    """A trunk of one layer and a head for each of three tasks."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = torch.nn.Linear(5, 4)
        self.heads = torch.nn.ModuleList(torch.nn.Linear(4, 1) for _ in TASKS)

    def losses(self, x):
        hidden = self.trunk(x).tanh()
        return {
            name: (head(hidden) - place).square().mean()
            for place, (name, head) in enumerate(zip(TASKS, self.heads, strict=True))
        }


def test_grad_norm_has_the_papers_gradient_and_leaves_the_model_the_weighed_sum():
    net, x = Net(), torch.randn(16, 5, generator=torch.Generator().manual_seed(0))
    balancer = equipoise.GradNorm(TASKS, net.trunk.parameters(), alpha=0.8)
    optimizer = torch.optim.SGD(balancer.param_groups(lr=0.3))
    first = None
    for _ in range(5):
        losses = net.losses(x)
        values = {name: loss.item() for name, loss in losses.items()}
        first = first or values
        norms = {}
        for name, loss in losses.items():
            found = torch.autograd.grad(loss, list(net.trunk.parameters()), retain_graph=True)
            norms[name] = torch.cat([each.flatten() for each in found]).norm().item()
        weights = {name: balancer.log_weight[name].exp().item() for name in TASKS}
        scale = len(TASKS) / sum(weights.values())
        weights = {name: scale * weight for name, weight in weights.items()}
        net.zero_grad()
        optimizer.zero_grad()
        balancer(losses).backward()
        close({name: each.item() for name, each in balancer.weights.items()}, weights, 1e-5)
        slopes = grad_norm_slopes(weights, values, first, norms, 0.8)
        for name in TASKS:  # of the logarithm of the weight
            assert balancer.log_weight[name].grad.item() == pytest.approx(weights[name] * slopes[name], rel=1e-4)
        again = net.losses(x)
        expected = torch.autograd.grad(
            sum(weights[name] * loss for name, loss in again.items()), list(net.parameters())
        )
        for mine, other in zip(net.parameters(), expected, strict=True):
            torch.testing.assert_close(mine.grad, other, rtol=1e-4, atol=1e-6)
        optimizer.step()
        with torch.no_grad():
            for each in net.parameters():
                each -= 0.05 * each.grad
    assert all(weight > 0 for weight in balancer.weights.values())


def test_grad_norm_makes_gradients_of_one_size():
    net, x = Net(), torch.randn(16, 5, generator=torch.Generator().manual_seed(0))
    balancer = equipoise.GradNorm(TASKS, net.trunk.parameters(), alpha=0.0)
    optimizer = torch.optim.SGD(balancer.param_groups(lr=0.02))
    for _ in range(800):
        optimizer.zero_grad()
        balancer(net.losses(x)).backward()
        optimizer.step()
    sizes = []
    for name, loss in net.losses(x).items():
        found = torch.autograd.grad(loss, list(net.trunk.parameters()), retain_graph=True)
        sizes.append((balancer.weights[name] * torch.cat([each.flatten() for each in found]).norm()).item())
    assert max(sizes) / min(sizes) < 1.1
    assert all(key.startswith(("log_weight", "first", "started")) for key in balancer.state_dict())


def test_a_scheduler_follows_the_raw_losses_where_the_total_falls_below_zero():
    """A total that is negative, and a plateau in it, are the regulariser's doing."""
    weight = torch.nn.Parameter(torch.tensor(1.0))
    balancer = equipoise.UncertaintyWeighting({"a": "gaussian"})
    optimizer = torch.optim.SGD([{"params": [weight]}, *balancer.param_groups(lr=0.05)], lr=0.1)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=3)
    totals = []
    for _ in range(300):
        optimizer.zero_grad()
        total = balancer({"a": (weight - 2).square() + 1e-3})
        total.backward()
        optimizer.step()
        totals.append(total.item())
        schedule.step(sum(loss.item() for loss in balancer.losses.values()))
    assert totals[-1] < 0
    assert weight.item() == pytest.approx(2, abs=1e-2)
    assert balancer.losses["a"].item() == pytest.approx(1e-3, abs=1e-3)


def test_wrong_options_are_named():
    for call, words in (
        (lambda: equipoise.UncertaintyWeighting({"a": "normal"}), r"`tasks\['a'\]` must be one of 'gaussian'"),
        (lambda: equipoise.UncertaintyWeighting({"a": "softmax"}, clamp=(1.0, 1.0)), "`clamp` must rise"),
        (lambda: equipoise.ConstantWeighting(["a", "b"], {"a": 1.0}), "`weights` has no number for 'b'"),
        (lambda: equipoise.ConstantWeighting(["a", "b"], [1.0]), "`weights` must be a number, or one for each"),
        (lambda: equipoise.ConstantWeighting(["a"], -1.0), "`weights` must be finite and >= 0"),
        (lambda: equipoise.DynamicTaskPrioritization(["a"], alpha=0.0), "`alpha` must be > 0"),
        (lambda: equipoise.DynamicTaskPrioritization(["a"], alpha=1.5), r"`alpha` must be in \[0, 1\]"),
        (lambda: equipoise.DynamicWeightAverage(["a"], temperature=0.0), "`temperature` must be > 0"),
        (lambda: equipoise.GradNorm(["a"], []), "`shared` must hold at least one parameter"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(TypeError, match="`tasks` must give each task's kind"):
        equipoise.UncertaintyWeighting(["a"])
