"""Every ranking loss has the value and the gradients of its definition, under every reduction."""

from dataclasses import replace
from functools import partial

import pytest
import torch

import equipoise
from harness import applies, assert_equal
from ranking_cases import (
    RANKED,
    build,
    call_named,
    calls,
    each_call,
    each_ranked,
    each_ranked_sample,
    evaluate,
    has_none,
    invoke,
    reductions,
    truth,
)

CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def assert_gradients(actual, expected, **tolerance):
    assert actual.keys() == expected.keys()
    for name, gradient in actual.items():
        assert_equal(gradient, torch.as_tensor(expected[name]), **tolerance, what=f"gradient of {name}")


@each_call("equals the oracle in float64")
def test_equals_the_oracle(card, sample, call):
    expected = truth(card, sample, call)
    for reduction in reductions(card):
        value, gradients = evaluate(build(card, sample, reduction=reduction), call)
        expected_value, expected_gradients = expected.reduced(reduction)
        assert value.dtype == torch.float64
        assert_equal(value, torch.tensor(expected_value).double(), **CLOSE, what=f"value, {reduction}")
        assert_gradients(gradients, expected_gradients, **CLOSE)


@each_call("reductions agree, the divisor is the documented one", where=has_none)
def test_values_without_reduction_equal_the_oracle(card, sample, call):
    expected = truth(card, sample, call)
    values, gradients = evaluate(build(card, sample, reduction="none"), call)
    assert_equal(values, torch.as_tensor(expected.values), **CLOSE, what="values")
    assert_gradients(gradients, expected.gradients, **CLOSE)


@each_call("module equals function", where=lambda card: card.function is not None)
def test_module_equals_function(card, sample, call):
    value, gradients = evaluate(build(card, sample), call)
    expected_value, expected_gradients = evaluate(partial(card.function, **sample), call)
    assert_equal(value, expected_value, rtol=0, what="value")
    assert_gradients(gradients, expected_gradients, rtol=0)


IDENTITIES = [
    applies("declared identities", card, identity, name=identity.statement)
    for card in RANKED
    for identity in card.identities
]


@pytest.mark.parametrize(("card", "identity"), IDENTITIES)
def test_declared_identities_hold(card, identity):
    """Where torch adds an epsilon to a length, or forgets the zero vector, the two differ: those calls stay out."""
    options = {name: value for name, value in identity.options.items() if name != "reduction"}
    plain = [call for call in calls(card, options) if call.smooth and not call.nothing and not call.batch]
    plain = [call for call in plain if len(call.inputs) != 1 or call.target is None]
    if card.name == "cosine_embedding":
        plain = [call for call in plain if next(iter(call.inputs.values())).ndim <= 2]
    if card.kind == "groups":
        plain = [call for call in plain if call.name != "strided"]
    assert len(plain) >= 3
    for call in plain:
        value, gradients = evaluate(build(card, options), call)
        expected_value, expected_gradients = evaluate(partial(identity.other, **identity.other_options), call)
        assert_equal(value, expected_value, rtol=1e-10, atol=1e-12, what=f"value, {call.name}")
        assert_gradients(gradients, expected_gradients, rtol=1e-10, atol=1e-12)


@each_ranked("reductions agree, the divisor is the documented one")
def test_docstrings_name_the_divisor(card):
    for documented in filter(None, (card.module, card.function)):
        assert "divided" in documented.__doc__


# ------------------------------------------------------------------------------------------ nothing, and not a number


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@each_ranked_sample("all ignored or empty: a differentiable 0")
def test_nothing_gives_a_differentiable_zero(card, sample, dtype):
    nothing = [call for call in calls(card, sample) if call.nothing]
    assert nothing
    for call in nothing:
        for reduction in reductions(card):
            value, gradients = evaluate(build(card, sample, reduction=reduction), call.to(dtype))
            assert value.shape == ()
            assert value.dtype == torch.promote_types(dtype, torch.float32)
            assert value == 0, call.name
            assert all((gradient == 0).all() for gradient in gradients.values()), call.name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=str)
@each_ranked_sample("NaN in a kept input: NaN out")
def test_nan_in_any_input_gives_nan(card, sample, dtype):
    for call in (each.to(dtype) for each in calls(card, sample)):
        if call.nothing:
            continue
        for name, tensor in call.inputs.items():
            bad = tensor.clone()
            bad[(-1,) * bad.ndim] = torch.nan
            spoilt = replace(call, inputs={**call.inputs, name: bad})
            if card.name == "rank_cross_entropy" and call.target is not None:
                continue  # a score of weight 0 only stands in the denominator; that one is covered by the plain calls
            assert invoke(build(card, sample), spoilt).isnan(), f"{call.name}, {name}"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@each_ranked_sample("NaN in a kept input: NaN out", where=lambda card: card.kind == "embeddings")
def test_no_embedding_can_hide_a_nan(card, sample, dtype):
    """One that is nothing but a negative of others could be passed over by the search for the nearest."""
    call = call_named(card, "typical", sample).to(dtype)
    for name, tensor in call.inputs.items():
        for row in range(len(tensor)):
            bad = tensor.clone()
            bad[row, 0] = torch.nan
            assert invoke(build(card, sample), replace(call, inputs={**call.inputs, name: bad})).isnan(), row


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("mining", ["all", "hard", "semihard"])
def test_a_nan_that_is_never_mined_is_not_lost(mining, dtype):
    """Its class has no other member, and every positive has a finite negative beyond it."""
    rows = torch.tensor([[0.0], [1.0], [2.5], [torch.nan]], dtype=dtype)
    assert equipoise.batch_triplet_loss(rows, torch.tensor([0, 0, 1, 2]), mining=mining).isnan()


# ---------------------------------------------------------------------------------------------------- permutation


def shuffled(card, call, order):
    """The call with its rows (pairs, groups, embeddings with their labels and masks) in another order."""

    def rows(name, tensor):
        if card.kind == "groups":
            size = 2 if tensor.numel() % 2 == 0 and "num_neg" not in call.batch else 1
            return tensor if size == 1 else tensor.reshape(len(order), -1)[order].reshape(tensor.shape)
        return tensor if name in ("reference", "reference_label") else tensor[order]

    inputs = {name: rows(name, tensor) for name, tensor in call.inputs.items()}
    batch = {name: rows(name, tensor) for name, tensor in call.batch.items()}
    for name in ("positive", "negative"):
        if name in batch:
            columns = torch.cat([order, torch.arange(len(order), batch[name].shape[1])])
            batch[name] = batch[name][:, columns]
    return replace(call, inputs=inputs, target=None if call.target is None else call.target[order], batch=batch)


@each_call("permutation equivariance", where=lambda card: card.kind != "groups", which=lambda call: call.smooth)
def test_a_shuffled_batch_gives_shuffled_gradients(card, sample, call):
    first = next(iter(call.inputs.values()))
    if first.ndim < 2 or len(first) < 2:
        return
    order = torch.randperm(len(first), generator=torch.Generator().manual_seed(3))
    value, gradients = evaluate(build(card, sample), call)
    other_value, other_gradients = evaluate(build(card, sample), shuffled(card, call, order))
    assert_equal(other_value, value, rtol=1e-12, what="value")
    for name, gradient in gradients.items():
        expected = gradient if name == "reference" else gradient[order]
        assert_equal(other_gradients[name], expected, rtol=1e-9, atol=1e-13, what=f"gradient of {name}")


@each_ranked_sample("permutation equivariance", where=lambda card: card.kind == "groups")
def test_shuffled_groups_give_shuffled_gradients(card, sample):
    call = call_named(card, "rows", sample)
    order = torch.tensor([3, 1, 4, 0, 2])
    value, gradients = evaluate(build(card, sample), call)
    other_value, other_gradients = evaluate(build(card, sample), call.with_inputs(lambda scores: scores[order]))
    assert_equal(other_value, value, rtol=1e-12, what="value")
    assert_equal(other_gradients["input"], gradients["input"][order], rtol=1e-12, what="gradient")
