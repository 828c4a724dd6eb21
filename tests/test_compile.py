"""The losses compiled by inductor, torch's default backend, equal eager: one test per family, for it takes seconds.

That every loss compiles into one graph is tested with a cheaper backend in `contract/test_transforms.py`.
"""

import pytest
import torch

from cases import card_named, case_named
from harness import assert_equal, build, call

# inductor imports parts of torch that torch itself has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

FAMILIES = {
    "sigmoid": ("sigmoid_focal", {"alpha": 0.25}, "masked"),
    "softmax": ("softmax_focal", {"label_smoothing": 0.1}, "ignored"),
    "ghm": ("ghm_c", {"momentum": 0.75}, "masked"),
    "class-balanced": ("class_balanced_softmax_focal", {}, "ignored"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_inductor_equals_eager(family):
    torch._dynamo.reset()
    name, options, case = FAMILIES[family]
    card = card_named(name)
    case = case_named(card, case).to(torch.float32)
    eager, module = build(card, options), build(card, options)
    expected_value, expected_gradient = call(eager, case)
    value, gradient = call(torch.compile(module, fullgraph=True), case)
    assert_equal(value, expected_value, rtol=1e-5, what="value")
    assert_equal(gradient, expected_gradient, rtol=1e-4, atol=1e-7, what="gradient")
    for name, tensor in eager.state_dict().items():
        assert_equal(module.state_dict()[name], tensor, rtol=1e-6, what=name)
