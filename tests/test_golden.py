"""Functions and modules equal every golden value and gradient. golden/__init__.py tells where the values are from."""

import numpy as np
import pytest
import torch

import equipoise
import golden

MODULE_OF = {
    "sigmoid_focal_loss": "SigmoidFocalLoss",
    "softmax_focal_loss": "SoftmaxFocalLoss",
    "ghm_c_loss": "GHMCLoss",
    "ghm_r_loss": "GHMRLoss",
}
# At gamma = 0 the golden values are cross-entropy's.
CROSS_ENTROPY_OF = {"sigmoid_focal_loss": "sigmoid_cross_entropy", "softmax_focal_loss": "softmax_cross_entropy"}


def tensors(case):
    """Input as a float64 leaf; target as it is written: integers stay integers."""
    scores = torch.tensor(case["input"], dtype=torch.float64, requires_grad=True)
    return scores, torch.from_numpy(np.array(case["target"]))


def close(actual, expected, smallest):
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=smallest)


def assert_golden(loss, case, smallest):
    """`loss(input, target)` with reduction none has the case's values, and its sum the case's gradient."""
    scores, target = tensors(case)
    values = loss(scores, target)
    close(values.detach(), case["value"], smallest)
    close(torch.autograd.grad(values.sum(), scores)[0], case["grad_of_sum"], smallest)


ELEMENTWISE_AND_ROWS = [
    pytest.param(case, golden.SMALLEST[name], id=f"{name}-{number}-{golden.describe(case)}")
    for name in ("sigmoid", "softmax", "ghm")
    for number, case in enumerate(golden.load(name))
]


@pytest.mark.parametrize(("case", "smallest"), ELEMENTWISE_AND_ROWS)
def test_function(case, smallest):
    function = getattr(equipoise, case["loss"])
    assert_golden(lambda input, target: function(input, target, **case["kwargs"]), case, smallest)


@pytest.mark.parametrize(("case", "smallest"), ELEMENTWISE_AND_ROWS)
def test_module(case, smallest):
    assert_golden(getattr(equipoise, MODULE_OF[case["loss"]])(**case["kwargs"]), case, smallest)


@pytest.mark.parametrize(
    ("case", "smallest"),
    [one for one in ELEMENTWISE_AND_ROWS if one.values[0]["kwargs"].get("gamma") == 0],
)
def test_cross_entropy_is_focal_loss_at_gamma_0(case, smallest):
    options = {key: case["kwargs"].get(key) for key in ("weight", "pos_weight") if case["kwargs"].get(key) is not None}
    function = getattr(equipoise, CROSS_ENTROPY_OF[case["loss"]])
    assert_golden(lambda input, target: function(input, target, reduction="none", **options), case, smallest)


@pytest.mark.parametrize("case", golden.parameters("ghm"))
def test_mean_of_ghm(case):
    options = {**case["kwargs"], "reduction": "mean"}
    actual = getattr(equipoise, case["loss"])(*tensors(case), **options)
    close(actual.detach(), case["mean"], 0.0)


@pytest.mark.parametrize("case", golden.parameters("class_balanced"))
def test_mean_of_class_balanced(case):
    options = dict(case["init"])
    loss = getattr(equipoise, case["loss"])(options.pop("counts"), **options)
    close(loss(*tensors(case)).detach(), case["mean"], 0.0)


@pytest.mark.parametrize("case", golden.parameters("weights"))
def test_weights(case):
    options = dict(case["args"])
    close(equipoise.effective_number_weights(options.pop("counts"), **options), case["value"], 0.0)
