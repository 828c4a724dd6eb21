"""Balancers with `sync=True` in two real processes equal one process on the joined batch.

The ranks have labels in uneven numbers, one of them none at all of one task; in one step nobody has any of another.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gloo_tasks_worker as worker
from gloo_tasks_worker import WHOLE, WORLD, training
from harness import assert_equal
from task_cases import BALANCERS

each_card = pytest.mark.parametrize("card", BALANCERS, ids=lambda card: card.name)
LOCAL = ("constant_weighting", "random_loss_weighting")
"""Without statistics of losses."""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """The results of each rank."""
    folder = tmp_path_factory.mktemp("gloo")
    path = Path(worker.__file__)
    search = os.pathsep.join([str(path.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    processes = [
        subprocess.Popen(
            [sys.executable, path, str(rank), str(WORLD), folder / "rendezvous", folder / f"{rank}.pt"],
            env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(WORLD)
    ]
    try:
        errors = [process.communicate(timeout=150)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), "\n".join(errors)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


@pytest.fixture(scope="module")
def alone():
    """The same trainings in one process, each once."""
    found = {}

    def of(name, missing):
        if (name, missing) not in found:
            found[name, missing] = training(name, WHOLE, lambda model: model, missing)
        return found[name, missing]

    return of


def assert_same(actual, expected, what):
    assert actual.keys() == expected.keys(), what
    for name, tensor in expected.items():
        assert_equal(actual[name], tensor, rtol=1e-5, atol=1e-6, what=f"{what}: {name}")


@pytest.mark.parametrize("missing", ["zero", "key"])
@each_card
def test_a_training_in_two_processes_equals_one_on_the_joined_batch(ranks, alone, card, missing):
    expected = alone(card.name, missing)
    results = [rank[f"{card.name} {missing}"] for rank in ranks]
    totals = sum(result["totals"] for result in results) / WORLD
    assert_equal(totals, expected["totals"], rtol=1e-5, atol=1e-6, what="average of the totals")
    for rank, result in enumerate(results):
        assert_same(result["model"], expected["model"], f"model of rank {rank}")
        assert_same(result["balancer"], expected["balancer"], f"state of rank {rank}")
        if missing == "zero" or card.name != "constant_weighting":
            for step, weights in enumerate(expected["weights"]):
                assert_same(result["weights"][step], weights, f"weights of rank {rank} in step {step}")


@each_card
def test_without_sync_ranks_drift_apart(ranks, card):
    """As in torchjd 0.18: each rank weighs by its own losses. What does not look at them cannot drift."""
    first, second = (rank[f"{card.name} apart"]["weights"][-1] for rank in ranks)
    alike = all(torch.allclose(first[name], second[name], rtol=1e-4) for name in first)
    assert alike == (card.name in LOCAL)


@each_card
def test_a_loss_that_is_not_finite_on_one_rank_stops_the_state_of_all(ranks, card):
    for rank in ranks:
        result = rank[f"{card.name} nan"]
        assert_same(result["after"], result["before"], "state")
        if card.name != "constant_weighting":
            assert not result["finite"], "every rank must know that the step is worthless"


def test_a_bare_indicator_cannot_be_joined(ranks):
    for rank in ranks:
        assert "must be (correct, count) with `sync=True`" in rank["bare"]["error"]
