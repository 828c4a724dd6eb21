"""Random shapes, precisions, values, targets and options, against the oracle and against torch."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

import equipoise
from cases import (
    CARDS,
    Case,
    class_dimension,
    distance_to_bin_edge,
    has_elements,
    has_indices,
    has_probabilities,
    is_regression,
    is_stateful,
    parameters,
    takes,
)
from harness import applies, assert_equal, build, call, truth

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# ------------------------------------------------------------------------------------------------------ strategies

score = st.one_of(
    st.floats(-8, 8, width=16),
    st.sampled_from([0.0, -0.0, 30.0, -30.0, 100.0, -100.0, 1e4, -1e4, 6e-8, -6e-8, 1e-30]),
)
probability = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1, width=16))
positive_weight = st.floats(0, 8, width=16)


@st.composite
def tensors(draw, elements, shape):
    """A tensor of drawn numbers: one list of numbers shrinks better than a seed."""
    count = math.prod(shape)
    numbers = draw(st.lists(elements, min_size=count, max_size=count))
    return torch.tensor(numbers, dtype=torch.float64).reshape(shape)


def shapes(classes, first=0):
    """The sizes around the class dimension: rows, and up to two more dimensions."""
    return st.tuples(st.integers(first, 4), st.lists(st.integers(1, 2), max_size=2)).map(
        lambda sizes: ((sizes[0], *sizes[1]), classes)
    )


@st.composite
def options_for(draw, card, classes):
    """Any legal options of the card's module."""
    names = parameters(card.module)
    drawn = {}

    def maybe(name, strategy):
        if name in names and (name in card.required or draw(st.booleans())):
            drawn[name] = draw(strategy)

    vector = st.lists(positive_weight, min_size=classes, max_size=classes)
    maybe("gamma", st.one_of(st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.floats(0, 20)))
    maybe("alpha", st.one_of(st.floats(0, 1), st.lists(st.floats(0, 1), min_size=classes, max_size=classes)))
    maybe("label_smoothing", st.one_of(st.sampled_from([0.1, 1.0]), st.floats(0, 1)))
    maybe("weight", vector if class_dimension(card) == 1 else st.one_of(positive_weight, vector))
    maybe("pos_weight", st.one_of(positive_weight, vector))
    maybe("beta", st.sampled_from([0.0, 0.9, 0.999, 1.0]))
    maybe("counts", st.lists(st.integers(0, 10**6), min_size=classes, max_size=classes))
    maybe("bins", st.integers(1, 40))
    maybe("mu", st.floats(0.01, 1))
    maybe("normalizer", st.sampled_from(["nonempty", "all"]))
    return drawn


@st.composite
def calls(draw, card):
    """A case and options for the card."""
    classes = draw(st.integers(1, 5))
    options = draw(options_for(card, classes))
    dims, _ = draw(shapes(classes))
    ways = ["elements"] * has_elements(card) + ["indices"] * has_indices(card)
    way = draw(st.sampled_from(ways + ["probabilities"] * has_probabilities(card)))
    shape = (dims[0], classes, *dims[1:]) if class_dimension(card) == 1 else (*dims, classes)
    dtype = draw(st.sampled_from(DTYPES))
    scores, batch = draw(tensors(score, shape)), {}

    if way == "indices":
        ignore_index = draw(st.sampled_from([-100, 255, 0]))
        options["ignore_index"] = ignore_index
        labels = st.one_of(st.integers(0, classes - 1), st.just(ignore_index))
        target = draw(tensors(labels, dims)).long()
    elif way == "probabilities":
        target = draw(tensors(probability, shape))
    else:
        target = draw(tensors(score if is_regression(card) else probability, shape))
        if takes(card, "mask") and draw(st.booleans()):
            batch["mask"] = draw(tensors(st.booleans(), shape)).bool()
    if takes(card, "sample_weight") and draw(st.booleans()):
        batch["sample_weight"] = draw(tensors(positive_weight, dims))
    kind_options = {"ignore_index": options["ignore_index"]} if "ignore_index" in options else {}
    case = Case(name="drawn", kind=way, input=scores, target=target, batch=batch, options=kind_options, hard=False)
    return case.to(dtype), options


# -------------------------------------------------------------------------------------------------------- oracle


def error_bounds(case, expected_values, expected_gradient, dim):
    """How far value and gradient may be from the truth.

    In float32 the measure is the largest gradient of the row, and where soft labels are met exactly and it vanishes,
    the loss, which does not. Half-precision input rounds the gradient once more.
    """
    dtype = case.input.dtype
    if dtype == torch.float64:
        return 1e-10 * expected_values.abs() + 1e-12, 1e-10 * expected_gradient.abs() + 1e-12
    rows = expected_values if case.kind == "elements" else expected_values.unsqueeze(dim)
    largest = expected_gradient.abs().amax(dim, keepdim=True) if expected_gradient.numel() else expected_gradient
    base = 2e-5 * largest + 2e-6 * rows.abs() + 1e-30
    rounding = {torch.float32: 0.0, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}[dtype]
    smallest = 2.0**-25 if dtype == torch.float16 else 0.0
    of_values = base.expand_as(expected_gradient).amax(dim) if case.kind != "elements" and base.numel() else base
    return 2e-5 * expected_values.abs() + of_values, base + rounding * expected_gradient.abs() + smallest


@pytest.mark.parametrize("card", [applies("random calls equal the oracle", card) for card in CARDS])
@given(data=st.data())
def test_random_calls_equal_the_oracle(card, data):
    case, options = data.draw(calls(card))
    if is_stateful(card) and case.input.numel():
        # next to an edge of a bin the oracle's last digit may choose the other bin
        assume(distance_to_bin_edge(card, case.to(torch.float64), options) > 1e-3)
    values, gradient = call(build(card, options, case, reduction="none"), case)
    expected_values, expected_gradient = truth(card, options, case)
    assert values.dtype == (torch.float64 if case.input.dtype == torch.float64 else torch.float32)
    assert gradient.dtype == case.input.dtype
    if not values.numel():
        return

    dim = class_dimension(card)
    of_values, of_gradient = error_bounds(case, expected_values, expected_gradient, dim)
    wrong = ~((values - expected_values).abs() <= of_values)
    assert not wrong.any(), f"value {values[wrong]}, expected {expected_values[wrong]}"
    wrong = ~((gradient.double() - expected_gradient).abs() <= of_gradient)
    assert not wrong.any(), f"gradient {gradient[wrong]}, expected {expected_gradient[wrong]}"


@pytest.mark.parametrize("card", [applies("random calls equal the oracle", card) for card in CARDS])
@given(data=st.data())
@settings(max_examples=25)
def test_random_means_equal_the_oracle(card, data):
    case, options = data.draw(calls(card))
    case = case.to(torch.float64)
    if is_stateful(card) and case.input.numel():
        assume(distance_to_bin_edge(card, case, options) > 1e-3)
    sigmoid = has_elements(card) and takes(card, "pos_weight")
    for reduction in ("sum", "mean", *["mean_positive"] * sigmoid):
        value, gradient = call(build(card, options, case, reduction=reduction), case)
        expected_value, expected_gradient = truth(card, options, case, reduction)
        assert_equal(value, expected_value, rtol=1e-10, atol=1e-12, what=f"value, {reduction}")
        assert_equal(gradient, expected_gradient, rtol=1e-10, atol=1e-12, what=f"gradient, {reduction}")


# ------------------------------------------------------------------------------------------------- torch's losses

moderate = st.floats(-30, 30, width=32)


def assert_equals_torch(ours, theirs, scores):
    """Value and gradient in float64; torch's NaN for an empty divisor is our 0."""
    first, second = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    expected = theirs(first)
    value = ours(second)
    value.sum().backward()
    expected.sum().backward()
    if expected.ndim == 0 and expected.isnan():
        assert value == 0
        assert (second.grad == 0).all()
        return
    assert_equal(value, expected.detach(), rtol=1e-10, atol=1e-10, what="value")
    assert_equal(second.grad, first.grad, rtol=1e-10, atol=1e-10, what="gradient")


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["indices", "ignored", "probabilities"])
@given(data=st.data())
@settings(max_examples=10)
def test_softmax_focal_without_focus_is_torchs_cross_entropy(kind, weighted, smoothing, reduction, data):
    (dims, classes) = data.draw(st.integers(1, 5).flatmap(lambda classes: shapes(classes, first=1)))
    scores = data.draw(tensors(moderate, (dims[0], classes, *dims[1:])))
    options = {"label_smoothing": smoothing, "reduction": reduction}
    if weighted:
        options["weight"] = data.draw(tensors(positive_weight, (classes,)))
    if kind == "probabilities":
        target = data.draw(tensors(st.floats(0, 1, width=16), scores.shape))
    else:
        options["ignore_index"] = data.draw(st.sampled_from([-100, 255, 0])) if kind == "ignored" else -100
        labels = st.integers(0, classes - 1)
        labels = st.one_of(labels, st.just(options["ignore_index"])) if kind == "ignored" else labels
        target = data.draw(tensors(labels, dims)).long()
    for ours in (equipoise.softmax_focal_loss, equipoise.softmax_cross_entropy):
        focus = {"gamma": 0.0} if ours is equipoise.softmax_focal_loss else {}
        assert_equals_torch(
            lambda scores: ours(scores, target, **focus, **options),  # noqa: B023
            lambda scores: cross_entropy(scores, target, **options),
            scores,
        )


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@given(data=st.data())
def test_sigmoid_focal_without_focus_is_torchs_cross_entropy(reduction, data):
    """Torch's form cancels in the tails, so the tolerance is absolute there; at 40 it gives 0 and ours does not."""
    dims, classes = data.draw(st.integers(1, 5).flatmap(lambda classes: shapes(classes, first=1)))
    shape = (*dims, classes)
    scores, target = data.draw(tensors(moderate, shape)), data.draw(tensors(probability, shape))
    weight = data.draw(tensors(positive_weight, shape[-data.draw(st.integers(1, len(shape))) :]))
    pos_weight = data.draw(tensors(positive_weight, (classes,)))
    options = {"weight": weight, "pos_weight": pos_weight, "reduction": reduction}
    for ours, focus in ((equipoise.sigmoid_focal_loss, {"gamma": 0.0}), (equipoise.sigmoid_cross_entropy, {})):
        assert_equals_torch(
            lambda scores: ours(scores, target, **focus, **options),  # noqa: B023
            lambda scores: binary_cross_entropy_with_logits(scores, target, **options),
            scores,
        )


# ------------------------------------------------------------------------------------------- properties of the loss


@given(tensors(st.floats(-50, 50), (6,)), st.floats(0, 20), st.floats(0, 20))
def test_more_focus_never_raises_the_loss(scores, first, second):
    """The modulator is at most 1, and falls as gamma grows."""
    target = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    low, high = sorted((first, second))
    gentle = equipoise.sigmoid_focal_loss(scores, target, gamma=low, reduction="none")
    strong = equipoise.sigmoid_focal_loss(scores, target, gamma=high, reduction="none")
    assert (strong <= gentle * (1 + 1e-12)).all()
    assert (strong >= 0).all()


@given(tensors(st.floats(-50, 50), (4, 3)), st.floats(0, 20), st.floats(-1e3, 1e3))
def test_a_softmax_loss_does_not_see_a_shift_of_a_rows_scores(scores, gamma, shift):
    target = torch.tensor([0, 1, 2, 0])
    value = equipoise.softmax_focal_loss(scores, target, gamma=gamma)
    shifted = equipoise.softmax_focal_loss(scores + shift, target, gamma=gamma)
    # the sum of score and shift is rounded: 1e3 costs 13 of 16 digits of a small score
    assert_equal(shifted, value, rtol=1e-9, atol=1e-11, what="value")


@given(tensors(st.floats(-50, 50), (4, 3)), st.floats(0, 20))
def test_two_classes_of_softmax_are_one_sigmoid(scores, gamma):
    """Softmax focal of (a, b) on class 1 is sigmoid focal of b - a on yes."""
    pair, target = scores[:, :2], torch.tensor([0, 1, 1, 0])
    softmax = equipoise.softmax_focal_loss(pair, target, gamma=gamma, reduction="none")
    sigmoid = equipoise.sigmoid_focal_loss(pair[:, 1] - pair[:, 0], target, gamma=gamma, reduction="none")
    assert_equal(softmax, sigmoid, rtol=1e-12, what="value")


@pytest.mark.parametrize("loss", [equipoise.ghm_c_loss, equipoise.ghm_r_loss])
@given(tensors(st.floats(-5, 5).filter(lambda score: abs(score) > 1e-3), (3, 4)), st.integers(1, 30))
def test_every_nonempty_bin_has_the_same_total_weight(loss, scores, bins):
    """That is what harmonizing means: the weights of a bin's elements sum to N / M, so all weights sum to N."""
    target = torch.zeros(3, 4)
    values = loss(scores, target, bins=bins, reduction="none")
    base = loss(scores, target, bins=1, reduction="none")
    assert_equal((values / base).sum(), torch.tensor(12.0), rtol=1e-10, what="sum of the weights")
