"""Every gradient is right, to the second order, and alive where it matters."""

from dataclasses import replace

import pytest
import torch

from cases import (
    case_named,
    cases,
    constructor_options,
    distance_to_bin_edge,
    has_elements,
    has_indices,
    is_regression,
    is_stateful,
    normal,
    number_of_classes,
    rows_of,
)
from harness import assert_equal, build, call, each_card, each_case, each_sample, leaf

CHECKED = ("typical", "soft", "mixed", "masked", "ignored", "probabilities, typical", "probabilities, mixed")


def is_checked(case):
    return case.name.removeprefix("multi-label, ") in CHECKED


@each_case("gradcheck and gradgradcheck", which=is_checked)
def test_derivatives_agree_with_finite_differences(card, sample, case):
    case = rows_of(case, slice(3))  # finite differences cost two calls per score
    if is_stateful(card):  # the weight of a gradient length is detached and jumps at the edges of its bin
        assert distance_to_bin_edge(card, case, sample) > 1e-4, "choose another input"

    def loss(scores):
        return build(card, sample, case, reduction="none")(scores, case.target, **case.batch)

    assert torch.autograd.gradcheck(loss, (leaf(case.input),))
    assert torch.autograd.gradgradcheck(loss, (leaf(case.input),), fast_mode=True)


@each_sample("gradcheck and gradgradcheck", where=lambda card: not (is_stateful(card) and not is_regression(card)))
def test_derivatives_at_zero_and_at_ties(card, sample):
    """`abs` and `max` have kinks there that the losses have not. For GHM-C, 0 is the edge of a bin."""
    case = rows_of(cases(card, sample)[0], slice(3))
    case = replace(case, input=case.target.clone() if is_regression(card) else torch.zeros_like(case.input))

    def loss(scores):
        return build(card, sample, case, reduction="none")(scores, case.target, **case.batch)

    assert torch.autograd.gradcheck(loss, (leaf(case.input),))
    assert torch.autograd.gradgradcheck(loss, (leaf(case.input),), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@each_case("finite to the second derivative at 1e4", which=lambda case: "extreme" in case.name)
def test_value_and_derivatives_are_finite_at_extremes(card, sample, case, dtype):
    case = case.to(dtype)
    scores = leaf(case.input)
    value = build(card, sample, case, reduction="sum")(scores, case.target)
    (gradient,) = torch.autograd.grad(value, scores, create_graph=True)
    # a random direction: along (1, ..., 1) the second derivative of a softmax loss is 0 by symmetry
    (curvature,) = torch.autograd.grad((gradient * normal("direction", *scores.shape).to(dtype)).sum(), scores)
    assert value.isfinite(), value
    assert gradient.isfinite().all(), gradient
    assert curvature.isfinite().all(), curvature


HARDEST = [12.0, 20.0, 88.0, 100.0, 1e3, 1e4]
"""How far the scores of these examples lie on the wrong side; the copied formulas overflow at 11.1 (fp16) and 88.7."""


def hardest_examples(card, classes, dtype):
    """One positive (or the true class) ever deeper on the wrong side in each row; the class that is wrong is at 0."""
    depth = torch.tensor(HARDEST, dtype=dtype)
    if has_indices(card):
        scores = torch.zeros(len(HARDEST), classes, dtype=dtype)
        scores[:, -1] = -depth
        return scores, torch.full((len(HARDEST),), classes - 1)
    return -depth[:, None].expand(-1, classes).contiguous(), torch.ones(len(HARDEST), classes)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@each_sample("the hardest example keeps its gradient", where=lambda card: not is_regression(card))
def test_the_hardest_example_keeps_its_gradient(card, sample, dtype):
    scores, target = hardest_examples(card, number_of_classes(constructor_options(card, sample)), dtype)
    scores = leaf(scores)
    build(card, sample, reduction="sum")(scores, target).backward()
    pull = -scores.grad[:, -1]
    assert (pull > 0).all(), "the hardest example must be pulled back"
    # its gradient has long reached its limit: no depth weakens it
    assert_equal(pull, pull[2].expand_as(pull), rtol=2e-2, what="gradient against depth")


@each_sample(
    "the hardest example keeps its gradient", where=lambda card: not is_regression(card) and has_elements(card)
)
def test_the_hardest_negative_keeps_its_gradient(card, sample):
    classes = number_of_classes(constructor_options(card, sample))
    scores = leaf(torch.tensor(HARDEST)[:, None].expand(-1, classes).contiguous())
    build(card, sample, reduction="sum")(scores, torch.zeros(len(HARDEST), classes)).backward()
    push = scores.grad[:, -1]
    assert (push > 0).all(), "the hardest example must be pushed back"
    assert_equal(push, push[2].expand_as(push), rtol=2e-2, what="gradient against depth")


@each_card("a second backward is right")
def test_a_second_backward_adds_the_same_gradient(card):
    case = case_named(card, "typical")
    _, expected = call(build(card, {}), case)
    scores = leaf(case.input)
    value = build(card, {})(scores, case.target)
    value.backward(retain_graph=True)
    assert_equal(scores.grad, expected, rtol=1e-15, what="first backward")
    value.backward()
    assert_equal(scores.grad, 2 * expected, rtol=1e-15, what="second backward")


@each_card("a second backward is right")
def test_the_gradient_scales_with_the_incoming_one(card):
    case = case_named(card, "typical")
    _, expected = call(build(card, {}), case)
    scores = leaf(case.input)
    (gradient,) = torch.autograd.grad(-3 * build(card, {})(scores, case.target), scores)
    assert_equal(gradient, -3 * expected, rtol=1e-12, atol=1e-15, what="gradient")
