"""What other fused linear losses get wrong, and what these promise: memory, products, one pass, float32.

Found in public implementations: scores overwritten behind autograd's back, a second backward pass three times too
large, `create_graph` that silently detaches, gradients that a loss scale cannot save any more, and waits for the GPU.
"""

import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import equipoise
from equipoise import kernels
from equipoise.ops import chunks, linear

ROWS, WIDTH, CLASSES = 40, 6, 50


def softmax(rows, weight, **options):
    return equipoise.linear_softmax_focal_loss(rows, weight, torch.arange(len(rows)) % CLASSES, gamma=2.0, **options)


def sigmoid(rows, weight, **options):
    return equipoise.linear_sigmoid_focal_loss(rows, weight, torch.arange(len(rows))[:, None] % CLASSES, **options)


BOTH = pytest.mark.parametrize("loss", [softmax, sigmoid])


def layer(dtype=torch.float32, rows=ROWS):
    draw = torch.Generator().manual_seed(1)
    features = torch.randn(rows, WIDTH, generator=draw).to(dtype).requires_grad_()
    return features, torch.randn(CLASSES, WIDTH, generator=draw).to(dtype).requires_grad_()


@BOTH
@pytest.mark.parametrize("eager", [False, True])
def test_nothing_of_the_callers_is_written_to(loss, eager):
    """Not a tensor, and not a version counter: a hidden write makes an earlier user's gradient silently wrong."""
    rows, weight = layer()
    earlier = (rows @ weight.t()).exp().sum()  # saves both for its own backward pass
    before = [(each.detach().clone(), each._version) for each in (rows, weight)]
    with kernels.eager() if eager else nullcontext():
        loss(rows, weight).backward()
    for each, (saved, version) in zip((rows, weight), before, strict=True):
        assert torch.equal(each, saved)
        assert each._version == version
    earlier.backward()


@BOTH
def test_two_losses_of_the_same_layer_add_up(loss):
    rows, weight = layer(torch.float64)
    first, second = loss(rows, weight), loss(rows, weight)
    first.backward()
    alone = rows.grad.clone(), weight.grad.clone()
    second.backward()
    torch.testing.assert_close(rows.grad, 2 * alone[0])
    torch.testing.assert_close(weight.grad, 2 * alone[1])


@BOTH
@pytest.mark.parametrize("upstream", [1.0, 3.0])
def test_a_gradient_that_was_handed_out_is_not_written_to_again(loss, upstream):
    rows, weight = layer()
    value = upstream * loss(rows, weight)
    first = torch.autograd.grad(value, weight, retain_graph=True)[0]
    kept = first.clone()
    second = torch.autograd.grad(value, weight, retain_graph=True)[0]
    second.zero_()
    assert torch.equal(first, kept)
    assert torch.equal(torch.autograd.grad(value, weight)[0], kept)


@BOTH
def test_create_graph_does_not_detach(loss):
    rows, weight = layer(torch.float64)
    (gradient,) = torch.autograd.grad(loss(rows, weight), weight, create_graph=True)
    assert gradient.requires_grad
    gradient.square().sum().backward()
    assert (rows.grad != 0).any()
    assert (weight.grad != 0).any()


@BOTH
def test_a_loss_scale_saves_the_gradients_of_many_float16_rows(loss):
    """Unscaled, the gradient of a mean of 4,096 rows is below 6e-8 nearly everywhere: 0 in float16."""
    rows, weight = layer(torch.float16, rows=4096)
    (loss(rows, weight) * 2.0**14).backward()
    exact, exact_weight = (each.detach().double().requires_grad_() for each in (rows, weight))
    loss(exact, exact_weight).backward()
    lost = (rows.grad == 0) & (exact.grad.abs() * 2.0**14 > 2.0**-20)
    assert not lost.any()
    torch.testing.assert_close(rows.grad.double(), exact.grad * 2.0**14, rtol=2e-3, atol=2.0**-20)


class _Waits(TorchDispatchMode):
    """Notes every operation that reads a number off the device."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.overloadpacket._qualified_op_name
        if name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero", "aten::unique"):
            self.seen.append(name)
        return function(*arguments, **(keywords or {}))


@BOTH
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_the_way_of_other_devices_never_waits(loss, reduction, monkeypatch):
    """On a GPU to read a number is to wait for all that was asked before. The operator's own code, without kernels."""
    monkeypatch.setattr("equipoise.checks.can_read_values", lambda _: False)
    name = f"linear_{loss.__name__}_loss"
    rows, weight = layer()
    calls = []
    head = linear.HEADS[name]
    spied = linear.Head(name, lambda *a: calls.append(a) or head.operator(*a), head.eager, head.tensors)
    monkeypatch.setitem(linear.HEADS, name, spied)
    with kernels.eager():
        loss(rows, weight, reduction=reduction).sum().backward()
        waits = _Waits()
        implementation = sys.modules[f"equipoise.ops.linear_{'rows' if loss is softmax else 'labels'}"]._chunks
        with torch.no_grad(), waits:
            for arguments in calls:
                implementation(*arguments)
    assert calls
    assert not waits.seen


@BOTH
@pytest.mark.parametrize(
    ("reduction", "wanted", "number"), [("mean", 3, 3), ("none", 3, 4), ("mean", 2, 2), ("mean", 0, 1)]
)
def test_how_many_matrix_products_it_takes(loss, reduction, wanted, number):
    """Per chunk: one for the scores, one for each gradient; one more where the scores are computed anew."""
    rows, weight = layer()
    rows, weight = rows.detach(), weight.detach()
    rows.requires_grad_(wanted in (2, 3))
    weight.requires_grad_(wanted == 3)
    with torch.autograd.profiler.profile() as profile:
        value = loss(rows, weight, reduction=reduction)
        if wanted:
            value.sum().backward()
    products = [event for event in profile.function_events if event.name in ("aten::mm", "aten::addmm", "aten::addmm_")]
    assert len(products) == number


MEASURE = """
import resource, sys, torch, equipoise
torch.set_num_threads(1)
kind, rows, classes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def step(rows, classes):
    features, weight = torch.randn(rows, 16).requires_grad_(), torch.randn(classes, 16).requires_grad_()
    if kind == "softmax":
        loss = equipoise.linear_softmax_focal_loss(features, weight, torch.arange(rows) % classes, gamma=2.0)
    else:
        loss = equipoise.linear_sigmoid_focal_loss(features, weight, torch.arange(rows)[:, None] % classes)
    loss.backward()
step(64, 64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step(rows, classes)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the module `resource` is Unix's")
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_memory_is_that_of_a_chunk(kind):
    """Scores of 256 MiB: 32 MiB of them at a time, and for many labels a byte each for zeros and ones."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, kind, "4096", "16384"], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 80


def test_chunks_follow_the_device():
    here = torch.zeros(1)
    assert chunks.at_once(0, 10**6, 32768, here, torch.float32) == 256
    assert chunks.at_once(0, 10**6, 10**7, here, torch.float32) == chunks.LEAST
    assert chunks.at_once(0, 100, 10, here, torch.float32) == 100
    assert chunks.at_once(7, 100, 10, here, torch.float32) == 7
    assert chunks.at_once(0, 10**6, 32768, torch.zeros(1, device="meta"), torch.float32) >= 1024


def test_scores_overwritten_by_the_kernel_are_those_of_any_number_of_classes():
    """The kernel's last vector of a row overlaps the one before, whose scores are gone when it writes in place."""
    for classes in (2, 15, 16, 17, 24, 25, 31, 33, 100, 1000):
        draw = torch.Generator().manual_seed(classes)
        rows = torch.randn(9, 3, generator=draw, dtype=torch.float64).requires_grad_()
        weight = torch.randn(classes, 3, generator=draw, dtype=torch.float64)
        target = torch.randint(classes, (9,), generator=draw)
        for smoothing in (0.0, 0.1):
            options = {"gamma": 2.0, "label_smoothing": smoothing}
            loss = equipoise.linear_softmax_focal_loss(rows, weight, target, **options)
            expected = equipoise.softmax_focal_loss(rows @ weight.t(), target, **options)
            found, wanted = (torch.autograd.grad(each, rows)[0] for each in (loss, expected))
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-13)


def test_the_operator_says_that_it_has_no_second_derivative():
    rows, weight = layer()
    target = torch.arange(ROWS) % CLASSES
    operator = linear.HEADS["linear_softmax_loss"].operator
    options = (2.0, 0.0, -100, "mean", 1.0, 0, None)
    for wanted in (True, False):  # known already, or to be computed
        results = operator(rows, weight, None, target, None, None, None, None, *options, wanted, wanted, False)
        gradient = torch.autograd.grad(3 * results[0], weight)[0]
        torch.testing.assert_close(gradient, 3 * torch.autograd.grad(softmax(rows, weight), weight)[0])
    with pytest.raises(RuntimeError, match="second derivative"):
        operator(rows, weight, None, target, None, None, None, None, *options, True, True, False)[2].sum().backward()
