"""What each balancer promises beyond the contract: optima, tables, identities, and how it moves."""

import copy
import math

import numpy as np
import pytest
import torch

from equipoise import (
    FAMO,
    ConstantWeighting,
    DynamicTaskPrioritization,
    DynamicWeightAverage,
    GradNorm,
    ImpartialLossWeighting,
    RandomLossWeighting,
    SoftmaxFocalLoss,
    UncertaintyWeighting,
    accuracy_kpi,
    scaled_softmax_cross_entropy,
    within_tolerance_kpi,
)
from equipoise.catalog import find
from harness import assert_equal
from task_cases import TASKS, Model, build, losses_of, optimizer, train

LOSSES = {"a": 0.3, "b": 7.0, "c": 0.02}
KINDS = {"a": "gaussian", "b": "softmax", "c": "laplace"}


def settle(balancer, losses, model=None):
    """Trains the balancer, and a model with it, to the optimum; `losses` gives those of one call."""
    parameters = [*balancer.parameters(), *([] if model is None else model.parameters())]
    optimise = torch.optim.LBFGS(
        parameters, max_iter=200, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure():
        optimise.zero_grad()
        total = balancer(losses())
        total.backward()
        return total

    optimise.step(closure)
    closure()


def constant(losses):
    return lambda: {name: torch.tensor(loss, dtype=torch.float64) for name, loss in losses.items()}


# ------------------------------------------------------------------------------------------- uncertainty weighting


@pytest.mark.parametrize("loss", [1e-3, 0.3, 1.0, 50.0])
@pytest.mark.parametrize(
    ("kind", "regularizer", "variance"),
    [
        ("gaussian", "log", lambda loss: loss),
        ("softmax", "log", lambda loss: 2 * loss),
        ("laplace", "log", lambda loss: loss),
        *((kind, "log1p", lambda loss: (loss + math.sqrt(loss**2 + 8 * loss)) / 4) for kind in KINDS.values()),
    ],
)
def test_the_learned_variance_is_the_closed_form(kind, regularizer, variance, loss):
    balancer = UncertaintyWeighting({"a": kind}, regularizer=regularizer)
    settle(balancer, constant({"a": loss}))
    assert balancer.log_variance["a"].detach().exp().item() == pytest.approx(variance(loss), rel=1e-4)
    if regularizer == "log":
        assert balancer.weights["a"].item() == pytest.approx({"laplace": 1.0}.get(kind, 0.5) / loss, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS.values())
@pytest.mark.parametrize("regularizer", ["log", "log1p"])
def test_the_first_batch_starts_at_the_optimum(kind, regularizer):
    balancer = UncertaintyWeighting({"a": kind, "late": kind}, regularizer=regularizer, init="first_batch")
    balancer({"a": torch.tensor(3.0)}).backward()
    assert balancer.log_variance["a"].grad.item() == pytest.approx(0, abs=1e-6)
    balancer({"a": torch.tensor(9.0), "late": torch.tensor(0.5)})
    settled = UncertaintyWeighting({"a": kind, "late": kind}, regularizer=regularizer)
    settle(settled, constant({"a": 3.0, "late": 0.5}))
    for name, expected in settled.log_variance.items():
        assert balancer.log_variance[name].item() == pytest.approx(expected.item(), abs=1e-3), name


@pytest.mark.parametrize("loss", [0.0, -2.0])
def test_a_first_loss_that_is_not_above_0_starts_at_0(loss):
    balancer = UncertaintyWeighting({"a": "gaussian"}, init="first_batch")
    assert balancer({"a": torch.tensor(loss)}).item() == loss / 2
    assert balancer.log_variance["a"].detach() == 0


def test_a_heteroscedastic_toy_recovers_each_tasks_noise():
    """Gal's toy: two regressions with noise of 10 and 1, N = 20,000; sigma^2 is the mean squared residual."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 1, generator=generator)
    noise = torch.tensor([10.0, 1.0]) * torch.randn(20_000, 2, generator=generator)
    y = torch.cat([2 * x + 8, 3 * x + 3], 1) + noise
    model = torch.nn.Linear(1, 2)
    balancer = UncertaintyWeighting({"y1": "gaussian", "y2": "gaussian"})
    settle(balancer, lambda: dict(zip(("y1", "y2"), (model(x) - y).square().mean(0), strict=True)), model)
    solution = np.linalg.lstsq(np.c_[x.numpy(), np.ones(len(x))], y.numpy(), rcond=None)[1] / len(x)
    for place, name in enumerate(("y1", "y2")):
        assert balancer.log_variance[name].exp().item() == pytest.approx(float(solution[place]), rel=2e-3)
    assert solution == pytest.approx([100, 1], rel=0.03)


def test_log1p_is_never_negative():
    balancer = UncertaintyWeighting(KINDS, regularizer="log1p")
    settle(balancer, constant(dict.fromkeys(KINDS, 1e-9)))
    assert balancer(dict.fromkeys(KINDS, torch.tensor(1e-9))) >= 0
    plain = UncertaintyWeighting(KINDS)
    settle(plain, constant(dict.fromkeys(KINDS, 1e-3)))
    assert plain(dict.fromkeys(KINDS, torch.tensor(1e-3))) < 0


def test_beyond_its_bounds_s_finds_back():
    """A plain clamp has no gradient there: a task that got out would stay out."""
    balancer = UncertaintyWeighting({"a": "gaussian"}, clamp=(-2.0, 2.0))
    for start, loss, moves in ((5.0, 1.0, True), (-5.0, 1.0, True), (5.0, 1e6, False), (-5.0, 1e-6, False)):
        with torch.no_grad():
            balancer.log_variance["a"].fill_(start)
        balancer.zero_grad()
        balancer({"a": torch.tensor(loss)}).backward()
        assert balancer.weights["a"].item() == pytest.approx(0.5 * math.exp(-math.copysign(2, start)))
        slope = balancer.log_variance["a"].grad.item()
        assert slope * start > 0 if moves else slope == 0, (start, loss)


@pytest.mark.parametrize("clamp", [3, (1.0,), (1.0, 2.0, 3.0), None, "a"])
def test_bounds_that_are_not_two_are_named(clamp):
    with pytest.raises(TypeError, match="`clamp` must be two numbers, got"):
        UncertaintyWeighting({"a": "gaussian"}, clamp=clamp)


def test_weight_decay_of_the_model_does_not_move_s():
    """Elsewhere sigma^2 = 100 is learned as 55."""

    def learned(groups):
        balancer = UncertaintyWeighting({"a": "gaussian"}, init="first_batch")
        model = torch.nn.Linear(1, 1)
        optimise = torch.optim.AdamW(groups(model, balancer), lr=0.01, weight_decay=0.5)
        for _ in range(50):
            optimise.zero_grad()
            (balancer({"a": torch.tensor(100.0)}) + 0 * model(torch.ones(1)).sum()).backward()
            optimise.step()
        return balancer.log_variance["a"].detach().exp().item()

    assert learned(lambda m, b: [{"params": m.parameters()}, *b.param_groups()]) == pytest.approx(100, rel=1e-4)
    model = torch.nn.Parameter(torch.ones(()))
    balancer = UncertaintyWeighting({"a": "gaussian"})
    with torch.no_grad():
        balancer.log_variance["a"].fill_(math.log(100))
    optimise = torch.optim.AdamW([{"params": [model]}, *balancer.param_groups()], lr=0.1, weight_decay=0.9)
    for _ in range(30):
        optimise.zero_grad()
        (balancer({"a": torch.tensor(100.0)}) + 0 * model).backward()
        optimise.step()
    assert balancer.log_variance["a"].detach().exp().item() == pytest.approx(100, rel=1e-3)
    assert model < 0.5, "the model's own parameter is decayed"


def test_uncertainty_impartial_and_geometric_weighting_agree_at_the_optimum():
    """The direction of each is the sum of grad L / L."""
    model = Model()
    losses = losses_of(model, 0)
    numbers = {name: loss.item() for name, loss in losses.items()}
    wanted = torch.autograd.grad(sum(loss.log() for loss in losses.values()), model.trunk.weight, retain_graph=True)[0]
    uncertain = UncertaintyWeighting(dict.fromkeys(TASKS, "gaussian"))
    impartial = ImpartialLossWeighting(TASKS)
    for balancer, factor in ((uncertain, 0.5), (impartial, 1.0)):
        settle(balancer, constant(numbers))
        (found,) = torch.autograd.grad(balancer(losses), model.trunk.weight, retain_graph=True)
        assert_equal(found / factor, wanted, rtol=1e-3, atol=1e-5, what=type(balancer).__name__)
    for name, loss in numbers.items():
        assert impartial.weights[name].item() * loss == pytest.approx(1, rel=1e-4)


def test_a_cross_entropy_at_a_learned_temperature():
    """On scores that are fixed and twice too large sigma^2 = 2 is found: the temperature that scores held back."""
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(20_000, 3, generator=generator)
    label = torch.multinomial(true.softmax(1), 1, generator=generator)[:, 0]
    s = torch.zeros((), requires_grad=True)
    optimise = torch.optim.LBFGS([s], max_iter=60)

    def closure():
        optimise.zero_grad()
        loss = scaled_softmax_cross_entropy(2 * true, label, s)
        loss.backward()
        return loss

    optimise.step(closure)
    assert s.exp().item() == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_the_scaled_cross_entropy_is_the_definition(reduction):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    s = torch.tensor(0.7, dtype=torch.float64)
    index = torch.tensor([0, 3, -100, 1, 2, -100])
    each = -torch.log_softmax(z / s.exp(), 1).gather(1, index.clamp_min(0)[:, None])[:, 0]
    each = torch.where(index >= 0, each, 0.0)
    expected = {"none": each, "sum": each.sum(), "mean": each.sum() / 4}[reduction]
    assert_equal(scaled_softmax_cross_entropy(z, index, s, reduction=reduction), expected, rtol=1e-12, what="index")
    soft = torch.softmax(z.flip(1), 1)
    each = -(soft * torch.log_softmax(z / s.exp(), 1)).sum(1)
    expected = {"none": each, "sum": each.sum(), "mean": each.mean()}[reduction]
    assert_equal(scaled_softmax_cross_entropy(z, soft, s, reduction=reduction), expected, rtol=1e-12, what="soft")


def test_the_scaled_cross_entropy_of_nothing_and_of_wrong_arguments():
    z = torch.randn(2, 3, requires_grad=True)
    nothing = scaled_softmax_cross_entropy(z, torch.tensor([-100, -100]), torch.tensor(0.0))
    nothing.backward()
    assert nothing == 0
    assert (z.grad == 0).all()
    assert scaled_softmax_cross_entropy(z.bfloat16(), torch.tensor([0, 1]), torch.tensor(0.0)).dtype == torch.float32
    with pytest.raises(ValueError, match="`log_variance` must be a 0-d tensor"):
        scaled_softmax_cross_entropy(z, torch.tensor([0, 1]), torch.zeros(3))
    with pytest.raises(ValueError, match="`reduction` must be one of"):
        scaled_softmax_cross_entropy(z, torch.tensor([0, 1]), torch.tensor(0.0), reduction="all")


# ------------------------------------------------------------------------------------ dynamic task prioritization


@pytest.mark.parametrize(
    ("kpi", "weights"),
    [
        (0.5, (0.693147, 0.490129, 0.346574, 0.173287)),
        (0.1, (2.302585, 2.184424, 2.072327, 1.865094)),
        (0.9, (0.105361, 0.033318, 0.010536, 0.001054)),
        (1.0, (0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_the_table_of_weights(kpi, weights):
    names = ["zero", "a_half", "one", "two"]
    balancer = DynamicTaskPrioritization(names, gamma=[0.0, 0.5, 1.0, 2.0])
    balancer(torch.ones(4), kpis=dict.fromkeys(names, kpi))
    assert [each.item() for each in balancer.weights.values()] == pytest.approx(weights, abs=1e-6)


def test_alpha_weighs_the_new_value_and_the_first_starts_the_average():
    balancer = DynamicTaskPrioritization(["a"], alpha=0.1)
    balancer(torch.ones(1))
    assert balancer.weights["a"] == 1, "before the first indicator"
    for kpi, average in ((0.8, 0.8), (0.3, 0.75), ((1, 4), 0.7), ((0, 0), 0.7), (torch.tensor(0.7), 0.7)):
        balancer.update_kpi({"a": kpi})
        assert balancer.average.item() == pytest.approx(average)


def test_micro_batches_of_indicators_are_added_by_their_counts():
    parts, whole = DynamicTaskPrioritization(["a"]), DynamicTaskPrioritization(["a"])
    scores, labels = torch.randn(30, 4), torch.randint(4, (30,))
    counted = [accuracy_kpi(scores[rows], labels[rows]) for rows in (slice(0, 7), slice(7, 30))]
    parts.update_kpi({"a": tuple(sum(each) for each in zip(*counted, strict=True))})
    whole.update_kpi({"a": accuracy_kpi(scores, labels)})
    assert parts.average == whole.average == (scores.argmax(1) == labels).float().mean()


def test_validation_moves_the_average_in_eval_and_a_batch_does_not():
    balancer = DynamicTaskPrioritization(["a"]).eval()
    balancer(torch.ones(1), kpis={"a": 0.5})
    assert balancer.seen == 0
    balancer.update_kpi({"a": 0.5})
    assert balancer.average == 0.5


def test_the_loss_of_a_task_may_be_a_focal_loss():
    balancer = DynamicTaskPrioritization(["a"])
    scores, labels = torch.randn(8, 3, requires_grad=True), torch.randint(3, (8,))
    total = balancer({"a": SoftmaxFocalLoss(gamma=2.0)(scores, labels)}, kpis={"a": accuracy_kpi(scores, labels)})
    total.backward()
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize(
    ("kpis", "error", "message"),
    [
        ({"a": 1.5}, ValueError, r"`kpis\['a'\]` must be in \[0, 1\]"),
        ({"a": (5, 4)}, ValueError, r"`kpis\['a'\]` must be \(correct, count\) with correct from 0 to count"),
        ({"a": -0.1}, ValueError, r"`kpis\['a'\]` must be in \[0, 1\]"),
        ({"d": 0.5}, ValueError, "`kpis` has the task 'd'"),
        ({"a": (1, 2, 3)}, ValueError, r"`kpis\['a'\]` must be a number or \(correct, count\)"),
        ({"a": ("x", 2)}, ValueError, r"`kpis\['a'\]` must be a number or \(correct, count\)"),
        ({"a": "good"}, TypeError, r"`kpis\['a'\]` must be a number"),
        ([0.5], TypeError, "`kpis` must be a mapping"),
    ],
)
def test_bad_indicators(kpis, error, message):
    with pytest.raises(error, match=message):
        DynamicTaskPrioritization(["a"]).update_kpi(kpis)


def test_accuracy_counts_kept_samples():
    scores = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0], [0.0, 9.0]])
    assert accuracy_kpi(scores, torch.tensor([0, 1, 1, -100])) == (2, 3)
    assert accuracy_kpi(scores, torch.tensor([0, 0, 0, 7]), ignore_index=7) == (2, 3)
    assert accuracy_kpi(torch.tensor([-1.0, 2.0, 3.0]), torch.tensor([0, 1, 0])) == (2, 3)
    assert accuracy_kpi(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)) == (0, 0)
    assert accuracy_kpi(torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.int64)) == (8, 8)
    with pytest.raises(ValueError, match="`target` must have the shape of the guesses"):
        accuracy_kpi(scores, torch.tensor([0, 1]))


def test_within_tolerance_counts_labels():
    truth = torch.tensor([1.0, 2.0, torch.nan, 4.0])
    guess = torch.tensor([1.5, 2.6, 3.0, 4.0])
    assert within_tolerance_kpi(guess, truth, tolerance=0.5) == (2, 3)
    mask = torch.tensor([True, True, True, False])
    assert within_tolerance_kpi(guess, truth, tolerance=0.5, mask=mask) == (1, 2)


# ---------------------------------------------------------------------------------- average, random, FAMO, GradNorm


def test_weights_of_the_dynamic_weight_average_by_hand():
    balancer = DynamicWeightAverage(["a", "b"], temperature=2.0)
    for a, b in (((4.0, 6.0), (1.0, 1.0)), ((2.0, 3.0), (1.0, 0.6))):
        for pair in zip(a, b, strict=True):
            balancer(torch.tensor(pair))
            assert list(balancer.weights.values()) == [1, 1], "until two epochs are known"
        balancer.end_epoch()
    balancer(torch.ones(2))
    raised = np.exp(np.array([0.5, 0.8]) / 2)
    assert [each.item() for each in balancer.weights.values()] == pytest.approx(list(2 * raised / raised.sum()))


def test_a_task_absent_for_an_epoch_keeps_its_means():
    balancer = DynamicWeightAverage(["a", "b"])
    for losses in ({"a": 4.0, "b": 1.0}, {"a": 2.0, "b": 0.5}, {"a": 1.9}):
        balancer({name: torch.tensor(loss) for name, loss in losses.items()})
        balancer.end_epoch()
    assert (*balancer.means[:, 1], balancer.epochs[1]) == (0.5, 1.0, 2)
    balancer.end_epoch()  # an epoch without a step
    assert balancer.epochs.tolist() == [3, 2]
    assert balancer.means[0, 0].item() == pytest.approx(1.9)


def test_random_weights_look_random():
    """Normal under the softmax, by Kolmogorov and Smirnov; independent of step, task and seed."""
    from scipy import stats

    def drawn(seed, steps=2000):
        names = [f"task {place}" for place in range(8)]
        balancer, found = RandomLossWeighting(names, seed=seed), []
        for _ in range(steps):
            balancer(torch.ones(8))
            found.append(torch.stack(list(balancer.weights.values())).double().log().numpy())
        return np.array(found)

    logs, other = drawn(3), drawn(4)
    # the differences of the logarithms are those of the normal numbers
    assert stats.kstest((logs[:, 0::2] - logs[:, 1::2]).ravel() / np.sqrt(2), "norm").pvalue > 0.01
    centred, others = (each - each.mean(1, keepdims=True) for each in (logs, other))
    assert np.abs(np.corrcoef(centred.T) - (np.eye(8) * 8 - 1) / 7).max() < 0.1
    assert np.abs(np.corrcoef(centred[:-1, 0], centred[1:, 0])[0, 1]) < 0.08
    assert np.abs(np.corrcoef(centred.ravel(), others.ravel())[0, 1]) < 0.03


def test_random_weights_sum_to_one_and_are_equal_in_eval():
    balancer = RandomLossWeighting(TASKS, seed=5)
    seen = set()
    for _ in range(5):
        balancer(torch.ones(3))
        seen.add(tuple(each.item() for each in balancer.weights.values()))
        assert sum(balancer.weights.values()).item() == pytest.approx(1)
    assert len(seen) == 5
    balancer.eval()(torch.ones(3))
    assert [each.item() for each in balancer.weights.values()] == pytest.approx([1 / 3] * 3)


def test_famo_turns_to_the_task_that_falls_least():
    balancer = FAMO(["fast", "slow"])
    fast, slow = 1.0, 1.0
    for _ in range(60):
        balancer({"fast": torch.tensor(fast), "slow": torch.tensor(slow)})
        fast, slow = fast * 0.9, slow * 0.999
    assert balancer.logits[1] > balancer.logits[0] + 1
    balancer({"fast": torch.tensor(1.0), "slow": torch.tensor(1.0)})
    assert sum(balancer.weights.values()).item() == pytest.approx(1)


def test_famo_is_not_poisoned_by_a_loss_below_its_bound():
    balancer = FAMO(["a", "b"], lowest={"a": 0.5, "b": 0.0})
    for losses in ([1.0, 1.0], [0.4, 1.0], [1.0, 0.9], [0.9, 0.8]):
        assert balancer(torch.tensor(losses)).isfinite()
    assert balancer.logits.abs().max() < 0.2
    assert sum(balancer.weights.values()).item() == pytest.approx(1)


def second_backward(model, weights, losses, first, alpha):
    """The paper's way: the gradient of the sum of |G - target| by the weights, through the graph of the gradients."""
    weights = weights.double().requires_grad_()
    sizes = torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(weight * loss, shared, create_graph=True)]).norm()
            for shared in [list(model.trunk.parameters())]
            for weight, loss in zip(weights, losses, strict=True)
        ]
    )
    fallen = torch.stack([loss.detach() / begin for loss, begin in zip(losses, first, strict=True)])
    target = (sizes.mean() * (fallen / fallen.mean()) ** alpha).detach()
    return torch.autograd.grad((sizes - target).abs().sum(), weights)[0]


def test_gradnorms_written_gradient_is_that_of_a_second_backward_pass():
    """What is learned is the logarithm: its gradient is the weight's times the weight."""
    model = Model()
    balancer = GradNorm(TASKS, list(model.trunk.parameters()), alpha=1.5)
    first = None
    for step in range(5):
        losses = losses_of(model, step)
        first = first or [loss.item() for loss in losses.values()]
        total = balancer(losses)
        weights = torch.stack(list(balancer.weights.values()))
        assert weights.sum().item() == pytest.approx(3)
        expected = second_backward(model, weights, list(losses.values()), first, 1.5)
        for module in (model, balancer):
            module.zero_grad()
        total.backward()
        found = torch.stack([balancer.log_weight[name].grad for name in TASKS])
        assert_equal(found, weights * expected, rtol=1e-5, what=f"gradient of the weights, step {step}")
        with torch.no_grad():
            for parameter in (*model.parameters(), *balancer.parameters()):
                parameter -= 0.02 * parameter.grad


def test_nothing_of_gradnorms_own_gradient_reaches_the_model():
    """gradnorm-pytorch adds second-order gradients to the model's."""
    model = Model()
    balancer = GradNorm(TASKS, list(model.trunk.parameters()))
    balancer(losses_of(model, 0)).backward()
    found = [parameter.grad for parameter in model.parameters()]
    weighed = sum(balancer.weights[name].double() * loss for name, loss in losses_of(model, 0).items())
    for gradient, expected in zip(found, torch.autograd.grad(weighed, list(model.parameters())), strict=True):
        assert_equal(gradient, expected, rtol=1e-12, what="gradient of the model")


@pytest.mark.parametrize(("alpha", "slow_gets_more"), [(0.0, False), (1.5, True)])
def test_gradnorm_makes_norms_alike_and_helps_the_slow(alpha, slow_gets_more):
    """Alpha turns the balance to tasks whose losses fell least; its sign is upside down in gradnorm-pytorch."""
    shared = torch.ones(2, requires_grad=True)
    balancer = GradNorm(["fast", "slow"], [shared], alpha=alpha)
    optimise = torch.optim.Adam(balancer.param_groups(lr=0.02))
    for step in range(300):
        # both losses fall, one faster; their gradients are 30 and 1
        falling = {"fast": 0.1 if step else 1.0, "slow": 0.8 if step else 1.0}
        pull = {"fast": 30 * (shared[0] - 1), "slow": shared[1] - 1}
        optimise.zero_grad()
        balancer({name: pull[name] + falling[name] for name in pull}).backward()
        optimise.step()
        assert all(weight > 0 for weight in balancer.weights.values())
    sizes = balancer.weights["fast"].item() * 30, balancer.weights["slow"].item()
    if slow_gets_more:
        assert sizes[1] > 5 * sizes[0]
    else:
        assert sizes[1] / sizes[0] == pytest.approx(1, rel=0.15)


LAYER = torch.nn.Linear(3, 2)


@pytest.mark.parametrize(
    ("shared", "error", "words"),
    [
        ([], ValueError, "at least one parameter, got none"),
        ([3], TypeError, r"`shared\[0\]` must be a tensor, got 3"),
        ([torch.ones(2), torch.ones(2).long()], TypeError, r"`shared\[1\]` must be a floating-point tensor"),
        (None, TypeError, "`shared` must be a list of parameters.* got a NoneType"),
        (LAYER, TypeError, "`shared` must be a list of parameters.* got a Linear"),
        (torch.nn.Sequential(LAYER), TypeError, "`shared` must be a list of parameters.* got a Sequential"),
        (LAYER.parameters, TypeError, "`shared` must be a list of parameters.* got a method"),
        (dict(LAYER.named_parameters()), TypeError, "`shared` must be a list of parameters.* got a dict"),
        (LAYER.named_parameters(), TypeError, r"`shared\[0\]` must be a tensor, got \('weight'"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_what_gradnorm_cannot_share_is_named(shared, error, words):
    with pytest.raises(error, match=words):
        GradNorm(["a"], shared)


def test_a_shared_parameter_without_a_gradient_is_named_where_weights_learn():
    """Autograd says that one of the differentiated tensors does not require grad, of which nobody spoke."""
    model = Model()
    balancer = GradNorm(TASKS, [model.trunk.weight, model.trunk.bias])
    model.trunk.bias.requires_grad_(False)
    before = copy.deepcopy(balancer.state_dict())
    with pytest.raises(ValueError, match=r"`shared\[1\]` must require a gradient, got a torch.float64 tensor of shape"):
        balancer(losses_of(model, 0))
    assert all(torch.equal(balancer.state_dict()[name], value) for name, value in before.items())
    balancer.eval()(losses_of(model, 0))
    balancer.train()
    model.trunk.bias.requires_grad_(True)
    balancer(losses_of(model, 0)).backward()


def test_a_shared_layer_that_no_loss_depends_on_is_an_error_and_no_silence():
    """Its norms are all 0: the weights would never move, as where the model was copied after the balancer was built."""
    model = Model()
    elsewhere = GradNorm(TASKS, list(Model().trunk.parameters()))
    before = copy.deepcopy(elsewhere.state_dict())
    with pytest.raises(ValueError, match="`shared` must be what the losses depend on"):
        elsewhere(losses_of(model, 0))
    assert all(torch.equal(elsewhere.state_dict()[name], value) for name, value in before.items())
    # one task of its own is no mistake, nor is a constant where a loss is missing
    balancer = GradNorm(TASKS, list(model.trunk.parameters()))
    own = torch.ones((), requires_grad=True)
    balancer(losses_of(model, 0) | {"a": 2 * own}).backward()
    balancer(dict.fromkeys(TASKS, own)).backward()


def test_a_graph_that_is_gone_keeps_torchs_own_words():
    model = Model()
    losses = losses_of(model, 0)
    sum(losses.values()).backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        GradNorm(TASKS, list(model.trunk.parameters()))(losses)


# -------------------------------------------------------------------------------------------------- in a training


def test_constant_weights_of_one_are_the_plain_sum():
    model = Model()
    losses = losses_of(model, 0)
    assert torch.equal(ConstantWeighting(TASKS)(losses), losses["a"] + losses["b"] + losses["c"])
    by_name = ConstantWeighting(TASKS, {"c": 3.0, "a": 1.0, "b": 0.0})
    assert by_name(torch.tensor([1.0, 10.0, 100.0])) == 301
    for wrong in ({"a": 1.0}, [1.0], -1.0, "1"):
        with pytest.raises(ValueError, match="`weights`"):
            ConstantWeighting(TASKS, wrong)


@pytest.mark.parametrize("name", ["constant_weighting", "uncertainty_weighting", "impartial_loss_weighting"])
def test_micro_batches_equal_one_batch(name):
    """Where a rule is linear in the losses: a step of four micro-batches of three rows is that of twelve."""
    whole, parts = Model(), Model()
    one, other = build(find(name), whole), build(find(name), parts)
    optimisers = optimizer(whole, one), optimizer(parts, other)
    for step in range(5):
        for each in optimisers:
            each.zero_grad()
        one(losses_of(whole, step)).backward()
        for start in range(0, 12, 3):
            (other(losses_of(parts, step, rows=slice(start, start + 3))) / 4).backward()
        for each in optimisers:
            each.step()
    pairs = zip((*parts.parameters(), *other.parameters()), (*whole.parameters(), *one.parameters()), strict=True)
    for found, expected in pairs:
        assert_equal(found, expected, rtol=1e-5, atol=1e-7, what="parameter")


def test_micro_batches_equal_one_batch_in_the_averages_of_an_epoch():
    whole, parts = DynamicWeightAverage(TASKS), DynamicWeightAverage(TASKS)
    model = Model()
    for step in range(6):
        whole(losses_of(model, step))
        for start in range(0, 12, 3):
            parts(losses_of(model, step, rows=slice(start, start + 3)))
        if step % 2:
            whole.end_epoch()
            parts.end_epoch()
    for balancer in (whole, parts):
        balancer(torch.ones(3))
    for name, weight in whole.weights.items():
        assert parts.weights[name].item() == pytest.approx(weight.item(), rel=1e-5)


def test_a_scheduler_goes_by_the_losses_and_not_by_a_total_that_is_negative():
    """The recipe of the README: relative thresholds of ReduceLROnPlateau go wrong at numbers below 0."""
    balancer = UncertaintyWeighting({"a": "gaussian"}, init="first_batch")
    optimise = torch.optim.SGD([{"params": [torch.zeros(1, requires_grad=True)]}, *balancer.param_groups()], lr=1.0)
    recipe = torch.optim.lr_scheduler.ReduceLROnPlateau(optimise, patience=2, threshold=1e-3)
    for step in range(12):
        total = balancer({"a": torch.tensor(1e-3 * 0.99**step)})
        assert total < 0
        recipe.step(sum(balancer.losses.values()))
    assert optimise.param_groups[0]["lr"] == 1.0, "the loss falls by 1 % a step"
    for _ in range(4):
        balancer({"a": torch.tensor(1e-3)})
        recipe.step(sum(balancer.losses.values()))
    assert optimise.param_groups[0]["lr"] < 1.0, "it stands still"


@pytest.mark.parametrize("name", ["uncertainty_weighting", "impartial_loss_weighting", "famo", "grad_norm"])
def test_a_training_helps_every_task(name):
    """No task is starved by another on a scale a hundred times its own."""
    model = Model()
    before = {name: loss.item() for name, loss in losses_of(model, 0).items()}
    balancer = build(find(name), model)
    optimise = optimizer(model, balancer)
    train(model, balancer, [0] * 120, optimise=optimise)
    after = {name: loss.item() for name, loss in losses_of(model, 0).items()}
    assert all(after[each] < 0.8 * before[each] for each in TASKS), (before, after)
