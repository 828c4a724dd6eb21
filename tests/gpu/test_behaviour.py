"""What holds around the kernels: autograd, special numbers, sums in a fixed order, state that stays on the device."""

from __future__ import annotations

import pytest
import torch
from both import Draw
from device import DEVICE, ON_GPU, called, nobody_waits, placed

import equipoise
from equipoise import kernels
from equipoise.kernels import triton as gpu

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

N, C = 12, 5


def examples(dtype=torch.float32):
    """A call of each public path to the kernels: name, loss of scores, scores."""
    draw = Draw(0, dtype)
    scores = draw.scores(N, C)
    binary, classes, real = placed((draw.yes_or_no(N, C), draw.classes(C, N), draw.scores(N, C)))
    weight = placed(draw.weights(C))
    return {
        "sigmoid": (lambda x: equipoise.sigmoid_focal_loss(x, binary, alpha=0.25), scores),
        "sigmoid, none": (lambda x: equipoise.balanced_cross_entropy(x, binary, alpha=0.9, reduction="none"), scores),
        "softmax": (lambda x: equipoise.softmax_focal_loss(x, classes, weight=weight), scores),
        "softmax, none": (
            lambda x: equipoise.softmax_focal_loss(x, classes, label_smoothing=0.1, reduction="none"),
            scores,
        ),
        "ghm_c": (lambda x: equipoise.ghm_c_loss(x, binary), scores),
        "ghm_r": (lambda x: equipoise.ghm_r_loss(x, real), scores),
    }


# the names alone: where there is no GPU the tests are collected all the same
EACH = pytest.mark.parametrize("name", ["sigmoid", "sigmoid, none", "softmax", "softmax, none", "ghm_c", "ghm_r"])


@EACH
@pytest.mark.parametrize("factor", [1.0, -2.5])
def test_every_backward_gives_the_same_bits(name, factor):
    loss, scores = examples()[name]
    scores = placed(scores).requires_grad_()
    with nobody_waits():
        value = loss(scores)
        upstream = torch.full_like(value, factor)
        first, second = (torch.autograd.grad(value, scores, upstream, retain_graph=True)[0] for _ in range(2))
        once = torch.autograd.grad(loss(scores), scores, torch.ones_like(value))[0]
    assert torch.equal(first, second)
    torch.testing.assert_close(first, factor * once, rtol=1e-6, atol=0)


@EACH
def test_the_same_call_gives_the_same_bits(name):
    loss, scores = examples()[name]
    value, gradient = called(loss, scores)
    again, slope = called(loss, scores)
    assert torch.equal(value, again)
    assert torch.equal(gradient, slope)


@EACH
def test_second_derivatives_are_those_of_the_eager_form(name):
    loss, scores = examples()[name]

    def curvature():
        leaf = placed(scores).requires_grad_()
        (slope,) = torch.autograd.grad(loss(leaf).sum(), leaf, create_graph=True)
        return torch.autograd.grad((slope * slope).sum(), leaf)[0]

    found = curvature()
    with kernels.eager():
        expected = curvature()
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@EACH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_loss_scale_loses_no_small_gradient(name, dtype):
    """A gradient that was rounded to half precision before it met the scale would be 0 where it is small."""
    loss, scores = examples(dtype)[name]
    scores = scores + 4
    scale = 2.0**15
    _, scaled = called(lambda x: loss(x) * scale, scores)
    with kernels.eager():
        wide = placed(scores).double().requires_grad_()
        expected = torch.autograd.grad(loss(wide).sum() * scale, wide)[0].cpu()
    own = 2**-7 if dtype == torch.bfloat16 else 2**-10
    torch.testing.assert_close(scaled.double(), expected, rtol=own, atol=2.0**-20)


@EACH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_every_row_may_have_an_upstream_gradient_of_its_own(name, dtype):
    loss, scores = examples(dtype)[name]
    upstream = torch.linspace(-2, 2, N * C if "none" not in name or "sigmoid" in name else N)
    shape = called(loss, scores)[0].shape
    upstream = placed(upstream[: shape.numel()].view(shape))
    _, gradient = called(lambda x: (loss(x) * upstream).sum(), scores)
    with kernels.eager():
        wide = placed(scores).double().requires_grad_()
        expected = torch.autograd.grad((loss(wide) * upstream).sum(), wide)[0].cpu()
    own = 2**-7 if dtype == torch.bfloat16 else 2**-10
    torch.testing.assert_close(gradient.double(), expected, rtol=own, atol=2.0**-20)


@pytest.mark.parametrize("upstream", [1.0, 3.0])
def test_one_upstream_gradient_multiplies_in_place(upstream):
    gradient = placed(torch.arange(5000.0))
    with nobody_waits():
        gpu.multiply(gradient, placed(torch.tensor(upstream)))
    assert torch.equal(gradient.cpu(), upstream * torch.arange(5000.0))


def test_many_partial_sums_are_added_up_in_steps(monkeypatch):
    from equipoise.kernels.triton import launch

    monkeypatch.setattr(launch, "SUMS", 4)
    partials, loss = placed((torch.arange(1.0, 78.0), torch.zeros(())))
    launch.total(partials, loss, 2.0, placed(torch.tensor(8)))
    assert loss == 2 * (77 * 78 / 2) / 8


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
@pytest.mark.parametrize("block", [16384, 2])
def test_nan_and_infinities_keep_their_meaning_in_rows(gamma, block, monkeypatch):
    """The target is the first class. Beside +inf other scores are nothing; the difference of two is NaN; NaN is NaN."""
    from equipoise.kernels.triton import rowwise

    monkeypatch.setattr(rowwise, "MOST", block)
    target = torch.zeros(len(INFINITE), dtype=torch.int64)
    value, gradient = called(
        lambda x, y: equipoise.softmax_focal_loss(x, y, gamma=gamma, reduction="none"), torch.tensor(INFINITE), target
    )
    assert value[[0, 4]].tolist() == [0, 0]
    assert value[[1, 2]].tolist() == [torch.inf, torch.inf]
    assert value[[5, 6, 7, 8]].isnan().all()
    assert (gradient[[0, 4]] == 0).all()
    assert gradient[[5, 6]].isnan().all()
    assert gradient[3, 1] == 0
    assert gradient[[0, 1, 2, 3, 4]].isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64], ids=["soft", "hard"])
def test_nan_and_infinities_keep_their_meaning_in_elements(gamma, dtype):
    scores = torch.tensor([torch.inf, -torch.inf, torch.nan, torch.inf, -torch.inf])
    target = torch.tensor([1, 1, 1, 0, 0]).to(dtype)
    value, gradient = called(
        lambda x, y: equipoise.sigmoid_focal_loss(x, y, gamma=gamma, reduction="none"), scores, target
    )
    assert value[[0, 4]].tolist() == [0, 0]
    assert value[[1, 3]].tolist() == [torch.inf, torch.inf]
    assert value[2].isnan()
    assert gradient[[0, 4]].tolist() == [0, 0]
    assert gradient[[1, 3]].tolist() == [-1, 1]
    assert gradient[2].isnan()


def test_what_is_left_out_may_hold_anything():
    bad = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30, 2.0])
    mask = torch.tensor([False, False, False, False, True])
    target = torch.tensor([torch.nan, 7.0, -torch.inf, 0.5, 1.0])
    for loss in (equipoise.sigmoid_focal_loss, equipoise.ghm_c_loss):
        value, gradient = called(loss, bad, target, mask=mask)
        alone, slope = called(loss, bad[4:], torch.ones(1))
        assert value == alone
        assert gradient.tolist() == [0, 0, 0, 0, slope.item()]
    for smoothing in (0.0, 0.1):
        for rows in (torch.stack([bad, torch.arange(5.0)]), torch.stack([bad, torch.arange(5.0)], -1)[None]):
            classes = torch.tensor([-100, 1]) if rows.ndim == 2 else torch.tensor([[-100, 1]])
            value, gradient = called(
                lambda x, y, eps=smoothing: equipoise.softmax_focal_loss(x, y, label_smoothing=eps), rows, classes
            )
            assert value.isfinite()
            gradient = gradient if rows.ndim == 2 else gradient[0].T
            assert (gradient[0] == 0).all()
            assert gradient[1].abs().min() > 0


@pytest.mark.parametrize("empty", [True, False])
def test_nothing_kept_is_a_differentiable_zero(empty):
    scores = torch.full((0 if empty else 3, 4), torch.nan)
    mask = torch.zeros(len(scores), 4, dtype=torch.bool)
    for loss in (equipoise.sigmoid_focal_loss, equipoise.ghm_c_loss):
        value, gradient = called(loss, scores, torch.zeros(scores.shape), mask=mask)
        assert value == 0
        assert (gradient == 0).all()
    value, gradient = called(equipoise.softmax_focal_loss, scores, torch.full((len(scores),), -100))
    assert value == 0
    assert (gradient == 0).all()


def test_a_mean_over_weights_of_nothing_is_zero_whatever_the_scores():
    scores, target = torch.tensor([[torch.nan, 1.0], [torch.inf, 0.0]]), torch.tensor([0, 1])
    weight = placed(torch.zeros(2))
    value, _ = called(lambda x, y: equipoise.softmax_focal_loss(x, y, weight=weight), scores, target)
    assert value == 0


def test_a_mean_over_positives_divides_by_one_where_there_are_none():
    scores = torch.linspace(-2, 2, 5)
    value, gradient = called(
        lambda x, y: equipoise.sigmoid_focal_loss(x, y, reduction="mean_positive"), scores, torch.zeros(5)
    )
    total, slope = called(lambda x, y: equipoise.sigmoid_focal_loss(x, y, reduction="sum"), scores, torch.zeros(5))
    assert value == total > 0
    assert torch.equal(gradient, slope)


@pytest.mark.parametrize("most", [16384, 4])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_an_adjustment_of_rows_far_from_zero_keeps_its_digits(smoothing, most, monkeypatch):
    from equipoise.kernels.triton import rowwise

    monkeypatch.setattr(rowwise, "MOST", most)
    monkeypatch.setattr(rowwise, "MOST_SMOOTH", most)
    draw = Draw(11, torch.float32)
    # steps of a 512th are exact beside 2^14
    near, target = (draw.scores(6, 9) * 512).round() / 512, draw.classes(9, 6)
    adjustment = placed(-3 * draw.weights(9))

    def loss(x, y):
        return equipoise.softmax_focal_loss(
            x, y, label_smoothing=smoothing, logit_adjustment=adjustment, reduction="none"
        )

    value, gradient = called(loss, near, target)
    for shift in (2.0**14, -(2.0**14)):
        moved, slope = called(loss, near + shift, target)
        torch.testing.assert_close(moved, value, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(slope, gradient, rtol=1e-5, atol=1e-6)


def test_a_class_that_does_not_exist_is_nan_and_has_no_gradient():
    """On a GPU nobody looks at values on the way; on the CPU the plain form says what is wrong before."""
    from equipoise.kernels.triton import rowwise

    scores, target = placed((torch.randn(3, 4), torch.tensor([1, 4, -1])))
    loss, gradient = torch.empty(3, device=DEVICE), torch.empty_like(scores)
    rowwise.softmax(scores, loss, gradient, target, *(None,) * 6, 2.0, 0.0, -100, "none", 1.0)
    assert loss.isnan().tolist() == [False, True, True]
    assert (gradient == 0).all(1).tolist() == [False, True, True]


@pytest.mark.parametrize("layout", ["transposed", "every second", "at an odd offset"])
@EACH
def test_scores_of_any_layout(name, layout):
    loss, scores = examples()[name]
    expected = called(loss, scores)
    laid = {
        "transposed": scores.t().contiguous().t(),
        "every second": scores.repeat_interleave(2, 1)[:, ::2],
        "at an odd offset": torch.cat([torch.zeros(1), scores.flatten()])[1:].view(N, C),
    }[layout]
    for found, wanted in zip(called(loss, laid), expected, strict=True):
        assert torch.equal(found, wanted)


# ---- gradient harmonizing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [2, 10, 30])
def test_norms_on_an_edge_belong_to_the_bin_above(bins):
    """A soft target moves the norm of score 0 to |1/2 - y|, which float32 holds exactly for these."""
    target = torch.tensor([0.0, 0.25, 0.375, 0.5, 0.75, 1.0])
    norm = (0.5 - target.double()).abs()
    edges = torch.arange(1, bins, dtype=torch.float64) / bins
    expected = torch.bincount(torch.bucketize(norm, edges, right=True), minlength=bins)
    from equipoise.ops.histogram import histogram

    with nobody_waits():
        counts = histogram(*placed((torch.zeros(6), target)), None, 0.0, bins)
    assert counts.cpu().tolist() == [*expected.tolist(), 0]


@pytest.mark.parametrize(("norm", "bins"), [(0.45454544, 11), (0.45, 20)])
def test_norms_just_below_an_edge_belong_to_the_bin_below(norm, bins):
    """In float32 the product with the number of bins is rounded onto the edge."""
    from equipoise.ops.histogram import histogram

    norm = torch.tensor([norm])
    assert norm * bins == (norm * bins).round() > norm.double() * bins
    counts = histogram(*placed((torch.zeros(1), 0.5 - norm)), None, 0.0, bins)
    assert counts[: int(norm.double() * bins) + 1].tolist()[-1] == 1


def test_each_counting_program_takes_blocks_far_apart(monkeypatch):
    from equipoise.kernels.triton import histogram as kernels_of_histogram
    from equipoise.ops.histogram import histogram

    monkeypatch.setattr(kernels_of_histogram, "COUNTERS", 2)
    draw = Draw(11, torch.float32)
    scores, target = placed((draw.scores(5 * 2048 + 3), draw.yes_or_no(5 * 2048 + 3)))
    with nobody_waits():
        counts = histogram(scores, target, None, 0.0, 4)
    with kernels.eager():
        expected = histogram(scores, target, None, 0.0, 4)
    assert torch.equal(counts, expected)


def test_losses_that_are_not_finite_are_counted():
    from equipoise.ops.histogram import histogram

    scores = torch.tensor([torch.nan, torch.inf, -torch.inf, torch.inf, 0.0, torch.nan])
    target = torch.tensor([1, 0, 0, 1, 1, 1])
    mask = torch.tensor([True, True, True, True, True, False])
    counts = histogram(*placed((scores, target, mask)), 0.0, 4)
    assert counts.cpu().tolist() == [2, 0, 1, 2, 2]


def test_as_many_bins_as_a_program_can_count():
    scores, target = torch.linspace(-5, 5, 100), torch.arange(100) % 2
    bins = gpu.MOST_BINS
    value, _ = called(lambda x, y: equipoise.ghm_c_loss(x, y, bins=bins), scores, target)
    with kernels.eager():
        expected = equipoise.ghm_c_loss(scores, target, bins=bins)
    torch.testing.assert_close(value, expected)


def test_the_moving_average_stays_on_the_device_and_skips_a_broken_batch():
    def train(loss, wanted=None):
        for step in range(3):
            draw = Draw(step, torch.float32)
            scores, target = placed((draw.scores(40), draw.yes_or_no(40)))
            if step == 1:
                scores[3] = torch.nan
            with nobody_waits():
                loss(scores.requires_grad_(), target).backward()
        return loss.ema.cpu(), loss.steps.cpu()

    found = train(equipoise.GHMCLoss(momentum=0.75).to(DEVICE))
    with kernels.eager():
        expected = train(equipoise.GHMCLoss(momentum=0.75).to(DEVICE))
    assert torch.equal(found[0], expected[0])
    assert found[1] == expected[1] == 2


# ---- large inputs ----------------------------------------------------------------------------------------------


def test_elements_beyond_the_reach_of_int32():
    """The last block of more than 2^31 elements; the memory before it is never touched."""
    from equipoise.kernels.triton import launch
    from equipoise.kernels.triton.elementwise import sigmoid_kernel

    start, rest = 2**31, 5
    scores = torch.empty(start + rest, dtype=torch.float16, device=DEVICE)
    target = torch.empty(start + rest, dtype=torch.uint8, device=DEVICE)
    gradient = torch.empty_like(scores)
    weight = placed(torch.arange(1.0, 12.0))
    scores[start:], target[start:] = 0.0, 1
    partials = torch.empty(1, device=DEVICE)
    operands, kinds = launch.operands((None, weight, *(None,) * 4), (2**28, 11))
    arguments = (scores, target, operands, None, gradient, None, 1.0, 1.0, 0.0, 0.0, 1.0)
    launch.run(
        sigmoid_kernel, 1, partials, start, start + rest, *arguments,
        kinds=kinds, hard=True, smooth=False, focus=0, block=16, num_warps=1,
    )  # fmt: skip
    expected = weight[(start + torch.arange(rest, device=DEVICE)) % 11]
    torch.testing.assert_close(gradient[start:].float(), -0.5 * expected)
    torch.testing.assert_close(partials[0], expected.sum() * torch.tensor(2.0).log())


@pytest.mark.skipif(not ON_GPU, reason="needs the memory of a GPU (EQUIPOISE_TEST_DEVICE=cuda)")
def test_a_matrix_of_more_than_two_to_the_31_scores():
    rows, classes = 2**14 + 1, 2**17
    scores = torch.zeros(rows, classes, dtype=torch.bfloat16, device=DEVICE)
    scores[-1, 5] = 12.0
    target = torch.full((rows,), 5, device=DEVICE)
    value, gradient = called(lambda x, y: equipoise.softmax_focal_loss(x, y, reduction="none"), scores, target)
    with kernels.eager():
        expected = equipoise.softmax_focal_loss(scores[-2:].float().cpu(), target[-2:].cpu(), reduction="none")
    torch.testing.assert_close(value[-2:], expected, rtol=1e-5, atol=0)
    assert gradient[-1, 5] < 0 < gradient[-1, -1]
