"""Reductions, divisors, and what is left out of them."""

from dataclasses import replace

import pytest
import torch

import equipoise
from cases import (
    Case,
    case_named,
    cases,
    constructor_options,
    has_elements,
    has_indices,
    integers,
    is_regression,
    normal,
    takes,
    uniform,
)
from harness import (
    assert_equal,
    build,
    call,
    call_function,
    each_card,
    each_case,
    each_default_case,
    each_sample,
    leaf,
    tolerance,
    truth,
)


def has_mean_positive(card):
    return has_elements(card) and not takes(card, "counts") and card.op_family == "elementwise"


def reductions(card):
    return ("none", "sum", "mean", *(("mean_positive",) if has_mean_positive(card) else ()))


def documented_divisor(options, case, reduction):
    """What the docstrings say, written once more; a divisor of 0 means that there is nothing to divide."""
    if reduction == "sum":
        return 1.0
    if reduction == "mean_positive":
        return max(1.0, case.target[case.kept].sum().item())
    if case.kind == "indices" and options.get("weight") is not None:
        return torch.tensor(options["weight"], dtype=torch.float64)[case.target[case.kept].long()].sum().item() or 1.0
    return case.kept.sum().item() or 1.0


@each_sample("reductions agree, the divisor is the documented one")
def test_sum_and_means_are_the_values_over_the_documented_divisor(card, sample):
    for case in cases(card, sample):
        values, gradient = call(build(card, sample, case, reduction="none"), case)
        options = constructor_options(card, sample, **case.options)
        for reduction in reductions(card)[1:]:
            divisor = documented_divisor(options, case, reduction)
            value, reduced_gradient = call(build(card, sample, case, reduction=reduction), case)
            what = f"{case.name}, {reduction}"
            assert_equal(value, values.sum() / divisor, rtol=1e-12, what=f"value, {what}")
            assert_equal(reduced_gradient, gradient / divisor, rtol=1e-12, what=f"gradient, {what}")


@each_sample("reductions agree, the divisor is the documented one")
def test_reductions_equal_the_oracle(card, sample):
    for case in cases(card, sample):
        for reduction in reductions(card)[1:]:
            value, gradient = call(build(card, sample, case, reduction=reduction), case)
            expected_value, expected_gradient = truth(card, sample, case, reduction)
            assert_equal(value, expected_value, **tolerance(sample), what=f"value, {case.name}, {reduction}")
            assert_equal(gradient, expected_gradient, **tolerance(sample), what=f"gradient, {case.name}, {reduction}")


@each_card("reductions agree, the divisor is the documented one")
def test_docstrings_name_the_divisor(card):
    for documented in filter(None, (card.module, card.function)):
        assert "divided" in documented.__doc__ or "over kept" in documented.__doc__, documented


@each_card("weights enter no divisor", where=lambda card: has_elements(card) and takes(card, "weight"))
def test_element_weights_broadcast_and_enter_no_divisor(card):
    """A vector weighs the last dimension, `[C, 1, 1]` the maps of a dense input; `mean` still divides by the count."""
    scores = normal("weights", 2, 3, 4, 5)
    target = scores + 0.01 if is_regression(card) else integers("weights", 2, 2, 3, 4, 5).double()
    plain = build(card, {}, reduction="none")(scores, target)
    for weight in (0.3, torch.tensor(0.3), uniform("w", 5), uniform("w", 3, 1, 1), uniform("w", 2, 3, 4, 5)):
        weighed = plain * weight
        value = build(card, {"weight": weight}, reduction="none")(scores, target)
        assert_equal(value, weighed, rtol=1e-12, what=f"weight {weight}")
        value = build(card, {"weight": weight}, reduction="mean")(scores, target)
        assert_equal(value, weighed.sum() / scores.numel(), rtol=1e-12, what=f"mean, weight {weight}")


@each_card("ignored rows change nothing", where=lambda card: takes(card, "sample_weight"))
def test_sample_weights_enter_no_divisor(card):
    for name in ("typical", "dense", "probabilities, typical"):
        case = case_named(card, name)
        weight = uniform("sample weights", *case.kept.shape)
        values, _ = call(build(card, {}, reduction="none"), case)
        value, _ = call(build(card, {}), replace(case, batch={"sample_weight": weight}))
        assert_equal(value, (values * weight).sum() / values.numel(), rtol=1e-12, what=name)


# ------------------------------------------------------------------------------------------- what is left out


POISONS = (float("nan"), float("inf"), -float("inf"), 1e4)


def poisoned(case, poison):
    """The case with `poison` at every place that is left out."""
    if case.kind == "elements":
        target = torch.where(case.kept, case.target, poison)
        return replace(case, input=torch.where(case.kept, case.input, poison), target=target)
    classes_last = case.input.shape[:-1] == case.target.shape
    scores = torch.where(case.kept.unsqueeze(-1 if classes_last else 1), case.input, poison)
    batch = {name: torch.where(case.kept, weight, poison) for name, weight in case.batch.items()}
    return replace(case, input=scores, batch=batch)


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("poison", POISONS)
@each_sample("ignored rows change nothing")
def test_what_is_ignored_changes_nothing(card, sample, poison):
    ignoring = [case for case in cases(card, sample) if not case.kept.all()]
    assert ignoring, "every card can leave something out"
    for case in ignoring:
        for reduction in reductions(card):
            clean, dirty = (
                build(card, sample, case, reduction=reduction),
                build(card, sample, case, reduction=reduction),
            )
            expected_value, expected_gradient = call(clean, case)
            value, gradient = call(dirty, poisoned(case, poison))
            assert_equal(value, expected_value, rtol=0, what=f"value, {case.name}, {reduction}")
            assert_equal(gradient, expected_gradient, rtol=0, what=f"gradient, {case.name}, {reduction}")
            for name, expected in state(clean).items():
                assert_equal(state(dirty)[name], expected, rtol=0, what=f"{name}, {case.name}, {reduction}")


@pytest.mark.parametrize("poison", POISONS)
@each_card("ignored rows change nothing", where=lambda card: takes(card, "sample_weight"))
def test_the_weight_of_an_ignored_sample_changes_nothing(card, poison):
    case = case_named(card, "ignored")
    case = replace(case, batch={"sample_weight": uniform("sample weights", 8)})
    expected_value, expected_gradient = call(build(card, {}), case)
    value, gradient = call(build(card, {}), poisoned(case, poison))
    assert_equal(value, expected_value, rtol=0, what="value")
    assert_equal(gradient, expected_gradient, rtol=0, what="gradient")


@each_card("ignored rows change nothing", where=lambda card: takes(card, "mask") and takes(card, "weight"))
def test_the_weight_of_a_masked_element_changes_nothing(card):
    """Such a weight comes with the batch, hence with the function; a module's weight must be finite."""
    case = case_named(card, "masked")
    weight = uniform("weight", *case.input.shape)
    expected_value, expected_gradient = call_function(card, constructor_options(card, {"weight": weight}), case)
    bad = torch.where(case.batch["mask"], weight, float("nan"))
    value, gradient = call_function(card, constructor_options(card, {"weight": bad}), case)
    assert_equal(value, expected_value, rtol=0, what="value")
    assert_equal(gradient, expected_gradient, rtol=0, what="gradient")


@each_card("ignored rows change nothing")
def test_ignoring_rows_is_leaving_them_out(card):
    for case in cases(card):
        rows = case.kept.flatten(1).all(1) if case.kept.ndim > 1 else case.kept
        left_out = ~case.kept.flatten(1).any(1) if case.kept.ndim > 1 else ~case.kept
        if case.nothing or case.input.ndim < 2 or not left_out.any() or (rows == left_out).any():
            continue
        fewer = replace(case, input=case.input[rows], target=case.target[rows], batch={})
        for reduction in reductions(card)[1:]:
            value, gradient = call(build(card, {}, case, reduction=reduction), case)
            expected_value, expected_gradient = call(build(card, {}, case, reduction=reduction), fewer)
            assert_equal(value, expected_value, rtol=1e-12, what=f"value, {case.name}, {reduction}")
            assert_equal(gradient[rows], expected_gradient, rtol=1e-12, what=f"gradient, {case.name}, {reduction}")
            assert (gradient[left_out] == 0).all(), f"{case.name}, {reduction}: an ignored row has a gradient"


@each_card("ignored rows change nothing", where=has_indices)
def test_a_narrow_integer_does_not_wrap_around_to_the_ignored_index(card):
    """In uint8, -100 is 156: a class of that number must count all the same."""
    sample = {"counts": [3] * 200} if takes(card, "counts") else {}
    scores, target = normal("many classes", 4, 200), torch.tensor([156, 3, 156, 199])
    wide = Case(name="int64", kind="indices", input=scores, target=target)
    narrow = replace(wide, target=target.to(torch.uint8))
    expected, _ = call(build(card, sample, reduction="none"), wide)
    value, _ = call(build(card, sample, reduction="none"), narrow)
    assert_equal(value, expected, rtol=0, what="value")


def test_class_counts_of_narrow_integers_do_not_wrap_around():
    target = torch.tensor([156, 3, 156])
    assert equipoise.class_counts(target.to(torch.uint8), 200)[156] == 2


# ------------------------------------------------------------------------------------------ nothing, and not a number


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@each_sample("all ignored or empty: a differentiable 0")
def test_nothing_gives_a_differentiable_zero(card, sample, dtype):
    nothing = [case for case in cases(card, sample) if case.nothing]
    assert len(nothing) >= 2, "at least one empty and one ignored batch"
    for case in nothing:
        for reduction in reductions(card)[1:]:
            module = build(card, sample, case, reduction=reduction)
            before = state(module)
            scores = leaf(case.to(dtype).input)
            value = module(scores, case.target, **case.batch)
            assert value.shape == ()
            assert value.dtype == torch.promote_types(dtype, torch.float32)
            assert value == 0
            value.backward()
            assert scores.grad.shape == scores.shape
            assert (scores.grad == 0).all(), f"{case.name}, {reduction}"
            for name, tensor in before.items():
                assert_equal(module.state_dict()[name], tensor, rtol=0, what=f"{name} after nothing")


@each_default_case("all ignored or empty: a differentiable 0", which=lambda case: case.nothing)
def test_nothing_gives_zeros_without_reduction(card, case):
    values, gradient = call(build(card, {}, case, reduction="none"), case)
    assert values.shape == case.kept.shape
    assert (values == 0).all()
    assert (gradient == 0).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@each_card(
    "all ignored or empty: a differentiable 0",
    where=lambda card: card.op_family == "rowwise" and takes(card, "weight"),
)
def test_targets_of_weight_zero_give_a_differentiable_zero(card, smoothing):
    """The divisor is 0, whatever smoothing gives to the classes that are no target."""
    case = case_named(card, "one class")
    weight = torch.ones(case.input.shape[1])
    weight[case.target[0]] = 0
    value, gradient = call(build(card, {"weight": weight, "label_smoothing": smoothing}), case)
    assert value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
@each_sample("NaN in a kept input: NaN out")
def test_nan_in_a_kept_input_gives_nan(card, sample, dtype):
    for case in cases(card, sample):
        if not case.kept.any() or case.name.endswith("expanded"):
            continue
        place = tuple(case.kept.nonzero()[-1].tolist())
        scores = case.to(dtype).input.clone()
        classes_last = case.kind == "elements" or scores.shape[:-1] == case.kept.shape
        rows = scores if classes_last else scores.movedim(1, -1)
        rows[place if case.kind == "elements" else (*place, 1)] = float("nan")
        bad = replace(case, input=scores)
        for reduction in reductions(card)[1:]:
            assert call(build(card, sample, case, reduction=reduction), bad)[0].isnan(), f"{case.name}, {reduction}"
        values, _ = call(build(card, sample, case, reduction="none"), bad)
        assert values[place].isnan(), case.name
        assert values.isnan().sum() == 1, f"{case.name}: one NaN reached other elements"


# ---------------------------------------------------------------------------------------------------- permutation


@each_case("permutation equivariance", which=lambda case: case.input.ndim >= 2 and len(case.input) > 1)
def test_a_permuted_batch_gives_permuted_values(card, sample, case):
    """Every module is fresh, so the stateful ones start from the same state."""
    order = torch.arange(len(case.input)).flip(0)
    batch = {name: tensor[order] for name, tensor in case.batch.items()}
    permuted = replace(case, input=case.input[order], target=case.target[order], batch=batch)
    values, gradient = call(build(card, sample, case, reduction="none"), case)
    permuted_values, permuted_gradient = call(build(card, sample, case, reduction="none"), permuted)
    assert_equal(permuted_values, values[order], rtol=1e-14, what="values")
    assert_equal(permuted_gradient, gradient[order], rtol=1e-14, what="gradient")
    mean, _ = call(build(card, sample, case), case)
    permuted_mean, _ = call(build(card, sample, case), permuted)
    assert_equal(permuted_mean, mean, rtol=1e-12, what="mean")
