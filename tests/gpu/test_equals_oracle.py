"""The public losses, computed by the kernels, meet the contract's bounds against the oracle."""

from dataclasses import replace

import pytest
import torch
from device import ON_GPU, ROUNDING, call, placed

from cases import CARDS, Case, case_named, constructor_options, number_of_classes, samples
from contract.test_precision import SWEEP, element_sweep, is_smoothed, row_sweep
from harness import assert_equal, assert_relative_error, build, truth

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

FAMILIES = ("elementwise", "rowwise", "histogram")
EACH = [
    pytest.param(card, sample, id=f"{card.name}-{name}")
    for card in CARDS
    if card.op_family in FAMILIES
    for name, sample in samples(card)
]
STEP = 1 if ON_GPU else 13  # of the sweep from hopeless to certain; the interpreter takes its time


def sweeps(card, sample):
    """Hard targets of every score, as rows of classes or one by one."""
    classes = number_of_classes(constructor_options(card, sample))
    make = row_sweep if card.op_family == "rowwise" else element_sweep
    case = make(card, classes).to(torch.float32)
    return replace(case, input=case.input[::STEP], target=case.target[::STEP])


def on_device(loss):
    return loss.to(placed(torch.zeros(())).device)


@pytest.mark.parametrize(("card", "sample"), [each for each in EACH if not is_smoothed(each.values[1])])
def test_float32_is_right_to_five_digits(card, sample):
    if "counts" in constructor_options(card, sample) and card.op_family == "elementwise":
        case = case_named(card, "typical", sample).to(torch.float32)
    else:
        case = sweeps(card, sample)
    values, gradient = call(on_device(build(card, sample, case, reduction="none")), case)
    expected_values, expected_gradient = truth(card, sample, case)
    assert values.dtype == gradient.dtype == torch.float32
    assert_relative_error(values, expected_values, "value")
    assert_relative_error(gradient, expected_gradient, "gradient")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("card", "sample"), EACH)
def test_half_precision_is_computed_in_float32(card, sample, dtype):
    case = case_named(card, "typical", sample).to(dtype)
    values, gradient = call(on_device(build(card, sample, case, reduction="none")), case)
    expected_values, expected_gradient = truth(card, sample, case)
    assert values.dtype == torch.float32
    assert gradient.dtype == dtype
    assert_equal(values, expected_values, rtol=1e-5, atol=1e-6, what="value")
    assert_equal(gradient, expected_gradient, rtol=ROUNDING[dtype] + 2e-5, atol=1e-7, what="gradient")


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 0.5, 20.0])
def test_soft_targets_are_right_at_every_score(gamma):
    """A target between 0 and 1 takes another point function; hard ones among them must keep their digits in it."""
    card = next(card for card in CARDS if card.name == "sigmoid_focal")
    scores = SWEEP[::STEP, None].expand(-1, 4).contiguous()
    target = torch.tensor([0.0, 1.0, 0.25, 0.999]).double().expand_as(scores).contiguous()
    case = Case(name="soft", kind="elements", input=scores, target=target, hard=False).to(torch.float32)
    values, gradient = call(build(card, {"gamma": gamma}, reduction="none"), case)
    expected_values, expected_gradient = truth(card, {"gamma": gamma}, case)
    assert_relative_error(values[:, :2], expected_values[:, :2], "value")
    assert_relative_error(gradient[:, :2], expected_gradient[:, :2], "gradient")
    # where a gradient crosses 0 no relative error can be promised
    assert_equal(values, expected_values, rtol=2e-5, atol=1e-6, what="value")
    assert_equal(gradient, expected_gradient, rtol=2e-5, atol=1e-6, what="gradient")


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_smoothed_rows_are_right_at_every_margin(gamma):
    card = next(card for card in CARDS if card.name == "softmax_focal")
    sample = {"gamma": gamma, "label_smoothing": 0.1}
    case = sweeps(card, sample)
    values, gradient = call(build(card, sample, reduction="none"), case)
    expected_values, expected_gradient = truth(card, sample, case)
    assert_equal(values, expected_values, rtol=1e-5, what="value")
    largest = expected_gradient.abs().amax(1, keepdim=True)
    assert ((gradient - expected_gradient).abs() <= 1e-5 * largest).all()
