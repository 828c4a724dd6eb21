"""A training step with a balancer is one graph, and a loss-only balancer never waits for the device."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from balancer_cases import LOSS_ONLY, TASKS, Model, build, kpis, state, values
from cases import normal
from harness import assert_equal

WAITS = {
    torch.ops.aten._local_scalar_dense,
    torch.ops.aten.equal,
    torch.ops.aten.is_nonzero,
    torch.ops.aten.item,
    torch.ops.aten.masked_select,
    torch.ops.aten.nonzero,
    torch.ops.aten.unique_dim,
}
"""What makes the processor wait for a GPU: a number, or a size that depends on numbers."""

each_loss_only = pytest.mark.parametrize(
    ("card", "sample"),
    [
        pytest.param(card, sample, id=f"{card.name}-{','.join(sample) or 'default'}")
        for card in LOSS_ONLY
        for sample in card.samples
    ],
)


class NoWaiting(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function.overloadpacket not in WAITS, f"{function} waits for the device"
        return function(*args, **(kwargs or {}))


def test_the_guard_notices_a_wait():
    with pytest.raises(AssertionError, match="waits for the device"), NoWaiting():
        torch.ones(()).item()


@each_loss_only
def test_a_step_does_not_wait_for_the_device(card, sample):
    """Forward, backward and indicators that are tensors, with all tasks and with one absent."""
    balancer = build(card, sample)
    for step, present in enumerate((TASKS, ("a", "c"), TASKS)):
        losses = values(step, present)
        found = {name: torch.tensor(kpi) for name, kpi in kpis(step, present).items()}
        if card.name == "dynamic_task_prioritization":
            found = None  # of numbers on the CPU the range is checked; a GPU's are not looked at
        with NoWaiting():
            total = balancer(losses, kpis=found)
            total.backward()
            balancer.end_epoch()
            _ = balancer.weights, balancer.losses


def test_indicators_on_a_device_are_not_looked_at(monkeypatch):
    from equipoise import DynamicTaskPrioritization, checks

    monkeypatch.setattr(checks, "can_read_values", lambda tensor: False)  # as for a GPU's
    balancer = DynamicTaskPrioritization(TASKS)
    pairs = {name: (torch.tensor(3), torch.tensor(4)) for name in TASKS}
    with NoWaiting():
        balancer(torch.ones(3), kpis=pairs)
        balancer.update_kpi(pairs)
    assert balancer.kpi.tolist() == pytest.approx([0.75] * 3)


@each_loss_only
def test_a_training_step_is_one_graph(card, sample):
    """The model's forward pass, the losses and the balancer; and what it computes is what it computes without."""
    torch._dynamo.reset()
    model, eager = Model(), Model()
    balancer, plain = build(card, sample, model), build(card, sample, eager)
    indicators = {name: torch.tensor(0.5) for name in TASKS}

    def step(module, weigher, features, truth):
        losses = {name: (found - truth).square().mean() for name, found in module(features).items()}
        return weigher(losses, kpis=indicators)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for index in range(4):
        batch = normal(f"compiled {index}", 12, 5, scale=1.0), normal(f"truth {index}", 12, scale=1.0)
        total, expected = compiled(model, balancer, *batch), step(eager, plain, *batch)
        assert_equal(total, expected, rtol=1e-6, what=f"total, step {index}")
        for each in (total, expected):
            each.backward()
        with torch.no_grad():
            for parameter in (*model.parameters(), *balancer.parameters(), *eager.parameters(), *plain.parameters()):
                parameter -= 0.01 * parameter.grad
                parameter.grad = None
        for name, weight in plain.weights.items():
            assert_equal(balancer.weights[name], weight, rtol=1e-5, what=f"weight of {name}")
    for name, tensor in state(plain).items():
        assert_equal(state(balancer)[name], tensor, rtol=1e-5, atol=1e-7, what=name)
    assert torch._dynamo.utils.counters["graph_break"] == {}
