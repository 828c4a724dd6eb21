"""Gradients of the losses of a linear layer: to the second order, more than once, in half precision, at the hardest."""

from dataclasses import replace

import pytest
import torch

import equipoise
from cases import normal
from harness import assert_equal, leaf
from head_cases import each_head, each_head_sample, fitting_calls, head_call, head_calls, is_softmax, truth
from ranking_cases import build, evaluate, invoke

CHECKED = ("typical", "probabilities", "ignored", "mixed", "masked")


def leaves_of(call):
    return {name: leaf(tensor) for name, tensor in call.inputs.items()}


def first_rows(call, rows):
    """Fewer rows: finite differences cost two calls a number."""
    inputs = {**call.inputs, "input": call.inputs["input"][:rows]}
    batch = {name: each[:rows] for name, each in call.batch.items()}
    return replace(call, inputs=inputs, target=call.target[:rows], batch=batch)


@pytest.mark.parametrize("reduction", ["none", "mean"])
@each_head_sample("gradcheck and gradgradcheck")
def test_derivatives_agree_with_finite_differences(card, sample, reduction):
    module = build(card, sample, reduction=reduction)
    for call in (first_rows(each, 3) for each in head_calls(card, sample) if each.name in CHECKED):
        names = list(call.inputs)

        def loss(*tensors, call=call, names=names):
            return invoke(module, call, dict(zip(names, tensors, strict=True)))

        leaves = tuple(leaves_of(call).values())
        assert torch.autograd.gradcheck(loss, leaves)
        assert torch.autograd.gradgradcheck(loss, leaves, fast_mode=True)


@each_head_sample("a gradient with a graph is the gradient")
def test_the_gradient_with_a_graph_is_the_gradient(card, sample):
    """With a graph it comes from the eager form, without one from the chunks."""
    for call in fitting_calls(card, sample):
        for reduction in ("none", "mean"):
            module = build(card, sample, reduction=reduction)
            _, expected = evaluate(module, call)
            leaves = leaves_of(call)
            value = invoke(module, call, leaves)
            gradients = torch.autograd.grad(value.sum(), list(leaves.values()), create_graph=True)
            assert any(gradient.requires_grad for gradient in gradients)
            for name, gradient in zip(leaves, gradients, strict=True):
                assert_equal(gradient.detach(), expected[name], rtol=1e-9, atol=1e-12, what=f"{name}, {call.name}")


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@each_head("a second backward is right")
def test_a_second_backward_adds_the_same_gradient(card, reduction):
    call = head_call(card, "typical")
    module = build(card, {}, reduction=reduction)
    _, expected = evaluate(module, call)
    leaves = leaves_of(call)
    value = invoke(module, call, leaves).sum()
    value.backward(retain_graph=True)
    value.backward(retain_graph=True)
    (-5 * value).backward()
    for name, tensor in leaves.items():
        assert_equal(tensor.grad, -3 * expected[name], rtol=1e-12, atol=1e-15, what=name)


@each_head("a second backward is right")
def test_a_weight_that_changed_before_the_second_backward_is_noticed(card):
    """The gradient would be that of a mixture of two weights."""
    call = head_call(card, "typical")
    leaves = leaves_of(call)
    value = invoke(build(card, {}), call, leaves)
    value.backward(retain_graph=True)
    with torch.no_grad():
        leaves["linear_weight"].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


@each_head("a second backward is right")
def test_several_directions_at_once_and_one_by_one(card):
    """`is_grads_batched` runs a backward pass under `vmap`."""
    call = head_call(card, "typical")
    for reduction in ("none", "sum"):
        leaves = leaves_of(call)
        value = invoke(build(card, {}, reduction=reduction), call, leaves)
        directions = normal("directions", 3, *value.shape)
        inputs = list(leaves.values())
        together = torch.autograd.grad(value, inputs, directions, is_grads_batched=True, retain_graph=True)
        for place, direction in enumerate(directions):
            alone = torch.autograd.grad(value, inputs, direction, retain_graph=True)
            for name, all_of_them, one in zip(leaves, together, alone, strict=True):
                assert_equal(all_of_them[place], one, rtol=1e-9, atol=1e-12, what=name)


@each_head("a tied weight gets both parts of its gradient")
def test_a_tied_embedding_gets_both_parts_of_its_gradient(card):
    """The features come from the weight itself, as in language models, or are it; second derivatives too."""
    call = head_call(card, "no bias")
    target = call.target[:4] if is_softmax(card) else call.target[:4, :2]
    token = torch.tensor([0, 2, 2, 3])

    def plain(weight, rows):
        scores = rows @ weight.t()
        if is_softmax(card):
            return equipoise.softmax_focal_loss(scores, target, gamma=2.0)
        dense = torch.zeros(4, 5).scatter(1, target % 5, 1.0)[:, :4]
        return equipoise.sigmoid_focal_loss(scores, dense)

    for features in (lambda weight: weight[token].tanh(), lambda weight: weight):
        results = []
        for loss in (
            lambda weight, rows: plain(weight, rows),
            lambda weight, rows: card.function(rows, weight, target, gamma=2.0),
        ):
            weight = leaf(call.inputs["linear_weight"])
            value = loss(weight, features(weight))
            (gradient,) = torch.autograd.grad(value, weight, retain_graph=True)
            (again,) = torch.autograd.grad(value, weight, create_graph=True)
            (curvature,) = torch.autograd.grad(again.square().sum(), weight)
            results.append((value, gradient, again, curvature))
        for what, expected, actual in zip(("value", "gradient", "again", "curvature"), *results, strict=True):
            assert_equal(actual.detach(), expected.detach(), rtol=1e-9, atol=1e-12, what=what)


@each_head("no gradient is computed for a tensor that wants none")
def test_one_input_alone_may_want_a_gradient(card):
    call = head_call(card, "typical")
    for reduction in ("none", "mean"):
        module = build(card, {}, reduction=reduction)
        _, expected = evaluate(module, call)
        for name in call.inputs:
            leaves = {each: leaf(tensor) if each == name else tensor for each, tensor in call.inputs.items()}
            invoke(module, call, leaves).sum().backward()
            assert_equal(leaves[name].grad, expected[name], rtol=1e-12, atol=1e-15, what=name)
            assert all(tensor.grad is None for each, tensor in leaves.items() if each != name)


@pytest.mark.parametrize("option", ["gamma", "weight"])
@each_head("a gradient of an option goes through the eager form")
def test_an_option_may_be_learned(card, option):
    call = head_call(card, "typical")
    value = torch.tensor(1.5) if option == "gamma" else torch.tensor([0.5, 2.0, 1.0, 3.0])
    value = value.double().requires_grad_()
    loss = invoke(lambda *a, **k: card.function(*a, **k, **{option: value}), call)
    plain = equipoise.softmax_focal_loss if is_softmax(card) else equipoise.sigmoid_focal_loss
    scores = torch.nn.functional.linear(*call.inputs.values())
    dense = torch.zeros(11, 5).scatter(1, call.target % 5, 1.0)[:, :4] if not is_softmax(card) else call.target
    options = {"gamma": 0.0 if is_softmax(card) else 2.0, option: value}
    (expected,) = torch.autograd.grad(plain(scores, dense, **options), value)
    (gradient,) = torch.autograd.grad(loss, value)
    assert_equal(gradient, expected, rtol=1e-9, what=option)


# ---------------------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@each_head_sample("finite to the second derivative at 1e4")
def test_value_and_derivatives_are_finite_at_extremes(card, sample, dtype):
    for call in fitting_calls(card, sample):
        large = call.with_inputs(lambda tensor: (tensor.clamp(-3, 3) * 100).to(dtype))
        leaves = leaves_of(large)
        value = invoke(build(card, sample, reduction="mean"), large, leaves)
        gradients = torch.autograd.grad(value, list(leaves.values()), create_graph=True)
        direction = sum((each * normal("direction", *each.shape).to(dtype)).sum() for each in gradients)
        curvature = torch.autograd.grad(direction, list(leaves.values()))
        assert value.isfinite(), call.name
        assert all(each.isfinite().all() for each in (*gradients, *curvature)), call.name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@each_head_sample("the hardest example keeps its gradient")
def test_the_hardest_example_keeps_its_gradient(card, sample, dtype):
    """The features are the scores: the layer's weight is the identity. Past some depth the pull is at its limit."""
    depth = torch.tensor([20.0, 50.0, 88.0, 100.0, 1e3, 1e4])
    rows = torch.zeros(len(depth), 4, dtype=dtype)
    rows[:, 3] = -depth
    rows.requires_grad_()
    target = torch.full((len(depth), *(() if is_softmax(card) else (1,))), 3)
    build(card, sample, reduction="sum")(rows, torch.eye(4, dtype=dtype), target).backward()
    pull = -rows.grad[:, 3]
    assert (pull > 0).all()
    assert_equal(pull, pull[1].expand_as(pull), rtol=2e-2, what="pull against depth")


ROUNDING = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@each_head_sample("half precision: float32 arithmetic and result")
def test_half_precision_is_computed_in_float32(card, sample, dtype):
    for call in (each.to(dtype) for each in fitting_calls(card, sample)):
        value, gradients = evaluate(build(card, sample, reduction="sum"), call)
        expected = truth(card, sample, call)
        assert value.dtype == torch.float32
        assert_equal(value, torch.tensor(expected.total).double(), rtol=1e-5, atol=1e-5, what=f"value, {call.name}")
        for name, gradient in gradients.items():
            assert gradient.dtype == dtype
            target = torch.as_tensor(expected.gradients[name])
            largest = float(target.abs().max()) if target.numel() else 0.0
            rounding = ROUNDING[dtype] + 2e-5
            assert_equal(gradient, target, rtol=rounding, atol=1e-5 * largest + 1e-7, what=f"{name}, {call.name}")


@pytest.mark.parametrize("others", [torch.float32, torch.float64], ids=str)
@each_head("mixed precision")
def test_the_layer_may_be_of_another_precision_than_its_input(card, others):
    """As under autocast: features in bfloat16, parameters in float32. Each gradient has the dtype of its tensor."""
    call = head_call(card, "typical").to(torch.bfloat16)
    mixed = replace(call, inputs={n: each if n == "input" else each.to(others) for n, each in call.inputs.items()})
    expected, expected_gradients = evaluate(build(card, {}), call.to(others))
    value, gradients = evaluate(build(card, {}), mixed)
    assert value.dtype == others
    assert_equal(value, expected, rtol=1e-6, what="value")
    for name, gradient in gradients.items():
        assert gradient.dtype == mixed.inputs[name].dtype
        assert_equal(gradient, expected_gradients[name].to(gradient.dtype), rtol=1e-2, atol=1e-6, what=name)


@each_head_sample("mixed precision")
def test_autocast_changes_nothing(card, sample):
    for call in (each.to(torch.float32) for each in fitting_calls(card, sample)):
        for graph in (False, True):
            results = []
            for enabled in (False, True):
                leaves = leaves_of(call)
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                    value = invoke(build(card, sample), call, leaves)
                    results.append((value, *torch.autograd.grad(value, list(leaves.values()), create_graph=graph)))
            for plain, cast in zip(*results, strict=True):
                assert_equal(cast.detach(), plain.detach(), rtol=0, what=call.name)


@each_head("mixed precision")
def test_autocast_changes_nothing_for_the_plain_form_either(card):
    call = head_call(card, "typical").to(torch.float32)
    rows, weight, _ = call.inputs.values()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = torch.func.vmap(lambda row, target: card.function(row[None], weight, target[None]))(rows, call.target)
    plain = torch.func.vmap(lambda row, target: card.function(row[None], weight, target[None]))(rows, call.target)
    assert_equal(value, plain, rtol=0, what="values")


@each_head_sample("mixed precision")
def test_a_loss_scale_keeps_float16_gradients_alive(card, sample):
    """The mean's gradient over many rows is below float16's range; times 2^16 it is not, unless rounded before."""
    for name, reduction in (("typical", "mean"), ("typical", "none")):
        call = head_call(card, name, sample).to(torch.float16)
        leaves = leaves_of(call)
        (invoke(build(card, sample, reduction=reduction), call, leaves) * 2.0**-22 * 2.0**16).mean().backward()
        expected = truth(card, sample, call)
        _, gradients = expected.reduced("mean" if reduction == "mean" else "sum")
        share = 1 if reduction == "mean" else expected.values.size
        for each, tensor in leaves.items():
            target = torch.as_tensor(gradients[each]) * 2.0**-6 / share
            assert_equal(tensor.grad, target, rtol=2e-3, atol=2.0**-23, what=each)
            assert (tensor.grad != 0).any()


def test_the_weight_gradient_of_many_half_precision_rows_keeps_its_small_parts():
    """8,192 equal parts: added in half precision, the sum would stop growing long before the end."""
    rows = torch.ones(8192, 1, dtype=torch.bfloat16)
    weight = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    equipoise.linear_softmax_focal_loss(rows, weight, torch.zeros(8192).long(), chunk_rows=8).backward()
    assert_equal(weight.grad.flatten(), torch.tensor([-0.5, 0.5]), rtol=1e-3, what="gradient")
