"""The ranking losses under `torch.compile`, `torch.export` and `torch.func`, and the operators behind them."""

import pytest
import torch

from harness import assert_equal
from ranking_cases import RANKED, build, call_named, each_call, each_ranked, each_ranked_sample, evaluate, invoke

SHOWN = ("typical", "labels", "masks", "reference", "target")


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


# torch's own tracer makes an instance of what torch has deprecated
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@each_ranked_sample("torch.compile")
def test_a_compiled_loss_is_one_graph_and_equals_eager(card, sample):
    call = call_named(card, "typical", sample)
    expected, expected_gradients = evaluate(build(card, sample), call)
    value, gradients = evaluate(torch.compile(build(card, sample), fullgraph=True, backend="aot_eager"), call)
    assert_equal(value, expected, rtol=1e-10, atol=1e-12, what="value")
    for name, gradient in gradients.items():
        assert_equal(gradient, expected_gradients[name], rtol=1e-10, atol=1e-12, what=name)


@each_call("torch.export", which=lambda call: call.name in SHOWN)
def test_an_exported_loss_equals_eager(card, sample, call):
    if sample:
        return
    module = build(card, sample)
    inputs = dict(call.inputs)
    keywords = {**call.batch, **{name: inputs.pop(name) for name in ("reference",) if name in inputs}}
    position = (*inputs.values(), *(() if call.target is None else (call.target,)))
    exported = torch.export.export(module, position, keywords)
    assert_equal(exported.module()(*position, **keywords), module(*position, **keywords), rtol=1e-12, what="value")


@each_call("torch.func.grad", which=lambda call: call.name in SHOWN)
def test_the_functional_gradient_is_the_gradient(card, sample, call):
    module = build(card, sample)
    _, expected = evaluate(module, call)
    names = list(call.inputs)

    def loss(*tensors):
        return invoke(module, call, dict(zip(names, tensors, strict=True)))

    gradients = torch.func.grad(loss, argnums=tuple(range(len(names))))(*call.inputs.values())
    for name, gradient in zip(names, gradients, strict=True):
        assert_equal(gradient, expected[name], rtol=1e-9, atol=1e-12, what=name)


@each_ranked_sample("torch.func.vmap", where=lambda card: card.kind != "embeddings")
def test_per_row_values(card, sample):
    """Each pair or group alone. A batch whose rows are compared with each other has no values of single rows."""
    call = call_named(card, "rows" if card.kind == "groups" else "typical", sample)
    module = build(card, sample, reduction="sum")
    tensors = [*call.inputs.values(), *(() if call.target is None else (call.target,))]
    values = torch.func.vmap(lambda *rows: module(*(row[None] for row in rows)))(*tensors)
    for row in range(len(tensors[0])):
        expected = module(*(tensor[row : row + 1] for tensor in tensors))
        assert_equal(values[row], expected, rtol=1e-12, what=f"row {row}")


@each_ranked("torch.library.opcheck", where=lambda card: card.kind == "embeddings")
def test_the_operators_are_honest(card, monkeypatch):
    """Every call of an operator that the loss makes is checked by torch: shapes, aliasing, tracing."""
    from equipoise.ranking import _mine, _sweep

    seen = []
    for module in (_sweep, _mine):
        operator = module.OPERATOR
        monkeypatch.setattr(module, "OPERATOR", lambda *a, _op=operator: seen.append((_op, a)) or _op(*a))
    options = [{"mining": mining} for mining in ("all", "semihard", "hard")] if card.name == "batch_triplet" else [{}]
    names = ("typical", "labels") if card.name == "info_nce" else ("typical", "masks", "reference")
    for sample in options:
        for name in names:
            evaluate(build(card, sample), call_named(card, name))
    assert len(seen) >= len(options) * len(names)
    for operator, arguments in seen:
        detached = tuple(each.detach() if isinstance(each, torch.Tensor) else each for each in arguments)
        torch.library.opcheck(operator, detached)


def test_there_is_a_card_of_each_kind():
    assert {card.kind for card in RANKED} == {"pairs", "embeddings", "groups"}
