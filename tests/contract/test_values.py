"""Every loss has the value and the gradient of its paper."""

from functools import partial

import pytest
import torch

from cases import CARDS, Case, cases, class_dimension, constructor_options, has_indices, takes
from harness import applies, assert_equal, build, call, call_function, each_card, each_case, tolerance, truth


@each_case("equals the oracle in float64")
def test_equals_the_oracle(card, sample, case):
    values, gradient = call(build(card, sample, case, reduction="none"), case)
    expected_values, expected_gradient = truth(card, sample, case)
    assert_equal(values, expected_values, **tolerance(sample), what="value")
    assert_equal(gradient, expected_gradient, **tolerance(sample), what="gradient")


@each_case("module equals function", where=lambda card: card.function is not None)
def test_module_equals_function(card, sample, case):
    module = build(card, sample, case)
    expected_value, expected_gradient = call_function(card, constructor_options(card, sample, **case.options), case)
    value, gradient = call(module, case)
    assert_equal(value, expected_value, **tolerance(sample), what="value")
    assert_equal(gradient, expected_gradient, **tolerance(sample), what="gradient")


IDENTITIES = [
    applies("declared identities", card, identity, name=identity.statement)
    for card in CARDS
    for identity in card.identities
]


@pytest.mark.parametrize(("card", "identity"), IDENTITIES)
def test_declared_identities_hold(card, identity):
    """`Identity.other` takes input and target alone: cases with a mask, weights or options of their own stay out.

    So do the narrow integers that torch does not take as class indices.
    """
    kind = "indices" if has_indices(card) else "elements"
    plain = [case for case in cases(card, identity.options) if case.kind == kind and not case.nothing]
    plain = [case for case in plain if kind == "elements" or case.target.dtype == torch.int64]
    plain = [case for case in plain if case.kept.all() and not case.batch and not case.options]
    assert len(plain) >= 5
    for case in plain:
        value, gradient = call(build(card, identity.options, case), case)
        expected_value, expected_gradient = call(partial(identity.other, **identity.other_options), case)
        assert_equal(value, expected_value, rtol=1e-10, atol=1e-12, what=f"value, {case.name}")
        assert_equal(gradient, expected_gradient, rtol=1e-10, atol=1e-12, what=f"gradient, {case.name}")


@pytest.mark.parametrize("gamma", [0.0, 1e-50, 2.0, torch.tensor(0.0), torch.tensor(2.0)], ids=str)
@pytest.mark.parametrize("rivals", [[], [-torch.inf]], ids=["none", "impossible"])
@each_card(
    "a class without rivals costs nothing", where=lambda card: takes(card, "gamma") and class_dimension(card) == 1
)
def test_a_class_without_rivals_costs_nothing(card, rivals, gamma):
    """The only class, or the only possible one: (1 - p)^gamma -log p is 0 for every gamma, 0^0 included."""
    case = Case(name="alone", kind="indices", input=torch.tensor([[3.0, *rivals]]), target=torch.tensor([0]))
    sample = {"counts": [5, *[3 for _ in rivals]]} if takes(card, "counts") else {}
    results = [call(build(card, {**sample, "gamma": gamma}), case)]
    if card.function is not None:
        results.append(call_function(card, {"gamma": gamma}, case))
    for value, gradient in results:
        assert value == 0
        assert (gradient == 0).all()
