"""The kernels equal the plain torch form: at every instruction level and precision, for every option and layout."""

import pytest
import torch
from both import CALLS, Draw, assert_same, eagerly, natively

from equipoise import kernels
from equipoise.ops.histogram import histogram

SHAPES = {
    "sigmoid": [(0,), (1,), (3, 5), (513,), (7, 31, 3), (16385,), (2, 4, 5, 6)],
    "softmax": [
        (0, 3),
        (1, 1),
        (5, 2),
        (3, 1, 4),
        (250, 10),
        (33, 24),
        (33, 25),
        (7, 117),
        (2, 600),
        (3, 5, 7),
        (2, 40, 300),
        (2, 3, 2, 5),
    ],
    "ghm": [(0,), (1,), (3, 5), (513,), (7, 31, 3), (16385,)],
}
EACH = [pytest.param(family, shape, id=f"{family}-{shape}") for family, shapes in SHAPES.items() for shape in shapes]


@pytest.mark.parametrize(("family", "shape"), EACH)
def test_in_float64(family, shape, level):
    for name, scores, tensors, options in CALLS[family](Draw(1), shape):
        assert_same(family, scores, tensors, options, name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("family", "shape"), [each for each in EACH if each.values[1] not in ((0,), (16385,))])
def test_in_lower_precision(family, shape, dtype, level):
    for name, scores, tensors, options in CALLS[family](Draw(2, dtype), shape):
        if family == "ghm" and "bins" in name and "1 bins" not in name:
            continue  # a norm beside an edge falls on either side of it: bins are compared in float64
        assert_same(family, scores, tensors, options, name)


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 511, 512, 513, 1023, 16383, 16384, 16385, 40000])
def test_of_any_length(size, level):
    draw = Draw(size)
    scores, target = draw.scores(size), draw.yes_or_no(size)
    for reduction in ("none", "mean"):
        assert_same("sigmoid", scores, (target, *(None,) * 6), (0.25, 0.75, 2.0, 0.0, reduction, 1.0), reduction)
        assert_same("ghm", scores, (target, *(None,) * 4), (0.0, 10, False, reduction, 1.0), reduction)
        rows, classes = draw.scores(3, size), draw.classes(size, 3)
        assert_same("softmax", rows, (classes, *(None,) * 5), (2.0, 0.0, -100, reduction, 1.0), reduction)
        rows, classes = draw.scores(size, 3), draw.classes(3, size)
        assert_same("softmax", rows, (classes, *(None,) * 5), (2.0, 0.0, -100, reduction, 1.0), reduction)


def layouts(tensor):
    """The same numbers, laid out in other ways: strided, transposed, at an odd offset, as views of something larger."""
    padded = torch.cat([tensor.new_zeros(1), tensor.flatten()])
    yield "at an odd offset", padded[1:].view(tensor.shape)
    yield "transposed", tensor.transpose(0, -1).contiguous().transpose(0, -1)
    wide = tensor.new_zeros(*tensor.shape[:-1], 2 * tensor.shape[-1])
    wide[..., ::2] = tensor
    yield "every second", wide[..., ::2]
    yield "from the right", tensor.flip(-1).contiguous().flip(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", SHAPES)
def test_of_any_layout(family, dtype):
    for name, scores, (target, *rest), options in CALLS[family](Draw(3, dtype), (37, 11)):
        value, gradient = natively(family, scores, (target, *rest), options)
        for layout, laid in layouts(scores):
            again, slope = natively(family, laid, (target, *rest), options)
            assert torch.equal(again, value), f"{name}, scores {layout}"
            assert torch.equal(slope, gradient), f"{name}, scores {layout}"
        for layout, laid in layouts(target) if target.ndim else ():
            again, slope = natively(family, scores, (laid, *rest), options)
            assert torch.equal(again, value), f"{name}, target {layout}"
            assert torch.equal(slope, gradient), f"{name}, target {layout}"


@pytest.mark.parametrize("family", SHAPES)
def test_every_operand_of_any_layout(family):
    for name, scores, tensors, options in CALLS[family](Draw(4), (6, 4, 3)):
        laid = tuple(
            tensor if tensor is None or not tensor.ndim else torch.stack([tensor, tensor], -1)[..., 0]
            for tensor in tensors
        )
        value, gradient = natively(family, scores, tensors, options)
        again, slope = natively(family, scores, laid, options)
        assert torch.equal(again, value), name
        assert torch.equal(slope, gradient), name


INFINITE = [
    [torch.inf, 1.0, 2.0],
    [1.0, torch.inf, 2.0],
    [-torch.inf, 1.0, 2.0],
    [1.0, -torch.inf, 2.0],
    [1.0, -torch.inf, -torch.inf],
    [torch.nan, 1.0, 2.0],
    [1.0, torch.nan, 2.0],
    [torch.inf, torch.inf, 1.0],
    [-torch.inf, -torch.inf, -torch.inf],
]


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 0.5])
@pytest.mark.parametrize("classes", [3, 60])
def test_nan_and_infinities_keep_their_meaning_in_rows(gamma, classes, level):
    """The target is the first class. Beside +inf other scores are nothing; the difference of two is NaN; NaN is NaN."""
    scores = torch.cat([torch.tensor(INFINITE), torch.full((len(INFINITE), classes - 3), -3.0)], 1)
    scores[4, 1:], scores[8] = -torch.inf, -torch.inf
    call = (torch.zeros(len(scores), dtype=torch.int64), *(None,) * 5), (gamma, 0.0, -100, "none", 1.0)
    value, gradient = natively("softmax", scores, *call)
    expected, _ = eagerly("softmax", scores, *call)
    torch.testing.assert_close(value, expected, equal_nan=True, rtol=1e-5, atol=1e-12)
    assert value[[0, 4]].tolist() == [0, 0]
    assert value[[1, 2]].tolist() == [torch.inf, torch.inf]
    assert value[[5, 6, 7, 8]].isnan().all()
    assert (gradient[[0, 4]] == 0).all()
    assert gradient[[5, 6]].isnan().all()
    assert gradient[3, 1] == 0


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 0.5])
def test_nan_and_infinities_keep_their_meaning_in_elements(gamma, level):
    scores = torch.tensor([torch.inf, -torch.inf, torch.nan, torch.inf, -torch.inf])
    target = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
    value, gradient = natively("sigmoid", scores, (target, *(None,) * 6), (1.0, 1.0, gamma, 0.0, "none", 1.0))
    assert value[[0, 4]].tolist() == [0, 0]
    assert value[[1, 3]].tolist() == [torch.inf, torch.inf]
    assert value[2].isnan()
    assert gradient[[0, 4]].tolist() == [0, 0]
    assert gradient[[1, 3]].tolist() == [-1, 1]
    assert gradient[2].isnan()


def test_what_is_left_out_may_hold_anything(level):
    bad = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30, 2.0])
    mask = torch.tensor([False, False, False, False, True])
    target = torch.tensor([torch.nan, 7.0, -torch.inf, 0.5, 1.0])
    value, gradient = natively("sigmoid", bad, (target, mask, *(None,) * 5), (1.0, 1.0, 2.0, 0.0, "mean", 1.0))
    alone, slope = natively("sigmoid", bad[4:], (torch.ones(1), *(None,) * 6), (1.0, 1.0, 2.0, 0.0, "mean", 1.0))
    assert value == alone
    assert gradient.tolist() == [0, 0, 0, 0, slope.item()]
    for smoothing in (0.0, 0.1):
        rows = torch.stack([bad, torch.arange(5.0)])
        call = (torch.tensor([-100, 1]), *(None,) * 5), (2.0, smoothing, -100, "mean", 1.0)
        value, gradient = natively("softmax", rows, *call)
        assert value.isfinite()
        assert (gradient[0] == 0).all()
        assert gradient[1].abs().min() > 0


@pytest.mark.parametrize("classes", [3, 17, 33, 60])
def test_an_extreme_score_at_any_place_of_a_row(classes, level):
    """The largest score is found wherever it stands: exponentials relative to another one would overflow."""
    scores = torch.zeros(classes, classes)
    scores[range(classes), range(classes)] = 1e4
    call = (torch.zeros(classes, dtype=torch.int64), *(None,) * 5), (0.0, 0.0, -100, "none", 1.0)
    value, _ = natively("softmax", scores, *call)
    assert value.tolist() == [0.0, *[1e4] * (classes - 1)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", SHAPES)
def test_half_precision_is_rounded_to_nearest(family, dtype):
    """The gradient is that of the same scores in float32, rounded as torch rounds."""
    for name, scores, tensors, options in CALLS[family](Draw(6, dtype), (37, 11)):
        narrow = natively(family, scores, tensors, options)[1]
        wide = natively(family, scores.float(), tensors, options)[1]
        assert torch.equal(narrow, wide.to(dtype)), name


def test_gradient_norms_on_an_edge_fall_as_in_the_eager_form(level):
    """At score 0 the norm is half the difference of the target's sides: edges j / bins are met exactly."""
    for bins in range(2, 120):
        edges = torch.arange(bins // 2 + 1, dtype=torch.float64) / bins
        target, scores = 0.5 - edges, torch.zeros_like(edges)
        native = histogram(scores, target, None, 0.0, bins)
        with kernels.eager():
            assert native.tolist() == histogram(scores, target, None, 0.0, bins).tolist(), bins
