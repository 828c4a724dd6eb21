"""The lines of the contract that every balancer meets: what it computes, and what moves or must not move its state."""

import copy
import pickle

import pytest
import torch

from balancer_cases import (
    BALANCERS,
    LEARNED,
    LOSS_ONLY,
    PRESENT,
    TASKS,
    Model,
    assert_same_state,
    build,
    each_balancer,
    each_balancer_sample,
    kpis,
    losses_of,
    optimizer,
    state,
    train,
    values,
)
from harness import assert_equal
from oracle.multitask import BALANCERS as ORACLES

EXACT = ("constant_weighting", *LEARNED)
"""Without state of float32 between a loss and the total."""


def arguments(card, sample):
    """The first argument of a balancer and of its oracle."""
    kinds = dict(zip(TASKS, ("gaussian", "softmax", "laplace"), strict=True))
    return kinds if card.name == "uncertainty_weighting" else TASKS


def norms_of(balancer, losses):
    """The norm of each loss's gradient on the shared parameters, one after the other."""
    norms = {}
    for name, loss in losses.items():
        parts = torch.autograd.grad(loss, balancer.shared, retain_graph=True)
        norms[name] = torch.cat([part.flatten() for part in parts]).norm().item()
    return norms


@each_balancer_sample("equals the oracle")
def test_a_training_equals_the_oracle_step_by_step(card, sample):
    model = Model()
    balancer, truth = build(card, sample, model), ORACLES[card.name](arguments(card, sample), **sample)
    exact = card.name in EXACT and "init" not in sample
    tolerance = {"rtol": 1e-10, "atol": 1e-12} if exact else {"rtol": 1e-4, "atol": 1e-6}
    for step, present in enumerate(PRESENT * 2):
        losses = losses_of(model, step, present) if card.name == "grad_norm" else values(step, present)
        if card.name == "grad_norm":
            truth.norms = norms_of(balancer, losses)
        if card.name == "dynamic_task_prioritization" and step > 1:
            truth.update(kpis(step, present))
        total = balancer(losses, kpis=kpis(step, present) if step > 1 else None)
        if not present:
            assert total == 0
            assert balancer.weights == balancer.losses == {}
            continue
        expected, weights, slopes = truth({name: loss.item() for name, loss in losses.items()})
        assert_equal(total, torch.tensor(expected, dtype=torch.float64), what=f"total, step {step}", **tolerance)
        gradients = torch.autograd.grad(total, list(losses.values()), retain_graph=True)
        assert list(balancer.weights) == list(balancer.losses) == list(present)
        for name, gradient in zip(losses, gradients, strict=True):
            weight = torch.tensor(weights[name], dtype=torch.float64)
            assert_equal(gradient, weight, what=f"gradient of {name}, step {step}", **tolerance)
            assert_equal(balancer.weights[name], gradient.to(balancer.weights[name].dtype), rtol=1e-6, what="weight")
            assert_equal(balancer.losses[name], losses[name], rtol=0, what="loss for the log")
        learned = dict(zip(TASKS, balancer.parameters(), strict=False))
        for name, slope in slopes.items():
            (gradient,) = torch.autograd.grad(total, learned[name], retain_graph=True)
            assert_equal(gradient, torch.tensor(slope), rtol=1e-5, atol=1e-6, what=f"gradient of s, {name}, {step}")
            with torch.no_grad():  # a step of plain descent, of float32 numbers
                learned[name] -= 0.5 * gradient
            truth.parameters[name] = learned[name].item()
        if step % 3 == 2:
            balancer.end_epoch()
            if card.name == "dynamic_weight_average":
                truth.end_epoch()


@each_balancer_sample("a vector is the mapping in the tasks' order")
def test_a_vector_is_the_mapping(card, sample):
    by_name, by_place = build(card, sample, first := Model()), build(card, sample, second := Model())
    for step in range(6):
        mapping, other = losses_of(first, step), losses_of(second, step)
        backwards = dict(reversed(mapping.items()))
        totals = (
            by_name(backwards, kpis=kpis(step, TASKS)),
            by_place(torch.stack(list(other.values())), kpis=kpis(step, TASKS)),
        )
        assert_equal(totals[0], totals[1], rtol=1e-12, what=f"total, step {step}")
    assert_same_state(state(by_place), state(by_name), "state")
    partly = by_name({name: mapping[name] for name in ("a", "c")})
    for mask in ([True, False, True], torch.tensor([True, False, True]), {"b": False}):
        again = copy.deepcopy(by_place)(torch.stack(list(losses_of(second, 5).values())), mask=mask)
        assert_equal(again, partly, rtol=1e-12, what=f"total, mask {mask}")


@each_balancer_sample("an absent task is as if it were not declared")
def test_an_absent_task_is_as_if_it_were_not_declared(card, sample):
    """Bit for bit, over a training: the others' losses, weights and state, and the absent one's own state."""
    model, fewer = Model(), Model()
    fewer.tasks, fewer.heads = ("a", "c"), torch.nn.ModuleList([fewer.heads[0], fewer.heads[2]])
    three, two = build(card, sample, model), build(card, sample, fewer)
    before = state(three)
    for step in range(7):
        total, weights, gradient = descend(model, three, step)
        expected_total, expected_weights, expected_gradient = descend(fewer, two, step)
        assert torch.equal(total, expected_total), step
        assert weights == expected_weights, step
        assert torch.equal(gradient, expected_gradient), step
    expected = state(two)
    for name, tensor in state(three).items():
        if tensor.shape == (3,):
            assert torch.equal(tensor[[0, 2]], expected[name]), name
            assert torch.equal(tensor[1], before[name][1]), name
        else:
            assert torch.equal(tensor, before[name] if name.endswith("_b") else expected[name]), name
    for name, parameter in three.named_parameters():
        assert (parameter.grad is None) == name.endswith("_b"), name


def descend(model, balancer, step):
    """A step by the losses of a and c: the total, the weights and the gradient of the trunk."""
    total = balancer(losses_of(model, step, ("a", "c")), kpis=kpis(step, ("a", "c")))
    model.zero_grad()
    balancer.zero_grad()
    total.backward()
    with torch.no_grad():
        for parameter in (*model.parameters(), *balancer.parameters()):
            if parameter.grad is not None:
                parameter -= 0.05 * parameter.grad
    if step % 3 == 2:
        balancer.end_epoch()
    return total, dict(balancer.weights), model.trunk.weight.grad


@each_balancer("no task at all")
def test_no_task_at_all_is_a_differentiable_0_and_moves_nothing(card):
    balancer = build(card)
    train_some(card, balancer)
    before = state(balancer)
    for losses, mask in (({}, None), (values(0), [False] * 3), (torch.stack(list(values(0).values())), [False] * 3)):
        total = balancer(losses, mask=mask)
        assert total == 0
        total.backward()
    assert all(parameter.grad is None for parameter in balancer.parameters())
    assert_same_state(state(balancer), before, "state")


def train_some(card, balancer, steps=range(4)):
    for step in steps:
        balancer(values(step), kpis=kpis(step, TASKS))
        if step % 3 == 2:
            balancer.end_epoch()


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
@each_balancer_sample("a loss that is not finite moves nothing")
def test_a_loss_that_is_not_finite_moves_nothing_and_the_next_step_is_right(card, sample, poison):
    models = Model(), Model()
    hit, spared = (build(card, sample, model) for model in models)
    for balancer, model in zip((hit, spared), models, strict=True):
        train(model, balancer, range(4))
    before = state(hit)
    losses = losses_of(models[0], 4)
    losses["b"] = losses["b"] * 0 + poison
    total = hit(losses, kpis=kpis(9, TASKS))
    assert not total.isfinite()
    assert_same_state(state(hit), before, f"after {poison}")
    hit.zero_grad()
    total.backward()
    assert all(parameter.grad == 0 for parameter in hit.parameters())
    for step in (5, 6):
        totals = [balancer(losses_of(model, step)) for balancer, model in zip((hit, spared), models, strict=True)]
        assert torch.equal(*totals), step
    assert_same_state(state(hit), state(spared), "afterwards")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@each_balancer_sample("state keeps its precision")
def test_half_precision_losses_meet_float32_state(card, sample, dtype):
    """Through `.half()`, too: the numbers are those of the rounded losses in float32."""
    model = Model()
    balancer, reference = build(card, sample, model), build(card, sample, model)
    balancer = balancer.half() if dtype == torch.float16 else torch.nn.Sequential(balancer).bfloat16()[0]
    for step in range(7):
        rounded = {name: loss.to(dtype) for name, loss in losses_of(model, step).items()}
        total = balancer(rounded, kpis=kpis(step, TASKS))
        expected = reference({name: loss.float() for name, loss in rounded.items()}, kpis=kpis(step, TASKS))
        assert total.dtype == torch.float32
        assert_equal(total, expected, rtol=1e-6, atol=1e-7, what=f"total, step {step}")
        for each in (balancer, reference):
            each.zero_grad()
        total.backward(retain_graph=True)
        expected.backward()
        with torch.no_grad():
            for each in (balancer, reference):
                for parameter in each.parameters():
                    assert parameter.grad.dtype == torch.float32
                    parameter -= 0.1 * parameter.grad
        if step % 3 == 2:
            balancer.end_epoch()
            reference.end_epoch()
    for name, tensor in state(balancer).items():
        assert tensor.dtype in (torch.float32, torch.int64, torch.bool), name
        assert_equal(tensor, state(reference)[name], rtol=2e-3, atol=1e-5, what=name)


@each_balancer_sample("eval freezes the state")
def test_eval_freezes_the_state(card, sample):
    model = Model()
    balancer = build(card, sample, model)
    train(model, balancer, range(4))
    before = state(balancer)
    balancer.eval()
    for step in range(4):
        total = balancer(losses_of(model, step), kpis=kpis(step, TASKS))
        assert torch.equal(total, balancer(losses_of(model, step))), "an evaluation is the same twice"
    assert_same_state(state(balancer), before, "in eval")
    with torch.no_grad():
        balancer.eval()(losses_of(model, 0))
        balancer.train()(losses_of(model, 0))  # a validation in training mode, without gradients, is no error


@each_balancer_sample("saved and resumed equals unbroken")
def test_saved_and_resumed_equals_unbroken(card, sample, tmp_path):
    def present(step):
        return ("a", "c") if step % 4 == 1 else TASKS

    unbroken, half = Model(), Model()
    balancer = build(card, sample, unbroken)
    first = build(card, sample, half)
    optimise = optimizer(half, first)
    expected = train(unbroken, balancer, range(10), present)
    totals = train(half, first, range(5), present, optimise)
    parts = {"model": half.state_dict(), "balancer": first.state_dict(), "optimiser": optimise.state_dict()}
    torch.save(parts, tmp_path / "run.pt")
    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    model = Model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    resumed = build(card, sample, model)
    again = optimizer(model, resumed)
    for part, values_ in zip((model, resumed, again), saved.values(), strict=True):
        part.load_state_dict(values_)
    totals += train(model, resumed, range(5, 10), present, again)
    assert all(torch.equal(one, other) for one, other in zip(totals, expected, strict=True))
    assert_same_state(state(resumed), state(balancer), "state")
    assert_same_state(state(model), state(unbroken), "model")


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda both: pickle.loads(pickle.dumps(both))}


@pytest.mark.parametrize("copied", COPIES)
@each_balancer_sample("options as buffers")
def test_a_copy_goes_on_alike(card, sample, copied):
    """Copied with the model, for GradNorm has parameters of it."""
    model = Model()
    original = build(card, sample, model)
    train(model, original, range(4))
    twin, other = COPIES[copied]((model, original))
    assert repr(other) == repr(original)
    for step in range(4):
        assert torch.equal(other(losses_of(twin, step)), original(losses_of(model, step))), step
    assert_same_state(state(other), state(original), copied)


@each_balancer_sample("repr round trip", where=lambda card: card.name != "grad_norm")
def test_the_repr_is_code(card, sample):
    original = build(card, sample)
    other = eval(repr(original), {type(original).__name__: type(original)})
    assert repr(other) == repr(original)
    for step in range(4):
        assert torch.equal(other(values(step), kpis=kpis(step, TASKS)), original(values(step), kpis=kpis(step, TASKS)))
    assert_same_state(state(other), state(original), "state")


@each_balancer("inputs not mutated, grad mode untouched")
def test_a_call_changes_nothing_else(card):
    model = Model()
    balancer = build(card, {}, model)
    losses = losses_of(model, 0)
    before = {name: loss.clone() for name, loss in losses.items()}
    grads = [None if each.grad is None else each.grad.clone() for each in model.parameters()]
    balancer(losses, kpis=kpis(0, TASKS))
    assert torch.is_grad_enabled()
    assert all(torch.equal(loss, before[name]) for name, loss in losses.items())
    assert [each.grad for each in model.parameters()] == grads, "measuring gradients leaves none behind"
    assert not any(weight.requires_grad for weight in (*balancer.weights.values(), *balancer.losses.values()))


@each_balancer_sample("the model's gradient is the weighed sum")
def test_the_models_gradient_is_the_weighed_sum(card, sample):
    model = Model()
    balancer = build(card, sample, model)
    train(model, balancer, range(5))
    model.zero_grad()
    balancer(losses_of(model, 5)).backward()
    weighed = sum(balancer.weights[name].double() * loss for name, loss in losses_of(model, 5).items())
    expected = torch.autograd.grad(weighed, list(model.parameters()))
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert_equal(parameter.grad, gradient, rtol=1e-6, atol=1e-12, what="gradient")


@each_balancer("parameter groups")
def test_the_optimisers_group_has_no_weight_decay(card):
    balancer = build(card)
    groups = balancer.param_groups(lr=0.1)
    assert len(groups) == (card.name in LEARNED)
    for group in groups:
        assert (group["weight_decay"], group["lr"]) == (0.0, 0.1)
        assert [id(each) for each in group["params"]] == [id(each) for each in balancer.parameters()]
        assert len(group["params"]) == len(TASKS)
    assert all("lr" not in group for group in balancer.param_groups())


@each_balancer("any name will do")
def test_a_task_may_have_any_name(card):
    """Columns of a table are called what they are called."""
    names = ["values", "arr.delay", "", "half", "weights", "0"]
    tasks = dict.fromkeys(names, "gaussian") if card.name == "uncertainty_weighting" else names
    more = {"shared": Model().trunk.weight} if card.name == "grad_norm" else {}
    balancer = card.module(tasks, **more)
    total = balancer({name: torch.tensor(1.0) for name in names})
    assert list(balancer.weights) == names
    balancer.load_state_dict(balancer.state_dict())
    assert total.isfinite()


BAD = {
    "an unknown task": (lambda b: b({"a": torch.tensor(1.0), "d": torch.tensor(1.0)}), ValueError, "'d', expected 'a'"),
    "a loss that is no scalar": (lambda b: b({"a": torch.ones(2)}), ValueError, r"`losses\['a'\]` must be a scalar"),
    "a loss that is no tensor": (lambda b: b({"a": 1.0}), TypeError, r"`losses\['a'\]` must be a tensor"),
    "whole numbers": (lambda b: b(torch.ones(3, dtype=torch.int64)), TypeError, "floating-point"),
    "a vector too long": (lambda b: b(torch.ones(4)), ValueError, r"vector of the 3 tasks, got shape \[4\]"),
    "a mask of numbers": (lambda b: b(torch.ones(3), mask=torch.ones(3)), TypeError, "`mask` must be boolean"),
    "a mask too short": (lambda b: b(torch.ones(3), mask=[True]), ValueError, "`mask` must be of the 3 tasks, got 1"),
    "a mask of an unknown task": (lambda b: b(torch.ones(3), mask={"d": True}), ValueError, "`mask` has the task 'd'"),
    "a mask that is a word": (lambda b: b(torch.ones(3), mask="abc"), TypeError, "`mask` must say"),
}


@pytest.mark.parametrize("what", BAD)
@each_balancer("bad input raises the documented error")
def test_bad_input(card, what):
    call, error, message = BAD[what]
    with pytest.raises(error, match=message):
        call(build(card))


@pytest.mark.parametrize(
    ("tasks", "error", "message"),
    [
        ([], ValueError, "at least one"),
        (["a", "a"], ValueError, "once"),
        ("ab", TypeError, "`tasks` must be a list of names"),
        ([1], TypeError, "`tasks` must be a list of names"),
        (3, TypeError, "`tasks` must be a list of names"),
    ],
)
@each_balancer("bad options raise the documented error", where=lambda card: card.name != "uncertainty_weighting")
def test_bad_names(card, tasks, error, message):
    more = {"shared": Model().trunk.weight} if card.name == "grad_norm" else {}
    with pytest.raises(error, match=message):
        card.module(tasks, **more)


def test_all_balancers_are_here():
    assert {card.name for card in BALANCERS} == set(ORACLES)
    assert len(LOSS_ONLY) == len(BALANCERS) - 1
