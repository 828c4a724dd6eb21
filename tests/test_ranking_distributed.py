"""Ranking losses with `sync=True` in two and four real processes equal one process on the joined batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gloo_ranking_worker
from gloo_ranking_worker import SCENARIOS, SHARES, remembered, second_order, step
from harness import assert_equal
from ranking_cases import RANKED, build, calls, each_ranked, evaluate

LINE = "two processes equal one"


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """The results of each rank, by the number of ranks."""
    return {world: started(world, tmp_path_factory.mktemp(f"gloo{world}")) for world in (2, 4)}


def started(world, folder):
    worker = Path(gloo_ranking_worker.__file__)
    path = os.pathsep.join([str(worker.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    places = [str(folder / "rendezvous"), *(str(folder / f"{rank}.pt") for rank in range(world))]
    processes = [
        subprocess.Popen(
            [sys.executable, str(worker), str(rank), str(world), places[0], places[1 + rank]],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        errors = [process.communicate(timeout=150)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), "\n".join(errors)
    return [torch.load(place) for place in places[1:]]


@pytest.mark.parametrize(("world", "shares"), SHARES, ids=lambda value: str(value))
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_a_step_in_several_processes_equals_one_on_the_joined_batch(ranks, scenario, world, shares):
    total = max(part.stop for part in SHARES[world, shares])
    expected = step(scenario, slice(0, total), total, None)
    results = [rank[f"{scenario}-{shares}"] for rank in ranks[world]]
    value = sum(result["value"] for result in results) / world
    assert_equal(value, expected["value"], rtol=1e-10, atol=1e-12, what="average of the values")
    assert total == 0 or any((gradient != 0).any() for name, gradient in expected.items() if name != "value")
    for result in results:
        assert result.keys() == expected.keys()
        for name in result.keys() - {"value"}:
            assert_equal(result[name], expected[name], rtol=1e-9, atol=1e-12, what=name)


@pytest.mark.parametrize("world", [2, 4])
def test_second_derivatives_go_through_the_gathering(ranks, world):
    """Each rank's loss, and so each gradient, is `world` times its part: the squared length is world^2 times it."""
    parts = SHARES[world, "uneven"]
    expected = world**2 * second_order(slice(0, 12), sync=False)
    for rank, part in zip(ranks[world], parts, strict=True):
        assert_equal(rank["second order"]["curvature"], expected[part], rtol=1e-9, atol=1e-12, what="curvature")


@pytest.mark.parametrize("world", [2, 4])
def test_a_synchronised_memory_holds_the_batches_of_all_ranks(ranks, world):
    expected = remembered(slice(0, 12), sync=False)
    for rank in ranks[world]:
        for name, tensor in expected.items():
            assert_equal(rank["memory"][name], tensor, rtol=0, what=name)


def test_every_card_has_a_scenario():
    assert {scenario.loss for scenario in SCENARIOS} == {card.module.__name__ for card in RANKED}


def test_a_gather_without_a_gradient_would_be_seen(ranks):
    """The common mistake: all_gather gives tensors without a graph, so a rank learns from its own anchors alone."""
    scenario, (part, *_) = SCENARIOS[0], SHARES[2, "uneven"]
    right = ranks[2][0][f"{scenario}-uneven"]["encoder.weight"]
    local = step(scenario, part, 12, None)["encoder.weight"]
    assert (right - local).abs().max() > 1e-3


# ----------------------------------------------------------------------------------- one process: sync costs nothing


@each_ranked(LINE)
def test_sync_without_a_process_group_changes_nothing(card):
    assert not torch.distributed.is_initialized()
    for call in calls(card):
        expected, expected_gradients = evaluate(build(card, {}), call)
        value, gradients = evaluate(build(card, {}, sync=True), call)
        assert_equal(value, expected, rtol=0, what=f"value, {call.name}")
        for name, gradient in gradients.items():
            assert_equal(gradient, expected_gradients[name], rtol=0, what=f"{name}, {call.name}")
