"""Gradients of the ranking losses: to the second order, at extremes, in half precision, and without a direction."""

from dataclasses import replace

import pytest
import torch

from cases import normal
from harness import assert_equal, leaf
from ranking_cases import (
    build,
    call_named,
    calls,
    each_call,
    each_ranked,
    each_ranked_sample,
    evaluate,
    invoke,
    truth,
)

CHECKED = ("typical", "labels", "lopsided masks", "reference", "target", "one of a class of two")


@each_call("gradcheck and gradgradcheck", which=lambda call: call.name in CHECKED)
def test_derivatives_agree_with_finite_differences(card, sample, call):
    module = build(card, sample)
    names = list(call.inputs)

    def loss(*tensors):
        return invoke(module, call, dict(zip(names, tensors, strict=True)))

    leaves = tuple(leaf(tensor) for tensor in call.inputs.values())
    assert torch.autograd.gradcheck(loss, leaves)
    assert torch.autograd.gradgradcheck(loss, leaves, fast_mode=True)


@each_call("a gradient with a graph is the gradient")
def test_the_gradient_with_a_graph_is_the_gradient(card, sample, call):
    """With a graph it comes from the eager form, without one from the sweep: ties, duplicates and zeros included."""
    _, expected = evaluate(build(card, sample), call)
    leaves = {name: leaf(tensor) for name, tensor in call.inputs.items()}
    value = invoke(build(card, sample), call, leaves)
    gradients = torch.autograd.grad(value.sum(), list(leaves.values()), create_graph=True)
    for name, gradient in zip(leaves, gradients, strict=True):
        assert_equal(gradient.detach(), expected[name], rtol=1e-9, atol=1e-12, what=f"gradient of {name}")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale", [1e4, 1e-4])
@each_ranked_sample("finite to the second derivative at 1e4")
def test_value_and_derivatives_are_finite_at_extremes(card, sample, scale, dtype):
    for call in calls(card, sample):
        large = call.with_inputs(lambda tensor: (tensor.clamp(-3, 3) * scale).to(dtype))
        leaves = {name: leaf(tensor) for name, tensor in large.inputs.items()}
        value = invoke(build(card, sample, reduction="mean"), large, leaves)
        if dtype == torch.float16:  # the true gradient of short rows' cosine, say, is beyond its range
            assert value.isfinite(), call.name
            continue
        gradients = torch.autograd.grad(value, list(leaves.values()), create_graph=True)
        direction = sum((each * normal("direction", *each.shape).to(dtype)).sum() for each in gradients)
        curvature = torch.autograd.grad(direction, list(leaves.values()), materialize_grads=True, allow_unused=True)
        assert value.isfinite(), call.name
        assert all(each.isfinite().all() for each in (*gradients, *curvature)), call.name


@each_ranked("a second backward is right")
def test_a_second_backward_adds_the_same_gradient(card):
    call = call_named(card, "typical")
    _, expected = evaluate(build(card, {}), call)
    leaves = {name: leaf(tensor) for name, tensor in call.inputs.items()}
    value = invoke(build(card, {}), call, leaves)
    value.backward(retain_graph=True)
    (-3 * value).backward()
    for name, tensor in leaves.items():
        assert_equal(tensor.grad, -2 * expected[name], rtol=1e-12, atol=1e-15, what=name)


@each_ranked_sample("a distance of 0 has a gradient of 0")
def test_a_collapsed_batch_has_no_nan_and_no_push(card, sample):
    """All embeddings equal: no direction is better than another, so the gradient must be 0 and not NaN or noise."""
    for name in ("all equal", "zeros"):
        if not any(call.name == name for call in calls(card, sample)):
            continue
        for dtype in (torch.float64, torch.float32, torch.float16):
            value, gradients = evaluate(build(card, sample), call_named(card, name, sample).to(dtype))
            assert value.isfinite()
            for gradient in gradients.values():
                assert gradient.isfinite().all()
                assert gradient.abs().max() < 1e-6


HALVES = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@each_ranked_sample("half precision: float32 arithmetic and result")
def test_half_precision_is_computed_in_float32(card, sample, dtype):
    for call in calls(card, sample):
        call = call.to(dtype)
        if not call.smooth:
            continue  # rounding must not decide which of two equal distances is mined
        value, gradients = evaluate(build(card, sample, reduction="sum"), call)
        expected = truth(card, sample, call)
        assert value.dtype == torch.float32
        assert_equal(value, torch.tensor(expected.total).double(), rtol=1e-5, atol=1e-5, what=f"value, {call.name}")
        for name, gradient in gradients.items():
            assert gradient.dtype == dtype
            target = torch.as_tensor(expected.gradients[name])
            largest = float(target.abs().max()) if target.numel() else 0.0
            rounding = HALVES[dtype] + 2e-5
            assert_equal(gradient, target, rtol=rounding, atol=1e-5 * largest + 1e-7, what=f"{name}, {call.name}")


@each_ranked_sample("mixed precision")
def test_autocast_changes_nothing_for_float32(card, sample):
    for call in calls(card, sample):
        call = call.to(torch.float32)
        expected, expected_gradients = evaluate(build(card, sample), call)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value, gradients = evaluate(build(card, sample), call)
        assert_equal(value, expected, rtol=0, what=f"value, {call.name}")
        for name, gradient in gradients.items():
            assert_equal(gradient, expected_gradients[name], rtol=0, what=f"{name}, {call.name}")


@each_ranked_sample("mixed precision")
def test_a_loss_scale_keeps_float16_gradients_alive(card, sample):
    """The mean's gradient over many rows is below float16's range; times 2^16 it is not, unless rounded before."""
    call = call_named(card, "typical", sample).to(torch.float16)
    leaves = {name: leaf(tensor) for name, tensor in call.inputs.items()}
    (invoke(build(card, sample, reduction="mean"), call, leaves) * 2.0**-22 * 2.0**16).backward()
    _, expected = truth(card, sample, call).reduced("mean")
    for name, tensor in leaves.items():
        target = torch.as_tensor(expected[name]) * 2.0**-6
        assert_equal(tensor.grad, target, rtol=2e-3, atol=2.0**-23, what=name)
        assert (tensor.grad != 0).any()


@pytest.mark.parametrize("gap", [30.0, 100.0, 300.0])
@each_ranked_sample("the hardest example keeps its gradient", where=lambda card: card.kind == "groups")
def test_the_hardest_group_keeps_its_gradient(card, sample, gap):
    """A positive far below its negatives: the gradient has reached its limit, and no gap weakens it."""
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        call = call_named(card, f"gap {-gap:g}", sample).to(dtype)
        _, gradients = evaluate(build(card, sample, reduction="sum"), call)
        size = (
            sample.get("num_neg", 1) if sample.get("negatives", "each") == "each" and card.name == "rank_hinge" else 1
        )
        pull = -gradients["input"][:, 0]
        assert_equal(pull, torch.full_like(pull, size), rtol=1e-5, what="pull")


@pytest.mark.parametrize("gap", [30.0, 80.0])
@each_ranked_sample("the easiest group keeps its gradient", where=lambda card: card.name == "rank_cross_entropy")
def test_the_easiest_group_keeps_its_gradient(card, sample, gap):
    """The gradient is p - 1, which cancels to 0 in float32 from a gap of 17 on if it is computed so."""
    size = sample.get("num_neg", 1) + 1
    scores = torch.zeros(1, size)
    scores[0, 0] = gap
    call = replace(call_named(card, "rows", sample), inputs={"input": scores})
    _, gradients = evaluate(build(card, sample, reduction="sum"), call)
    expected = torch.as_tensor(truth(card, sample, call).gradients["input"])
    assert_equal(gradients["input"], expected, rtol=1e-5, what="gradient")
    assert (gradients["input"] != 0).all()
