"""Bad input of a linear layer's loss raises an error of the documented type that names the argument."""

from dataclasses import replace

import pytest
import torch

import equipoise
from cases import parameters
from harness import applies
from head_cases import HEAD_CARDS, head_call, is_softmax
from ranking_cases import build, invoke

LINE = "bad input raises the documented error"

BAD_OPTIONS = [
    ("gamma", -0.1, ValueError),
    ("gamma", torch.nan, ValueError),
    ("gamma", "two", TypeError),
    ("label_smoothing", 1.5, ValueError),
    ("alpha", 1.5, ValueError),
    ("reduction", "average", ValueError),
    ("chunk_rows", 0, ValueError),
    ("chunk_rows", 2.5, TypeError),
    ("chunk_labels", 0, ValueError),
    ("chunk_labels", "all", TypeError),
    ("ignore_index", 0.5, TypeError),
    ("weight", [1.0, 2.0], ValueError),
    ("logit_adjustment", [3, 4], ValueError),
    ("logit_adjustment", [3, 0, 1, 1], ValueError),
    ("logit_adjustment", [3000.0, 400.0, 60.0, 5.0], ValueError),
    ("logit_adjustment", [0.0, -1.0, -torch.inf, -1.0], ValueError),
    ("logit_adjustment", [True, False, True, True], TypeError),
    ("logit_adjustment", 0.5, ValueError),
]


def option_errors():
    for card in HEAD_CARDS:
        for name, value, error in BAD_OPTIONS:
            if name in parameters(card.module):
                yield applies(LINE, card, name, value, error, name=f"{name}={value}")


@pytest.mark.parametrize(("card", "name", "value", "error"), list(option_errors()))
def test_a_bad_option_is_named(card, name, value, error):
    call = head_call(card, "typical")
    with pytest.raises(error, match=f"`{name}`"):
        invoke(build(card, {name: value}), call)
    with pytest.raises(error, match=f"`{name}`"):
        invoke(lambda *tensors, **batch: card.function(*tensors, **batch, **{name: value}), call)


def bad_layers(call):
    rows, weight, bias = call.inputs.values()
    yield "input: a list", "input", TypeError, {"input": rows.tolist()}
    yield "input: integers", "input", TypeError, {"input": rows.long()}
    yield "input: one number", "input", ValueError, {"input": rows.sum()}
    yield "weight: integers", "linear_weight", TypeError, {"linear_weight": weight.long()}
    yield "weight: transposed", "linear_weight", ValueError, {"linear_weight": weight.t()}
    yield "weight: three dimensions", "linear_weight", ValueError, {"linear_weight": weight[None]}
    yield "weight: no class", "linear_weight", ValueError, {"linear_weight": weight[:0]}
    yield "bias: one number", "linear_bias", ValueError, {"linear_bias": bias[0]}
    yield "bias: too few", "linear_bias", ValueError, {"linear_bias": bias[:-1]}
    yield "bias: integers", "linear_bias", TypeError, {"linear_bias": bias.long()}


def bad_targets(card, call):
    target, soft = call.target, torch.full((11, 4), 0.25)
    yield "target: a list", "target", TypeError, target.tolist()
    yield "target: a gradient", "target", ValueError, soft.clone().requires_grad_()
    yield "target: too few", "target", ValueError, target[:-1]
    yield "target: too few numbers", "target", ValueError, soft[:, :-1]
    yield "target: above 1", "target", ValueError, soft * 5
    yield "target: NaN", "target", ValueError, soft * torch.nan
    yield "target: no such class", "target", ValueError, target.clamp(4)
    if is_softmax(card):
        yield "target: below 0", "target", ValueError, target - 7
        yield "target: booleans", "target", TypeError, target > 1
    else:
        yield "target: zeros and ones or indices", "target", ValueError, (soft > 0).long()
        yield "target: one index a row", "target", ValueError, target[:, 0]


def call_errors():
    for card in HEAD_CARDS:
        call = head_call(card, "typical")
        for what, blamed, error, inputs in bad_layers(call):
            yield applies(LINE, card, replace(call, inputs={**call.inputs, **inputs}), blamed, error, name=what)
        for what, blamed, error, target in bad_targets(card, call):
            yield applies(LINE, card, replace(call, target=target), blamed, error, name=what)
        batch = {"sample_weight": torch.ones(3)} if is_softmax(card) else {"mask": torch.ones(3, 4) > 0}
        yield applies(LINE, card, replace(call, batch=batch), next(iter(batch)), ValueError, name="batch")


@pytest.mark.parametrize(("card", "call", "blamed", "error"), list(call_errors()))
def test_a_bad_tensor_is_named(card, call, blamed, error):
    with pytest.raises(error, match=f"`{blamed}`"):
        invoke(build(card, {}), call)
    with pytest.raises(error, match=f"`{blamed}`"):
        invoke(card.function, call)


def test_probabilities_have_no_ignored_index():
    with pytest.raises(ValueError, match="`ignore_index`"):
        equipoise.linear_softmax_focal_loss(torch.ones(2, 3), torch.ones(4, 3), torch.ones(2, 4) / 4, ignore_index=1)


def test_a_label_that_does_not_exist_is_never_lost_where_no_value_can_be_looked_at():
    """Under `vmap`, say, or on a GPU: the loss is NaN."""
    rows, weight = torch.ones(2, 3), torch.ones(4, 3)
    losses = torch.func.vmap(lambda row, label: equipoise.linear_sigmoid_focal_loss(row[None], weight, label[None]))
    assert losses(rows, torch.tensor([[0, 3], [0, 4]])).isnan().tolist() == [False, True]
    losses = torch.func.vmap(lambda row, label: equipoise.linear_softmax_focal_loss(row[None], weight, label[None]))
    assert losses(rows, torch.tensor([3, 4])).isnan().tolist() == [False, True]
