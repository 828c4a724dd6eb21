"""float32 is right to its last digits, half precision is computed in float32, and mixed precision loses nothing."""

from dataclasses import replace

import pytest
import torch

from cases import (
    Case,
    cases,
    class_dimension,
    constructor_options,
    has_elements,
    has_indices,
    is_regression,
    normal,
    number_of_classes,
    takes,
)
from harness import (
    assert_equal,
    assert_relative_error,
    build,
    call,
    each_card,
    each_sample,
    leaf,
    truth,
)

SWEEP = torch.cat([torch.arange(-880, 881) / 8, torch.arange(-200, 201) / 200]).double()


def element_sweep(card, classes):
    """Every score from hopeless to certain, for both labels."""
    if is_regression(card):
        scores = torch.logspace(-8, 4, 1200, dtype=torch.float64)[:, None] * torch.linspace(-1, 1, classes).double()
        return Case(name="sweep", kind="elements", input=scores, target=torch.zeros_like(scores))
    scores = SWEEP[:, None].expand(-1, classes).repeat(2, 1)
    target = torch.cat([torch.zeros(len(SWEEP), classes), torch.ones(len(SWEEP), classes)])
    return Case(name="sweep", kind="elements", input=scores, target=target)


def row_sweep(card, classes):
    """The true class's score from far below to far above the others."""
    scores = normal("row sweep", len(SWEEP), classes)
    target = torch.arange(len(SWEEP)) % classes
    scores[torch.arange(len(SWEEP)), target] += SWEEP
    return Case(name="sweep", kind="indices", input=scores, target=target)


def sweep(card, sample):
    classes = number_of_classes(constructor_options(card, sample))
    return (row_sweep if has_indices(card) else element_sweep)(card, classes).to(torch.float32)


def is_smoothed(sample):
    return bool(sample.get("label_smoothing"))


@each_sample("float32: hard targets", which=lambda sample: not is_smoothed(sample))
def test_float32_is_right_to_five_digits_for_hard_targets(card, sample):
    for case in (sweep(card, sample), *cases(card, sample)):
        if case.hard:
            case = case.to(torch.float32)
            values, gradient = call(build(card, sample, case, reduction="none"), case)
            expected_values, expected_gradient = truth(card, sample, case)
            assert values.dtype == gradient.dtype == torch.float32
            assert_relative_error(values, expected_values, f"value, {case.name}")
            assert_relative_error(gradient, expected_gradient, f"gradient, {case.name}")


@pytest.mark.parametrize("alpha", [0.9999, (0.9999, 0.999999, 0.5, 0.0001)], ids=["number", "vector"])
@each_card("float32: hard targets", where=lambda card: takes(card, "alpha"))
def test_float32_keeps_the_weight_of_a_crowd(card, alpha):
    """One positive in 10^4 gives negatives the weight 1 - alpha = 10^-4; float32 keeps three digits of it."""
    case = sweep(card, {"alpha": alpha})
    values, gradient = call(build(card, {"alpha": alpha}, reduction="none"), case)
    expected_values, expected_gradient = truth(card, {"alpha": alpha}, case)
    assert_relative_error(values, expected_values, "value")
    assert_relative_error(gradient, expected_gradient, "gradient")


def soft_cases(card, sample):
    if is_smoothed(sample):
        return [sweep(card, sample), *cases(card, sample)]
    return [case for case in cases(card, sample) if not case.hard]


@each_sample("float32: soft or smoothed targets")
def test_float32_is_right_to_five_digits_of_the_row_for_soft_targets(card, sample):
    """Where a gradient crosses 0 no relative error can be promised: the row's largest gradient is the measure."""
    for case in soft_cases(card, sample):
        case = case.to(torch.float32)
        values, gradient = call(build(card, sample, case, reduction="none"), case)
        expected_values, expected_gradient = truth(card, sample, case)
        if not case.input.numel():
            continue
        dim = class_dimension(card) if case.input.ndim > 1 else -1
        largest = expected_gradient.abs().amax(dim, keepdim=True)
        wrong = ~((gradient - expected_gradient).abs() <= 1e-5 * largest.clamp_min(1e-30))
        assert not wrong.any(), f"{case.name}: {gradient[wrong][:5]}, expected {expected_gradient[wrong][:5]}"
        scale = largest.expand_as(gradient) if case.kind == "elements" else largest.squeeze(dim)
        wrong = ~(
            (values - expected_values).abs() <= 1e-5 * torch.maximum(expected_values.abs(), scale).clamp_min(1e-30)
        )
        assert not wrong.any(), f"{case.name}: {values[wrong][:5]}, expected {expected_values[wrong][:5]}"


@pytest.mark.parametrize("label", [0.0, 1.0])
@each_card(
    "float32: soft or smoothed targets", where=lambda card: has_elements(card) and takes(card, "label_smoothing")
)
def test_float32_keeps_a_little_smoothing_of_a_certain_answer(card, label):
    """All that is left of the gradient is eps / 2, which 1 - y of a rounded y does not hold."""
    scores = torch.full((1, 4), 30.0 if label else -30.0)
    case = Case(name="certain", kind="elements", input=scores, target=torch.full((1, 4), label), hard=False)
    sample = {"label_smoothing": 1e-3}
    _, gradient = call(build(card, sample, reduction="none"), case)
    _, expected = truth(card, sample, case)
    assert_equal(gradient, expected, rtol=1e-5, what="gradient")


HALVES = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
"""The half-precision types and the relative error of rounding to each."""


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@each_sample("half precision: float32 arithmetic and result")
def test_half_precision_is_computed_in_float32(card, sample, dtype):
    for case in cases(card, sample):
        case = case.to(dtype)
        values, gradient = call(build(card, sample, case, reduction="none"), case)
        expected_values, expected_gradient = truth(card, sample, case)
        assert values.dtype == torch.float32
        assert gradient.dtype == dtype
        assert_equal(values, expected_values, rtol=1e-5, atol=1e-6, what=f"value, {case.name}")
        # all that the gradient may lose is its last rounding
        rounding = HALVES[dtype] + 2e-5
        assert_equal(gradient, expected_gradient, rtol=rounding, atol=1e-7, what=f"gradient, {case.name}")


@each_sample("mixed precision")
def test_the_loss_under_autocast_is_float32_and_right(card, sample):
    """The model's scores come out in bfloat16; the loss must not go on in it."""
    case = cases(card, sample)[0].to(torch.float32)
    weight = normal("model", case.input.shape[1], case.input.shape[1], scale=1.0).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = torch.nn.functional.linear(case.input, weight)
        assert scores.dtype == torch.bfloat16
        case = replace(case, input=scores)
        values, gradient = call(build(card, sample, case, reduction="none"), case)
    expected_values, expected_gradient = truth(card, sample, case)
    assert values.dtype == torch.float32
    assert_equal(values, expected_values, rtol=1e-5, atol=1e-7, what="value")
    assert_equal(gradient, expected_gradient, rtol=5e-3, atol=1e-7, what="gradient")


@each_sample("mixed precision")
def test_autocast_changes_nothing_for_float32_scores(card, sample):
    for case in cases(card, sample):
        case = case.to(torch.float32)
        expected_value, expected_gradient = call(build(card, sample, case), case)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value, gradient = call(build(card, sample, case), case)
        assert_equal(value, expected_value, rtol=0, what=f"value, {case.name}")
        assert_equal(gradient, expected_gradient, rtol=0, what=f"gradient, {case.name}")


@each_sample("mixed precision")
def test_a_loss_scale_keeps_float16_gradients_alive(card, sample):
    """A gradient of a mean over many is below float16's range; times 2^16 it is not, unless it was rounded before."""
    case = replace_rows(cases(card, sample)[0], 4096).to(torch.float16)
    scale = 2.0**16
    scores = leaf(case.input)
    (build(card, sample, case)(scores, case.target) * scale).backward()
    _, expected = truth(card, sample, case, "mean")
    expected = expected * scale
    assert scores.grad.isfinite().all()
    assert (expected.abs() < 1e4).all()
    # half of float16's smallest number is the rounding at the lower end of its range
    assert_equal(scores.grad, expected, rtol=2.0**-11 + 2e-5, atol=2.0**-25, what="scaled gradient")


def replace_rows(case, rows):
    """The case with its rows repeated in other order, so that one row counts little in the mean."""
    again = torch.arange(rows) % len(case.input)
    return replace(case, input=case.input[again], target=case.target[again])
