"""Beside TorchJD 0.18: a balancer goes where its scalarizers go, and weighs the losses that its aggregators combine."""

import pytest
import torch
from torchjd import aggregation, scalarization
from torchjd.autojac import jac_to_grad, mtl_backward

from equipoise import (
    FAMO,
    ConstantWeighting,
    DynamicTaskPrioritization,
    DynamicWeightAverage,
    ImpartialLossWeighting,
    UncertaintyWeighting,
)
from harness import assert_equal
from task_cases import BALANCERS, LOSS_ONLY, TASKS, Model, build, losses_of

AGGREGATORS = {
    "UPGrad": aggregation.UPGrad,
    "PCGrad": aggregation.PCGrad,
    "MGDA": aggregation.MGDA,
    "mean": aggregation.Mean,
}
EPOCHS = ((4.0, 1.0, 2.0), (2.0, 0.9, 2.5), (1.0, 0.8, 2.0))


@pytest.mark.parametrize("card", LOSS_ONLY, ids=lambda card: card.name)
def test_a_balancer_is_called_as_a_scalarizer_is(card):
    """One vector in, by position; a differentiable scalar out."""
    model = Model()
    losses = torch.stack(list(losses_of(model, 0).values()))
    for scalarize in (scalarization.Mean(), build(card, model)):
        model.zero_grad()
        total = scalarize(losses)
        total.backward(retain_graph=True)
        assert total.shape == ()
        assert model.trunk.weight.grad.abs().sum() > 0


def test_where_the_definitions_agree_so_do_the_numbers():
    losses = torch.tensor([0.5, 2.0, 1.0])
    assert ConstantWeighting(TASKS)(losses) == scalarization.Sum()(losses)
    assert_equal(ImpartialLossWeighting(TASKS)(losses), scalarization.IMTLL(3)(losses), rtol=1e-6, what="IMTL-L")
    ours, theirs = DynamicWeightAverage(TASKS), scalarization.DWA()
    for epoch in EPOCHS:
        assert_equal(ours(torch.tensor(epoch)), theirs(torch.tensor(epoch)), rtol=1e-6, what=f"DWA, {epoch}")
        ours.end_epoch()
        theirs.step()


def test_famo_is_theirs_when_the_next_call_is_the_same_batch():
    """Theirs is told the losses after the step; ours takes those of the next call for them."""
    ours, theirs = FAMO(TASKS, gamma=0.01), scalarization.FAMO(3, weight_decay=0.01)
    for epoch in EPOCHS * 3:
        losses = torch.tensor(epoch, requires_grad=True)
        if theirs._prev_losses is not None:
            theirs.update(losses)
        gradients = [torch.autograd.grad(each(losses), losses)[0] for each in (ours, theirs)]
        assert_equal(*gradients, rtol=1e-5, what=f"gradient of the losses {epoch}")


def test_what_torchjd_loses_on_resume_is_saved_here():
    """Its DWA and FAMO keep averages and Adam's moments outside of the state_dict."""
    for ours, theirs in ((DynamicWeightAverage(TASKS), scalarization.DWA()), (FAMO(TASKS), scalarization.FAMO(3))):
        for epoch in EPOCHS:
            ours(torch.tensor(epoch))
            theirs(torch.tensor(epoch))
            for each, end in ((ours, "end_epoch"), (theirs, "step"), (theirs, "update")):
                if hasattr(each, end):
                    getattr(each, end)(*([torch.tensor(epoch)] if end == "update" else []))
        missing = {"_loss_sum", "_previous_averages", "_optimizer", "_prev_losses"} & set(vars(theirs))
        assert missing, "TorchJD keeps its state where it was; this test has lost its reason"
        assert not missing & set(theirs.state_dict())
        other = type(ours)(TASKS)
        other.load_state_dict(ours.state_dict())
        for epoch in EPOCHS:
            assert torch.equal(other(torch.tensor(epoch)), ours(torch.tensor(epoch)))


def test_a_nan_poisons_their_famo_and_not_ours():
    ours, theirs = FAMO(TASKS), scalarization.FAMO(3)
    for losses in ((1.0, 1.0, 1.0), (float("nan"), 1.0, 1.0), (0.9, 0.8, 0.7), (0.8, 0.7, 0.6)):
        vector = torch.tensor(losses)
        if theirs._prev_losses is not None:
            theirs.update(vector)
        totals = ours(vector), theirs(vector)
    assert totals[0].isfinite()
    assert totals[1].isnan()


@pytest.mark.parametrize("aggregator", AGGREGATORS)
@pytest.mark.parametrize("card", BALANCERS, ids=lambda card: card.name)
def test_weighed_losses_feed_an_aggregator(card, aggregator):
    """The recipe of the README: the heads get the gradient of the weighed sum, the trunk what the aggregator makes.

    The mean of the rows, times their number, is the weighed sum itself.
    """
    model, plain = Model(), Model()
    balancer = build(card, model)
    hidden = torch.tanh(model.trunk(torch.ones(6, 5, dtype=torch.float64).cumsum(0) / 6))
    losses = {
        name: (head(hidden)[:, 0] - place).square().mean()
        for place, (name, head) in enumerate(zip(model.tasks, model.heads, strict=True))
    }
    total = balancer(losses)
    if list(balancer.parameters()):
        total.backward(inputs=list(balancer.parameters()), retain_graph=True)
        assert all(parameter.grad is not None for parameter in balancer.parameters())
    weighed = [balancer.weights[name] * loss for name, loss in losses.items()]
    mtl_backward(weighed, features=hidden)
    jac_to_grad(model.trunk.parameters(), AGGREGATORS[aggregator]())
    hidden = torch.tanh(plain.trunk(torch.ones(6, 5, dtype=torch.float64).cumsum(0) / 6))
    weights = {name: weight.double() for name, weight in balancer.weights.items()}
    sum(
        weights[name] * (head(hidden)[:, 0] - place).square().mean()
        for place, (name, head) in enumerate(zip(plain.tasks, plain.heads, strict=True))
    ).backward()
    for head, expected in zip(model.heads, plain.heads, strict=True):
        assert_equal(head.weight.grad, expected.weight.grad, rtol=1e-6, what="gradient of a head")
    assert model.trunk.weight.grad.isfinite().all()
    if aggregator == "mean":
        assert_equal(3 * model.trunk.weight.grad, plain.trunk.weight.grad, rtol=1e-6, atol=1e-12, what="trunk")


def test_uncertainty_weighting_is_theirs_but_for_what_each_loss_is():
    """TorchJD has one form for all losses, e^-s L / 2 + s / 2: the gaussian."""
    ours, theirs = UncertaintyWeighting(dict.fromkeys(TASKS, "gaussian")), scalarization.UW(3)
    learned = torch.tensor([0.3, -0.2, 1.0])
    with torch.no_grad():
        theirs.log_var.copy_(learned)
        for name, s in zip(TASKS, learned, strict=True):
            ours.log_variance[name].copy_(s)
    losses = torch.tensor([0.5, 2.0, 1.0])
    assert_equal(ours(losses), theirs(losses), rtol=1e-6, what="total")


def test_indicators_have_no_place_in_a_scalarizer():
    balancer = DynamicTaskPrioritization(TASKS)
    balancer.update_kpi(dict.fromkeys(TASKS, 0.5))
    assert_equal(balancer(torch.ones(3)), torch.tensor(3 * 0.346574), rtol=1e-5, what="total")
