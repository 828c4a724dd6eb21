"""Bad input raises an error of the documented type that names the argument."""

from dataclasses import replace

import pytest
import torch
from torch import nan

import equipoise
from cases import CARDS, case_named, cases, constructor_options, has_elements, is_regression, parameters, takes
from harness import applies, build, call_function

LINE = "bad input raises the documented error"

# ------------------------------------------------------------------------------------------------------- options

BAD_OPTIONS = [
    ("gamma", -0.5, ValueError),
    ("gamma", nan, ValueError),
    ("gamma", "2", TypeError),
    ("gamma", torch.tensor([1.0, 2.0]), ValueError),
    ("gamma", torch.tensor(-1.0), ValueError),
    ("alpha", -0.1, ValueError),
    ("alpha", 1.1, ValueError),
    ("alpha", [0.5, 0.5, 0.5, 1.5], ValueError),
    ("alpha", [0.5] * 7, ValueError),
    ("alpha", "quarter", TypeError),
    ("weight", [1.0] * 7, ValueError),
    ("weight", "balanced", TypeError),
    ("pos_weight", [1.0] * 7, ValueError),
    ("pos_weight", "heavy", TypeError),
    ("label_smoothing", -0.1, ValueError),
    ("label_smoothing", 1.1, ValueError),
    ("label_smoothing", "some", TypeError),
    ("reduction", "average", ValueError),
    ("reduction", None, ValueError),
    ("normalizer", "some", ValueError),
    ("bins", 0, ValueError),
    ("bins", -3, ValueError),
    ("bins", 2.5, TypeError),
    ("bins", True, TypeError),
    ("mu", 0.0, ValueError),
    ("mu", -0.02, ValueError),
    ("mu", nan, ValueError),
    ("mu", torch.tensor(0.0), ValueError),
    ("momentum", 1.0, ValueError),
    ("momentum", -0.1, ValueError),
    ("ignore_index", 0.5, TypeError),
    ("ignore_index", "none", TypeError),
    ("beta", 1.1, ValueError),
    ("beta", -0.1, ValueError),
    ("counts", [10, -1, 3, 4], ValueError),
    ("counts", [10, nan, 3, 4], ValueError),
    ("counts", [[10, 1, 3, 4]], ValueError),
    ("counts", [10, 1, 3], ValueError),
    ("counts", "many", TypeError),
]


def option_errors():
    for card in CARDS:
        for name, value, error in BAD_OPTIONS:
            if name in parameters(card.module):
                yield applies(LINE, card, name, value, error, name=f"{name}={value}")
        if not (has_elements(card) and takes(card, "pos_weight")):
            yield applies(LINE, card, "reduction", "mean_positive", ValueError, name="reduction=mean_positive")


@pytest.mark.parametrize(("card", "name", "value", "error"), list(option_errors()))
def test_a_bad_option_is_named(card, name, value, error):
    case = cases(card)[0]
    with pytest.raises(error, match=f"`{name}`"):
        build(card, {name: value})(case.input, case.target)
    if card.function is not None and name not in card.module_only:
        with pytest.raises(error, match=f"`{name}`"):
            call_function(card, constructor_options(card, {name: value}), case)


# ----------------------------------------------------------------------------------------- tensors of the call

ELEMENTS = {
    "input: a list": ("input", TypeError, lambda case: replace(case, input=case.input.tolist())),
    "input: integers": ("input", TypeError, lambda case: replace(case, input=case.input.long())),
    "input: complex": ("input", TypeError, lambda case: replace(case, input=case.input + 0j)),
    "target: a list": ("target", TypeError, lambda case: replace(case, target=case.target.tolist())),
    "target: complex": ("target", TypeError, lambda case: replace(case, target=case.target + 0j)),
    "target: a column": ("target", ValueError, lambda case: replace(case, target=case.target[:, :1])),
    "target: other rank": ("target", ValueError, lambda case: replace(case, target=case.target[None])),
    "target: a gradient": (
        "target",
        ValueError,
        lambda case: replace(case, target=case.target.clone().requires_grad_()),
    ),
    "mask: floats": ("mask", TypeError, lambda case: replace(case, batch={"mask": torch.ones_like(case.input)})),
    "mask: a list": ("mask", TypeError, lambda case: replace(case, batch={"mask": [True]})),
    "mask: other shape": (
        "mask",
        ValueError,
        lambda case: replace(case, batch={"mask": torch.ones(3, dtype=torch.bool)}),
    ),
    "mask: larger": ("mask", ValueError, lambda case: replace(case, batch={"mask": torch.ones(2, 16, 4) > 0})),
}

LABELS = {
    "target: above 1": ("target", ValueError, lambda case: replace(case, target=case.target + 0.5)),
    "target: below 0": ("target", ValueError, lambda case: replace(case, target=case.target - 0.5)),
    "target: NaN": ("target", ValueError, lambda case: replace(case, target=case.target * nan)),
    "target: whole 2": ("target", ValueError, lambda case: replace(case, target=torch.full_like(case.target, 2).int())),
}

INDICES = {
    "input: a list": ("input", TypeError, lambda case: replace(case, input=case.input.tolist())),
    "input: integers": ("input", TypeError, lambda case: replace(case, input=case.input.long())),
    "input: one score": (
        "input",
        ValueError,
        lambda case: replace(case, input=case.input[0, 0], target=case.target[0]),
    ),
    "target: a list": ("target", TypeError, lambda case: replace(case, target=case.target.tolist())),
    "target: too few": ("target", ValueError, lambda case: replace(case, target=case.target[:-1])),
    "target: a number": ("target", ValueError, lambda case: replace(case, target=case.target[0])),
    "target: too large": ("target", ValueError, lambda case: replace(case, target=case.target + 4)),
    "target: negative": ("target", ValueError, lambda case: replace(case, target=case.target - 4)),
    "target: booleans": ("target", TypeError, lambda case: replace(case, target=case.target > 0)),
    "target: fractions": ("target", (TypeError, ValueError), lambda case: replace(case, target=case.target.double())),
}

SAMPLE_WEIGHTS = {
    "sample_weight: too few": (
        "sample_weight",
        ValueError,
        lambda case: replace(case, batch={"sample_weight": torch.ones(15)}),
    ),
    "sample_weight: a column": (
        "sample_weight",
        ValueError,
        lambda case: replace(case, batch={"sample_weight": torch.ones(16, 1)}),
    ),
    "sample_weight: a word": ("sample_weight", TypeError, lambda case: replace(case, batch={"sample_weight": "heavy"})),
}

PROBABILITIES = {
    "target: other classes": ("target", ValueError, lambda case: replace(case, target=case.target[:, :-1])),
    "target: negative": ("target", ValueError, lambda case: replace(case, target=case.target - 1)),
    "target: NaN": ("target", ValueError, lambda case: replace(case, target=case.target * nan)),
    "target: a gradient": (
        "target",
        ValueError,
        lambda case: replace(case, target=case.target.clone().requires_grad_()),
    ),
    "ignore_index": ("ignore_index", ValueError, lambda case: replace(case, options={"ignore_index": 1})),
}


def call_errors():
    for card in CARDS:
        named = {case.name for case in cases(card)}
        for name, tables in (
            ("multi-label, typical" if "multi-label, typical" in named else "typical", [ELEMENTS] * has_elements(card)),
            ("typical", [INDICES] * (not has_elements(card) or "multiclass" in card.problems)),
            ("typical", [SAMPLE_WEIGHTS] * takes(card, "sample_weight")),
            ("probabilities, typical", [PROBABILITIES] * ("probabilities, typical" in named)),
        ):
            tables = tables + [LABELS] * (tables == [ELEMENTS] and not is_regression(card))
            for table in tables:
                for what, (argument, error, spoil) in table.items():
                    spoilt = spoil(case_named(card, name))
                    yield applies(LINE, card, spoilt, argument, error, name=f"{name}: {what}")


@pytest.mark.parametrize(("card", "case", "argument", "error"), list(call_errors()))
def test_a_bad_tensor_is_named(card, case, argument, error):
    with pytest.raises(error, match=f"`{argument}`"):
        build(card, {}, case)(case.input, case.target, **case.batch)
    if card.function is not None:
        with pytest.raises(error, match=f"`{argument}`"):
            card.function(case.input, case.target, **case.batch, **constructor_options(card, case.options))


def test_class_indices_take_no_mask():
    card = next(card for card in CARDS if card.name == "class_balanced_sigmoid_focal")
    case = cases(card)[0]
    with pytest.raises(ValueError, match="`mask`"):
        build(card, {})(case.input, case.target, mask=torch.ones_like(case.input, dtype=torch.bool))


# ------------------------------------------------------------------------------------------- weights from counts

BAD_CALLS = {
    "counts negative": ("counts", ValueError, lambda: equipoise.effective_number_weights([3, -1])),
    "counts NaN": ("counts", ValueError, lambda: equipoise.effective_number_weights([3, nan])),
    "counts infinite": ("counts", ValueError, lambda: equipoise.inverse_frequency_weights([3, torch.inf])),
    "counts of two dimensions": ("counts", ValueError, lambda: equipoise.inverse_frequency_weights([[3, 1]])),
    "counts a word": ("counts", TypeError, lambda: equipoise.inverse_frequency_weights("many")),
    "beta above 1": ("beta", ValueError, lambda: equipoise.effective_number_weights([3, 1], beta=1.01)),
    "beta NaN": ("beta", ValueError, lambda: equipoise.effective_number_weights([3, 1], beta=nan)),
    "power negative": ("power", ValueError, lambda: equipoise.inverse_frequency_weights([3, 1], power=-1)),
    "labels too large": ("labels", ValueError, lambda: equipoise.class_counts(torch.tensor([0, 3]), 3)),
    "labels negative": ("labels", ValueError, lambda: equipoise.class_counts(torch.tensor([0, -1]), 3)),
    "labels a word": ("labels", TypeError, lambda: equipoise.class_counts("many", 3)),
    "labels of other width": ("labels", ValueError, lambda: equipoise.class_counts(torch.zeros(5, 2), 3)),
    "labels fractions": ("labels", ValueError, lambda: equipoise.class_counts(torch.full((5, 3), 0.5), 3)),
    "float indices": ("labels", TypeError, lambda: equipoise.class_counts(torch.zeros(5), 3, multilabel=False)),
    "ambiguous": ("multilabel", ValueError, lambda: equipoise.class_counts(torch.zeros(5, 3).long(), 3)),
    "num_classes 0": ("num_classes", ValueError, lambda: equipoise.class_counts(torch.tensor([0]), 0)),
    "num_classes 2.5": ("num_classes", TypeError, lambda: equipoise.class_counts(torch.tensor([0]), 2.5)),
    "target above 1": ("target", ValueError, lambda: equipoise.balancing_alpha(torch.tensor([0, 2]))),
    "target a word": ("target", TypeError, lambda: equipoise.balancing_alpha("rare")),
    "target without classes": (
        "target",
        ValueError,
        lambda: equipoise.balancing_alpha(torch.tensor(1.0), per_class=True),
    ),
    "pi 0": ("pi", ValueError, lambda: equipoise.prior_bias(0.0)),
    "pi 1": ("pi", ValueError, lambda: equipoise.prior_bias(1.0)),
    "pi a word": ("pi", TypeError, lambda: equipoise.prior_bias("rare")),
    "from_labels of other width": (
        "labels",
        ValueError,
        lambda: equipoise.BalancedCrossEntropyLoss.from_labels(torch.zeros(5, 2), 3),
    ),
}


@pytest.mark.parametrize(("argument", "error", "bad_call"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_a_bad_argument_of_a_helper_is_named(argument, error, bad_call):
    with pytest.raises(error, match=f"`{argument}`"):
        bad_call()
