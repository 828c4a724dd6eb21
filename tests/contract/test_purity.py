"""A call changes nothing but the state that a stateful loss is there to keep."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from cases import cases, constructor_options, normal
from harness import assert_equal, build, call_function, each_sample, leaf


def tensors_of(case, options):
    """Every tensor that the caller owns, by name."""
    owned = {"input": case.input, "target": case.target, **case.batch, **options}
    return {name: value for name, value in owned.items() if isinstance(value, torch.Tensor)}


@each_sample("inputs are not changed")
def test_no_tensor_of_the_caller_is_changed(card, sample):
    for case in cases(card, sample):
        options = constructor_options(card, sample, **case.options)
        options = {n: torch.tensor(v) if isinstance(v, (tuple, list)) else v for n, v in options.items()}
        owned = tensors_of(case, options)
        before = {name: (tensor.clone(), tensor._version) for name, tensor in owned.items()}
        scores = leaf(case.input)
        card.module(**options)(scores, case.target, **case.batch).sum().backward()
        if card.function is not None:
            call_function(card, options, case)
        for name, (copy, version) in before.items():
            assert_equal(owned[name], copy, rtol=0, what=f"{name}, {case.name}")
            assert owned[name]._version == version, f"{name}, {case.name}: written to, if only with its own value"


@pytest.mark.parametrize("enabled", [True, False])
@each_sample("grad mode is not changed")
def test_the_grad_mode_is_what_it_was(card, sample, enabled):
    case = cases(card, sample)[0]
    with torch.set_grad_enabled(enabled):
        value = build(card, sample, case)(leaf(case.input), case.target, **case.batch)
        assert torch.is_grad_enabled() is enabled
        assert value.requires_grad is enabled


@each_sample("grad mode is not changed")
def test_values_without_gradients_are_the_same(card, sample):
    case = cases(card, sample)[0]
    expected = build(card, sample, case)(leaf(case.input), case.target, **case.batch)
    with torch.no_grad():
        assert_equal(build(card, sample, case)(leaf(case.input), case.target), expected, rtol=0, what="no_grad")
    with torch.inference_mode():
        assert_equal(build(card, sample, case)(case.input, case.target), expected, rtol=0, what="inference_mode")
    assert_equal(build(card, sample, case)(case.input, case.target), expected, rtol=0, what="no leaf")


@each_sample("the random state is not changed")
def test_no_random_number_is_drawn(card, sample):
    case = cases(card, sample)[0]
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())  # noqa: NPY002
    build(card, sample, case)(leaf(case.input), case.target, **case.batch).sum().backward()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()  # noqa: NPY002


@each_sample("no reference is kept")
def test_a_call_leaves_no_graph_in_the_module(card, sample):
    """A running statistic that carries a graph makes the second step's backward fail, or memory grow."""
    case = cases(card, sample)[0]
    module = build(card, sample, case)
    for step in range(3):
        scores = leaf(replace(case, input=case.input + normal(f"step {step}", 1)).input)
        module(scores, case.target, **case.batch).sum().backward()
    assert not any(tensor.requires_grad for tensor in module.buffers())
