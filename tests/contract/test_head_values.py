"""Every loss of a linear layer has the value and the gradients of its definition, however it is cut into chunks."""

from dataclasses import replace
from functools import partial
from itertools import product

import pytest
import torch

import equipoise
from cases import samples
from harness import applies, assert_equal
from head_cases import (
    HEAD_CARDS,
    each_head,
    each_head_sample,
    fitting_calls,
    head_call,
    head_calls,
    is_softmax,
    reductions,
    truth,
)
from ranking_cases import build, evaluate, invoke

CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def assert_gradients(actual, expected, what="", **tolerance):
    assert actual.keys() == expected.keys()
    for name, gradient in actual.items():
        assert_equal(gradient, torch.as_tensor(expected[name]), **tolerance, what=f"gradient of {name}, {what}")


@each_head_sample("equals the oracle in float64")
def test_equals_the_oracle(card, sample):
    for call in fitting_calls(card, sample):
        expected = truth(card, sample, call)
        for reduction in reductions(card):
            value, gradients = evaluate(build(card, sample, reduction=reduction), call)
            expected_value, expected_gradients = expected.reduced(reduction)
            assert value.dtype == torch.float64
            assert_equal(value, torch.tensor(expected_value).double(), **CLOSE, what=f"{call.name}, {reduction}")
            assert_gradients(gradients, expected_gradients, call.name, **CLOSE)


@each_head_sample("reductions agree, the divisor is the documented one")
def test_values_without_reduction_equal_the_oracle(card, sample):
    for call in fitting_calls(card, sample):
        expected = truth(card, sample, call)
        values, gradients = evaluate(build(card, sample, reduction="none"), call)
        assert_equal(values, torch.as_tensor(expected.values), **CLOSE, what=call.name)
        assert_gradients(gradients, expected.gradients, call.name, **CLOSE)


@each_head_sample("the size of a chunk changes nothing")
def test_chunks_of_any_size_give_the_same(card, sample):
    """Those that do not divide the number of rows or labels too."""
    size = "chunk_rows" if is_softmax(card) else "chunk_labels"
    calls = {call.name: call for call in fitting_calls(card, sample)}
    call = calls.get("many classes" if is_softmax(card) else "many labels", calls["typical"])
    for reduction in ("none", *reductions(card)):
        expected, expected_gradients = evaluate(build(card, sample, reduction=reduction), call)
        for chunk in (1, 2, 5, 36, 1000):
            value, gradients = evaluate(build(card, {**sample, size: chunk}, reduction=reduction), call)
            assert_equal(value, expected, **CLOSE, what=f"value, {chunk}")
            assert_gradients(gradients, expected_gradients, **CLOSE)


@each_head_sample("the size of a chunk changes nothing")
def test_each_value_meets_its_own_upstream_gradient(card, sample):
    size = "chunk_rows" if is_softmax(card) else "chunk_labels"
    call = head_call(card, "typical", sample)
    results = []
    for chunk in (2, 1000):
        module = build(card, {**sample, size: chunk}, reduction="none")

        def directed(*tensors, module=module, **batch):
            values = module(*tensors, **batch)
            return values * torch.arange(1.0, values.numel() + 1).reshape(values.shape).sin()

        results.append(evaluate(directed, call))
    assert_gradients(results[0][1], results[1][1], **CLOSE)


@each_head_sample("module equals function")
def test_module_equals_function(card, sample):
    for call in fitting_calls(card, sample):
        value, gradients = evaluate(build(card, sample), call)
        expected_value, expected_gradients = evaluate(partial(card.function, **sample), call)
        assert_equal(value, expected_value, rtol=0, what=call.name)
        assert_gradients(gradients, expected_gradients, call.name, rtol=0)


IDENTITIES = [
    applies("declared identities", card, identity, name=identity.statement)
    for card in HEAD_CARDS
    for identity in card.identities
]


@pytest.mark.parametrize(("card", "identity"), IDENTITIES)
def test_declared_identities_hold(card, identity):
    plain = ("no bias",) if is_softmax(card) else ("bool target", "hard target", "soft")
    for name in plain:
        call = head_call(card, name)
        call = replace(call, inputs={name: each for name, each in call.inputs.items() if name != "linear_bias"})
        value, gradients = evaluate(build(card, identity.options), call)
        expected_value, expected_gradients = evaluate(partial(identity.other, **identity.other_options), call)
        assert_equal(value, expected_value, **CLOSE, what="value")
        assert_gradients(gradients, expected_gradients, **CLOSE)


@pytest.mark.parametrize("target", ["typical", "ignored", "probabilities"])
@each_head("declared identities", where=is_softmax)
def test_gamma_0_is_torchs_cross_entropy_with_all_its_options(card, target):
    call = head_call(card, target)
    weights = (None, (0.5, 2.0, 1.0, 3.0))
    for weight, smoothing, reduction in product(weights, (0.0, 0.1), ("none", "sum", "mean")):
        assert_is_torchs_cross_entropy(card, call, weight, smoothing, reduction)


def assert_is_torchs_cross_entropy(card, call, weight, smoothing, reduction):
    def in_torch(input, linear_weight, target, linear_bias):
        scores = torch.nn.functional.linear(input, linear_weight, linear_bias)
        weights = None if weight is None else scores.new_tensor(weight)
        return torch.nn.functional.cross_entropy(
            scores, target, weight=weights, reduction=reduction, label_smoothing=smoothing
        )

    expected, expected_gradients = evaluate(in_torch, call)
    value, gradients = evaluate(
        build(card, {"weight": weight, "label_smoothing": smoothing, "reduction": reduction}), call
    )
    assert_equal(value, expected, **CLOSE, what="value")
    assert_gradients(gradients, expected_gradients, **CLOSE)


@each_head("reductions agree, the divisor is the documented one")
def test_docstrings_name_the_divisor(card):
    assert "divided" in card.function.__doc__


# of the strided ones torch says that they are a prototype
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_targets_are_the_padded_ones():
    labels = [torch.tensor([3, 0]), torch.tensor([], dtype=torch.int64), torch.tensor([1])]
    padded = torch.tensor([[3, 0, -1], [-1, -1, -1], [1, -1, -1]])
    rows, weight = torch.randn(3, 5), torch.randn(4, 5)
    expected = equipoise.linear_sigmoid_focal_loss(rows, weight, padded)
    for layout in (torch.jagged, torch.strided):
        nested = torch.nested.nested_tensor(labels, layout=layout)
        assert torch.equal(equipoise.linear_sigmoid_focal_loss(rows, weight, nested), expected)


def test_a_logit_adjustment_is_a_bias_for_the_loss_alone():
    rows, weight, target = torch.randn(6, 5), torch.randn(3, 5), torch.tensor([0, 1, 2, 0, 0, 1])
    counts = torch.tensor([70, 25, 5])
    priors = equipoise.log_priors(counts)
    expected = equipoise.softmax_focal_loss(rows @ weight.t(), target, logit_adjustment=counts)
    biased = equipoise.softmax_focal_loss(rows @ weight.t() + priors.float(), target)
    assert_equal(expected, biased, rtol=1e-6, what="added to the scores")
    for adjustment in (counts, counts.numpy(), [70, 25, 5], priors, priors.float().tolist()):
        value = equipoise.linear_softmax_focal_loss(rows, weight, target, gamma=2.0, logit_adjustment=adjustment)
        assert_equal(value, expected, rtol=1e-6, what="linear")


# ------------------------------------------------------------------------------------------ nothing, and not a number


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@each_head_sample("all ignored or empty: a differentiable 0")
def test_nothing_gives_a_differentiable_zero(card, sample, dtype):
    nothing = [call for call in head_calls(card, sample) if call.nothing]
    assert len(nothing) >= 2
    for call in nothing:
        for reduction in reductions(card):
            value, gradients = evaluate(build(card, sample, reduction=reduction), call.to(dtype))
            assert value.shape == ()
            assert value.dtype == torch.promote_types(dtype, torch.float32)
            assert value == 0, call.name
            assert all((gradient == 0).all() for gradient in gradients.values()), call.name
            assert {name: each.shape for name, each in gradients.items()} == {
                name: each.shape for name, each in call.inputs.items()
            }


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@each_head("all ignored or empty: a differentiable 0", where=is_softmax)
def test_targets_of_weight_zero_give_a_differentiable_zero(card, smoothing):
    call = head_call(card, "typical")
    call = replace(call, target=torch.ones_like(call.target))
    value, gradients = evaluate(build(card, {"weight": [1.0, 0.0, 1.0, 1.0], "label_smoothing": smoothing}), call)
    assert value == 0
    assert all((gradient == 0).all() for gradient in gradients.values())


POISONS = (float("nan"), float("inf"), 1e30)


@pytest.mark.parametrize("poison", POISONS)
@each_head_sample("ignored rows change nothing")
def test_an_ignored_row_may_hold_anything(card, sample, poison):
    """Its features meet the gradient of the weight: 0 times NaN is no 0."""
    names = ("ignored", "all ignored") if is_softmax(card) else ("rows masked", "all masked")
    for name in names:
        call = head_call(card, name, sample)
        kept = (
            call.batch["mask"] if "mask" in call.batch else (call.target != sample.get("ignore_index", -100))[:, None]
        )
        assert not kept.all()
        rows = torch.where(kept, call.inputs["input"], poison)
        for reduction in ("none", *reductions(card)):
            expected, expected_gradients = evaluate(build(card, sample, reduction=reduction), call)
            spoilt = replace(call, inputs={**call.inputs, "input": rows})
            value, gradients = evaluate(build(card, sample, reduction=reduction), spoilt)
            assert_equal(value, expected, rtol=0, what=f"value, {name}")
            assert_gradients(gradients, expected_gradients, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
@each_head_sample("NaN in a kept input: NaN out")
def test_nan_in_a_kept_input_gives_nan(card, sample, dtype):
    for call in (each.to(dtype) for each in fitting_calls(card, sample) if not each.nothing and not each.batch):
        if is_softmax(card) and (call.target == sample.get("ignore_index", -100)).any():
            continue
        for name, tensor in call.inputs.items():
            bad = tensor.clone(memory_format=torch.contiguous_format)
            bad[(-1,) * bad.ndim] = torch.nan
            spoilt = replace(call, inputs={**call.inputs, name: bad})
            assert invoke(build(card, sample), spoilt).isnan(), f"{call.name}, {name}"


@each_head_sample("permutation equivariance")
def test_a_shuffled_batch_gives_shuffled_gradients(card, sample):
    for call in fitting_calls(card, sample):
        rows = len(call.inputs["input"])
        if call.inputs["input"].ndim != 2 or rows < 2:
            continue
        order = torch.arange(rows).flip(0)
        batch = {name: each[order] if each.ndim and len(each) == rows else each for name, each in call.batch.items()}
        inputs = {**call.inputs, "input": call.inputs["input"][order]}
        shuffled = replace(call, inputs=inputs, target=call.target[order], batch=batch)
        value, gradients = evaluate(build(card, sample), call)
        other_value, other_gradients = evaluate(build(card, sample), shuffled)
        assert_equal(other_value, value, rtol=1e-12, atol=1e-15, what=call.name)
        for name, gradient in gradients.items():
            expected = gradient[order] if name == "input" else gradient
            assert_equal(other_gradients[name], expected, rtol=1e-9, atol=1e-13, what=f"{name}, {call.name}")


def test_every_kind_of_option_is_in_a_sample():
    used = {name for card in HEAD_CARDS for _, sample in samples(card) for name in sample}
    assert used >= {"gamma", "alpha", "weight", "pos_weight", "label_smoothing", "logit_adjustment", "ignore_index"}
    assert used >= {"chunk_rows", "chunk_labels"}
