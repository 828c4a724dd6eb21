"""The running histogram of GHM over a training: every step, in evaluation, and what it must not see."""

import copy

import numpy as np
import pytest
import torch

from cases import CARDS, Case, card_named, is_regression, is_stateful, normal, uniform
from harness import applies, assert_equal, build, call
from oracle import MovingGHM

NAN = float("nan")

STATEFUL = pytest.mark.parametrize("card", [applies("state", card) for card in CARDS if is_stateful(card)])
OPTIONS = pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.75, "bins": 30},
        {"momentum": 0.5},
        {"momentum": 0.9, "bins": 5, "normalizer": "all"},
        {"momentum": 0.0},
        {"momentum": 0.5, "weight": (0.5, 2.0, 1.0, 3.0)},
    ],
    ids=str,
)


def batch(card, name, level, masked=False):
    """Gradient norms grow with `level`: low ones fill the first bins alone, so that later batches meet unseen ones."""
    noise = normal(name, 12, 4, scale=1.0)
    if is_regression(card):
        target = normal(name + " target", 12, 4)
        scores = target + 0.02 * level * noise.abs()
    else:
        target = (uniform(name, 12, 4) < 0.5).double()
        scores = (2 * target - 1) * (4 - 4 * level + noise)
    kept = {"mask": uniform(name + " mask", 12, 4) < 0.7} if masked else {}
    return Case(name=name, kind="elements", input=scores, target=target, batch=kept)


def training(card):
    """Easy examples first, then harder ones, one batch partly masked."""
    return [batch(card, f"step {step}", level=0.25 * step, masked=step == 3) for step in range(6)]


def assert_step_equals(module, truth, case):
    values, gradient = call(module, case)
    mask = case.batch.get("mask")
    expected = truth(case.input.numpy(), case.target.numpy(), None if mask is None else mask.numpy())
    # the state is float32: so exact is a density that comes from it
    assert_equal(values, torch.from_numpy(expected[0]), rtol=1e-6, atol=1e-12, what=f"value, {case.name}")
    assert_equal(gradient, torch.from_numpy(expected[1]), rtol=1e-6, atol=1e-12, what=f"gradient, {case.name}")


def assert_state_equals(module, truth, when):
    expected = truth.ema if module.momentum else np.zeros(module.bins)
    assert_equal(module.ema, torch.from_numpy(expected), rtol=1e-6, what=f"ema, {when}")
    assert module.steps == truth.steps, when


def moving(card, options):
    """The module and the oracle, each with its own state."""
    return build(card, options, reduction="none"), MovingGHM(card.name, options)


@OPTIONS
@STATEFUL
def test_a_training_equals_the_oracle_step_by_step(card, options):
    module, truth = moving(card, options)
    for case in training(card):
        assert_step_equals(module, truth, case)
        assert_state_equals(module, truth, case.name)
    assert module.momentum == 0 or module.steps == 6


@STATEFUL
def test_the_running_histogram_is_the_formula_worked_by_hand(card):
    """S <- a S + (1-a) R for all bins, also those that the batch left empty."""
    module = build(card, {"momentum": 0.75, "bins": 2})
    target = torch.zeros(4)
    # g < 1/2 for the low score and g >= 1/2 for the high one, in either card
    low, high = (0.001, 1.0) if is_regression(card) else (-1.0, 1.0)
    module(torch.tensor([low, low, low, high]), target)
    assert module.ema.tolist() == [0.25 * 3, 0.25 * 1]
    module(torch.tensor([low, low, low, low]), target)
    assert module.ema.tolist() == [0.75 * 0.75 + 0.25 * 4, 0.75 * 0.25]
    assert module.steps == 2
    unbiased = module.ema / (1 - 0.75**2)
    value = build(card, {"bins": 1})(torch.tensor([high]), target[:1])
    module.eval()
    weighed = module(torch.tensor([high]), target[:1])
    assert_equal(weighed, value / max(unbiased[1], 0.25), rtol=1e-6, what="loss of one element in eval: beta = 1 / R")


@STATEFUL
def test_a_bin_never_seen_in_training_has_a_finite_weight_in_eval(card):
    options = {"momentum": 0.75, "bins": 10}
    module, truth = moving(card, options)
    for _ in range(3):
        assert_step_equals(module, truth, batch(card, "easy", level=0.0))
    module.eval()
    truth.training = False
    unseen = batch(card, "hard", level=2.0)
    assert_step_equals(module, truth, unseen)
    values, gradient = call(module, unseen)
    assert values.isfinite().all()
    assert gradient.isfinite().all()
    assert (module.ema == 0).any(), "the batch met no unseen bin"


@OPTIONS
@STATEFUL
def test_eval_freezes_the_state(card, options):
    module, truth = moving(card, options)
    for step, case in enumerate(training(card)):
        module.train(step % 2 == 0)
        truth.training = step % 2 == 0
        before = copy.deepcopy(module.state_dict())
        assert_step_equals(module, truth, case)
        assert_state_equals(module, truth, case.name)
        if not module.training:
            assert_state_is(module, before, "eval")


@STATEFUL
def test_eval_before_any_training_uses_the_batch_alone(card):
    case = batch(card, "first", level=1.0)
    expected, _ = call(build(card, {}, reduction="none"), case)
    value, _ = call(build(card, {"momentum": 0.9}, reduction="none").eval(), case)
    assert_equal(value, expected, rtol=1e-12, what="value")


@STATEFUL
def test_the_first_step_equals_momentum_zero(card):
    case = batch(card, "first", level=1.0)
    expected, expected_gradient = call(build(card, {}, reduction="none"), case)
    for momentum in (0.1, 0.75, 0.999):
        value, gradient = call(build(card, {"momentum": momentum}, reduction="none"), case)
        assert_equal(value, expected, rtol=1e-6, what=f"value, momentum {momentum}")
        assert_equal(gradient, expected_gradient, rtol=1e-6, what=f"gradient, momentum {momentum}")


def assert_state_is(module, before, when):
    for name, tensor in before.items():
        assert_equal(module.state_dict()[name], tensor, rtol=0, what=f"{name}, {when}")


@pytest.mark.parametrize("poison", [NAN, float("inf"), -float("inf")])
@STATEFUL
def test_a_batch_that_is_not_finite_leaves_the_state_alone(card, poison):
    module = build(card, {"momentum": 0.75})
    clean = training(card)
    call(module, clean[0])
    before = copy.deepcopy(module.state_dict())
    bad = clean[1].input.clone()
    bad[2, 1] = poison
    target = clean[1].target.clone()
    if not is_regression(card):
        target[2, 1] = 0.0 if poison > 0 else 1.0  # infinitely wrong, so that the loss is infinite too
    assert not module(bad, target).isfinite()
    assert_state_is(module, before, f"after {poison}")
    # and the next batch goes on as if the bad one had not been
    other = build(card, {"momentum": 0.75})
    call(other, clean[0])
    assert_equal(call(module, clean[2])[0], call(other, clean[2])[0], rtol=0, what="the next loss")
    assert_state_is(module, other.state_dict(), "after the next batch")


@STATEFUL
def test_a_masked_nan_does_not_stop_the_state(card):
    module, other = build(card, {"momentum": 0.75}), build(card, {"momentum": 0.75})
    case = training(card)[3]
    call(other, case)
    module(torch.where(case.batch["mask"], case.input, NAN), case.target, **case.batch)
    assert_state_is(module, other.state_dict(), "with NaN where masked")
    assert module.steps == 1


@STATEFUL
def test_an_empty_or_wholly_masked_batch_leaves_the_state_alone(card):
    module = build(card, {"momentum": 0.75})
    case = batch(card, "some", level=1.0)
    call(module, case)
    before = copy.deepcopy(module.state_dict())
    assert module(case.input[:0], case.target[:0]) == 0
    assert module(case.input, case.target, mask=torch.zeros_like(case.target, dtype=torch.bool)) == 0
    assert_state_is(module, before, "after nothing")


@OPTIONS
@STATEFUL
def test_saved_and_resumed_equals_unbroken(card, options, tmp_path):
    unbroken = build(card, options)
    first, rest = training(card)[:3], training(card)[3:]
    for case in first:
        call(unbroken, case)
    torch.save(unbroken.state_dict(), tmp_path / "state.pt")
    resumed = build(card, options)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt"))
    for case in rest:
        expected_value, expected_gradient = call(unbroken, case)
        value, gradient = call(resumed, case)
        assert_equal(value, expected_value, rtol=0, what=f"value, {case.name}")
        assert_equal(gradient, expected_gradient, rtol=0, what=f"gradient, {case.name}")
    assert_state_is(resumed, unbroken.state_dict(), "at the end")


@STATEFUL
def test_half_precision_training_keeps_the_state_in_float32(card):
    module = build(card, {"momentum": 0.75}).half()
    for case in training(card):
        module(case.input.half(), case.target)
    assert module.ema.dtype == torch.float32
    assert module.steps.dtype == torch.int64
    assert module.steps == 6
    expected = build(card, {"momentum": 0.75})
    for case in training(card):
        expected(case.input.half().double(), case.target)
    assert_equal(module.ema, expected.ema, rtol=1e-6, what="ema")


def base_loss(card, scores, target):
    """The loss before harmonizing, as torch has it or as the paper writes it."""
    if is_regression(card):
        return torch.sqrt((scores - target) ** 2 + 0.02**2) - 0.02
    return torch.nn.functional.binary_cross_entropy_with_logits(scores, target, reduction="none")


@STATEFUL
def test_gradients_do_not_flow_through_the_weights(card):
    """The gradient is the weight times the gradient of the base loss: no derivative of a histogram."""
    case = batch(card, "detached", level=1.0)
    values, gradient = call(build(card, {}, reduction="none"), case)
    base_values, base_gradient = call(lambda *tensors: base_loss(card, *tensors), case)
    assert_equal(gradient, values / base_values * base_gradient, rtol=1e-8, atol=1e-12, what="gradient")


@pytest.mark.parametrize("bins", [10, 30, 100])
def test_a_gradient_norm_on_an_edge_belongs_to_the_bin_above(bins):
    """At a hopeless score g is the soft label itself. `floor(g * bins)` puts 29/100 into bin 28, with 28/100."""
    target = torch.arange(bins, dtype=torch.float64) / bins
    scores = torch.full_like(target, -1e4)
    card = card_named("ghm_c")
    alone = build(card, {"bins": 1}, reduction="none")(scores, target)
    values = build(card, {"bins": bins}, reduction="none")(scores, target)
    assert_equal(values, alone, rtol=1e-12, what="one element in each of all bins: every weight is 1")
