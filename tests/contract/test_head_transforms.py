"""The losses of a linear layer under `torch.compile`, `torch.export` and `torch.func`, and their operators."""

import pytest
import torch

from harness import assert_equal, leaf
from head_cases import each_head, each_head_sample, head_call, head_calls
from ranking_cases import build, evaluate, invoke

SHOWN = ("typical", "ignored", "probabilities", "masked", "soft", "no bias")


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def shown(card):
    return [call for call in head_calls(card) if call.name in SHOWN]


# torch's own tracer makes an instance of what torch has deprecated
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("reduction", ["none", "mean"])
@each_head("torch.compile")
def test_a_compiled_loss_is_one_graph_and_equals_eager(card, reduction):
    for call in shown(card):
        torch._dynamo.reset()
        module = build(card, {"gamma": 2.0}, reduction=reduction)
        expected, expected_gradients = evaluate(module, call)
        value, gradients = evaluate(torch.compile(module, fullgraph=True, backend="aot_eager"), call)
        assert_equal(value, expected, rtol=1e-10, atol=1e-12, what=call.name)
        for name, gradient in gradients.items():
            assert_equal(gradient, expected_gradients[name], rtol=1e-10, atol=1e-12, what=f"{name}, {call.name}")


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@each_head_sample("torch.compile")
def test_options_compile(card, sample):
    call = head_call(card, "typical", sample)
    expected, _ = evaluate(build(card, sample), call)
    value, _ = evaluate(torch.compile(build(card, sample), fullgraph=True, backend="aot_eager"), call)
    assert_equal(value, expected, rtol=1e-10, what="value")


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@each_head("torch.compile")
def test_one_compiled_graph_serves_every_batch_size_and_half_precision_trains(card):
    compiled = torch.compile(card.module(), fullgraph=True, dynamic=True, backend="aot_eager")
    whole = head_call(card, "typical").to(torch.bfloat16)
    for rows in (11, 7):
        leaves = {n: leaf(each[:rows] if n == "input" else each) for n, each in whole.inputs.items()}
        given = (leaves["input"], leaves["linear_weight"], whole.target[:rows])
        value = compiled(*given, linear_bias=leaves["linear_bias"])
        expected = card.module()(*given, linear_bias=leaves["linear_bias"])
        assert_equal(value, expected, rtol=1e-6, what="value")
        found, wanted = (torch.autograd.grad(each, list(leaves.values())) for each in (value, expected))
        for mine, theirs in zip(found, wanted, strict=True):
            assert_equal(mine, theirs, rtol=1e-6, what="gradient")


class Classifier(torch.nn.Module):
    """A layer with its loss, as it would be exported."""

    def __init__(self, call, criterion):
        super().__init__()
        self.head = torch.nn.Linear(*call.inputs["linear_weight"].shape[::-1], dtype=torch.float64)
        self.criterion = criterion

    def forward(self, input, target):
        return self.criterion(input, self.head.weight, target, linear_bias=self.head.bias)


@each_head("torch.export")
def test_an_exported_loss_equals_eager_and_trains(card):
    for call in (call for call in shown(card) if not call.batch):
        model = Classifier(call, build(card, {"gamma": 2.0}))
        exported = torch.export.export(model, (call.inputs["input"], call.target)).module()
        losses = [each(call.inputs["input"], call.target) for each in (model, exported)]
        assert_equal(losses[1].detach(), losses[0].detach(), rtol=1e-12, what=call.name)
        trained, expected = exported.head, model.head
        for name in ("weight", "bias"):
            gradients = [
                torch.autograd.grad(3 * loss, getattr(layer, name), retain_graph=True)[0]
                for loss, layer in zip(losses, (expected, trained), strict=True)
            ]
            assert_equal(gradients[1], gradients[0], rtol=1e-10, atol=1e-12, what=f"{name}, {call.name}")


@each_head("torch.func.grad and vmap")
def test_the_functional_gradient_is_the_gradient(card):
    for call in shown(card):
        module = build(card, {"gamma": 2.0})
        _, expected = evaluate(module, call)
        names = list(call.inputs)

        def loss(*tensors, module=module, call=call, names=names):
            return invoke(module, call, dict(zip(names, tensors, strict=True)))

        gradients = torch.func.grad(loss, argnums=tuple(range(len(names))))(*call.inputs.values())
        for name, gradient in zip(names, gradients, strict=True):
            assert_equal(gradient, expected[name], rtol=1e-9, atol=1e-12, what=f"{name}, {call.name}")


@each_head("torch.func.grad and vmap")
def test_per_sample_gradients(card):
    call = head_call(card, "typical")
    module, weight = build(card, {"gamma": 2.0}), call.inputs["linear_weight"]

    def loss(row, target):
        return module(row[None], weight, target[None])

    gradients = torch.func.vmap(torch.func.grad(loss))(call.inputs["input"], call.target)
    for place, row in enumerate(call.inputs["input"]):
        one = leaf(row[None])
        module(one, weight, call.target[place : place + 1]).backward()
        assert_equal(gradients[place], one.grad[0], rtol=1e-9, atol=1e-14, what=f"row {place}")


# torch's own forward-mode derivatives use what torch has deprecated
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@each_head("torch.func.grad and vmap")
def test_the_hessian(card):
    call = head_call(card, "one row")
    weight = call.inputs["linear_weight"]

    def loss(rows):
        return card.function(rows, weight, call.target, gamma=2.0)

    hessian = torch.func.hessian(loss)(call.inputs["input"])
    expected = torch.autograd.functional.hessian(loss, call.inputs["input"])
    assert_equal(hessian, expected, rtol=1e-9, atol=1e-12, what="hessian")
    assert hessian.abs().max() > 1e-6


# torch's check of schemas uses what torch has deprecated
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@each_head("torch.library.opcheck")
def test_the_operators_are_honest(card, monkeypatch):
    """Every call of an operator that the loss makes is checked by torch: shapes, aliasing, tracing."""
    from equipoise.ops import linear

    seen = []
    for name, head in list(linear.HEADS.items()):
        spied = linear.Head(
            name, lambda *a, _op=head.operator: seen.append((_op, a)) or _op(*a), head.eager, head.tensors
        )
        monkeypatch.setitem(linear.HEADS, name, spied)
    for call in shown(card)[:3]:
        for reduction in ("none", "mean"):
            evaluate(build(card, {}, reduction=reduction), call)
    assert len(seen) >= 6
    for operator, arguments in seen:
        detached = tuple(each.detach() if isinstance(each, torch.Tensor) else each for each in arguments)
        torch.library.opcheck(operator, detached)
