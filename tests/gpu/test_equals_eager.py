"""The kernels equal plain torch in float64, for every skeleton, point function, option and precision."""

from __future__ import annotations

import both
import pytest
import torch
from both import Draw, eagerly, widened
from device import ROUNDING, nobody_waits, placed

from equipoise.ops import fused

# numpy says where infinities and NaN are multiplied, which the kernels mean to do
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
FOCUS = pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 0.5])


def assert_same(family, scores, tensors, options):
    """Value and gradient to 1e-5 of the plain form at the same rounded scores, and the rounding of the scores' type."""
    expected, slope = eagerly(family, scores.double(), tuple(map(widened, tensors)), options)
    value, gradient = by_kernel(family, scores, tensors, options)
    assert value.dtype == torch.float32
    assert gradient.dtype == scores.dtype
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7, msg=lambda text: f"value: {text}")
    scale = slope.abs().max() if slope.numel() else 0.0
    least = 2.0**-24 if scores.dtype == torch.float16 else 0.0  # its smallest step
    torch.testing.assert_close(
        gradient.double(),
        slope,
        rtol=1e-5 + ROUNDING[scores.dtype],
        atol=float(1e-5 * scale + least),
        msg=lambda text: f"gradient: {text}",
    )


def by_kernel(family, scores, tensors, options):
    scores = placed(scores).detach().requires_grad_()
    tensors = placed(tensors)
    with nobody_waits():
        value = fused.run(both.KERNELS[family], scores, tensors, options)
        assert value is not None, "the kernels did not take the call"
        (gradient,) = torch.autograd.grad(value.sum(), scores)
    return value.detach().cpu(), gradient.cpu()


# ---- sigmoid -------------------------------------------------------------------------------------------------

N, C = 11, 7  # not a multiple of what a thread reads at a time


def targets(draw, *shape):
    """Hard targets as a detector has them, and those that are anywhere in [0, 1]."""
    hard, soft = draw.yes_or_no(*shape), draw.soft(*shape)
    return {"hard": hard, "soft": torch.where(draw.mask(*shape), soft, hard.double()).to(draw.dtype)}


@DTYPES
@FOCUS
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_sigmoid(kind, gamma, dtype):
    draw = Draw(1, dtype)
    scores, target = draw.scores(N, C), targets(draw, N, C)[kind]
    assert_same("sigmoid", scores, (target, *(None,) * 6), (0.25, 0.75, gamma, 0.0, "mean", 1.0))


@DTYPES
@FOCUS
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_sigmoid_with_every_option(smoothing, gamma, dtype):
    draw = Draw(2, dtype)
    scores, target = draw.scores(N, C), draw.yes_or_no(N, C)
    tensors = (target, draw.mask(N, C), draw.weights(N, 1), *(draw.weights(C) for _ in range(3)), None)
    reduction = {0.0: "mean", 1.0: "none", 2.0: "mean_positive", 0.5: "sum"}[gamma]
    assert_same("sigmoid", scores, tensors, (0.5, 2.0, gamma, smoothing, reduction, 1.0))


@pytest.mark.parametrize("shape", [(1, 1, 1), (), (4, 1, 1), (5, 1), (3,), (1, 5, 1), (4, 1, 3), (1, 5, 3)], ids=str)
def test_operands_of_every_broadcast(shape):
    draw = Draw(3, torch.float32)
    scores, target = draw.scores(4, 5, 3), draw.yes_or_no(4, 5, 3)
    tensors = (target, draw.mask(*shape), draw.weights(*shape), *(None,) * 3, torch.tensor(7.0))
    assert_same("sigmoid", scores, tensors, (1.0, 1.0, 2.0, 0.0, "mean", 3.0))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 2047, 2048, 2049, 4111])
def test_sizes_beside_those_of_blocks_and_threads(size):
    draw = Draw(4, torch.float32)
    scores, target, weight = draw.scores(size), draw.yes_or_no(size), draw.weights(1)
    assert_same("sigmoid", scores, (target, None, weight, *(None,) * 4), (1.0, 1.0, 2.0, 0.0, "mean", 1.0))
    assert_same("ghm", scores, (target, *(None,) * 4), (0.0, 1, False, "none", 1.0))


def test_a_vector_meets_blocks_that_begin_anywhere_in_it():
    draw = Draw(5, torch.float32)
    scores, target = draw.scores(700, 7), draw.yes_or_no(700, 7)
    for weight in (draw.weights(7), draw.weights(700, 1)):
        assert_same("sigmoid", scores, (target, None, weight, *(None,) * 4), (1.0, 1.0, 0.0, 0.0, "sum", 1.0))


# ---- softmax -------------------------------------------------------------------------------------------------

# one block a row, rows of several blocks, rows that lie class by class, an odd number of classes
ROWS = {"short": (9, 8), "long": (3, 50), "odd": (5, 7), "strided": (2, 21, 4), "one class": (3, 1)}


@pytest.fixture(params=ROWS)
def rows(request, monkeypatch):
    from equipoise.kernels.triton import rowwise

    if request.param == "long":
        monkeypatch.setattr(rowwise, "MOST", 16)
        monkeypatch.setattr(rowwise, "MOST_SMOOTH", 16)
    return ROWS[request.param]


@DTYPES
@FOCUS
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax(rows, smoothing, gamma, dtype):
    draw = Draw(6, dtype)
    scores, target = draw.scores(*rows), draw.classes(rows[1], rows[0], *rows[2:])
    assert_same("softmax", scores, (target, *(None,) * 5), (gamma, smoothing, -100, "mean", 1.0))


@DTYPES
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_softmax_with_every_option(rows, reduction, smoothing, dtype):
    draw = Draw(7, dtype)
    classes, batch = rows[1], (rows[0], *rows[2:])
    scores, target = draw.scores(*rows), draw.classes(classes, *batch)
    target = torch.where(draw.mask(*batch), target, torch.full_like(target, -100))
    tensors = (target, draw.weights(classes), draw.weights(classes), draw.weights(*batch), None, -draw.weights(classes))
    assert_same("softmax", scores, tensors, (2.0, smoothing, -100, reduction, 1.0))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32], ids=str)
def test_classes_of_any_integer_type(dtype):
    draw = Draw(8, torch.float32)
    scores, target = draw.scores(9, 8), draw.classes(8, 9).to(dtype)
    assert_same("softmax", scores, (target, *(None,) * 5), (2.0, 0.0, 3, "mean", 1.0))


# ---- gradient harmonizing ------------------------------------------------------------------------------------


def apart_from_edges(draw, kind, bins, mu):
    """Scores and targets whose norms lie well inside a bin: in float32 one beside an edge falls on either side."""
    scores = draw.scores(400)
    target = draw.scores(400) if mu else targets(draw, 400)[kind]
    norm = (torch.sigmoid(scores.double()) - target.double()).abs()
    if mu:
        norm = (scores - target).double().abs() / torch.hypot((scores - target).double(), torch.tensor(mu).double())
    inside = (norm * bins - (norm * bins).round()).abs() > 1e-4
    inside |= (norm * bins).round() == bins  # the upper end of the last bin is no edge
    return scores[inside], target[inside]


@DTYPES
@pytest.mark.parametrize("bins", [1, 10, 100])
@pytest.mark.parametrize("kind", ["hard", "soft", "regression"])
def test_ghm(kind, bins, dtype):
    mu = 0.5 if kind == "regression" else 0.0
    scores, target = apart_from_edges(Draw(9, dtype), kind, bins, mu)
    assert_same("ghm", scores, (target, *(None,) * 4), (mu, bins, False, "mean", 1.0))


@DTYPES
@pytest.mark.parametrize("kind", ["hard", "soft", "regression"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_ghm_with_every_option(reduction, kind, dtype):
    mu = 0.5 if kind == "regression" else 0.0
    draw = Draw(10, dtype)
    scores, target = apart_from_edges(draw, kind, 10, mu)
    mask, weight, factor = draw.mask(*scores.shape), draw.weights(*scores.shape), draw.soft(10)
    assert_same("ghm", scores, (target, mask, weight, None, None), (mu, 10, True, reduction, 1.0))
    scale = 1.0 if reduction == "none" else 2.0
    assert_same("ghm", scores, (target, mask, weight, factor, None), (mu, 10, False, reduction, scale))
    divisor = torch.tensor(9) if reduction == "mean" else None
    assert_same("ghm", scores, (target, mask, None, factor, divisor), (mu, 10, False, reduction, scale))
