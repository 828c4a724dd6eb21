"""A ranking module keeps its options, says the same as its function, and a call changes nothing."""

import copy
import inspect
import pickle
import random

import pytest
import torch

from cases import parameters
from harness import assert_equal, leaf
from ranking_cases import (
    build,
    call_named,
    calls,
    each_ranked,
    each_ranked_sample,
    evaluate,
    invoke,
    pair_names,
)

COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "repr": lambda module: eval(repr(module), {type(module).__name__: type(module)}),
    "half": lambda module: copy.deepcopy(module).half(),
    "bfloat16 of a model": lambda module: torch.nn.Sequential(copy.deepcopy(module)).bfloat16()[0],
}


@pytest.mark.parametrize("copied", COPIES)
@each_ranked_sample("options as buffers")
def test_a_copy_says_the_same(card, sample, copied):
    module, call = build(card, sample), call_named(card, "typical", sample)
    other = COPIES[copied](module)
    assert repr(other) == repr(module)
    assert not list(module.state_dict())
    expected, expected_gradients = evaluate(module, call)
    value, gradients = evaluate(other, call)
    assert_equal(value, expected, rtol=0, what="value")
    for name, gradient in gradients.items():
        assert_equal(gradient, expected_gradients[name], rtol=0, what=name)


@each_ranked_sample("options as buffers")
def test_the_repr_names_every_option(card, sample):
    module = build(card, sample)
    for name in parameters(card.module):
        assert f"{name}=" in repr(module) or getattr(module, name) is None


@each_ranked_sample("options as buffers")
def test_numbers_given_as_tensors_are_the_same_options(card, sample):
    call = call_named(card, "typical", sample)
    expected, _ = evaluate(build(card, sample), call)
    converted = {n: torch.tensor(v, dtype=torch.float64) if type(v) is float else v for n, v in sample.items()}
    assert_equal(evaluate(card.module(**converted), call)[0], expected, rtol=1e-12, what="module")
    assert_equal(
        evaluate(lambda *a, **k: card.function(*a, **k, **converted), call)[0], expected, rtol=1e-12, what="function"
    )


# ------------------------------------------------------------------------------------------ signatures and defaults


def is_positional(card, name):
    if card.kind == "pairs":
        return name in (*pair_names(card), "target")
    return name in ("input", "target", "embedding", "label", "query", "key") and not (
        card.name == "info_nce" and name == "label"
    )


@each_ranked("module equals function: keywords and defaults")
def test_module_and_function_take_the_same_arguments(card):
    call, module, function = (parameters(each) for each in (card.module.forward, card.module, card.function))
    assert not call.keys() & module.keys()
    assert {**call, **module}.keys() == function.keys()
    for name, parameter in function.items():
        assert {**call, **module}[name].default == parameter.default, name
        kind = {**call, **module}[name].kind
        expected = parameter.POSITIONAL_OR_KEYWORD if is_positional(card, name) else inspect.Parameter.KEYWORD_ONLY
        assert parameter.kind == kind == expected, name
    assert [name for name in function if is_positional(card, name)] == list(function)[
        : len(call) - sum(not is_positional(card, name) for name in call)
    ]


@each_ranked("module equals function: keywords and defaults")
def test_nothing_is_required(card):
    assert not card.required
    assert all(each.default is not inspect.Parameter.empty for each in parameters(card.module).values())


# ----------------------------------------------------------------------------------------------------- purity


@each_ranked_sample("inputs are not changed")
def test_no_tensor_of_the_caller_is_changed(card, sample):
    for call in calls(card, sample):
        owned = {**call.inputs, **call.batch, **({} if call.target is None else {"target": call.target})}
        before = {name: (tensor.clone(), tensor._version) for name, tensor in owned.items()}
        evaluate(build(card, sample), call)
        for name, (saved, version) in before.items():
            assert torch.equal(owned[name], saved), f"{name}, {call.name}"
            assert owned[name]._version == version, f"{name}, {call.name}"


@pytest.mark.parametrize("enabled", [True, False])
@each_ranked_sample("grad mode is not changed")
def test_the_grad_mode_is_what_it_was(card, sample, enabled):
    call = call_named(card, "typical", sample)
    leaves = {name: leaf(tensor) for name, tensor in call.inputs.items()}
    with torch.set_grad_enabled(enabled):
        value = invoke(build(card, sample), call, leaves)
        assert torch.is_grad_enabled() is enabled
        assert value.requires_grad is enabled
    with torch.inference_mode():
        assert_equal(invoke(build(card, sample), call), value.detach(), rtol=1e-14, what="inference_mode")


@each_ranked_sample("the random state is not changed")
def test_no_random_number_is_drawn(card, sample):
    before = (torch.get_rng_state(), random.getstate())
    evaluate(build(card, sample), call_named(card, "typical", sample))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


@each_ranked_sample("no gradient is computed for a tensor that wants none", where=lambda card: card.kind != "groups")
def test_one_input_alone_may_want_a_gradient(card, sample):
    call = call_named(card, "reference" if card.name in ("batch_triplet", "batch_contrastive", "supcon") else "typical")
    _, expected = evaluate(build(card, sample), call)
    for name in call.inputs:
        leaves = {each: leaf(t) if each == name else t for each, t in call.inputs.items()}
        invoke(build(card, sample), call, leaves).sum().backward()
        assert_equal(leaves[name].grad, expected[name], rtol=1e-12, atol=1e-15, what=name)
