"""A module of a linear layer's loss keeps its options, says the same as its function, and a call changes nothing."""

import copy
import inspect
import pickle
import random

import pytest
import torch

from cases import parameters
from harness import assert_equal, leaf
from head_cases import each_head, each_head_sample, fitting_calls, head_call
from ranking_cases import build, evaluate, invoke


def from_state(module):
    """A fresh one of spoilt options, with the saved buffers loaded."""
    other = copy.deepcopy(module)
    for buffer in other.buffers():
        buffer.fill_(-7)
    other.load_state_dict(module.state_dict(), strict=True)
    return other


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "repr": lambda module: eval(repr(module), {type(module).__name__: type(module)}),
    "state_dict": from_state,
    "half": lambda module: copy.deepcopy(module).half(),
    "bfloat16 of a model": lambda module: torch.nn.Sequential(copy.deepcopy(module)).bfloat16()[0],
}


@pytest.mark.parametrize("copied", COPIES)
@each_head_sample("options as buffers")
def test_a_copy_says_the_same(card, sample, copied):
    module, call = build(card, sample), head_call(card, "typical", sample)
    other = COPIES[copied](module)
    assert repr(other) == repr(module)
    vectors = {name for name, value in sample.items() if isinstance(value, (tuple, list))}
    assert set(module.state_dict()) == set(other.state_dict()) == vectors
    assert not list(module.parameters())
    expected, expected_gradients = evaluate(module, call)
    value, gradients = evaluate(other, call)
    assert_equal(value, expected, rtol=0, what="value")
    for name, gradient in gradients.items():
        assert_equal(gradient, expected_gradients[name], rtol=0, what=name)


@each_head_sample("options as buffers")
def test_the_repr_names_every_option(card, sample):
    module = build(card, sample)
    for name in parameters(card.module):
        assert f"{name}=" in repr(module) or getattr(module, name) is None


@each_head_sample("options as buffers")
def test_options_given_as_tensors_are_the_same_options(card, sample):
    call = head_call(card, "typical", sample)
    expected, _ = evaluate(build(card, sample), call)
    converted = {
        name: torch.tensor(value, dtype=None if name == "logit_adjustment" else torch.float64)
        if isinstance(value, (float, tuple, list))
        else value
        for name, value in sample.items()
    }
    assert_equal(evaluate(card.module(**converted), call)[0], expected, rtol=1e-12, what="module")
    value, _ = evaluate(lambda *a, **k: card.function(*a, **k, **converted), call)
    assert_equal(value, expected, rtol=1e-12, what="function")


@each_head_sample("options as buffers")
def test_a_module_moves_to_another_device(card, sample):
    call = head_call(card, "typical", sample)
    module = build(card, sample).to("meta")
    inputs = {name: tensor.to("meta") for name, tensor in call.inputs.items()}
    value = module(inputs["input"], inputs["linear_weight"], call.target.to("meta"), linear_bias=inputs["linear_bias"])
    assert value.is_meta
    assert value.shape == ()


# ------------------------------------------------------------------------------------------ signatures and defaults

POSITIONAL = ["input", "linear_weight", "target"]


@each_head("module equals function: keywords and defaults")
def test_module_and_function_take_the_same_arguments(card):
    call, module, function = (parameters(each) for each in (card.module.forward, card.module, card.function))
    assert not call.keys() & module.keys()
    assert {**call, **module}.keys() == function.keys()
    assert list(call)[:3] == list(function)[:3] == POSITIONAL
    for name, parameter in function.items():
        other = {**call, **module}[name]
        assert other.default == parameter.default, name
        expected = parameter.POSITIONAL_OR_KEYWORD if name in POSITIONAL else inspect.Parameter.KEYWORD_ONLY
        assert parameter.kind == other.kind == expected, name


@each_head("module equals function: keywords and defaults")
def test_the_names_are_those_of_torch(card):
    torchs = set(inspect.signature(torch.nn.functional.linear_cross_entropy).parameters) - {"options"}
    ours = set(parameters(card.function))
    assert torchs - ours <= ({"ignore_index"} if card.name == "linear_sigmoid_focal" else set())


# ----------------------------------------------------------------------------------------------------- purity


@each_head_sample("inputs are not changed")
def test_no_tensor_of_the_caller_is_changed(card, sample):
    """Not even in place of itself: a version counter that moves makes another user's backward pass fail."""
    for call in fitting_calls(card, sample):
        for reduction in ("none", "mean"):
            leaves = {name: leaf(tensor) for name, tensor in call.inputs.items()}
            owned = {**leaves, **call.batch, "target": call.target}
            before = {name: (tensor.detach().clone(), tensor._version) for name, tensor in owned.items()}
            invoke(build(card, sample, reduction=reduction), call, leaves).sum().backward()
            for name, (saved, version) in before.items():
                assert torch.equal(owned[name], saved), f"{name}, {call.name}"
                assert owned[name]._version == version, f"{name}, {call.name}"


@pytest.mark.parametrize("enabled", [True, False])
@each_head_sample("grad mode is not changed")
def test_the_grad_mode_is_what_it_was(card, sample, enabled):
    call = head_call(card, "typical", sample)
    leaves = {name: leaf(tensor) for name, tensor in call.inputs.items()}
    with torch.set_grad_enabled(enabled):
        value = invoke(build(card, sample), call, leaves)
        assert torch.is_grad_enabled() is enabled
        assert value.requires_grad is enabled
    with torch.inference_mode():
        assert_equal(invoke(build(card, sample), call), value.detach(), rtol=1e-14, what="inference_mode")


@each_head_sample("the random state is not changed")
def test_no_random_number_is_drawn(card, sample):
    before = (torch.get_rng_state(), random.getstate())
    evaluate(build(card, sample), head_call(card, "typical", sample))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
