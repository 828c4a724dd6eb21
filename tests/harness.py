"""What the contract's tests share: building and calling a loss, the truth about a call, and waivers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cases import CARDS, Case, cases, constructor_options, samples
from equipoise.card import Card
from equipoise.loss import Loss
from oracle import ORACLES, reduce

# ------------------------------------------------------------------------------------------------- calling a loss


def build(card: Card, sample: Mapping[str, Any], case: Case | None = None, **more: Any) -> Loss:
    """A fresh module under the sample's options, the case's and further ones."""
    options = constructor_options(card, sample, **(case.options if case else {}), **more)
    return card.module(**options)


def leaf(tensor: Tensor) -> Tensor:
    """A leaf of its own with the same values and strides, so that nothing leaks from one call to the next."""
    return tensor.detach().requires_grad_()


def call(loss: Callable[..., Tensor], case: Case) -> tuple[Tensor, Tensor]:
    """The loss, and the gradient of its sum with respect to the input."""
    scores = leaf(case.input)
    value = loss(scores, case.target, **case.batch)
    (gradient,) = torch.autograd.grad(value.sum(), scores)
    return value.detach(), gradient


def call_function(card: Card, options: Mapping[str, Any], case: Case) -> tuple[Tensor, Tensor]:
    """`call` for the card's function, which takes the module's options but for `module_only`."""
    assert card.function is not None
    known = {name: value for name, value in options.items() if name not in card.module_only}
    return call(lambda *tensors, **batch: card.function(*tensors, **known, **batch), case)


# ------------------------------------------------------------------------------------------------------ the truth


def as_array(tensor: Tensor) -> np.ndarray:
    """NumPy float64 for scores and weights; indices and booleans stay what they are."""
    return (tensor.double() if tensor.is_floating_point() else tensor).detach().numpy()


def truth(card: Card, sample: Mapping[str, Any], case: Case, reduction: str = "none") -> tuple[Tensor, Tensor]:
    """The oracle's value and gradient of its sum, at the case's (possibly rounded) input."""
    options = constructor_options(card, sample, **case.options, reduction=reduction)
    options |= {name: as_array(tensor) for name, tensor in case.batch.items()}
    options = {name: as_array(value) if isinstance(value, Tensor) else value for name, value in options.items()}
    scores, target = as_array(case.input), as_array(case.target)
    values, gradient = ORACLES[card.name](scores, target, options)
    if reduction == "none":
        return torch.as_tensor(values), torch.as_tensor(gradient)
    # `reduce` is linear in the values, so one value of 1 gives the factor between sum and reduction
    factor = reduce(card.name, np.ones(1), scores, target, options)
    value = reduce(card.name, values, scores, target, options)
    return torch.as_tensor(value, dtype=torch.float64), torch.as_tensor(gradient * factor)


def assert_equal(actual: Tensor, expected: Tensor, *, rtol: float, atol: float = 0.0, what: str) -> None:
    """Equality to a tolerance, NaN being equal to nothing, with the place of the largest error in the message."""
    assert actual.shape == expected.shape, f"{what}: shape {list(actual.shape)}, expected {list(expected.shape)}"
    torch.testing.assert_close(
        actual.double(), expected.double(), rtol=rtol, atol=atol, msg=lambda text: f"{what}: {text}"
    )


def assert_relative_error(actual: Tensor, expected: Tensor, what: str) -> None:
    """The contract's bound on float32: 1e-5 of the truth where that is above 1e-12, 2e-5 where above 1e-30."""
    actual, expected = actual.double(), expected.double()
    assert actual.shape == expected.shape, what
    size = expected.abs()
    bound = torch.where(size > 1e-12, 1e-5 * size, torch.where(size > 1e-30, 2e-5 * size, torch.full_like(size, 1e-29)))
    wrong = ~((actual - expected).abs() <= bound)
    assert not wrong.any(), f"{what}: {actual[wrong][:5].tolist()}, expected {expected[wrong][:5].tolist()}"


def tolerance(sample: Mapping[str, Any]) -> dict[str, float]:
    """The contract's tolerance in float64; a weight from the moving average is as good as its float32 state."""
    if sample.get("momentum"):
        return {"rtol": 1e-6, "atol": 1e-12}
    return {"rtol": 1e-10, "atol": 1e-12}


# ------------------------------------------------------------------------------------- lines, cards and waivers

WAIVERS: dict[tuple[str, str], str] = {}
"""(line of the contract, card): the reason why the card need not meet the line.

A waived card is run all the same and must fail (`xfail`, strict), so that a waiver cannot outlive its reason.
"""

LINES: set[str] = set()
"""The lines that tests have asked for so far; `test_waivers.py` compares the waivers with them."""


def applies(line: str, card: Card, *values: Any, name: str = "") -> Any:
    """A parameter of a test of `line`, marked if it is waived."""
    LINES.add(line)
    reason = WAIVERS.get((line, card.name))
    marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
    return pytest.param(card, *values, id=f"{card.name}-{name}" if name else card.name, marks=marks)


def each_card(line: str, where: Callable[[Card], bool] = lambda card: True) -> pytest.MarkDecorator:
    """Runs a test for every card to which the line applies."""
    return pytest.mark.parametrize("card", [applies(line, card) for card in CARDS if where(card)])


def each_sample(
    line: str,
    where: Callable[[Card], bool] = lambda card: True,
    which: Callable[[Mapping[str, Any]], bool] = lambda sample: True,
) -> pytest.MarkDecorator:
    """Runs a test for every card and option set."""
    found = [
        applies(line, card, sample, name=name)
        for card in CARDS
        if where(card)
        for name, sample in samples(card)
        if which(sample)
    ]
    return pytest.mark.parametrize(("card", "sample"), found)


def each_case(
    line: str, where: Callable[[Card], bool] = lambda card: True, which: Callable[[Case], bool] = lambda case: True
) -> pytest.MarkDecorator:
    """Runs a test for every card, option set and case."""
    found = [
        applies(line, card, sample, case, name=f"{name}-{case.name}")
        for card in CARDS
        if where(card)
        for name, sample in samples(card)
        for case in cases(card, sample)
        if which(case)
    ]
    return pytest.mark.parametrize(("card", "sample", "case"), found)


def each_default_case(line: str, which: Callable[[Case], bool] = lambda case: True) -> pytest.MarkDecorator:
    """Runs a test for every card and case under the default options."""
    found = [applies(line, card, case, name=case.name) for card in CARDS for case in cases(card) if which(case)]
    return pytest.mark.parametrize(("card", "case"), found)
