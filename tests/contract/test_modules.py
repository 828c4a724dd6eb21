"""A module keeps its options as a module should, and says the same as its function."""

import copy
import inspect
import pickle

import pytest
import torch

from cases import cases, constructor_options, is_stateful, parameters
from harness import assert_equal, build, call, call_function, each_card, each_sample

# ------------------------------------------------------------------------------------- options, state and precision


def trained(card, sample):
    """The module and a case, after a training step where it has state, so that there is something to lose."""
    case = cases(card, sample)[0]
    module = build(card, sample, case)
    if is_stateful(card):
        call(module, case)
        assert module.steps == (1 if module.momentum else 0)
    return module.eval(), case


def assert_same(module, other, case):
    """Both say the same, to the bit, about a case."""
    expected_value, expected_gradient = call(module, case)
    value, gradient = call(other, case)
    assert_equal(value, expected_value, rtol=0, what="value")
    assert_equal(gradient, expected_gradient, rtol=0, what="gradient")
    assert list(other.state_dict()) == list(module.state_dict())
    for name, tensor in module.state_dict().items():
        assert other.state_dict()[name].dtype == tensor.dtype
        assert_equal(other.state_dict()[name], tensor, rtol=0, what=name)


def copied_by_state_dict(card, sample, module):
    """A module of the same options, whose buffers are spoilt before the saved ones are loaded."""
    other = build(card, sample).eval()
    for buffer in other.buffers():
        buffer.fill_(7)
    other.load_state_dict(module.state_dict(), strict=True)
    return other


COPIES = {
    "deepcopy": lambda card, sample, module: copy.deepcopy(module),
    "pickle": lambda card, sample, module: pickle.loads(pickle.dumps(module)),
    "state_dict": copied_by_state_dict,
}


@pytest.mark.parametrize("copied", COPIES)
@each_sample("options as buffers")
def test_a_copy_says_the_same_and_shares_nothing(card, sample, copied):
    module, case = trained(card, sample)
    other = COPIES[copied](card, sample, module)
    assert_same(module, other, case)
    expected, _ = call(module, case)
    for buffer in other.buffers():
        buffer.fill_(5)
    assert_equal(call(module, case)[0], expected, rtol=0, what="value after a change of the copy")


@each_sample("options as buffers")
def test_the_repr_is_code_for_an_equal_module(card, sample):
    module = build(card, sample).eval()
    other = eval(repr(module), {card.module.__name__: card.module}).eval()
    assert repr(other) == repr(module)
    for name in parameters(card.module):
        assert name in repr(module) or getattr(module, name) is None, f"{name} is missing"
    assert_same(module, other, cases(card, sample)[0])


@each_sample("options as buffers")
def test_vectors_and_state_are_buffers(card, sample):
    options = constructor_options(card, sample)
    vectors = {name for name, value in options.items() if isinstance(value, (tuple, list))}
    module = build(card, sample)
    assert vectors <= set(dict(module.named_buffers())), "a vector option must move and be saved with the module"
    assert {"ema", "steps"} <= set(module.state_dict()) or not is_stateful(card)
    assert set(dict(module.named_buffers())) == set(module.state_dict()), "a buffer is not saved"
    assert not list(module.parameters())


CASTS = {
    "half": lambda module: module.half(),
    "bfloat16": lambda module: module.bfloat16(),
    "float": lambda module: module.float(),
    "to float16": lambda module: module.to(torch.float16),
    "half of a model": lambda module: torch.nn.Sequential(torch.nn.Linear(2, 2), module).half()[1],
}


@pytest.mark.parametrize("cast", CASTS)
@each_sample("options as buffers")
def test_a_cast_rounds_no_buffer(card, sample, cast):
    module, case = trained(card, sample)
    expected = copy.deepcopy(module)
    assert_same(expected, CASTS[cast](module), case)


@pytest.mark.parametrize("cast", [{}, {"dtype": torch.float16}], ids=["moved", "moved and cast"])
@each_sample("options as buffers")
def test_a_module_moves_to_another_device(card, sample, cast):
    module, case = trained(card, sample)
    dtypes = {name: tensor.dtype for name, tensor in module.state_dict().items()}
    expected, _ = call(module, case)
    module.to(device="meta", **cast)
    assert {name: tensor.dtype for name, tensor in module.state_dict().items()} == dtypes
    assert all(buffer.is_meta for buffer in module.buffers())
    batch = {name: tensor.to("meta") for name, tensor in case.batch.items()}
    value = module(case.input.to("meta"), case.target.to("meta"), **batch)
    assert value.is_meta
    assert value.shape == expected.shape
    assert value.dtype == expected.dtype


@each_sample("options as buffers")
def test_options_given_as_tensors_or_arrays_are_the_same_options(card, sample):
    options = constructor_options(card, sample)
    vectors = {name: value for name, value in options.items() if isinstance(value, (tuple, list))}
    numbers = {name: value for name, value in options.items() if isinstance(value, float)}
    case = cases(card, sample)[0]
    expected, _ = call(card.module(**options).eval(), case)
    for convert in (torch.tensor, lambda value: torch.tensor(value).numpy()):
        converted = {name: convert(value) for name, value in vectors.items()}
        value, _ = call(card.module(**{**options, **converted}).eval(), case)
        assert_equal(value, expected, rtol=1e-7, what="vectors")
    converted = {name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()}
    value, _ = call(card.module(**{**options, **converted}).eval(), case)
    assert_equal(value, expected, rtol=1e-12, what="0-d tensors")
    if card.function is not None and not options.get("momentum"):
        value, _ = call_function(card, {**options, **converted}, case)
        assert_equal(value, expected, rtol=1e-12, what="0-d tensors of the function")


@each_card("options as buffers")
def test_a_vector_option_is_a_copy(card):
    """Changing the tensor that was passed must not change the loss."""
    options = {name: torch.tensor(value) for name, value in card.required.items() if isinstance(value, (tuple, list))}
    if "weight" in parameters(card.module):
        options["weight"] = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)
    case = cases(card)[0]
    module = build(card, options).eval()
    expected, _ = call(module, case)
    for value in options.values():
        value.fill_(9)
    assert_equal(call(module, case)[0], expected, rtol=0, what="value")


# ------------------------------------------------------------------------------------------ signatures and defaults


def has_function(card):
    return card.function is not None


def options_of(target):
    """Everything but what comes with every call by position."""
    return {name: each for name, each in parameters(target).items() if name not in ("input", "target", "counts")}


@each_card("module equals function: keywords and defaults", where=has_function)
def test_module_and_function_take_the_same_keywords(card):
    module = {*options_of(card.module), *options_of(card.module.forward)}
    assert module == {*options_of(card.function), *card.module_only}
    assert not options_of(card.module).keys() & options_of(card.module.forward).keys()


@each_card("module equals function: keywords and defaults", where=has_function)
def test_module_and_function_have_the_same_defaults(card):
    module = options_of(card.module) | options_of(card.module.forward)
    for name, parameter in options_of(card.function).items():
        assert module[name].default == parameter.default, name


@each_card("module equals function: keywords and defaults")
def test_options_are_keyword_only_and_the_call_begins_with_input_and_target(card):
    for target in filter(None, (card.module, card.module.forward, card.function)):
        for name, parameter in options_of(target).items():
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, f"{target.__qualname__}: {name}"
    for target in filter(None, (card.module.forward, card.function)):
        assert list(parameters(target))[:2] == ["input", "target"]


@each_card("module equals function: keywords and defaults")
def test_the_card_tells_the_truth_about_required_and_module_only_options(card):
    required = {name for name, each in parameters(card.module).items() if each.default is inspect.Parameter.empty}
    assert required == set(card.required)
    assert card.module_only <= set(parameters(card.module))
