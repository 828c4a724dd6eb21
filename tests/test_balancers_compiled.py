"""A training step with a balancer is one graph, and neither it nor its backward pass waits for the device."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cases import normal
from harness import assert_equal
from task_cases import LOSS_ONLY, TASKS, Model, build, losses_of

# inductor's imports, and dynamo's
pytestmark = pytest.mark.filterwarnings("ignore:.*:FutureWarning", "ignore:.*:DeprecationWarning")
each_card = pytest.mark.parametrize("card", LOSS_ONLY, ids=lambda card: card.name)

WAITS = {
    torch.ops.aten._local_scalar_dense,
    torch.ops.aten.equal,
    torch.ops.aten.is_nonzero,
    torch.ops.aten.masked_select,
    torch.ops.aten.nonzero,
}
"""What makes the processor wait for a GPU: a number, or a size that depends on numbers."""


class NoWaiting(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function.overloadpacket not in WAITS, f"{function} waits for the device"
        return function(*args, **(kwargs or {}))


def test_the_guard_notices_a_wait():
    with pytest.raises(AssertionError, match="waits for the device"), NoWaiting():
        torch.ones(()).item()


@each_card
def test_neither_pass_waits_for_the_device(card):
    model = Model()
    balancer = build(card, model)
    for step, present in enumerate((TASKS, ("a", "c"), TASKS)):
        losses = losses_of(model, step, present)
        with NoWaiting():
            balancer(losses).backward()
            balancer.end_epoch() if hasattr(balancer, "end_epoch") else None
            assert list(balancer.weights) == list(balancer.losses) == list(present)


@each_card
def test_a_training_step_is_one_graph(card):
    """The model's forward pass, the losses and the balancer; and it computes what it computes without."""
    torch._dynamo.reset()
    model, eager = Model(), Model()
    balancer, plain = build(card, model), build(card, eager)

    def step(module, weigher, features, truth):
        return weigher({name: (found - truth).square().mean() for name, found in module(features).items()})

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
    for name, tensor in plain.state_dict().items():
        assert_equal(balancer.state_dict()[name], tensor, rtol=1e-5, atol=1e-7, what=name)
