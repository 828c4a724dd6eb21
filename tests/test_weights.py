"""Class counts, and the weights and biases from them: exact where numbers cancel, defined where classes are missing."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import equipoise
import oracle.weights as naive
from equipoise import (
    balancing_alpha,
    class_counts,
    effective_number_weights,
    inverse_frequency_weights,
    prior_bias,
)

COUNTS = st.lists(st.one_of(st.just(0), st.integers(1, 50), st.integers(1, 10**12)), min_size=1, max_size=8)
BETA = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1), st.integers(1, 15).map(lambda digits: 1 - 10.0**-digits))


def close(actual, expected, rtol=1e-12, atol=0.0):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)


# ---- effective number --------------------------------------------------------------------------------------


@given(counts=COUNTS, beta=BETA, normalize=st.booleans())
def test_effective_number_weights_equal_60_digit_arithmetic(counts, beta, normalize):
    actual = effective_number_weights(counts, beta=beta, normalize=normalize)
    close(actual, naive.effective_number_weights(counts, beta, normalize))


@pytest.mark.parametrize("n", [1, 2, 50, 1000, 20_000])
def test_beta_next_to_1_loses_no_digit(n):
    """1 - beta^n by subtraction would be wrong in the 9th digit; the fractions are exact."""
    beta = 0.9999999
    exact = float((1 - Fraction(beta)) / (1 - Fraction(beta) ** n))
    close(effective_number_weights([n], beta=beta, normalize=False), [exact], rtol=2e-15)


def test_beta_0_weighs_every_class_alike_and_beta_1_by_inverse_count():
    counts = [7, 1, 0, 90]
    close(effective_number_weights(counts, beta=0.0, normalize=False), [1.0, 1.0, 0.0, 1.0])
    close(effective_number_weights(counts, beta=1.0, normalize=False), [1 / 7, 1.0, 0.0, 1 / 90])
    close(effective_number_weights(counts, beta=1.0), inverse_frequency_weights(counts))


@pytest.mark.parametrize("beta", [5e-324, 1e-17, 1e-16, 1e-8])
def test_the_smallest_betas_weigh_almost_alike(beta):
    close(
        effective_number_weights([1, 2, 0, 1000], beta=beta, normalize=False),
        [1.0, 1.0, 0.0, 1.0],
        rtol=2 * beta + 1e-15,
    )


def test_beta_weighs_a_single_sample_1():
    for beta in (0.0, 0.5, 0.999, 1 - 2**-53, 1.0):
        close(effective_number_weights([1], beta=beta, normalize=False), [1.0], rtol=1e-15)


@given(counts=COUNTS, beta=BETA)
def test_rarer_classes_weigh_no_less(counts, beta):
    weights = effective_number_weights(counts, beta=beta).tolist()
    seen = sorted((count, weight) for count, weight in zip(counts, weights, strict=True) if count)
    for (_, more), (_, less) in itertools.pairwise(seen):
        assert less <= more * (1 + 1e-14)


# ---- inverse frequency -------------------------------------------------------------------------------------


@given(counts=COUNTS, power=st.floats(0, 4), normalize=st.booleans())
def test_inverse_frequency_weights_equal_60_digit_arithmetic(counts, power, normalize):
    actual = inverse_frequency_weights(counts, power=power, normalize=normalize)
    close(actual, naive.inverse_frequency_weights(counts, power, normalize))


def test_power_goes_from_no_balance_to_full_balance():
    close(inverse_frequency_weights([100, 25, 0], power=0.0), [1.0, 1.0, 0.0])
    close(inverse_frequency_weights([100, 25, 0], power=0.5), [2 / 3, 4 / 3, 0.0])
    close(inverse_frequency_weights([100, 25, 0], power=1.0), [0.4, 1.6, 0.0])


# ---- what both promise -------------------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("weights", [effective_number_weights, inverse_frequency_weights])


@BOTH
@given(counts=COUNTS)
def test_weights_sum_to_the_number_of_classes_seen_and_a_missing_class_weighs_0(weights, counts):
    found = weights(counts)
    assert found.sum().item() == pytest.approx(sum(count > 0 for count in counts), rel=1e-12)
    assert [weight == 0 for weight in found.tolist()] == [count == 0 for count in counts]


@BOTH
def test_no_class_seen_gives_zeros(weights):
    close(weights([0, 0, 0]), [0.0, 0.0, 0.0])
    close(weights([0, 0, 0], normalize=False), [0.0, 0.0, 0.0])


@BOTH
def test_huge_counts_stay_finite(weights):
    found = weights([10**15, 10**18, 1])
    assert torch.isfinite(found).all()
    assert found[2] > 2.9


@BOTH
@pytest.mark.parametrize(
    "counts",
    [
        [3, 1],
        (3, 1),
        [3.0, 1.0],
        np.array([3, 1]),
        torch.tensor([3, 1]),
        torch.tensor([3.0, 1.0], requires_grad=True),
        torch.tensor([3, 1], dtype=torch.int32),
    ],
    ids=["list", "tuple", "floats", "array", "tensor", "parameter", "int32"],
)
def test_counts_may_be_any_vector_and_weights_are_float64(weights, counts):
    found = weights(counts)
    assert found.dtype == torch.float64
    assert not found.requires_grad
    close(found, weights([3, 1]).tolist())


@BOTH
@pytest.mark.parametrize(
    ("counts", "error"),
    [
        ([[1, 2]], ValueError),
        (3, ValueError),
        ([1, -2], ValueError),
        ([1.0, math.nan], ValueError),
        ([1.0, math.inf], ValueError),
        (["a"], TypeError),
        (None, TypeError),
    ],
    ids=["matrix", "number", "negative", "nan", "infinite", "words", "none"],
)
def test_bad_counts_are_named(weights, counts, error):
    with pytest.raises(error, match="`counts`"):
        weights(counts)


@pytest.mark.parametrize("beta", [-0.1, 1.1, math.nan])
def test_bad_beta_is_named(beta):
    with pytest.raises(ValueError, match="`beta`"):
        effective_number_weights([1, 2], beta=beta)


@pytest.mark.parametrize("power", [-1.0, math.nan])
def test_bad_power_is_named(power):
    with pytest.raises(ValueError, match="`power`"):
        inverse_frequency_weights([1, 2], power=power)


# ---- class counts ------------------------------------------------------------------------------------------


@given(labels=st.lists(st.one_of(st.integers(0, 4), st.just(-100)), max_size=30))
def test_indices_are_counted(labels):
    counts = class_counts(torch.tensor(labels, dtype=torch.int64), 5)
    assert counts.dtype == torch.int64
    assert counts.tolist() == naive.class_counts(labels, 5).tolist()


@given(rows=st.lists(st.lists(st.integers(0, 1), min_size=3, max_size=3), max_size=10))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bool, torch.int64, torch.uint8])
def test_multi_label_rows_are_counted(dtype, rows):
    labels = torch.tensor(rows, dtype=dtype).reshape(-1, 3)
    said = None if dtype.is_floating_point or dtype == torch.bool else True
    counts = class_counts(labels, 3, multilabel=said)
    assert counts.dtype == torch.int64
    assert counts.tolist() == naive.class_counts(rows, 3, multilabel=True).tolist()


def test_indices_of_any_shape_and_integer_type_are_counted():
    labels = torch.tensor([[[0, 2], [2, 1]]])
    for dtype in (torch.int64, torch.int32, torch.int16, torch.uint8):
        assert class_counts(labels.to(dtype), 4).tolist() == [1, 1, 2, 0]


def test_dense_multi_label_maps_are_counted_on_the_last_dimension():
    assert class_counts(torch.ones(2, 5, 3), 3).tolist() == [10, 10, 10]


def test_ignored_indices_are_not_counted():
    assert class_counts(torch.tensor([0, 7, 1, 7]), 2, ignore_index=7).tolist() == [1, 1]
    assert class_counts(torch.tensor([0, 1, 1]), 2, ignore_index=1).tolist() == [1, 0]


def test_no_labels_count_zero():
    assert class_counts(torch.zeros(0, dtype=torch.int64), 3).tolist() == [0, 0, 0]
    assert class_counts(torch.zeros(0, 3), 3).tolist() == [0, 0, 0]
    assert class_counts(torch.full((4,), -100), 2).tolist() == [0, 0]


def test_integer_rows_that_could_be_either_must_say_which():
    labels = torch.tensor([[0, 1], [1, 1]])
    with pytest.raises(ValueError, match="`multilabel`"):
        class_counts(labels, 2)
    assert class_counts(labels, 2, multilabel=True).tolist() == [1, 2]
    assert class_counts(labels, 2, multilabel=False).tolist() == [1, 3]
    assert class_counts(labels, 3).tolist() == [1, 3, 0]  # no row of three: indices


@pytest.mark.parametrize(
    ("labels", "options", "error", "named"),
    [
        (torch.tensor([0, 3]), {}, ValueError, "`labels`"),
        (torch.tensor([-1, 0]), {}, ValueError, "`labels`"),
        (torch.tensor([[0.0, 0.5, 1.0]]), {}, ValueError, "`labels`"),
        (torch.tensor([[0.0, math.nan, 1.0]]), {}, ValueError, "`labels`"),
        (torch.tensor([0.0, 1.0]), {}, ValueError, "`labels`"),
        (torch.tensor([0.0, 1.0]), {"multilabel": False}, TypeError, "`labels`"),
        ("ab", {}, TypeError, "`labels`"),
        (torch.tensor([0]), {"num_classes": 0}, ValueError, "`num_classes`"),
        (torch.tensor([0]), {"num_classes": 2.0}, TypeError, "`num_classes`"),
    ],
    ids=["above", "below", "fraction", "nan", "columns", "float index", "text", "no class", "float classes"],
)
def test_bad_labels_are_named(labels, options, error, named):
    with pytest.raises(error, match=named):
        class_counts(labels, options.pop("num_classes", 3), **options)


@pytest.mark.parametrize("make", [list, np.array, pd.Series], ids=["list", "array", "series"])
def test_labels_may_be_what_people_have(make):
    labels = make([0, 2, 2, 1])
    assert class_counts(labels, 3).tolist() == [1, 1, 2]
    assert equipoise.ClassBalancedSoftmaxFocalLoss.from_labels(labels, 3).counts.tolist() == [1, 1, 2]
    assert balancing_alpha(make([1, 0, 0, 0])).item() == 0.75
    assert equipoise.BalancedCrossEntropyLoss.from_labels(make([1, 0, 0, 0])).alpha == 0.75


def test_small_integer_labels_keep_all_their_classes():
    """-100 is 156 in uint8, the usual dtype of segmentation maps: class 156 is no ignored one."""
    labels = torch.tensor([156, 156, 1], dtype=torch.uint8)
    assert class_counts(labels, 200)[[1, 156]].tolist() == [1, 2]


def test_read_only_counts_are_taken_without_a_warning():
    counts = np.array([3, 4, 5])
    counts.flags.writeable = False
    assert effective_number_weights(counts, beta=0.0).tolist() == [1, 1, 1]


def test_from_labels_counts_the_labels():
    indices = torch.tensor([0, 0, 2, -100])
    rows = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    for loss in (equipoise.ClassBalancedSigmoidFocalLoss, equipoise.ClassBalancedSoftmaxFocalLoss):
        expected = effective_number_weights([2, 0, 1], beta=0.9).tolist()
        close(loss.from_labels(indices, 3, beta=0.9).class_weight, expected)
        close(loss.from_labels(rows, 3, beta=0.9).class_weight, expected)
        close(loss.from_labels(torch.tensor([0, 0, 2, 1]), 3, beta=0.9, ignore_index=1).class_weight, expected)


# ---- alpha and the prior -----------------------------------------------------------------------------------


@given(positives=st.integers(0, 1000), negatives=st.integers(0, 1000))
def test_alpha_is_the_share_of_negatives_and_a_half_where_one_side_is_missing(positives, negatives):
    labels = [1] * positives + [0] * negatives
    expected = negatives / (positives + negatives) if positives and negatives else 0.5
    close(balancing_alpha(torch.tensor(labels)), expected, rtol=1e-15)
    assert naive.balancing_alpha(labels) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float32, torch.float64])
def test_alpha_takes_labels_of_any_type_and_counts_them_exactly(dtype):
    labels = torch.zeros(70_000, dtype=dtype)
    labels[:3] = 1
    close(balancing_alpha(labels), 69_997 / 70_000, rtol=1e-15)


def test_alpha_per_class_treats_each_column_alone():
    target = torch.tensor([[1, 0, 1, 0], [0, 0, 1, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
    alpha = balancing_alpha(target, per_class=True)
    assert alpha.dtype == torch.float64
    close(alpha, [0.75, 0.5, 0.5, 0.5])
    close(balancing_alpha(target.reshape(2, 2, 4), per_class=True), alpha.tolist())
    close(balancing_alpha(torch.zeros(0, 3), per_class=True), [0.5, 0.5, 0.5])


def test_alpha_of_soft_labels_counts_their_parts():
    close(balancing_alpha(torch.tensor([0.25, 0.75, 0.0, 0.0], dtype=torch.float64)), 0.75)


def test_balanced_loss_from_labels_holds_that_alpha():
    labels = torch.tensor([[1, 0], [0, 0], [0, 1], [0, 1]])
    assert equipoise.BalancedCrossEntropyLoss.from_labels(labels).alpha == pytest.approx(5 / 8)
    close(equipoise.BalancedCrossEntropyLoss.from_labels(labels, 2).alpha, [0.75, 0.5])
    with pytest.raises(ValueError, match="`labels`"):
        equipoise.BalancedCrossEntropyLoss.from_labels(labels, 3)


@pytest.mark.parametrize(
    ("target", "options", "error"),
    [
        (torch.tensor([0.0, 2.0]), {}, ValueError),
        (torch.tensor([0, -1]), {}, ValueError),
        (torch.tensor([0.0, math.nan]), {}, ValueError),
        (torch.tensor(1.0), {"per_class": True}, ValueError),
        (["a", "b"], {}, TypeError),
    ],
    ids=["above", "below", "nan", "0-d", "text"],
)
def test_bad_targets_of_alpha_are_named(target, options, error):
    with pytest.raises(error, match="`target`"):
        balancing_alpha(target, **options)


@given(pi=st.floats(1e-300, 1 - 2**-53))
def test_prior_bias_is_the_logit_of_pi(pi):
    bias = prior_bias(pi)
    assert isinstance(bias, float)
    assert bias == pytest.approx(math.log(pi / (1 - pi)), rel=1e-12, abs=1e-15)
    assert bias == pytest.approx(naive.prior_bias(pi), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("pi", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_bad_pi_is_named(pi):
    with pytest.raises(ValueError, match="`pi`"):
        prior_bias(pi)


def test_log_priors_are_the_logs_of_the_shares_times_tau():
    priors = equipoise.log_priors([700, 250, 50])
    assert priors.dtype == torch.float64
    torch.testing.assert_close(priors.exp(), torch.tensor([0.7, 0.25, 0.05], dtype=torch.float64))
    torch.testing.assert_close(equipoise.log_priors([700, 250, 50], tau=2.0), 2 * priors)


@pytest.mark.parametrize(
    ("counts", "tau", "name"), [([3, 0], 1.0, "counts"), ([3, -1], 1.0, "counts"), ([3], -1.0, "tau")]
)
def test_log_priors_need_samples_of_every_class(counts, tau, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        equipoise.log_priors(counts, tau=tau)
