"""What every balancer promises: the lines of the contract for the kind `balancer`."""

from __future__ import annotations

import copy
import inspect
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import equipoise
from balancer_cases import CARDS, ORACLES, SAMPLES, TASKS, history, made, name_of, state_of, step, tasks_of, tensors

each_sample = pytest.mark.parametrize(("card", "options"), SAMPLES, ids=name_of)
each_card = pytest.mark.parametrize("card", CARDS, ids=name_of)
with_oracle = pytest.mark.parametrize(
    ("card", "options"), [sample for sample in SAMPLES if sample[0].name in ORACLES], ids=name_of
)
loss_only = pytest.mark.parametrize("card", [card for card in CARDS if card.name != "grad_norm"], ids=name_of)


def same(found, expected, **tolerance):
    torch.testing.assert_close(found, expected, **(tolerance or {"rtol": 0, "atol": 0}))


def learn(balancer, rate=0.1):
    """A step of gradient descent of what the balancer learns; an absent task's parameter has no gradient."""
    with torch.no_grad():
        for each in balancer.parameters():
            if each.grad is not None:
                each -= rate * each.grad
                each.grad = None


@with_oracle
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_it_equals_the_oracle_step_by_step(card, options, dtype):
    balancer, oracle = made(card, options), ORACLES[card.name](tasks_of(card), **options)
    for number, (losses, kpis) in enumerate(history()):
        total = step(balancer, tensors(losses, dtype), kpis, number)
        expected, weights = oracle(losses, kpis) if hasattr(balancer, "update_kpi") else oracle(losses)
        if hasattr(oracle, "end_epoch") and number % 3 == 2:
            oracle.end_epoch()
        same(total.item(), expected, rtol=2e-5, atol=1e-6)
        same({name: weight.item() for name, weight in balancer.weights.items()}, weights, rtol=2e-5, atol=1e-6)
        assert {name: loss.item() for name, loss in balancer.losses.items()} == pytest.approx(losses, rel=1e-6)


@each_sample
def test_a_vector_is_the_mapping_in_the_order_of_the_tasks(card, options):
    one, other = made(card, options), made(card, options)
    for number, (losses, kpis) in enumerate(history(absent=False)):
        given_ = tensors(losses)
        named = step(one, given_, kpis, number)
        same(step(other, torch.stack([given_[name] for name in TASKS]), kpis, number), named)
        same(other.weights, one.weights)


@each_sample
def test_a_mask_is_a_missing_key(card, options):
    balancers = [made(card, options) for _ in range(4)]
    for losses, kpis in history(4, absent=False):
        given_ = {"kpis": kpis} if hasattr(balancers[0], "update_kpi") else {}
        whole = tensors(losses) | {"b": torch.tensor(math.nan)}
        masks = ({"b": False}, [True, False, True], torch.tensor([True, False, True]))
        total = balancers[0]({name: loss for name, loss in whole.items() if name != "b"}, **given_)
        for balancer, mask in zip(balancers[1:], masks, strict=True):
            same(balancer(whole, mask=mask, **given_), total)
            assert list(balancer.weights) == ["a", "c"]


@each_sample
def test_an_absent_task_is_as_if_it_were_not_declared(card, options):
    """Also for the state of the others; and its own rests while it is away."""
    if options.get("seed") is not None or card.name == "random_loss_weighting":
        assert card.name == "random_loss_weighting"
    whole, without = made(card, options), made(card, options, kept=["a", "c"])
    before = state_of(whole)
    for number, (losses, kpis) in enumerate(history(absent=False)):
        losses.pop("b")
        kpis.pop("b")
        totals = [step(each, tensors(losses), kpis, number) for each in (whole, without)]
        same(totals[0], totals[1], rtol=1e-6, atol=1e-7)
        same(whole.weights, without.weights, rtol=1e-6, atol=1e-7)
        for total, each in zip(totals, (whole, without), strict=True):
            total.backward()
            learn(each)
    for name, value in state_of(whole).items():
        if name.endswith(".b") or (value.ndim and value.shape[-1] == 3):
            rests, was = (value, before[name]) if name.endswith(".b") else (value[..., 1], before[name][..., 1])
            same(rests, was)


@each_sample
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_leaves_all_state_and_the_next_step_is_right(card, options, broken):
    one, other = made(card, options), made(card, options)
    for number, (losses, kpis) in enumerate(history(8)):
        if number == 4:
            before = state_of(one)
            bad = tensors(losses | {"a": broken})
            total = step(one, bad, dict.fromkeys(TASKS, (0, 20)))
            assert not total.isfinite()
            total.backward()
            gradients = [each.grad for each in one.parameters()]
            assert all(each is None or not each.any() for each in gradients)
            for each in one.parameters():
                each.grad = None
            same(state_of(one), before)
        totals = [step(each, tensors(losses), kpis, number) for each in (one, other)]
        same(totals[0], totals[1])
        for total, each in zip(totals, (one, other), strict=True):
            total.backward()
            learn(each)
    same(state_of(one), state_of(other))


@each_sample
def test_saved_and_resumed_in_the_middle_is_an_unbroken_run(card, options):
    one = made(card, options)
    for number, (losses, kpis) in enumerate(history(7)):
        step(one, tensors(losses), kpis, number).backward()
        learn(one)
    saved = pickle.loads(pickle.dumps(one.state_dict()))
    other = made(card, options)
    other.load_state_dict(saved)
    for number, (losses, kpis) in enumerate(history(7, seed=1)):
        totals = [step(each, tensors(losses), kpis, number + 7) for each in (one, other)]
        same(totals[0], totals[1])
        same(one.weights, other.weights)
        for total, each in zip(totals, (one, other), strict=True):
            total.backward()
            learn(each)


@each_sample
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_state_and_total_are_float32_beside_losses_in_half_precision(card, options, dtype):
    balancer, plain = made(card, options).to(dtype), made(card, options)
    for number, (losses, kpis) in enumerate(history(6)):
        rounded = {name: loss.detach().to(dtype) for name, loss in tensors(losses).items()}
        total = step(balancer, rounded, kpis, number)
        assert total.dtype == torch.float32
        same(total, step(plain, {name: loss.float() for name, loss in rounded.items()}, kpis, number))
    state = balancer.state_dict()
    assert all(each.dtype == torch.float32 for each in state.values() if each.is_floating_point())


@each_sample
def test_in_eval_nothing_moves(card, options):
    balancer = made(card, options)
    for number, (losses, kpis) in enumerate(history(6)):
        step(balancer, tensors(losses), kpis, number)
    balancer.eval()
    before, weights = state_of(balancer), None
    for losses, kpis in history(4, seed=2, absent=False):
        balancer({name: torch.tensor(1.0) for name in losses}, **({"kpis": kpis} if "kpi" in str(before) else {}))
        step(balancer, {name: torch.tensor(1.0) for name in losses}, kpis)
        assert weights is None or weights == balancer.weights
        weights = balancer.weights
    same(state_of(balancer), before)


@each_card
def test_the_gradients_are_those_of_the_weighed_sum(card):
    """To the second order, with the weights as they are."""
    balancer = made(card).eval()
    losses = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda given_: balancer(given_), losses) if fixed(card) else None
    balancer(losses).backward()
    same(losses.grad, torch.stack([balancer.weights[name] for name in TASKS]).double(), rtol=1e-6, atol=0)


def fixed(card):
    """Whether the weights do not depend on the losses: then the total is linear."""
    return card.name != "famo"


@pytest.mark.parametrize("name", ["uncertainty_weighting", "impartial_loss_weighting"])
def test_what_is_learned_by_gradient_has_right_derivatives(name):
    card = next(card for card in CARDS if card.name == name)
    for options in card.samples:
        balancer = made(card, options)
        learned = {key: each.detach().double() for key, each in balancer.named_parameters()}
        points = torch.tensor([0.3, -0.4, 0.1], dtype=torch.float64, requires_grad=True)
        losses = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64, requires_grad=True)
        balancer.eval()

        def total(numbers, values, balancer=balancer, learned=learned):
            given_ = dict(zip(learned, numbers.unbind(), strict=True))
            return torch.func.functional_call(balancer, given_, (values,))

        torch.autograd.gradcheck(total, (points, losses), eps=1e-4, atol=1e-4)


@each_sample
def test_no_task_is_a_differentiable_zero_and_changes_nothing(card, options):
    balancer = made(card, options)
    before = state_of(balancer)
    for empty in (balancer({}), balancer(torch.ones(3), mask=[False] * 3)):
        assert empty.item() == 0
        empty.backward()
        assert balancer.weights == {}
    assert all(each.grad is None for each in balancer.parameters())
    same(state_of(balancer), before)


@each_sample
def test_it_is_copied_pickled_and_written_as_code(card, options):
    balancer = made(card, options)
    for number, (losses, kpis) in enumerate(history(5)):
        step(balancer, tensors(losses), kpis, number)
    # what is remembered of a step has no graph
    for twin in (copy.deepcopy(balancer), pickle.loads(pickle.dumps(balancer))):
        same(state_of(twin), state_of(balancer))
        assert repr(twin) == repr(balancer)
    if card.name != "grad_norm":  # what it measures is the model's, and has no code
        again = eval(repr(balancer), vars(equipoise) | {card.module.__name__: card.module})
        assert repr(again) == repr(balancer)
        again.load_state_dict(balancer.state_dict())


@loss_only
@pytest.mark.filterwarnings("ignore:.*:FutureWarning", "ignore:.*:DeprecationWarning")
def test_a_step_compiles_without_a_break(card):
    balancer, plain = made(card), made(card)
    compiled = torch.compile(balancer, fullgraph=True, backend="aot_eager")
    for losses, kpis in history(3, absent=False):
        given_ = {"kpis": kpis} if hasattr(balancer, "update_kpi") else {}
        leaves = {name: torch.tensor(loss, requires_grad=True) for name, loss in losses.items()}
        total = compiled(leaves, **given_)
        total.backward()
        same(total, plain(leaves, **given_), rtol=1e-6, atol=1e-7)
        same({name: leaf.grad for name, leaf in leaves.items()}, plain.weights, rtol=1e-6, atol=1e-7)
        same(state_of(balancer), state_of(plain), rtol=1e-6, atol=1e-7)


@loss_only
def test_no_value_is_read_back(card):
    """Fake tensors have none: on a GPU each such look would wait for all that was asked before."""
    runs = [{name: torch.tensor(loss) for name, loss in losses.items()} for losses, _ in history(3)]
    with FakeTensorMode() as mode:
        balancer = made(card)
        for losses in runs:
            step(balancer, {name: mode.from_tensor(loss) for name, loss in losses.items()}, None, 2)


@each_card
def test_only_what_is_learned_by_gradient_is_for_the_optimiser(card):
    balancer = made(card)
    groups = balancer.param_groups(lr=0.5)
    assert [len(group["params"]) for group in groups] == ([3] if list(balancer.parameters()) else [])
    assert all(group["weight_decay"] == 0 and group["lr"] == 0.5 for group in groups)
    assert all("lr" not in group for group in balancer.param_groups())


@each_card
@pytest.mark.parametrize(
    ("losses", "error", "words"),
    [
        ({"a": torch.tensor(1.0), "d": torch.tensor(1.0)}, ValueError, "`losses` has the task 'd'"),
        ({"a": torch.ones(2)}, ValueError, r"`losses\['a'\]` must be a scalar, got a torch.float32 tensor"),
        ({"a": 1.0}, TypeError, r"`losses\['a'\]` must be a tensor, got 1.0"),
        ({"a": torch.tensor(1)}, TypeError, r"`losses\['a'\]` must be a floating-point tensor"),
        (torch.ones(2), ValueError, r"a vector of 3 tasks, got shape \[2\]"),
        ([1.0, 2.0], TypeError, "`losses` must be a tensor"),
    ],
)
def test_wrong_losses_are_named(card, losses, error, words):
    with pytest.raises(error, match=words):
        made(card)(losses)


@each_card
def test_wrong_masks_and_names_are_named(card):
    with pytest.raises(ValueError, match="`mask` must hold 3 tasks, got 2"):
        made(card)(torch.ones(3), mask=[True, False])
    with pytest.raises(ValueError, match="`mask` has the task 'd'"):
        made(card)(torch.ones(3), mask={"d": True})
    for mask in (True, 3, "abc", torch.tensor(True), torch.ones(3, 1, dtype=torch.bool)):
        with pytest.raises(TypeError, match="`mask` must be a mapping, a list or a vector of 3 tasks, got"):
            made(card)(torch.ones(3), mask=mask)
    for tasks, words in (
        ([], "at least one"),
        (["a", "a"], "each task once"),
        (["a.b"], "cannot name"),
        (["pop"], "cannot name"),
    ):
        if card.name == "uncertainty_weighting":
            tasks = dict.fromkeys(tasks, "softmax")
            if words == "each task once":
                continue
        shared = {"shared": [torch.ones(2)]} if "shared" in card.required else {}
        with pytest.raises(ValueError, match=words):
            card.module(tasks, **shared)
    for tasks in (None, 3, "abc", [1, 2], {"a", "b"}):
        with pytest.raises(TypeError, match="`tasks` must "):
            card.module(tasks, **shared)


@each_card
def test_defaults_of_the_docstring_are_those_of_the_signature(card):
    said = inspect.getdoc(card.module)
    for name, each in inspect.signature(card.module).parameters.items():
        if each.default is not inspect.Parameter.empty:
            text = said.split(f"    {name}: ", 1)[1].split("Default: `", 1)[1].split("`", 1)[0]
            assert eval(text) == each.default


numbers = st.floats(0.01, 50)
steps = st.lists(st.dictionaries(st.sampled_from(TASKS), numbers), min_size=1, max_size=6)


# FAMO's Adam makes a full step of a gradient that is nothing but rounding
@pytest.mark.parametrize(
    ("card", "options"), [each for each in SAMPLES if each[0].name in ORACLES and each[0].name != "famo"], ids=name_of
)
@given(drawn=steps)
def test_random_steps_equal_the_oracle(card, options, drawn):
    balancer, oracle = made(card, options), ORACLES[card.name](tasks_of(card), **options)
    for number, losses in enumerate(drawn):
        total = step(
            balancer, {name: torch.tensor(loss, dtype=torch.float64) for name, loss in losses.items()}, None, number
        )
        expected, weights = oracle(losses) if losses else (0.0, {})
        if hasattr(oracle, "end_epoch") and number % 3 == 2:
            oracle.end_epoch()
        same(total.item(), float(expected), rtol=1e-4, atol=1e-5)
        same({name: weight.item() for name, weight in balancer.weights.items()}, weights, rtol=1e-4, atol=1e-6)
