"""The queue of past embeddings: what it holds, in which order it forgets, and that a resumed one goes on the same."""

import copy

import pytest
import torch

import equipoise
from cases import normal
from equipoise import BatchTripletLoss, CrossBatchMemory
from harness import assert_equal


def batch(step, rows=4):
    return normal(f"memory {step}", rows, 3).float(), 10 * step + torch.arange(rows)


def held(memory):
    return {int(label): row for label, row in zip(memory.label, memory.embedding, strict=True)}


def test_it_is_empty_at_first_and_a_loss_takes_it_so():
    memory = CrossBatchMemory(10)
    assert memory() == {}
    embedding, label = batch(0)[0], torch.tensor([0, 0, 1, 1])
    assert_equal(
        BatchTripletLoss()(embedding, label, **memory()), BatchTripletLoss()(embedding, label), rtol=0, what="loss"
    )


@pytest.mark.parametrize("size", [1, 3, 4, 10, 12, 100])
def test_the_newest_push_out_the_oldest(size):
    memory = CrossBatchMemory(size)
    everything = {}
    for step in range(5):
        embedding, label = batch(step)
        memory.add(embedding, label)
        everything |= dict(zip(label.tolist(), embedding, strict=True))
        newest = dict(list(everything.items())[-size:])
        assert held(memory).keys() == newest.keys()
        for name, row in held(memory).items():
            assert torch.equal(row, newest[name])


def test_the_loss_with_it_is_the_loss_with_all_that_it_holds():
    memory = CrossBatchMemory(8)
    for step in range(3):
        memory.add(batch(step)[0], torch.arange(4) % 2)
    embedding, label = batch(9)[0].requires_grad_(), torch.tensor([0, 1, 0, 1])
    for mining in ("all", "hard", "semihard"):
        loss = BatchTripletLoss(mining=mining)
        value = loss(embedding, label, **memory())
        (gradient,) = torch.autograd.grad(value, embedding)
        rows, labels = torch.cat([batch(1)[0], batch(2)[0]]), torch.tensor([0, 1, 0, 1] * 2)
        expected = loss(embedding, label, reference=rows, reference_label=labels)
        (expected_gradient,) = torch.autograd.grad(expected, embedding)
        assert_equal(value, expected.detach(), rtol=1e-6, what="value")
        assert_equal(gradient, expected_gradient, rtol=1e-5, atol=1e-7, what="gradient")


@pytest.mark.parametrize("normalize", [False, True])
def test_a_step_copies_none_of_it(normalize):
    """The loss reads the bank where it lies: no tensor of its size comes into being."""
    from equipoise.ranking import _sweep
    from test_ranking_sweep import Largest

    memory = CrossBatchMemory(5000)
    memory.add(normal("bank", 5000, 16).float(), torch.arange(5000) % 100)
    embedding = normal("batch", 8, 16).float().requires_grad_()
    largest = Largest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_sweep, "OPERATOR", _sweep._sweep)
        with largest:
            loss = BatchTripletLoss(normalize=normalize, memory_mb=0.1)(embedding, torch.arange(8), **memory())
            loss.backward()
    assert largest.elements < 5000 * 16


def test_the_backward_pass_may_come_after_the_next_batch_is_added():
    memory = CrossBatchMemory(4)
    memory.add(batch(0)[0], torch.arange(4) % 2)
    embedding, label = batch(1)[0].requires_grad_(), torch.arange(4) % 2
    loss = BatchTripletLoss()(embedding, label, **memory())
    (expected,) = torch.autograd.grad(loss, embedding, retain_graph=True)
    memory.add(embedding, label)
    (gradient,) = torch.autograd.grad(loss, embedding)
    assert torch.equal(gradient, expected)
    assert not memory.embedding.requires_grad


@pytest.mark.parametrize("way", ["state_dict", "deepcopy"])
def test_a_resumed_memory_goes_on_the_same(way):
    memory = CrossBatchMemory(6)
    for step in range(2):
        memory.add(*batch(step))
    other = copy.deepcopy(memory) if way == "deepcopy" else CrossBatchMemory(6)
    if way == "state_dict":
        other.load_state_dict(memory.state_dict())
    for each in (memory, other):
        each.add(*batch(2))
    for name, tensor in memory.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
    assert repr(other) == repr(memory) == "CrossBatchMemory(size=6, sync=False)"


def test_a_memory_of_another_size_is_not_loaded():
    memory = CrossBatchMemory(6)
    memory.add(*batch(0))
    with pytest.raises(RuntimeError, match="rows"):
        CrossBatchMemory(5).load_state_dict(memory.state_dict())


def test_half_precision_neither_rounds_it_nor_is_kept_in_it():
    memory = CrossBatchMemory(8)
    memory.add(*batch(0))
    before = memory.embedding.clone()
    memory.half()
    assert torch.equal(memory.embedding, before)
    fresh = CrossBatchMemory(4)
    fresh.add(batch(0)[0].half(), batch(0)[1])
    assert fresh.embedding.dtype == torch.float32


def test_a_batch_that_is_not_finite_is_left_out():
    memory = CrossBatchMemory(8)
    memory.add(*batch(0))
    before = copy.deepcopy(memory.state_dict())
    bad, label = batch(1)
    bad[2, 1] = torch.inf
    memory.add(bad, label)
    for name, tensor in before.items():
        assert torch.equal(memory.state_dict()[name], tensor), name


def test_embeddings_of_another_width_are_refused():
    memory = CrossBatchMemory(8)
    memory.add(*batch(0))
    with pytest.raises(ValueError, match="`embedding`"):
        memory.add(torch.zeros(2, 4), torch.zeros(2).long())


def test_it_is_public():
    assert equipoise.CrossBatchMemory is CrossBatchMemory
