"""The ranking losses and their oracle equal every golden value. golden/__init__.py tells where the values are from."""

import numpy as np
import pytest
import torch

import equipoise
import golden
from oracle.ranking import answer
from ranking_cases import RANKED

CARD_OF = {card.function.__name__: card for card in RANKED}
# Softmax gradients in the file come from 1 - p in 50 digits, which leaves nothing of a 1 - p below 1e-50.
SMALLEST = 1e-45

CASES = [
    pytest.param(case, id=f"{number}-{golden.describe(case)}") for number, case in enumerate(golden.load("ranking"))
]


def arguments(case):
    """The differentiable inputs by name, and what follows them."""
    names = [name for name in ("input1", "input2", "input") if name in case]
    inputs = {name: np.array(case[name], dtype=float) for name in names}
    if "label" in case:
        inputs = {"embedding": inputs["input"]}
    target = case.get("label", case.get("target"))
    return inputs, None if target is None else np.array(target)


def expected_values(case):
    """Value by reduction."""
    found = {name: case[name] for name in ("sum", "mean", "mean_active") if name in case}
    return found | ({"none": case["value"]} if "value" in case else {})


def close(actual, expected, rtol):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=SMALLEST)


@pytest.mark.parametrize("case", CASES)
def test_loss(case):
    card = CARD_OF[case["loss"]]
    inputs, target = arguments(case)
    for reduction, expected in expected_values(case).items():
        for loss in (card.module(**case["kwargs"], reduction=reduction), None):
            leaves = [torch.tensor(each, requires_grad=True) for each in inputs.values()]
            position = [] if target is None else [torch.from_numpy(target)]
            if loss is None:
                value = card.function(*leaves, *position, **case["kwargs"], reduction=reduction)
            else:
                value = loss(*leaves, *position)
            close(value.detach().numpy(), expected, 1e-12)
            if f"grad_of_{reduction}" in case:
                (gradient,) = torch.autograd.grad(value, leaves)
                close(gradient.numpy(), case[f"grad_of_{reduction}"], 1e-11)


@pytest.mark.parametrize("case", CASES)
def test_oracle(case):
    inputs, target = arguments(case)
    found = answer(CARD_OF[case["loss"]].name, inputs, target, case["kwargs"])
    for reduction, expected in expected_values(case).items():
        value, gradients = (found.values, {}) if reduction == "none" else found.reduced(reduction)
        close(value, expected, 1e-12)
        if f"grad_of_{reduction}" in case:
            close(next(iter(gradients.values())), case[f"grad_of_{reduction}"], 1e-11)


# ---- values printed in papers and other projects -----------------------------------------------------------


def test_contrastive_of_given_distances():
    target = torch.tensor([0, 0, 1, 1, 0, 1])
    first = torch.tensor([[0.1], [0.3], [1.3], [0.7], [1.1], [0.5]], dtype=torch.float64)
    for margin, expected in ((1.0, 3.73 / 6), (2.0, 9.74 / 6)):
        value = equipoise.contrastive_loss(first, torch.zeros_like(first), target, margin=margin)
        assert value.item() == pytest.approx(expected, rel=1e-12)


def test_rank_losses_of_printed_groups():
    scores = torch.tensor([1.0, 1.2, 0.8], dtype=torch.float64)
    value = equipoise.rank_cross_entropy_loss(scores, torch.tensor([1, 0, 0]), num_neg=2)
    assert value.item() == pytest.approx(1.1119015, abs=1e-7)
    assert value == equipoise.rank_cross_entropy_loss(scores, num_neg=2)
    scores = torch.tensor([1.0, 1.2, 0.8, 1.4], dtype=torch.float64)
    assert equipoise.rank_hinge_loss(scores).item() == pytest.approx(1.4, rel=1e-12)
