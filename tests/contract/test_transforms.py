"""Losses under `torch.compile`, `torch.export` and `torch.func`.

The contract's lines on `torch.library.opcheck` and "native equals eager" are in `kernels/`.
"""

import pytest
import torch

from cases import cases, is_stateful, rows_of
from harness import assert_equal, build, call, each_card, each_case, each_default_case, each_sample


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def shows_a_graph_of_its_own(case):
    """Plain, with something left out, or with the card's other kind of target: each takes another path."""
    return case.name in ("typical", "masked", "ignored", "probabilities, typical", "multi-label, masked")


@each_default_case("torch.compile", which=shows_a_graph_of_its_own)
def test_a_compiled_loss_is_one_graph_and_equals_eager(card, case):
    assert_compiled_equals_eager(card, {}, case)


@each_sample("torch.compile", which=lambda sample: bool({"weight", "label_smoothing", "momentum"} & sample.keys()))
def test_options_that_add_code_compile(card, sample):
    assert_compiled_equals_eager(card, sample, cases(card, sample)[0])


def assert_compiled_equals_eager(card, sample, case):
    eager, module = build(card, sample, case), build(card, sample, case)
    expected_value, expected_gradient = call(eager, case)
    value, gradient = call(torch.compile(module, fullgraph=True, backend="aot_eager"), case)
    assert_equal(value, expected_value, rtol=1e-10, atol=1e-12, what="value")
    assert_equal(gradient, expected_gradient, rtol=1e-10, atol=1e-12, what="gradient")
    for name, tensor in eager.state_dict().items():
        assert_equal(module.state_dict()[name], tensor, rtol=1e-6, what=name)


@each_card("torch.compile", where=lambda card: card.name in ("sigmoid_focal", "softmax_focal", "ghm_c"))
def test_one_compiled_graph_serves_every_batch_size(card):
    compiled = torch.compile(build(card, {}), fullgraph=True, dynamic=True, backend="aot_eager")
    case = cases(card)[0]
    with torch._dynamo.config.patch(error_on_recompile=True):
        for rows in (16, 7):
            fewer = rows_of(case, slice(rows))
            value, gradient = call(compiled, fewer)
            expected_value, expected_gradient = call(build(card, {}), fewer)
            assert_equal(value, expected_value, rtol=1e-10, atol=1e-12, what=f"value of {rows} rows")
            assert_equal(gradient, expected_gradient, rtol=1e-10, atol=1e-12, what=f"gradient of {rows} rows")


@each_default_case("torch.export", which=shows_a_graph_of_its_own)
def test_an_exported_loss_equals_eager(card, case):
    module = build(card, {}, case).eval()
    exported = torch.export.export(module, (case.input, case.target), dict(case.batch))
    value = exported.module()(case.input, case.target, **case.batch)
    assert_equal(value, module(case.input, case.target, **case.batch), rtol=1e-12, what="value")


# ---------------------------------------------------------------------------------------------------- torch.func


def settled(card, sample, case):
    """The module in eval, after one training step where it has state: a transform cannot carry its changes out."""
    module = build(card, sample, case)
    if is_stateful(card):
        call(module, case)
    return module.eval()


@each_case("torch.func.grad and vmap")
def test_the_functional_gradient_is_the_gradient(card, sample, case):
    module = settled(card, sample, case)
    _, expected = call(module, case)
    gradient = torch.func.grad(lambda scores: module(scores, case.target, **case.batch))(case.input)
    assert_equal(gradient, expected, rtol=1e-12, atol=1e-300, what=case.name)


def has_one_row_per_sample(case):
    """A batch whose first dimension is the samples'."""
    return shows_a_graph_of_its_own(case) or case.name == "sample weights"


@each_case("torch.func.grad and vmap", which=has_one_row_per_sample)
def test_per_sample_values_and_gradients(card, sample, case):
    """A batch of single samples, each with its own loss, equals a loop over them."""
    module = settled(card, sample, case)

    def loss(scores, target, batch):
        batch = {name: tensor.unsqueeze(0) for name, tensor in batch.items()}
        return module(scores.unsqueeze(0), target.unsqueeze(0), **batch)

    arguments = (case.input, case.target, dict(case.batch))
    values = torch.func.vmap(loss)(*arguments)
    gradients = torch.func.vmap(torch.func.grad(loss))(*arguments)
    for row in range(len(case.input)):
        value, gradient = call(module, rows_of(case, slice(row, row + 1)))
        assert_equal(values[row], value, rtol=1e-12, what=f"value of row {row}")
        assert_equal(gradients[row : row + 1], gradient, rtol=1e-12, atol=1e-300, what=f"gradient of row {row}")


# torch's own forward-mode derivatives use what torch has deprecated
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@each_card("torch.func.grad and vmap")
def test_jacobian_and_hessian(card):
    case = rows_of(cases(card)[0], slice(2))
    module = settled(card, {}, case)
    rows = build(card, {}, reduction="none").eval()
    rows.load_state_dict(module.state_dict())

    jacobian = torch.func.jacrev(lambda scores: rows(scores, case.target))(case.input)
    expected = torch.autograd.functional.jacobian(lambda scores: rows(scores, case.target), case.input)
    assert_equal(jacobian, expected, rtol=1e-12, atol=1e-300, what="jacobian")

    hessian = torch.func.hessian(lambda scores: module(scores, case.target))(case.input)
    expected = torch.autograd.functional.hessian(lambda scores: module(scores, case.target), case.input)
    assert_equal(hessian, expected, rtol=1e-10, atol=1e-14, what="hessian")
    assert hessian.abs().max() > 1e-6, "nothing to compare"
