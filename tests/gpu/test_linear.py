"""The losses of a linear layer by the kernels of a GPU: the oracle's values, gradients as good as half precision."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from device import DEVICE, ON_GPU, ROUNDING, nobody_waits, placed

import equipoise
from equipoise import kernels
from equipoise.ops import chunks, products
from harness import assert_equal
from head_cases import each_head_sample, fitting_calls, layer, reductions, truth
from ranking_cases import build, evaluate

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
HALF = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)


def on_device(card, sample, call, reduction):
    """Value and gradients, computed where nobody may wait for the GPU."""
    module = build(card, sample, reduction=reduction).to(DEVICE)
    call = replace(call, inputs=placed(dict(call.inputs)), target=placed(call.target), batch=placed(dict(call.batch)))
    with nobody_waits():
        value, gradients = evaluate(module, call)
    return value.cpu(), {name: gradient.cpu() for name, gradient in gradients.items()}


def assert_near(gradients, expected, dtype, what):
    """Gradients in their own precision; on the way those of the scores were rounded once in it."""
    for name, gradient in gradients.items():
        assert gradient.dtype == dtype
        truth = torch.as_tensor(expected[name])
        scale = float(truth.abs().max()) if truth.numel() else 0.0
        rounding = 1e-5 + 4 * ROUNDING[dtype]
        least = 2.0**-24 if dtype == torch.float16 else 1e-12
        assert_equal(gradient, truth, rtol=rounding, atol=rounding * scale + least, what=f"gradient of {name}, {what}")


@DTYPES
@each_head_sample("equals the oracle in float64")
def test_equals_the_oracle(card, sample, dtype):
    calls = fitting_calls(card, sample)
    if not ON_GPU:  # to interpret takes long: each call in one precision
        calls = calls[[torch.float32, torch.bfloat16, torch.float16].index(dtype) :: 3]
    for call in calls:
        call = call.to(dtype)
        expected = truth(card, sample, call)
        for reduction in reductions(card):
            value, gradients = on_device(card, sample, call, reduction)
            expected_value, expected_gradients = expected.reduced(reduction)
            assert value.dtype == torch.float32
            assert_equal(value, torch.tensor(expected_value), rtol=1e-5, atol=1e-6, what=f"{call.name}, {reduction}")
            assert_near(gradients, expected_gradients, dtype, call.name)
        values, gradients = on_device(card, sample, call, "none")
        assert_equal(values, torch.as_tensor(expected.values), rtol=1e-5, atol=1e-6, what=call.name)
        assert_near(gradients, expected.gradients, dtype, call.name)


@contextmanager
def autocast(dtype):
    """Autocast as on a GPU, which torch does not enter where there is none."""
    before = torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", dtype)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.set_autocast_dtype("cuda", before)


def loss_of(softmax, **options):
    loss = equipoise.linear_softmax_focal_loss if softmax else equipoise.linear_sigmoid_focal_loss
    return lambda *arguments: loss(*arguments, **options)


def example(softmax, dtype, rows, features=4, classes=3):
    """Input, weight and target of rows that are mostly sure of their class."""
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randn(classes, features, generator=generator)
    target = torch.randint(classes, (rows,), generator=generator)
    x = 3 * weight[target] + torch.randn(rows, features, generator=generator)
    return placed((x.to(dtype), weight.to(dtype), target if softmax else target[:, None]))


@pytest.mark.parametrize("softmax", [True, False])
def test_a_loss_scale_saves_the_small_numbers_of_float16(softmax):
    """A mean over many rows divides by more than half precision has digits for."""
    x, weight, target = example(softmax, torch.float16, 2**15)
    loss_scale = 2.0**16
    x.requires_grad_()
    with nobody_waits():
        (loss_of(softmax, gamma=1.0)(x, weight, target) * loss_scale).backward()
    exact = x.detach().double().requires_grad_()
    with kernels.eager():
        (loss_of(softmax, gamma=1.0)(exact, weight.double(), target) * loss_scale).backward()
    largest = exact.grad.abs().amax(1, keepdim=True)
    assert ((x.grad - exact.grad).abs() <= 2.0**-8 * largest + 2.0**-21).all()
    # those that a gradient rounded before it met the loss scale would have lost
    small = (largest > 2.0**-10) & (largest / loss_scale < 2.0**-25)
    assert small.sum() > 100


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_upstream_gradients_of_any_size_stay_in_range(softmax, size):
    """Products in float16, of a weight whose gradient has the range of float32."""
    x, weight, target = example(softmax, torch.float16, 9)
    upstream = placed(torch.linspace(-1.0, 2.0, 9)) * size
    if not softmax:
        upstream = upstream[:, None].expand(-1, 3)

    loss = loss_of(softmax, gamma=2.0, reduction="none")
    exact, single = weight.double().requires_grad_(), weight.float().requires_grad_()
    with kernels.eager():
        values = loss(x.double(), exact, target)
        (expected,) = torch.autograd.grad(values, exact, upstream.double())
    with autocast(torch.float16):
        values = loss(x, single, target)
    (found,) = torch.autograd.grad(values, single, upstream)
    assert_equal(found, expected, rtol=2.0**-8, atol=float(2.0**-8 * expected.abs().max()), what="gradient")


@HALF
@pytest.mark.parametrize("softmax", [True, False])
def test_every_backward_gives_the_same_bits(softmax, dtype):
    x, weight, target = example(softmax, dtype, 20)
    x.requires_grad_()
    weight.requires_grad_()
    value = loss_of(softmax)(x, weight, target)
    first, second = (torch.autograd.grad(3 * value, (x, weight), retain_graph=True) for _ in range(2))
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("wanted", ["input", "linear_weight", "linear_bias"])
@pytest.mark.parametrize("softmax", [True, False])
def test_one_gradient_alone_is_the_same_as_with_the_others(softmax, wanted):
    inputs = {name: placed(tensor.bfloat16()) for name, tensor in layer("alone", 7).items()}
    target = placed(torch.arange(7) % 4)
    target = target if softmax else target[:, None]
    found = []
    for some in (list(inputs), [wanted]):
        leaves = {name: tensor.clone().requires_grad_(name in some) for name, tensor in inputs.items()}
        loss = loss_of(softmax, linear_bias=leaves["linear_bias"])
        loss(leaves["input"], leaves["linear_weight"], target).backward()
        found.append(leaves[wanted].grad)
    assert torch.equal(*found)


def multiplied(x, weight, bias=None):
    with torch.no_grad():
        return products.product_dtype((x, weight, bias))


def test_half_precision_is_multiplied_as_it_is_and_all_else_in_float32():
    half, other, single, double = (
        torch.ones(2, 2, dtype=dtype, device=DEVICE)
        for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64)
    )
    assert multiplied(half, half) == torch.bfloat16
    assert multiplied(other, other) == torch.float16
    assert multiplied(half, half, single) == torch.bfloat16
    for mixed in ((single, single), (half, single), (single, half), (half, other), (double, double), (half, double)):
        assert multiplied(*mixed) is None
    assert multiplied(half, half, double) is None
    with kernels.eager():
        assert multiplied(half, half) is None


@pytest.mark.parametrize("softmax", [True, False])
def test_under_autocast_products_are_taken_in_its_precision(softmax):
    """And gradients of float32 weights stay what float32 sums to: they are not rounded on their way."""
    inputs = {name: placed(tensor.float()).requires_grad_() for name, tensor in layer("autocast", 6).items()}
    target = placed(torch.arange(6) % 4)
    target = target if softmax else target[:, None]
    rounded = {name: tensor.detach().bfloat16().double().requires_grad_() for name, tensor in inputs.items()}
    rounded["linear_bias"] = inputs["linear_bias"].detach().double().requires_grad_()
    with kernels.eager():
        loss = loss_of(softmax, linear_bias=rounded["linear_bias"], gamma=2.0)
        expected = loss(rounded["input"], rounded["linear_weight"], target)
        expected.backward()
    with autocast(torch.bfloat16):
        assert multiplied(inputs["input"], inputs["linear_weight"]) == torch.bfloat16
        loss = loss_of(softmax, linear_bias=inputs["linear_bias"], gamma=2.0)
        value = loss(inputs["input"], inputs["linear_weight"], target)
    value.backward()
    assert value.dtype == torch.float32
    assert_equal(value, expected, rtol=1e-5, what="value")
    gradients = {name: tensor.grad.cpu() for name, tensor in inputs.items()}
    assert all(gradient.dtype == torch.float32 for gradient in gradients.values())
    for name, gradient in gradients.items():
        truth = rounded[name].grad.cpu()
        near = 4 * ROUNDING[torch.bfloat16]
        assert_equal(gradient, truth, rtol=near, atol=near * float(truth.abs().max()), what=name)
        # no number of them all is rounded to bfloat16
        assert not torch.equal(gradient, gradient.bfloat16().float())


@pytest.mark.parametrize("step", [1, 5, 2**24])
@pytest.mark.parametrize("rows", [1, 2, 7, 8])
def test_a_sum_becomes_bfloat16_in_its_own_memory(rows, step, monkeypatch):
    monkeypatch.setattr(products.Sum, "STEP", step)
    of, like = torch.empty(rows, 3, dtype=torch.bfloat16, device=DEVICE), torch.empty((), device=DEVICE)
    total = products.Sum(of, like, torch.bfloat16)
    draw = torch.Generator().manual_seed(rows)
    expected = torch.zeros(rows, 3, dtype=torch.float64)
    for _ in range(3):
        factors = [torch.randint(-8, 9, shape, generator=draw).bfloat16() for shape in ((rows, 4), (4, 3))]
        total.add(*map(placed, factors))
        expected += factors[0].double() @ factors[1].double()
    found = total.finish()
    assert found.dtype == torch.bfloat16
    assert torch.equal(found.cpu(), expected.float().bfloat16())
    assert found.untyped_storage().nbytes() <= 2 * 3 * (rows + 1)
    assert not products.Sum(of, like, torch.bfloat16).finish().any()


def test_a_gradient_lies_beside_its_scores_not_in_their_place():
    """Threads that read a row's own score must not find a gradient there."""
    like = torch.empty((), device=DEVICE)
    scores, slopes = chunks.memory(like, 6, torch.float32, (True, False, False))
    assert scores.data_ptr() != slopes.data_ptr()
    assert chunks.memory(like, 6, torch.bfloat16, (False, True, False))[1].dtype == torch.bfloat16
    scores, slopes = chunks.memory(like, 6, torch.float32, (False, False, False))
    assert scores.data_ptr() == slopes.data_ptr()


@pytest.mark.skipif(not ON_GPU, reason="needs the memory of a GPU (EQUIPOISE_TEST_DEVICE=cuda)")
def test_memory_holds_no_scores_of_all_rows():
    rows, features, classes = 8192, 64, 65536
    x, weight = (torch.randn(n, features, device=DEVICE).bfloat16().requires_grad_() for n in (rows, classes))
    target = torch.randint(classes, (rows,), device=DEVICE)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    equipoise.linear_softmax_focal_loss(x, weight, target).backward()
    assert torch.cuda.max_memory_allocated() - before < rows * classes  # half a byte a score
