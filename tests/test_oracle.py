"""The oracle is proved too: by golden values, naive high-precision arithmetic, finite differences, SciPy and torch."""

import decimal
from decimal import Decimal

import numpy as np
import pytest
import torch
from scipy import special

import golden
from oracle import ORACLES, MovingGHM, reduce
from oracle.ghm import bin_of
from oracle.weights import (
    balancing_alpha,
    class_counts,
    effective_number_weights,
    inverse_frequency_weights,
    prior_bias,
)

CARD_OF = {
    "sigmoid_focal_loss": "sigmoid_focal",
    "softmax_focal_loss": "softmax_focal",
    "ghm_c_loss": "ghm_c",
    "ghm_r_loss": "ghm_r",
    "ClassBalancedSigmoidFocalLoss": "class_balanced_sigmoid_focal",
    "ClassBalancedSoftmaxFocalLoss": "class_balanced_softmax_focal",
}


def close(actual, expected, rtol=1e-13, atol=0.0):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol, strict=True)


# ---- golden values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sigmoid", "softmax", "ghm", "class_balanced"])
def test_oracle_equals_every_golden_case(name):
    for case in golden.load(name):
        options = case.get("kwargs") or case["init"]
        target = np.array(case["target"])
        values, gradient = ORACLES[CARD_OF[case["loss"]]](case["input"], target, options)
        if "value" in case:
            close(values, np.array(case["value"]), atol=golden.SMALLEST[name])
            close(gradient, np.array(case["grad_of_sum"]), atol=golden.SMALLEST[name])
        if "mean" in case:
            mean = reduce(CARD_OF[case["loss"]], values, case["input"], target, {**options, "reduction": "mean"})
            close(mean, np.float64(case["mean"]))


def test_oracle_weights_equal_every_golden_case():
    for case in golden.load("weights"):
        close(effective_number_weights(**case["args"]), np.array(case["value"]), rtol=1e-15)


# ---- naive formulas in 400 digits: nothing can cancel, and a difference quotient is a derivative -----------

DIGITS = decimal.Context(prec=400)
STEP = Decimal("1e-60")


def exact_sigmoid_focal(z, y, gamma, alpha, pos_weight):
    p = 1 / (1 + (-z).exp())
    p_t = y * p + (1 - y) * (1 - p)
    alpha_t = 1 if alpha is None else alpha * y + (1 - alpha) * (1 - y)
    return alpha_t * (1 - p_t) ** gamma * -(pos_weight * y * p.ln() + (1 - y) * (1 - p).ln())


def exact_softmax_focal(z, y, gamma, weight):
    total = sum(x.exp() for x in z)
    p = [x.exp() / total for x in z]
    return sum(-y[c] * weight[c] * (1 - p[c]) ** gamma * p[c].ln() for c in range(len(z)) if y[c])


def exact_slope(function, z, index):
    """The central difference quotient, here exact to more than 30 digits of the smallest float64."""
    up, down = list(z), list(z)
    up[index] += STEP
    down[index] -= STEP
    return (function(up) - function(down)) / (2 * STEP)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 2.0, 20.0])
@pytest.mark.parametrize("y", [0.0, 1.0, 0.3, 1 - 2**-40])
def test_sigmoid_focal_is_right_to_the_last_digits_from_tail_to_tail(gamma, y):
    z = np.array([-700.0, -89.1, -37.0, -12.3, -1.0, -1e-9, 0.0, 0.7, 5.0, 20.0, 41.5, 300.25, 700.0])
    options = {"gamma": gamma, "alpha": 0.25, "pos_weight": 3.0}
    values, gradient = ORACLES["sigmoid_focal"](z, np.full_like(z, y), options)
    with decimal.localcontext(DIGITS):

        def loss(point):
            return exact_sigmoid_focal(point[0], Decimal(y), Decimal(gamma), Decimal("0.25"), 3)

        points = [[Decimal(x)] for x in z]
        close(values, np.array([float(loss(point)) for point in points]), rtol=5e-13, atol=1e-307)
        close(gradient, np.array([float(exact_slope(loss, point, 0)) for point in points]), rtol=5e-13, atol=1e-307)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 2.0, 20.0])
@pytest.mark.parametrize("target", [1, [0.1, 0.7, 0.2], [0.0, 0.5, 0.5]], ids=["index", "soft", "half"])
def test_softmax_focal_is_right_to_the_last_digits_from_tail_to_tail(gamma, target):
    rows = np.array([[0.1, 0.2, -0.3], [-1.0, 30.0, 2.0], [40.0, -40.0, 39.5], [-350.0, 350.0, -349.0], [5, 5, 90.0]])
    weight = np.array([0.5, 2.0, 1.25])
    y = np.eye(3)[target] if target == 1 else np.array(target)
    targets = np.full(len(rows), 1) if target == 1 else np.tile(y, (len(rows), 1))
    values, gradient = ORACLES["softmax_focal"](rows, targets, {"gamma": gamma, "weight": weight})
    with decimal.localcontext(DIGITS):

        def loss(z):
            return exact_softmax_focal(z, [Decimal(v) for v in y], Decimal(gamma), [Decimal(w) for w in weight])

        for row, value, slopes in zip(rows, values, gradient, strict=True):
            z = [Decimal(x) for x in row]
            close(value, np.float64(float(loss(z))), rtol=5e-13, atol=1e-307)
            expected = np.array([float(exact_slope(loss, z, c)) for c in range(3)])
            # Soft targets subtract terms of opposite sign, which no float64 formula can avoid.
            close(slopes, expected, rtol=5e-13, atol=1e-307 if target == 1 else 1e-14 * np.abs(expected).max())


def test_logits_of_ten_thousand_keep_value_and_gradient():
    z, y = np.array([1e4, 1e4, -1e4, -1e4]), np.array([0.0, 1.0, 0.0, 1.0])
    for gamma in (0.0, 0.5, 2.0, 20.0):
        values, gradient = ORACLES["sigmoid_focal"](z, y, {"gamma": gamma})
        close(values, np.array([1e4, 0.0, 0.0, 1e4]))
        close(gradient, np.array([1.0, 0.0, 0.0, -1.0]))
        values, gradient = ORACLES["softmax_focal"]([[1e4, -1e4]] * 2, np.array([0, 1]), {"gamma": gamma})
        close(values, np.array([0.0, 2e4]))
        close(gradient, np.array([[0.0, 0.0], [1.0, -1.0]]))
        values, gradient = ORACLES["sigmoid_focal"](z, np.full(4, 0.5), {"gamma": gamma})
        close(values, np.full(4, 0.5 * 1e4 * 0.5**gamma))


def test_a_tiny_smoothing_keeps_its_digits():
    values, _ = ORACLES["sigmoid_focal"]([50.0], [1.0], {"gamma": 0.0, "label_smoothing": 1e-12})
    close(values, np.array([1e-12 / 2 * 50 + np.exp(-50)]), rtol=1e-12)


def test_a_class_without_rivals_costs_nothing():
    for z in ([[3.0]], [[3.0, -np.inf]]):
        for gamma in (0.0, 0.5, 2.0):
            values, gradient = ORACLES["softmax_focal"](z, np.array([0]), {"gamma": gamma})
            close(values, np.zeros(1))
            close(gradient, np.zeros_like(z))


# ---- finite differences: the closed-form gradient of every loss, with its options together -----------------

RNG = np.random.default_rng(20260101)
BINARY = (RNG.random((5, 3)) < 0.4).astype(np.float64)
SOFT = RNG.random((5, 3))
DISTRIBUTION = RNG.dirichlet(np.ones(3), size=5)
INDEX = np.array([0, 2, 1, -100, 2])
MASK = RNG.random((5, 3)) < 0.7
CLASS_WEIGHT = np.array([0.5, 2.0, 1.25])
COUNTS = [3000, 40, 0]
GRADIENT_CASES = {
    "bce": ("sigmoid_cross_entropy", SOFT, {"pos_weight": [1.0, 3.0, 0.5], "weight": CLASS_WEIGHT, "mask": MASK}),
    "balanced": ("balanced_cross_entropy", BINARY, {"alpha": [0.1, 0.5, 0.9], "label_smoothing": 0.1}),
    "focal": ("sigmoid_focal", BINARY, {"gamma": 1.5, "alpha": 0.25, "mask": MASK[:, :1]}),
    "focal soft": ("sigmoid_focal", SOFT, {"gamma": 0.5, "alpha": [0.1, 0.5, 0.9], "pos_weight": 2.0}),
    "focal smooth": ("sigmoid_focal", BINARY, {"gamma": 3.0, "label_smoothing": 0.2, "weight": CLASS_WEIGHT}),
    "ce": ("softmax_cross_entropy", INDEX, {"weight": CLASS_WEIGHT, "label_smoothing": 0.1}),
    "softmax": ("softmax_focal", INDEX, {"weight": CLASS_WEIGHT, "sample_weight": [1.0, 2.0, 0.0, 3.0, 0.5]}),
    "softmax smooth": ("softmax_focal", INDEX, {"gamma": 0.5, "label_smoothing": 0.3, "ignore_index": 2}),
    "softmax soft": ("softmax_focal", DISTRIBUTION, {"gamma": 2.5, "weight": CLASS_WEIGHT}),
    "balanced sigmoid": ("class_balanced_sigmoid_focal", INDEX, {"counts": COUNTS, "beta": 0.99, "alpha": 0.3}),
    "balanced multi-label": (
        "class_balanced_sigmoid_focal",
        BINARY,
        {"counts": COUNTS, "mask": MASK, "label_smoothing": 0.1},
    ),
    "balanced softmax": (
        "class_balanced_softmax_focal",
        INDEX,
        {"counts": COUNTS, "beta": 0.999, "label_smoothing": 0.1},
    ),
    "balanced softmax soft": ("class_balanced_softmax_focal", DISTRIBUTION, {"counts": COUNTS, "beta": 0.99}),
    "ghm_c": ("ghm_c", BINARY, {"bins": 5, "weight": CLASS_WEIGHT, "mask": MASK}),
    "ghm_c soft": ("ghm_c", SOFT, {"bins": 5, "normalizer": "all"}),
    "ghm_r": ("ghm_r", SOFT, {"bins": 5, "mu": 0.5, "mask": MASK}),
}


@pytest.mark.parametrize("case", GRADIENT_CASES)
def test_gradient_equals_finite_differences(case):
    name, target, options = GRADIENT_CASES[case]
    if isinstance(target, np.ndarray) and target is INDEX and options.get("ignore_index") == 2:
        target = np.where(INDEX == -100, 0, INDEX)
    x, h = np.random.default_rng(7).normal(size=(5, 3)) * 2, 1e-3
    _, gradient = ORACLES[name](x, target, options)

    def total(index, step):
        moved = x.copy()
        moved[index] += step
        return ORACLES[name](moved, target, options)[0].sum()

    expected = np.zeros_like(x)
    for index in np.ndindex(x.shape):  # five-point formula: the error is of order h^4
        near, far = total(index, h) - total(index, -h), total(index, 2 * h) - total(index, -2 * h)
        expected[index] = (8 * near - far) / (12 * h)
    close(gradient, expected, rtol=1e-9, atol=1e-10)
    assert np.any(gradient != 0)


# ---- SciPy and torch ---------------------------------------------------------------------------------------


def test_cross_entropies_equal_scipy():
    z = np.random.default_rng(3).normal(size=(6, 4)) * 30
    y = np.random.default_rng(4).random((6, 4))
    values, gradient = ORACLES["sigmoid_cross_entropy"](z, y, {})
    close(values, -special.xlog1py(y, 0) - y * special.log_expit(z) - (1 - y) * special.log_expit(-z))
    close(gradient, special.expit(z) - y, rtol=1e-12, atol=1e-15)
    y /= y.sum(axis=1, keepdims=True)
    values, gradient = ORACLES["softmax_cross_entropy"](z, y, {})
    close(values, -(y * special.log_softmax(z, axis=1)).sum(axis=1))
    close(gradient, special.softmax(z, axis=1) - y, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("shape", [(4,), (6, 4), (3, 4, 2), (2, 4, 3, 2)], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["index", "probabilities"])
@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_cross_entropy_equals_torch(shape, smoothing, kind, weighted):
    rng = np.random.default_rng(5)
    z = rng.normal(size=shape) * 3
    axis = 0 if len(shape) == 1 else 1
    without_classes = shape[:axis] + shape[axis + 1 :]
    if kind == "index":
        target = rng.integers(4, size=without_classes)
        target = np.where(rng.random(without_classes) < 0.3, -100, target) if target.size > 1 else target
    else:
        target = rng.random(shape)
    weight = np.array([0.5, 2.0, 1.0, 0.1]) if weighted else None
    for reduction in ("none", "sum", "mean"):
        x = torch.tensor(z, requires_grad=True)
        torch_options = {"label_smoothing": smoothing, "reduction": reduction}
        torch_weight = None if weight is None else torch.tensor(weight)
        expected = torch.nn.functional.cross_entropy(x, torch.as_tensor(target), torch_weight, **torch_options)
        options = {"weight": weight, "label_smoothing": smoothing, "reduction": reduction}
        values, gradient = ORACLES["softmax_cross_entropy"](z, target, options)
        actual = reduce("softmax_cross_entropy", values, z, target, options)
        close(np.asarray(actual), expected.detach().numpy(), rtol=1e-13, atol=1e-15)
        if reduction == "sum":
            close(gradient, torch.autograd.grad(expected, x)[0].numpy(), rtol=1e-12, atol=1e-15)


def test_sigmoid_cross_entropy_equals_torch():
    rng = np.random.default_rng(6)
    z, y, weight, pos_weight = rng.normal(size=(5, 3)), rng.random((5, 3)), rng.random(3), 1 + rng.random(3)
    options = {"weight": weight, "pos_weight": pos_weight}
    values, _ = ORACLES["sigmoid_cross_entropy"](z, y, options)
    for reduction in ("none", "sum", "mean"):
        expected = torch.nn.functional.binary_cross_entropy_with_logits(
            *map(torch.tensor, (z, y, weight)), reduction=reduction, pos_weight=torch.tensor(pos_weight)
        )
        actual = reduce("sigmoid_cross_entropy", values, z, y, {**options, "reduction": reduction})
        close(np.asarray(actual), expected.numpy())


# ---- reductions, masks and the moving average, by hand -----------------------------------------------------


def test_reductions_divide_by_what_the_specification_says():
    values = np.array([[1.0, 2.0], [3.0, 4.0]])
    z, y = np.zeros((2, 2)), np.array([[1.0, 0.5], [1.0, 0.0]])

    def reduced(name, reduction, **options):
        return reduce(name, values, z, options.pop("target", y), {"reduction": reduction, **options})

    assert reduced("sigmoid_focal", "sum") == 10
    assert reduced("sigmoid_focal", "mean") == 10 / 4
    assert reduced("sigmoid_focal", "mean", mask=[[True], [False]]) == 10 / 2
    assert reduced("sigmoid_focal", "mean_positive", label_smoothing=0.5) == 10 / 2.5
    assert reduced("sigmoid_focal", "mean_positive", mask=[[False], [True]]) == 10 / 1
    assert reduced("sigmoid_focal", "mean_positive", mask=[[False, True]]) == 10 / 1
    assert reduced("sigmoid_focal", "mean", mask=False) == 0
    assert reduced("softmax_focal", "mean", target=np.array([1, 0]), weight=[0.5, 3.0]) == 10 / 3.5
    assert reduced("softmax_focal", "mean", target=np.array([1, -100]), weight=[0.5, 3.0]) == 10 / 3
    assert reduced("softmax_focal", "mean", target=y, weight=[0.5, 3.0]) == 10 / 2
    assert reduced("class_balanced_softmax_focal", "mean", target=np.array([1, -100]), counts=[1, 2]) == 10 / 1
    assert reduced("class_balanced_softmax_focal", "mean", counts=[1, 2]) == 10 / 2
    assert reduced("class_balanced_sigmoid_focal", "mean", target=np.array([1, 0]), counts=[1, 2]) == 10 / 2
    assert reduced("class_balanced_sigmoid_focal", "mean", counts=[1, 2]) == 10 / 4
    assert reduced("ghm_c", "mean", mask=[[True], [False]]) == 10 / 2


@pytest.mark.parametrize("name", ORACLES)
def test_what_is_ignored_changes_nothing_and_what_is_kept_passes_a_nan_on(name):
    required = {"balanced": {"alpha": 0.3}, "class": {"counts": COUNTS}}
    options = required.get(name.partition("_")[0], {})
    z, dirty = np.ones((2, 3)), np.ones((2, 3))
    dirty[1] = np.nan
    if "softmax" in name:
        target, ignored = np.array([0, -100]), {}
    else:
        target, ignored = np.ones((2, 3)), {"mask": [[True], [False]]}
    clean = ORACLES[name](z, target, {**options, **ignored})
    for actual, expected in zip(ORACLES[name](dirty, target, {**options, **ignored}), clean, strict=True):
        close(actual, expected)
    values, gradient = ORACLES[name](dirty, np.array([0, 1]) if "softmax" in name else target, options)
    assert np.isnan(values[1]).all() or name.startswith("class_balanced")  # there, the class never seen has weight 0
    assert np.isnan(gradient[1]).any()


def test_the_oracle_refuses_an_option_it_does_not_know():
    with pytest.raises(KeyError, match="smoothing"):
        ORACLES["sigmoid_focal"]([0.0], [1.0], {"smoothing": 0.1})


def test_bins_are_half_open_and_the_last_one_is_closed():
    assert bin_of(np.array([0.0, 0.1, 0.29, 0.3, 0.5, 0.95, 1.0]), 10).tolist() == [0, 1, 2, 3, 5, 9, 9]


def test_moving_average_by_hand():
    """Two bins, momentum 1/2. Batch 1 has 3 easy and 1 hard example, batch 2 one of each."""
    ghm = MovingGHM("ghm_c", {"bins": 2, "momentum": 0.5})
    easy, hard = 2.0, -2.0
    ce = {z: np.log1p(np.exp(-z)) for z in (easy, hard)}

    values, _ = ghm(np.array([easy, easy, easy, hard]), np.ones(4))
    close(values, np.array([ce[easy]] * 3 + [ce[hard] * 3]) * 4 / (3 * 2))
    # S = (1.5, .5) -> (1.25, .75); divided by 1 - 1/4: (5/3, 1).
    values, _ = ghm(np.array([easy, hard]), np.ones(2))
    close(values, np.array([ce[easy] * 3 / 5, ce[hard]]) * 2 / 2)
    assert ghm.steps == 2

    ghm(np.array([np.nan, hard]), np.ones(2))
    ghm(np.array([easy]), np.ones(1), mask=False)
    assert ghm.steps == 2
    close(ghm.ema, np.array([1.25, 0.75]))

    ghm.training = False
    values, _ = ghm(np.array([easy] * 8 + [hard]), np.ones(9))  # max(5/3, 8/2) and max(1, 1/2)
    close(values, np.array([ce[easy] / 4] * 8 + [ce[hard]]) * 9 / 2)
    assert ghm.steps == 2

    ghm.training = True
    ghm(np.array([np.nan, hard]), np.ones(2), mask=[False, True])  # a NaN that is masked breaks no batch
    assert ghm.steps == 3


def test_evaluation_before_training_uses_the_batch_alone():
    z, y = np.array([2.0, 2.0, -2.0]), np.ones(3)
    ghm = MovingGHM("ghm_c", {"bins": 4, "momentum": 0.9})
    ghm.training = False
    close(ghm(z, y)[0], ORACLES["ghm_c"](z, y, {"bins": 4})[0])


def test_weights_by_hand():
    close(effective_number_weights([1, 2, 0], beta=0.5, normalize=False), np.array([1.0, 2 / 3, 0.0]))
    close(effective_number_weights([1, 2, 0], beta=0.5), np.array([6 / 5, 4 / 5, 0.0]))
    close(inverse_frequency_weights([1, 4, 0], power=0.5, normalize=False), np.array([1.0, 0.5, 0.0]))
    close(inverse_frequency_weights([0, 0]), np.zeros(2))
    assert class_counts([0, 2, 2, -100], 3).tolist() == [1, 0, 2]
    assert class_counts([[1, 0], [1, 1]], 2, multilabel=True).tolist() == [2, 1]
    assert balancing_alpha([1, 0, 0, 0]) == 0.75
    assert balancing_alpha([[1, 0], [0, 0]], per_class=True).tolist() == [0.5, 0.5]
    assert prior_bias(0.5) == 0
