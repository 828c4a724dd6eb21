"""What was proven wrong in other projects, tested here: one test or more for each defect.

Where it is short, the defective formula stands beside the test and is shown to fail on the same input, so that the test
has teeth. Not here: gradients under DistributedDataParallel (the two-process tests), groups and `num_neg` (no ranking
loss yet), learned task weights (no task balancer yet), objectives for boosted trees (none yet), host syncs (on a GPU).
"""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import equipoise
from equipoise import (
    GHMCLoss,
    GHMRLoss,
    sigmoid_cross_entropy,
    sigmoid_focal_loss,
    softmax_cross_entropy,
    softmax_focal_loss,
)
from oracle import ORACLES, MovingGHM


def with_gradient(loss, scores, *arguments, dtype=torch.float64, **options):
    """Value and gradient of the (summed) loss at `scores`, both as float64."""
    leaf = torch.tensor(scores, dtype=dtype, requires_grad=True)
    value = loss(leaf, *arguments, **options)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach().double(), gradient.double()


def truth(name, scores, target, **options):
    """The oracle's values and gradient."""
    return map(torch.from_numpy, ORACLES[name](scores, np.asarray(target), options))


def close(actual, expected, rtol, atol=0.0):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=torch.float64), rtol=rtol, atol=atol)


def plain_focal(input, target, gamma=2.0):
    """Lin et al.'s formula as torchvision and fvcore write it: 1 - p_t by subtraction, then a power of it."""
    p = torch.sigmoid(input)
    p_t = p * target + (1 - p) * (1 - target)
    return F.binary_cross_entropy_with_logits(input, target, reduction="none") * (1 - p_t) ** gamma


# ---- focal loss: the tails ---------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [20.0, 60.0, 100.0, 1e4])
def test_gamma_below_1_has_a_gradient_on_easy_examples(score):
    """torchvision/fvcore formula, mmdet, smp, Keras, timm: gamma < 1 gives NaN gradients on easy saturated examples."""
    target = torch.ones(1)
    _, gradient = with_gradient(plain_focal, [score], target, gamma=0.5, dtype=torch.float32)
    assert gradient.isnan().all()

    value, gradient = with_gradient(
        sigmoid_focal_loss, [score], target, gamma=0.5, reduction="none", dtype=torch.float32
    )
    for actual, expected in zip((value, gradient), truth("sigmoid_focal", [score], [1.0], gamma=0.5), strict=True):
        close(actual, expected, rtol=1e-5, atol=1e-30)


def test_gamma_below_1_has_a_gradient_on_easy_samples_of_softmax():
    """MONAI's softmax focal loss, the same: (1 - p_t) ** gamma of a probability that rounds to 1."""

    def defective(input, target, gamma):
        p_t = input.softmax(1).gather(1, target[:, None]).squeeze(1)
        return (1 - p_t) ** gamma * F.cross_entropy(input, target, reduction="none")

    scores, target = [[20.0, 0.0, -5.0]], torch.tensor([0])
    _, gradient = with_gradient(defective, scores, target, gamma=0.5, dtype=torch.float32)
    assert gradient.isnan().any()

    value, gradient = with_gradient(
        softmax_focal_loss, scores, target, gamma=0.5, reduction="none", dtype=torch.float32
    )
    for actual, expected in zip((value, gradient), truth("softmax_focal", scores, [0], gamma=0.5), strict=True):
        close(actual, expected, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "score"), [(torch.float32, -90.0), (torch.float32, -1e4), (torch.float16, -12.0)])
def test_the_hardest_positive_keeps_its_loss_where_the_copied_modulator_overflows(dtype, score):
    """class-balanced-loss and its copies (balanced-loss, nizhf, mmaction2), and much blog code: the "stable" modulator
    exp(-gamma y z - gamma log(1 + exp(-z))) overflows below -88.7 (fp16: -11.1): loss 0 and NaN gradient.
    """

    def defective(input, target, gamma):
        modulator = torch.exp(-gamma * target * input - gamma * torch.log(1 + torch.exp(-input)))
        return modulator * F.binary_cross_entropy_with_logits(input, target, reduction="none")

    target = torch.ones(1, dtype=dtype)
    value, gradient = with_gradient(defective, [score], target, gamma=2.0, dtype=dtype)
    assert value.item() == 0 or value.isnan()
    assert gradient.isnan()

    value, gradient = with_gradient(sigmoid_focal_loss, [score], target, reduction="none", dtype=dtype)
    close(value, [-score], rtol=1e-3)
    close(gradient, [-1.0], rtol=1e-3)


def test_float32_gradients_are_right_from_tail_to_tail():
    """The torchvision formula, fp32: the gradient of easy examples is over 1 % wrong beyond a logit of about 11."""
    scores = torch.linspace(-40, 40, 161).tolist()
    target = torch.ones(161)
    _, expected = truth("sigmoid_focal", scores, [1.0] * 161)
    _, gradient = with_gradient(plain_focal, scores, target, dtype=torch.float32)
    error = ((gradient - expected) / expected).abs()
    assert error[[11 < score < 12.5 for score in scores]].max() > 0.01

    _, gradient = with_gradient(sigmoid_focal_loss, scores, target, reduction="sum", dtype=torch.float32)
    close(gradient, expected, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("score", [5.0, 6.0, 7.0, 8.0, 12.0])
def test_bfloat16_gradients_are_right_but_for_their_own_rounding(score):
    """The torchvision formula, bf16: at z = 6 the gradient is 149 % too large, from z = 7 on it is 0."""
    target = torch.ones(1, dtype=torch.bfloat16)
    _, expected = truth("sigmoid_focal", [score], [1.0])
    _, gradient = with_gradient(plain_focal, [score], target, dtype=torch.bfloat16)
    assert ((gradient - expected) / expected).abs() > 0.2

    _, gradient = with_gradient(sigmoid_focal_loss, [score], target, dtype=torch.bfloat16)
    close(gradient, expected, rtol=2**-8)


@pytest.mark.parametrize("score", [-18.5, -30.0, -1e4])
def test_hard_positives_are_not_clipped(score):
    """Keras, from_logits=True: clips probabilities, so that a hard positive at z = -30 gets gradient -3e-12, not -1."""

    def defective(input, target, gamma=2.0):
        p = torch.sigmoid(input)
        clipped = p.clamp(1e-7, 1 - 1e-7)
        return -((1 - p) ** gamma) * target * torch.log(clipped)

    _, gradient = with_gradient(defective, [score], torch.ones(1))
    assert gradient.abs() < 1e-6
    for loss in (sigmoid_focal_loss, sigmoid_cross_entropy):
        _, gradient = with_gradient(loss, [score], torch.ones(1))
        close(gradient, [-1.0], rtol=1e-6)


@pytest.mark.parametrize("score", [-19.0, -25.0, -60.0])
def test_hard_positives_of_multi_label_losses_keep_their_gradient(score):
    """ASL reference and timm's multi-label ASL: log(p.clamp(1e-8)): hard positives beyond z = -18 get no gradient."""

    def defective(input, target):
        return -target * torch.log(torch.sigmoid(input).clamp(min=1e-8))

    scores, target = [[score, 0.0]], torch.tensor([[1.0, 0.0]])
    _, gradient = with_gradient(defective, scores, target, dtype=torch.float32)
    assert gradient[0, 0] == 0
    losses = (
        sigmoid_cross_entropy,
        sigmoid_focal_loss,
        equipoise.ClassBalancedSigmoidFocalLoss([5, 5]),
        lambda input, target: equipoise.balanced_cross_entropy(input, target, alpha=0.5) * 2,
    )
    for loss in losses:
        _, gradient = with_gradient(loss, scores, target, dtype=torch.float32)
        close(gradient[0, 0], -0.5, rtol=1e-5)  # the mean of two elements


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_hard_negatives_grow_without_a_jump(dtype):
    """The CUDA focal loss of mmcv: log(max(1 - p, tiny)): negatives jump from 11.96 (z = 16) to 65.5 (z = 17)."""

    def defective(input, gamma=2.0, alpha=0.25):
        p = torch.sigmoid(input)
        return -(1 - alpha) * p**gamma * torch.log((1 - p).clamp(min=torch.finfo(torch.float32).tiny))

    values, _ = with_gradient(defective, [16.0, 17.0], dtype=torch.float32)
    close(values, [11.96, 65.5], rtol=1e-3)

    scores = [float(score) for score in range(5, 30)]
    values, gradient = with_gradient(
        sigmoid_focal_loss, scores, torch.zeros(25), alpha=0.25, reduction="none", dtype=dtype
    )
    assert values.diff().min() > 0.749
    assert values.diff().max() < 0.8
    close(values[-1], 0.75 * 29, rtol=1e-5)
    assert gradient.isfinite().all()


# ---- gradient harmonizing ----------------------------------------------------------------------------------


class DefectiveGHM:
    """GHM-C as mmdet writes it: a loop over bins, an average that starts at 0 and skips empty bins, no evaluation."""

    def __init__(self, bins=10, momentum=0.0, dtype=torch.float32):
        self.edges = (torch.arange(bins + 1, dtype=torch.float32) / bins).to(dtype)
        self.edges[-1] += 1e-6
        self.momentum, self.sums = momentum, torch.zeros(bins)

    def __call__(self, input, target):
        g = (input.sigmoid().detach() - target).abs()
        weights, nonempty = torch.zeros_like(input), 0
        for j in range(len(self.edges) - 1):
            inside = (g >= self.edges[j]) & (g < self.edges[j + 1])
            found = inside.sum().item()
            if found:
                self.sums[j] = self.momentum * self.sums[j] + (1 - self.momentum) * found
                weights[inside] = input.numel() / (self.sums[j] if self.momentum > 0 else found)
                nonempty += 1
        return F.binary_cross_entropy_with_logits(input, target, weights / max(nonempty, 1), reduction="sum")


GHM = pytest.mark.parametrize("module", [GHMCLoss, GHMRLoss])


def batches(number, size=40):
    """Batches whose histograms differ: the scores drift, so that bins fill and empty."""
    generator = torch.Generator().manual_seed(5)
    for step in range(number):
        scores = torch.randn(size, generator=generator, dtype=torch.float64) * 2 + step - 2
        yield scores, (torch.rand(size, generator=generator) < 0.3).double()


@GHM
def test_ghm_sums(module):
    """GHM of mmdet: reduction="sum" raises."""
    scores, target = next(batches(1))
    values = module(reduction="none")(scores, target)
    close(module(reduction="sum")(scores, target), values.sum().item(), rtol=1e-14)
    close(module(reduction="mean")(scores, target), values.mean().item(), rtol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_ghm_weighs_the_hardest_example_at_every_precision(dtype):
    """GHM of mmdet: in half precision the last edge 1 + 1e-6 rounds to 1, and an example at g = 1 gets weight 0."""
    scores, target = [-40.0, 3.0, -2.0], torch.tensor([1.0, 1.0, 1.0], dtype=dtype)
    if dtype != torch.float32:
        _, gradient = with_gradient(DefectiveGHM(dtype=dtype), scores, target, dtype=dtype)
        assert gradient[0] == 0
    module = GHMCLoss(reduction="sum").to(dtype)
    _, gradient = with_gradient(module, scores, target, dtype=dtype)
    close(gradient[0], -1.0, rtol=2**-7)
    value, _ = with_gradient(GHMRLoss(reduction="none").to(dtype), [-60000.0, 0.0], target[:2] * 0, dtype=dtype)
    assert value[0] > 59000


def test_ghm_puts_an_example_on_an_edge_into_the_upper_bin():
    """Copies of GHM that bin by floor(g * bins): g = 65/97 lies on edge 195 of 291, and floor says bin 194."""
    assert math.floor(65 / 97 * 291) == 194
    residuals = torch.tensor([65.0, 64.9999, 64.9999], dtype=torch.float64)  # hypot(65, 72) = 97
    beta = equipoise.ghm_r_loss(residuals, torch.zeros(3), mu=72.0, bins=291, reduction="none") / (
        torch.hypot(residuals, torch.tensor(72.0)) - 72
    )
    close(beta, [3 / 2, 3 / 4, 3 / 4], rtol=1e-12)


@GHM
def test_ghm_average_starts_warm(module):
    """GHM of mmdet: the moving average starts at 0, so that the first loss is 1 / (1 - momentum) times too large."""
    scores, target = next(batches(1))
    defective = DefectiveGHM(momentum=0.75)(scores, target) / DefectiveGHM()(scores, target)
    assert defective == pytest.approx(4.0, rel=1e-5)
    close(module(momentum=0.75)(scores, target), module()(scores, target).item(), rtol=1e-6)


@GHM
def test_ghm_average_follows_the_formula_for_every_bin(module):
    """GHM of mmdet: a bin that is empty in a batch does not decay, so that old counts weigh its next visitors."""
    name = {GHMCLoss: "ghm_c", GHMRLoss: "ghm_r"}[module]
    options = {"bins": 6, "momentum": 0.6}
    ours, expected = module(**options, reduction="none"), MovingGHM(name, options)
    for training in (False, True, False):  # evaluation before the first step, too
        ours.train(training)
        expected.training = training
        for scores, target in batches(6):
            for mask in (scores < 1, scores < -99):  # the second keeps nothing
                values, _ = expected(scores.numpy(), target.numpy(), mask.numpy())
                close(ours(scores, target, mask=mask), values, rtol=1e-6)
    close(ours.ema.double(), expected.ema, rtol=1e-6)
    assert ours.steps.item() == 6

    rare = GHMCLoss(bins=2, momentum=0.5)  # one hard example, then only easy ones
    defective = DefectiveGHM(bins=2, momentum=0.5)
    for scores in ([3.0, -3.0], [-3.0, -3.0], [-3.0, -3.0]):
        for average in (rare, defective):
            average(torch.tensor(scores), torch.zeros(2))
    assert defective.sums[1] == 0.5
    close(rare.ema[1].double(), 0.125, rtol=1e-6)


@GHM
def test_ghm_average_rests_in_evaluation(module):
    """GHM of mmdet: evaluation moves the average."""
    ours = module(momentum=0.5)
    for scores, target in batches(2):
        ours(scores, target)
    before = copy.deepcopy(ours.state_dict())
    ours.eval()
    losses = [ours(scores, target).item() for scores, target in batches(3)]
    assert losses == [ours(scores, target).item() for scores, target in batches(3)]
    assert all(torch.equal(value, before[key]) for key, value in ours.state_dict().items())

    defective = DefectiveGHM(momentum=0.5)
    (one, *_), (two, *_) = ([defective(*batch) for batch in batches(3)] for _ in range(2))
    assert one != two  # it knows no evaluation


def test_ghm_compiles_as_one_graph():
    """GHM of mmdet: a host sync per bin, so that nothing compiles with fullgraph."""
    scores, target = next(batches(1))
    with pytest.raises(RuntimeError, match="data-dependent"):
        torch.compile(DefectiveGHM(), backend="eager", fullgraph=True)(scores, target)
    module = GHMCLoss(momentum=0.5)
    compiled = torch.compile(copy.deepcopy(module), backend="eager", fullgraph=True)
    for scores, target in batches(3):
        close(compiled(scores, target), module(scores, target).item(), rtol=1e-12)


# ---- softmax focal loss: what it is, and what it divides by ------------------------------------------------


def test_softmax_focal_is_no_one_vs_all_loss():
    """smp, mode "multiclass": is binary cross-entropy of each class against the rest, which the softmax never sees."""

    def one_vs_all(input, target):
        return plain_focal(input, F.one_hot(target, input.shape[1]).to(input.dtype)).sum()

    scores, target = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], dtype=torch.float64), torch.tensor([0, 2])
    assert one_vs_all(scores + 5, target) - one_vs_all(scores, target) > 1  # a softmax does not change
    for loss in (softmax_focal_loss, softmax_cross_entropy, equipoise.ClassBalancedSoftmaxFocalLoss([1, 2, 3])):
        close(loss(scores + 5, target), loss(scores, target).item(), rtol=1e-12)
        far = loss((scores + 4096).float(), target).double()  # exact in float32, for the scores are halves
        close(far, loss(scores, target).item(), rtol=1e-6)


def nothing_kept():
    """Every loss with nothing to learn from: (loss of one input, input's shape)."""
    ignored, masked = torch.full((3,), -100), torch.zeros(3, 4, dtype=torch.bool)
    counts = [5, 3, 2, 1]
    labels = torch.zeros(3, 4)
    return {
        "softmax": lambda x: softmax_cross_entropy(x, ignored),
        "softmax weighed": lambda x: softmax_cross_entropy(x, ignored, weight=[1.0, 2.0, 3.0, 4.0]),
        "softmax of weight 0": lambda x: softmax_cross_entropy(x, ignored.clamp_min(0), weight=[0.0, 1.0, 1.0, 1.0]),
        "softmax smoothed": lambda x: softmax_focal_loss(x, ignored, label_smoothing=0.1),
        "softmax focal": lambda x: softmax_focal_loss(x, ignored),
        "class-balanced softmax": lambda x: equipoise.ClassBalancedSoftmaxFocalLoss(counts)(x, ignored),
        "class-balanced sigmoid": lambda x: equipoise.ClassBalancedSigmoidFocalLoss(counts)(x, ignored),
        "class-balanced multi-label": lambda x: equipoise.ClassBalancedSigmoidFocalLoss(counts)(x, labels, mask=masked),
        "sigmoid": lambda x: sigmoid_cross_entropy(x, labels, mask=masked),
        "balanced": lambda x: equipoise.balanced_cross_entropy(x, labels, alpha=0.5, mask=masked),
        "sigmoid focal": lambda x: sigmoid_focal_loss(x, labels, mask=masked),
        "mean_positive": lambda x: sigmoid_focal_loss(x, labels, mask=masked, reduction="mean_positive"),
        "ghm_c": lambda x: equipoise.ghm_c_loss(x, labels, mask=masked),
        "ghm_r": lambda x: equipoise.ghm_r_loss(x, labels, mask=masked),
        "empty sigmoid": lambda x: sigmoid_focal_loss(x[:0], labels[:0]),
        "empty softmax": lambda x: softmax_focal_loss(x[:0], ignored[:0]),
        "empty probabilities": lambda x: softmax_focal_loss(x[:0], labels[:0]),
        "empty ghm": lambda x: equipoise.ghm_c_loss(x[:0], labels[:0]),
    }


@pytest.mark.parametrize("case", nothing_kept())
@pytest.mark.parametrize("content", [1.0, math.nan, math.inf])
def test_nothing_kept_is_a_differentiable_0(case, content):
    """F.cross_entropy and smp: all ignored gives NaN. AdeelH focal: a constant without graph, whose backward raises."""
    leaf = torch.full((3, 4), 1.0 if case == "softmax of weight 0" else content, requires_grad=True)
    ignored = torch.full((3,), -100)
    assert F.cross_entropy(leaf, ignored).isnan()
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.tensor(0.0).backward()  # AdeelH's return

    loss = nothing_kept()[case](leaf)
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(leaf.grad, torch.zeros(3, 4))


def test_multi_label_targets_can_ignore_elements():
    """smp: multilabel together with ignore_index raises."""
    scores, target = torch.randn(2, 3, dtype=torch.float64), torch.tensor([[1, 0, 1], [0, 1, 0]])
    mask = torch.tensor([[True, False, True], [True, True, False]])
    loss = sigmoid_focal_loss(scores, target, mask=mask)
    close(loss, sigmoid_focal_loss(scores, target, reduction="none")[mask].mean().item(), rtol=1e-14)
    balanced = equipoise.ClassBalancedSigmoidFocalLoss([9, 4, 1])
    values = copy.deepcopy(balanced)
    values.reduction = "none"
    close(balanced(scores, target.bool(), mask=mask), values(scores, target.bool())[mask].mean().item(), rtol=1e-14)


def test_mean_of_softmax_focal_divides_by_the_kept_pixels():
    """Kornia's softmax focal loss: mean divides by C times pixels, ignored ones included."""
    scores = torch.randn(2, 5, 4, 3, dtype=torch.float64)
    target = torch.randint(5, (2, 4, 3))
    target[0] = -100
    kept = target != -100
    per_pixel = softmax_focal_loss(scores, target, reduction="none")
    mean = softmax_focal_loss(scores, target)
    close(mean, per_pixel[kept].mean().item(), rtol=1e-14)
    kornia = per_pixel.sum() / scores.numel()
    assert mean / kornia == pytest.approx(5 * 2)

    rows = scores.movedim(1, -1)
    for loss in (
        lambda reduction: equipoise.ClassBalancedSoftmaxFocalLoss([5, 4, 3, 2, 1], reduction=reduction)(scores, target),
        lambda reduction: equipoise.ClassBalancedSigmoidFocalLoss([5, 4, 3, 2, 1], reduction=reduction)(rows, target),
    ):
        close(loss("mean"), loss("none")[kept].mean().item(), rtol=1e-14)


def test_class_weights_stay_outside_the_modulator():
    """LDAM repository's focal loss: p = exp(-weighted cross-entropy), so that the modulator sees p_t ** weight."""

    def defective(input, target, weight, gamma=2.0):
        cross_entropy = F.cross_entropy(input, target, weight, reduction="none")
        return (1 - torch.exp(-cross_entropy)) ** gamma * cross_entropy

    scores, target = torch.tensor([[1.0, 0.0], [0.3, 0.2]], dtype=torch.float64), torch.tensor([0, 1])
    weight = torch.tensor([5.0, 0.2], dtype=torch.float64)
    plain = softmax_focal_loss(scores, target, reduction="none")
    close(softmax_focal_loss(scores, target, weight=weight, reduction="none"), plain * weight[target], rtol=1e-14)
    assert not torch.allclose(defective(scores, target, weight), plain * weight[target], rtol=0.5)

    # The same of every other place where a weight can stand.
    sample_weight = torch.tensor([3.0, 0.1], dtype=torch.float64)
    close(
        softmax_focal_loss(scores, target, sample_weight=sample_weight, reduction="none"), plain * sample_weight, 1e-14
    )
    elements = sigmoid_focal_loss(scores, scores * 0, reduction="none")
    close(sigmoid_focal_loss(scores, scores * 0, weight=weight, reduction="none"), elements * weight, 1e-14)
    positive = sigmoid_focal_loss(scores, scores * 0 + 1, reduction="none")
    close(sigmoid_focal_loss(scores, scores * 0 + 1, pos_weight=weight, reduction="none"), positive * weight, 1e-14)


@pytest.mark.parametrize("score", [-1e4, -100.0, -30.0, 30.0, 100.0, 1e4])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_second_derivatives_are_finite_in_the_tails(score, gamma):
    """imbalance-xgboost, imlightgbm: the Hessian divides by p_t, which is 0 in the tails: NaN."""

    def defective(z):  # every derivative divides by p_t
        p_t = torch.sigmoid(z)
        return ((1 - p_t) ** gamma * -torch.log(p_t)).sum()

    def hessian(loss):
        z = torch.tensor([score], dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(loss(z), z, create_graph=True)
        return torch.autograd.grad(gradient.sum(), z)[0]

    if score == -1e4:
        assert hessian(defective).isnan()
    for loss in (
        lambda z: sigmoid_focal_loss(z, torch.ones(1), gamma=gamma, reduction="sum"),
        lambda z: softmax_focal_loss(torch.cat([z, -z])[None], torch.tensor([0]), gamma=gamma, reduction="sum"),
    ):
        assert hessian(loss).isfinite().all()


def test_gradient_of_softmax_focal_is_of_the_softmax():
    """imbalance-xgboost, imlightgbm: the "multiclass" gradient is not softmax focal's, which adds up to 0."""
    scores, target = torch.randn(6, 4, dtype=torch.float64).tolist(), torch.tensor([0, 1, 2, 3, 0, 1])
    _, gradient = with_gradient(softmax_focal_loss, scores, target)
    close(gradient.sum(1), [0.0] * 6, rtol=0, atol=1e-15)
    _, expected = truth("softmax_focal", scores, target.numpy())
    close(gradient, expected / 6, rtol=1e-12)


# ---- torch and Liger cross-entropy -------------------------------------------------------------------------


def test_divisors_of_a_weighted_mean_are_torchs():
    """F.cross_entropy: weight + mean divides by the sum of weights for indices and by N for one-hot targets.

    Code that moves from it relies on that, so it is kept; `sample_weight` is the way to weigh and divide by N.
    """
    scores, target = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 2, -100])
    weight = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    total = softmax_cross_entropy(scores, target, weight=weight, reduction="sum").item()
    close(softmax_cross_entropy(scores, target, weight=weight), total / (1 + 2 + 5 + 5), rtol=1e-14)
    by_sample = weight[target.clamp_min(0)]
    close(softmax_cross_entropy(scores, target, sample_weight=by_sample), total / 4, rtol=1e-14)
    one_hot = F.one_hot(target[:4], 3).double()
    close(softmax_cross_entropy(scores[:4], one_hot, weight=weight), total / 4, rtol=1e-14)
    for labels, rows in ((target, scores), (one_hot, scores[:4])):
        expected = F.cross_entropy(rows, labels, weight)
        close(softmax_cross_entropy(rows, labels, weight=weight), expected.item(), rtol=1e-14)


LOSSES = {
    "sigmoid_cross_entropy": (sigmoid_cross_entropy, torch.rand(4, 3, generator=torch.Generator().manual_seed(1))),
    "sigmoid_focal": (sigmoid_focal_loss, torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 0]])),
    "softmax_cross_entropy": (softmax_cross_entropy, torch.tensor([0, 2, -100, 1])),
    "softmax_focal": (softmax_focal_loss, torch.tensor([0, 2, -100, 1])),
    "class_balanced_sigmoid": (equipoise.ClassBalancedSigmoidFocalLoss([9, 4, 1]), torch.tensor([0, 2, -100, 1])),
    "class_balanced_softmax": (equipoise.ClassBalancedSoftmaxFocalLoss([9, 4, 1]), torch.tensor([0, 2, -100, 1])),
    "ghm_c": (equipoise.ghm_c_loss, torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 0]])),
    "ghm_r": (equipoise.ghm_r_loss, torch.rand(4, 3, generator=torch.Generator().manual_seed(2))),
}
EACH_LOSS = pytest.mark.parametrize(("loss", "target"), LOSSES.values(), ids=LOSSES)


def some_scores(dtype=torch.float64):
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(3)).to(dtype).requires_grad_()


@EACH_LOSS
def test_input_is_not_overwritten(loss, target):
    """Liger cross-entropy: overwrites the logits with their gradient, with the version counter at 0."""
    leaf = some_scores()
    before, version = leaf.detach().clone(), leaf._version
    loss(leaf, target).backward()
    assert torch.equal(leaf, before)
    assert leaf._version == version


@EACH_LOSS
def test_a_second_backward_gives_the_same_gradient(loss, target):
    """Liger cross-entropy: a second backward is 3 times too large, for it scales what the first one has scaled."""
    leaf = some_scores()
    value = loss(leaf, target) * 3
    (first,) = torch.autograd.grad(value, leaf, retain_graph=True)
    (second,) = torch.autograd.grad(value, leaf)
    assert torch.equal(first, second)
    assert first.abs().max() > 0


@EACH_LOSS
def test_create_graph_gives_the_second_derivative(loss, target):
    """Liger cross-entropy: create_graph=True gives a gradient that is silently detached."""
    leaf, step = some_scores(), 1e-5
    (gradient,) = torch.autograd.grad(loss(leaf, target), leaf, create_graph=True)
    assert gradient.requires_grad
    (second,) = torch.autograd.grad(gradient[0, 0], leaf)

    def slope(shift):
        moved = leaf.detach().clone()
        moved[0, 0] += shift
        moved.requires_grad_()
        return torch.autograd.grad(loss(moved, target), moved)[0]

    close(second, (slope(step) - slope(-step)) / (2 * step), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("loss", [softmax_cross_entropy, softmax_focal_loss], ids=["cross_entropy", "focal"])
def test_fp16_gradients_survive_a_loss_scale(loss):
    """Liger cross-entropy: the gradient is rounded to fp16 before the loss scale meets it: 62 % of it becomes 0."""
    generator, scale = torch.Generator().manual_seed(4), 2.0**16
    scores = (torch.randn(64, 500, generator=generator) * 4).half()
    target = torch.randint(500, (64,), generator=generator)
    exact = scores.double().requires_grad_()
    (expected,) = torch.autograd.grad(loss(exact, target) * scale, exact)
    defective = (expected / scale).half().double() * scale
    assert (defective == 0).double().mean() > 0.4

    leaf = scores.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf, target) * scale, leaf)
    assert gradient.dtype == torch.float16
    smallest = torch.finfo(torch.float16).smallest_normal
    close(gradient.double(), expected, rtol=2**-10, atol=smallest * 2**-10)


@pytest.mark.parametrize("loss", [sigmoid_cross_entropy, sigmoid_focal_loss, equipoise.ghm_c_loss])
def test_fp16_gradients_of_elementwise_losses_survive_a_loss_scale(loss):
    """The same defect where every score is its own question."""
    generator, scale = torch.Generator().manual_seed(4), 2.0**16
    scores = (torch.randn(100_000, generator=generator) - 7).half()
    target = torch.zeros(100_000)
    exact = scores.double().requires_grad_()
    (expected,) = torch.autograd.grad(loss(exact, target) * scale, exact)
    defective = (expected / scale).half().double() * scale
    assert (defective == 0).double().mean() > 0.4

    leaf = scores.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf, target) * scale, leaf)
    close(gradient.double(), expected, rtol=2**-10, atol=torch.finfo(torch.float16).smallest_normal * 2**-10)


def test_no_epsilon_biases_softmax_cross_entropy():
    """Widely copied code: log(softmax + eps) biases the loss and kills the gradient of hard rows."""

    def defective(input, target, eps=1e-6):
        return -torch.log(input.softmax(1).gather(1, target[:, None]) + eps).mean()

    scores, target = [[-30.0, 0.0, 1.0]], torch.tensor([0])
    value, gradient = with_gradient(defective, scores, target)
    assert value < 14
    assert gradient.abs().max() < 1e-6
    for loss in (softmax_cross_entropy, softmax_focal_loss):
        value, gradient = with_gradient(loss, scores, target)
        close(value, 30 + math.log(1 + math.e), rtol=1e-10)
        close(gradient[0, 0], -1.0, rtol=1e-10)


# ---- state: what torchjd and the DTP fragments get wrong for tasks, GHM's average must get right -----------


@GHM
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_broken_batch_does_not_poison_the_state(module, bad):
    """Torchjd's FAMO: one NaN batch poisons it for good."""
    ours, unbroken = module(momentum=0.5), module(momentum=0.5)
    for step, (scores, target) in enumerate(batches(3)):
        if step == 1:
            broken = scores.clone()
            broken[3] = bad * (1 - 2 * target[3])  # infinitely wrong
            assert not ours(broken, target).isfinite()
        assert ours(scores, target).item() == unbroken(scores, target).item()
    assert torch.equal(ours.ema, unbroken.ema)
    assert torch.equal(ours.steps, unbroken.steps)
    ours(broken, target, mask=broken.isfinite())  # what is masked breaks no batch
    assert ours.steps == unbroken.steps + 1


@GHM
def test_state_survives_save_and_resume(module):
    """Fragments of DTP, and torchjd: the state_dict is empty or the state is lost on resume."""
    ours, resumed = module(momentum=0.5), module(momentum=0.5)
    stream = list(batches(4))
    for scores, target in stream[:2]:
        ours(scores, target)
    assert set(ours.state_dict()) >= {"ema", "steps"}
    resumed.load_state_dict(ours.state_dict())
    for scores, target in stream[2:]:
        assert resumed(scores, target).item() == ours(scores, target).item()


@GHM
@pytest.mark.parametrize("cast", ["half", "bfloat16"])
def test_state_stays_in_float32_in_a_half_precision_model(module, cast):
    """Uncertainty weighting everywhere: bf16 state sticks, for a small step rounds away."""
    ours, full = module(momentum=0.99), module(momentum=0.99)
    getattr(torch.nn.Sequential(ours), cast)()
    assert ours.ema.dtype == torch.float32
    assert ours.steps.dtype == torch.int64
    for scores, target in itertools.chain(batches(3), batches(3)):
        ours(scores, target)
        full(scores, target)
    assert torch.equal(ours.ema, full.ema)
