"""Numbers that papers and well-known implementations publish, each with its source.

Lin et al.: "Focal Loss for Dense Object Detection", ICCV 2017. Cui et al.: "Class-Balanced Loss Based on Effective
Number of Samples", CVPR 2019. Li et al.: "Gradient Harmonized Single-stage Detector", AAAI 2019. Vectors: the small
inputs of the project's formulas, gamma 2, alpha (softmax: weight) .25, sum / N.
"""

import math

import pytest
import torch

import equipoise


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


def close(actual, expected, atol):
    """Equal to the digits printed: `atol` is half a unit of the last one."""
    torch.testing.assert_close(torch.as_tensor(actual).double(), f64(expected), rtol=0, atol=atol)


def close_to_float32(actual, expected):
    """Equal to a number that its source computed in float32."""
    torch.testing.assert_close(actual, f64(expected), rtol=1e-6, atol=0)


# ---- focal loss --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "expected"), [(1, 0.0433217), (0, 0.1299651)])
def test_focal_loss_of_an_undecided_example(target, expected):
    """Source: Lin et al., eq. 5, at z = 0: alpha_t / 4 * log 2."""
    value = equipoise.sigmoid_focal_loss(f64(0.0), torch.tensor(target), gamma=2.0, alpha=0.25)
    close(value, expected, 5e-8)
    close(value, (0.25 if target else 0.75) / 4 * math.log(2), 1e-16)


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize(("p_t", "times", "accuracy"), [(0.9, 100.0, 1e-9), (0.968, 1000.0, 25.0)])
def test_easy_examples_weigh_less_than_in_cross_entropy(target, p_t, times, accuracy):
    """Source: Lin et al., section 3.2: at gamma 2, p_t .9 has 100 times lower loss than CE, p_t about .968 1000."""
    z = f64(math.log(p_t / (1 - p_t)) * (1 if target else -1))
    cross_entropy = equipoise.sigmoid_cross_entropy(z, torch.tensor(target))
    close(cross_entropy / equipoise.sigmoid_focal_loss(z, torch.tensor(target), gamma=2.0), times, accuracy)


def test_misclassified_examples_keep_a_quarter_of_the_loss():
    """Source: Lin et al., section 3.2: "scaled down by at most 4x for p_t <= .5 and gamma = 2"."""
    z = torch.linspace(-20, 0, 50, dtype=torch.float64)
    y = torch.ones(50)
    focal = equipoise.sigmoid_focal_loss(z, y, gamma=2.0, reduction="none")
    cross_entropy = equipoise.sigmoid_cross_entropy(z, y, reduction="none")
    assert (cross_entropy / focal).max().item() == pytest.approx(4.0, rel=1e-12)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"weight": 3.0}], ids=str)
def test_detection_divides_by_the_number_of_positives(options):
    """Source: Lin et al., section 4.1: the loss divided by the number of anchors assigned to a box."""
    scores, target = f64([1.0, -2.0, 0.5, 3.0]), f64([0.0, 0.25, 1.0, 1.0])
    for kept, positives in [([1, 1, 1, 1], 2.25), ([1, 1, 0, 0], 1), ([1, 0, 0, 0], 1)]:  # never by less than 1
        mask = torch.tensor(kept, dtype=torch.bool)
        total, mean = (
            equipoise.sigmoid_focal_loss(scores, target, mask=mask, reduction=reduction, **options)
            for reduction in ("sum", "mean_positive")
        )
        close(mean, total.item() / positives, 1e-15)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("y", [-1, 1])
def test_gradient_of_focal_loss(y, gamma):
    """Source: Lin et al., appendix B: dFL/dx = y (1 - p_t)^gamma (gamma p_t log p_t + p_t - 1)."""
    x = torch.linspace(-4, 4, 17, dtype=torch.float64, requires_grad=True)
    equipoise.sigmoid_focal_loss(x, torch.full((17,), float(y > 0)), gamma=gamma, reduction="sum").backward()
    p_t = torch.sigmoid(y * x.detach())
    expected = y * (1 - p_t) ** gamma * (gamma * p_t * p_t.log() + p_t - 1)
    torch.testing.assert_close(x.grad, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [([[1, 0], [0, 1]], [0, 1], 0.13562961), ([[1, 0, -1], [0, 1, 2]], [2, 1], 1.10251057)],
)
def test_sigmoid_vectors(logits, labels, expected):
    """Source: Vectors, one-hot targets."""
    one_hot = torch.nn.functional.one_hot(torch.tensor(labels), len(logits[0]))
    total = equipoise.sigmoid_focal_loss(f64(logits), one_hot, gamma=2.0, alpha=0.25, reduction="sum")
    close_to_float32(total / len(labels), expected)


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [([[1, 0], [0, 1]], [0, 1], 0.00566451), ([[1, 0, -1], [0, 1, 2]], [2, 1], 0.34956908)],
)
def test_softmax_vectors(logits, labels, expected):
    """Source: Vectors, alpha as the weight of every class."""
    weight = [0.25] * len(logits[0])
    total = equipoise.softmax_focal_loss(f64(logits), torch.tensor(labels), gamma=2.0, weight=weight, reduction="sum")
    close_to_float32(total / len(labels), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("rivals", [[], [-math.inf], [-math.inf, -math.inf]], ids=["none", "one", "two"])
def test_a_class_without_rivals_costs_nothing(rivals, gamma):
    """Source: the project's formulas: every other logit -inf, or C = 1: value 0, gradient 0."""
    scores = f64([[2.0, *rivals]]).requires_grad_()
    value = equipoise.softmax_focal_loss(scores, torch.tensor([0]), gamma=gamma)
    value.backward()
    assert value.item() == 0
    assert torch.equal(scores.grad, torch.zeros_like(scores))


# ---- balance -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("positives", "negatives"), [(1, 99), (30, 10), (5, 5)])
def test_alpha_balances_the_two_classes(positives, negatives):
    """Source: balanced cross-entropy's rule alpha / (1 - alpha) = negatives / positives."""
    target = torch.tensor([1] * positives + [0] * negatives)
    alpha = equipoise.balancing_alpha(target)
    close(alpha / (1 - alpha), negatives / positives, 1e-12)
    # With it, undecided positives and undecided negatives weigh the same in total.
    loss = equipoise.balanced_cross_entropy(torch.zeros_like(target).double(), target, alpha=alpha, reduction="none")
    close(loss[:positives].sum(), loss[positives:].sum().item(), 1e-12)


@pytest.mark.parametrize(("labels", "expected"), [([], 0.5), ([1, 1], 0.5), ([0, 0], 0.5), ([0, 0, 0, 1], 0.75)])
def test_alpha_of_few_labels(labels, expected):
    """Source: the project's formulas: one class alone, or no label, gives 1/2."""
    close(equipoise.balancing_alpha(torch.tensor(labels)), expected, 0)


@pytest.mark.parametrize(("pi", "expected"), [(0.01, -4.595120), (0.5, 0.0), (1 / 1000, -math.log(999))])
def test_prior_bias(pi, expected):
    """Source: Lin et al., section 4.1, b = -log((1 - pi) / pi); Cui et al.: pi = 1/C gives b = -log(C - 1)."""
    bias = equipoise.prior_bias(pi)
    close(bias, expected, 5e-7)
    close(torch.sigmoid(f64(bias)), pi, 1e-15)


# ---- class-balanced loss -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        (0.0, [1.0, 1.0, 1.0]),
        (0.9, [0.998276, 0.998276, 1.003448]),
        (0.99, [0.661041, 0.665413, 1.673546]),
        (0.999, [0.125629, 0.317017, 2.557354]),
        (0.9999, [0.034107, 0.275167, 2.690725]),
        (1.0, [0.027027, 0.270270, 2.702703]),
    ],
)
def test_class_balanced_weights_of_a_long_tail(beta, expected):
    """Source: Cui et al., eq. 4, the betas of their experiments, on class sizes 5000, 500, 50 of long-tailed CIFAR."""
    close(equipoise.effective_number_weights([5000, 500, 50], beta=beta), expected, 5e-7)


def test_inverse_frequency_is_the_limit_of_beta():
    """Source: Cui et al., section 3.2: as beta goes to 1, 1/E_n goes to the inverse class frequency."""
    close(equipoise.inverse_frequency_weights([5000, 500, 50]), [0.027027, 0.270270, 2.702703], 5e-7)


def test_readme_example_of_balanced_loss():
    """Source: README of the balanced-loss package: three classes, counts 30, 100, 25, beta .999, gamma 2."""
    logits, labels, counts = f64([[0.78, 0.1, 0.05], [0.78, 0.83, 0.05]]), torch.tensor([0, 2]), [30, 100, 25]
    one_hot = torch.nn.functional.one_hot(labels, 3)
    close_to_float32(equipoise.sigmoid_focal_loss(logits, one_hot, gamma=2.0, reduction="sum") / 2, 0.856053)
    balanced = equipoise.ClassBalancedSigmoidFocalLoss(counts, beta=0.999, gamma=2.0)
    close_to_float32(balanced(logits, labels), 1.175118)
    close_to_float32(equipoise.softmax_cross_entropy(logits, labels), 1.173434)
    balanced = equipoise.ClassBalancedSoftmaxFocalLoss(counts, beta=0.999, gamma=0.0)
    close_to_float32(balanced(logits, labels), 1.599432)


def test_class_balanced_focal_loss_weighs_the_focal_loss_of_a_whole_row():
    """Source: Cui et al., section 4.3, with the alpha that Lin et al. put before each term."""
    logits, labels, counts = f64([[0.7, -0.1, 2.0], [0.8, -3.0, 0.1]]), torch.tensor([2, 0]), [5000, 500, 50]
    balanced = equipoise.ClassBalancedSigmoidFocalLoss(counts, beta=0.999, gamma=1.0, alpha=0.25, reduction="none")
    one_hot = torch.nn.functional.one_hot(labels, 3)
    rows = equipoise.sigmoid_focal_loss(logits, one_hot, gamma=1.0, alpha=0.25, reduction="none").sum(1)
    torch.testing.assert_close(balanced(logits, labels), rows * f64([2.557354, 0.125629]), rtol=1e-5, atol=0)


# ---- gradient harmonizing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("normalizer", ["nonempty", "all"])
def test_equal_gradient_density_is_cross_entropy(normalizer):
    """Source: Li et al., AAAI 2019, "Gradient Density": for uniformly distributed g every beta_i is 1."""
    g = (torch.arange(50, dtype=torch.float64) + 0.5) / 50
    z, y = torch.log(g / (1 - g)), torch.zeros(50)
    harmonized = equipoise.ghm_c_loss(z, y, bins=10, normalizer=normalizer, reduction="none")
    torch.testing.assert_close(harmonized, equipoise.sigmoid_cross_entropy(z, y, reduction="none"), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("normalizer", "bins_counted"), [("nonempty", 2), ("all", 10)])
def test_ghm_weighs_by_the_inverse_of_the_gradient_density(normalizer, bins_counted):
    """Source: Li et al., beta_i = N / GD(g_i) with GD = R * M; M is all bins in the paper, non-empty in the code."""
    z, y = f64([-3.0, -3.0, -3.0, 3.0]), torch.zeros(4)
    weights = equipoise.ghm_c_loss(z, y, normalizer=normalizer, reduction="none") / equipoise.sigmoid_cross_entropy(
        z, y, reduction="none"
    )
    close(weights, [4 / (3 * bins_counted)] * 3 + [4 / bins_counted], 1e-12)


def test_ghm_regression_base_is_a_smooth_absolute_value():
    """Source: Li et al., ASL1 = sqrt(d^2 + mu^2) - mu with mu = .02: |d| - mu for large d, d^2 / (2 mu) for small."""
    for d, expected in [(3.0, 2.98), (-3.0, 2.98), (1e-6, 1e-12 / 0.04), (0.0, 0.0)]:
        value = equipoise.ghm_r_loss(f64([d]), f64([0.0]), mu=0.02, reduction="none")
        torch.testing.assert_close(value, f64([expected]), rtol=1e-4, atol=0)
