"""`sync=True` in two real processes equals one process on the joined batch.

The processes are started once; each test looks at one of their results.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gloo_worker
from cases import CARDS, cases, is_stateful, rows_of
from gloo_worker import SHARES, WORLD, scenarios, step, whole
from harness import applies, assert_equal, build, call, each_card

LINE = "two processes equal one"


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """The results of each rank."""
    folder = tmp_path_factory.mktemp("gloo")
    worker = Path(gloo_worker.__file__)
    path = os.pathsep.join([str(worker.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    processes = [
        subprocess.Popen(
            [sys.executable, str(worker), str(rank), str(folder / "rendezvous"), str(folder / f"{rank}.pt")],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
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


def alone(model):
    """One process needs no wrapper around the model."""
    return model


def each_scenario(sync):
    found = [
        applies(LINE, scenario.card, scenario, name=str(scenario).removeprefix(f"{scenario.card.name}-"))
        for scenario in scenarios()
        if scenario.sync is sync
    ]
    return pytest.mark.parametrize(("card", "scenario"), found)


@each_scenario(sync=True)
def test_a_step_in_two_processes_equals_one_on_the_joined_batch(ranks, card, scenario):
    expected = step(scenario, whole(scenario), alone)
    results = [rank[str(scenario)] for rank in ranks]
    value = sum(result["value"] for result in results) / WORLD
    assert_equal(value, expected["value"], rtol=1e-10, atol=1e-12, what="average of the values")
    for result in results:
        assert_equal(result["weight"], expected["weight"], rtol=1e-10, atol=1e-12, what="gradient of the weight")
        assert_equal(result["bias"], expected["bias"], rtol=1e-10, atol=1e-12, what="gradient of the bias")
        for name in {*result} - {"value", "weight", "bias"}:
            assert_equal(result[name], expected[name], rtol=1e-7, what=name)


@each_scenario(sync=False)
def test_without_sync_each_rank_has_the_loss_of_its_share(ranks, card, scenario):
    for rank, rows in zip(ranks, SHARES[scenario.shares], strict=True):
        expected = step(scenario, rows_of(whole(scenario), rows), alone)
        assert_equal(rank[str(scenario)]["value"], expected["value"], rtol=1e-12, what="value")
    values = [rank[str(scenario)]["value"] for rank in ranks]
    joined = step(scenario, whole(scenario), alone)["value"]
    assert (sum(values) / WORLD - joined).abs() > 1e-6, "the shares are too alike to show a difference"


@pytest.mark.parametrize("shares", ["uneven", "one rank empty"])
@pytest.mark.parametrize("kind", gloo_worker.LABELS)
def test_class_counts_are_those_of_all_ranks(ranks, kind, shares):
    labels = gloo_worker.LABELS[kind]
    expected = gloo_worker.counts(kind, labels, sync=False)
    for rank, rows in zip(ranks, SHARES[shares], strict=True):
        for name, tensor in expected.items():
            assert_equal(rank[f"counts-{kind}-{shares}-True"][name], tensor, rtol=0, what=name)
        local = gloo_worker.counts(kind, labels[rows], sync=False)["counts"]
        assert_equal(rank[f"counts-{kind}-{shares}-False"]["counts"], local, rtol=0, what="local counts")


@pytest.mark.parametrize("card", [applies(LINE, card) for card in CARDS if is_stateful(card)])
def test_the_running_histogram_is_that_of_all_ranks(ranks, card):
    expected = gloo_worker.histories(card, None)
    results = [rank[f"history-{card.name}"] for rank in ranks]
    values = sum(result["values"] for result in results) / WORLD
    assert_equal(values, expected["values"], rtol=1e-6, what="average of the losses")
    for result in results:
        assert_equal(result["ema"], expected["ema"], rtol=1e-7, what="ema")
        assert result["steps"] == expected["steps"] == 3, "the last batch was empty"


@pytest.mark.parametrize("card", [applies(LINE, card) for card in CARDS if is_stateful(card)])
def test_a_nan_on_one_rank_leaves_the_state_of_all_ranks_alone(ranks, card):
    for rank in ranks:
        result = rank[f"nan-{card.name}"]
        assert_equal(result["ema"], result["before ema"], rtol=0, what="ema")
        assert result["steps"] == result["before steps"] == 1


def test_all_reducing_the_loss_itself_would_be_seen(ranks):
    """The published mistake: the value is right, and the gradients are half of what they should be."""
    scenario = next(
        scenario for scenario in scenarios() if scenario.card.name == "sigmoid_focal" and scenario.reduction == "mean"
    )
    expected = step(scenario, gloo_worker.wrong_case(), alone)
    for rank in ranks:
        assert_equal(rank["reduced loss"]["value"], expected["value"], rtol=1e-12, what="value")
        assert_equal(rank["reduced loss"]["weight"] * WORLD, expected["weight"], rtol=1e-12, what="twice the gradient")


# ----------------------------------------------------------------------------------- one process: sync costs nothing


@pytest.fixture
def group_of_one(monkeypatch):
    """A process group with one rank, in which any communication is an error."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    for name in ("all_reduce", "all_gather", "broadcast", "reduce", "barrier"):
        monkeypatch.setattr(torch.distributed, name, lambda *_, **__: pytest.fail("communication in a group of one"))
    yield
    monkeypatch.undo()
    torch.distributed.destroy_process_group()


def assert_sync_changes_nothing(card):
    for case in cases(card):
        expected_value, expected_gradient = call(build(card, {}, case, sync=False), case)
        value, gradient = call(build(card, {}, case, sync=True), case)
        assert_equal(value, expected_value, rtol=0, what=f"value, {case.name}")
        assert_equal(gradient, expected_gradient, rtol=0, what=f"gradient, {case.name}")


@each_card(LINE)
def test_sync_without_a_process_group_changes_nothing(card):
    assert not torch.distributed.is_initialized()
    assert_sync_changes_nothing(card)


@each_card(LINE)
def test_sync_in_a_group_of_one_changes_nothing(group_of_one, card):
    assert_sync_changes_nothing(card)
