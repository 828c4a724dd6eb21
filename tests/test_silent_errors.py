"""Calls that must not turn into a plausible number: an unknown class, a broken score, an option that is missing."""

import math

import pytest
import torch

import equipoise
from equipoise import (
    BalancedCrossEntropyLoss,
    ClassBalancedSigmoidFocalLoss,
    ClassBalancedSoftmaxFocalLoss,
    SigmoidFocalLoss,
    SoftmaxFocalLoss,
    balanced_cross_entropy,
    softmax_cross_entropy,
    softmax_focal_loss,
)

ROW_LOSSES = [
    softmax_cross_entropy,
    softmax_focal_loss,
    ClassBalancedSoftmaxFocalLoss([5, 3, 2]),
    ClassBalancedSigmoidFocalLoss([5, 3, 2]),
]


@pytest.mark.parametrize("loss", ROW_LOSSES, ids=["cross_entropy", "focal", "balanced softmax", "balanced sigmoid"])
class TestClassIndices:
    def test_an_unknown_class_is_an_error_where_values_can_be_read(self, loss):
        with pytest.raises(ValueError, match="`target`"):
            loss(torch.zeros(2, 3), torch.tensor([0, 3]))

    def test_an_unknown_class_is_nan_where_they_cannot(self, loss):
        """A forgotten label of 255 must not train silently on a GPU; `vmap` stands in for one."""
        if isinstance(loss, torch.nn.Module):
            with pytest.raises(IndexError):
                torch.vmap(loss)(torch.zeros(2, 1, 3), torch.tensor([[0], [3]]))
            return
        values = torch.vmap(loss)(torch.zeros(2, 1, 3), torch.tensor([[0], [3]]))
        assert values[0].isfinite()
        assert values[1].isnan()

    def test_uint8_labels_equal_int64(self, loss):
        """-100 is 156 in uint8: the comparison with ignore_index must not happen there."""
        if isinstance(loss, torch.nn.Module):
            loss = type(loss)([1.0] * 200)
        scores = torch.zeros(1, 200)
        target = torch.tensor([156])
        assert torch.equal(loss(scores, target.to(torch.uint8)), loss(scores, target))
        assert loss(scores, target) > 0


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("row", [[math.nan], [math.nan, -math.inf], [-math.inf, -math.inf], [0.0, math.nan]])
def test_a_broken_row_is_nan(row, gamma):
    scores = torch.tensor([row])
    assert softmax_focal_loss(scores, torch.tensor([0]), gamma=gamma).isnan()
    assert softmax_focal_loss(scores, torch.eye(len(row))[:1], gamma=gamma).isnan()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_only_possible_class_costs_nothing(gamma):
    scores = torch.tensor([[1.5, -math.inf, -math.inf], [0.5, -math.inf, -math.inf]], requires_grad=True)
    loss = softmax_focal_loss(scores, torch.tensor([0, 0]), gamma=gamma)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert loss == 0
    assert (gradient == 0).all()


def test_a_zero_divisor_gives_zero_under_smoothing_too():
    """Smoothing spreads a target of weight 0 over classes of other weights: a sum above 0, divided by nothing."""
    scores = torch.zeros(1, 2, requires_grad=True)
    loss = softmax_cross_entropy(scores, torch.tensor([0]), weight=[0.0, 1.0], label_smoothing=0.1)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert loss == 0
    assert (gradient == 0).all()


def test_alpha_of_none_is_refused():
    with pytest.raises(TypeError, match="`alpha`"):
        balanced_cross_entropy(torch.zeros(2), torch.ones(2), alpha=None)
    with pytest.raises(TypeError, match="`alpha`"):
        BalancedCrossEntropyLoss(alpha=None)


@pytest.mark.parametrize("options", [{"gamma": math.inf}, {"gamma": math.nan}, {"alpha": [0.5, math.nan]}])
def test_options_are_finite(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        SigmoidFocalLoss(**options)


def test_a_weight_to_be_learned_is_refused_by_modules():
    with pytest.raises(ValueError, match="`weight`"):
        SoftmaxFocalLoss(weight=torch.nn.Parameter(torch.ones(3)))


@pytest.mark.parametrize("weight", [2.0, [[1.0, 2.0]]])
def test_class_weights_are_a_vector_from_the_start(weight):
    with pytest.raises(ValueError, match="`weight`"):
        SoftmaxFocalLoss(weight=weight)


def test_complex_weights_are_refused():
    with pytest.raises(TypeError, match="`weight`"):
        equipoise.sigmoid_cross_entropy(torch.zeros(2), torch.ones(2), weight=torch.ones(2, dtype=torch.complex64))


def test_the_layout_is_blamed_not_the_counts():
    with pytest.raises(ValueError, match="`input` must have the 3 classes of `counts` on the last dimension"):
        ClassBalancedSigmoidFocalLoss([3, 2, 1])(torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.int64))


class TestModules:
    def test_are_made_and_printed_on_the_meta_device(self):
        with torch.device("meta"):
            assert repr(SigmoidFocalLoss(alpha=0.25)).startswith("SigmoidFocalLoss(gamma=2.0, alpha=0.25")
        assert "weight=<3 numbers>" in repr(SoftmaxFocalLoss(weight=[1, 2, 3]).to("meta"))

    def test_long_vectors_are_named_not_printed(self):
        assert "weight=<1000 numbers>" in repr(SoftmaxFocalLoss(weight=torch.ones(1000)))

    def test_subclasses_may_have_any_constructor(self):
        class Mine(SigmoidFocalLoss):
            def __init__(self, *args, **kwargs):
                super().__init__(**kwargs)

        assert repr(Mine(gamma=1.0)).startswith("Mine(")

    def test_lists_keep_float64(self):
        assert SoftmaxFocalLoss(weight=[0.1, 0.2]).weight.tolist() == [0.1, 0.2]
