"""The losses of a linear layer with `sync=True` in two real processes equal one process on the joined batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gloo_head_worker
from gloo_head_worker import PARTS, ROWS, SCENARIOS, step
from harness import assert_equal
from head_cases import each_head, head_calls
from ranking_cases import build, evaluate


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gloo")
    worker = Path(gloo_head_worker.__file__)
    path = os.pathsep.join([str(worker.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    places = [str(folder / f"{rank}.pt") for rank in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, str(worker), str(rank), "2", str(folder / "rendezvous"), place],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, place in enumerate(places)
    ]
    try:
        errors = [process.communicate(timeout=150)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), "\n".join(errors)
    return [torch.load(place) for place in places]


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_step_in_two_processes_equals_one_on_the_joined_batch(ranks, scenario, parts):
    expected = step(scenario, slice(0, ROWS), None)
    results = [rank[scenario, parts] for rank in ranks]
    value = sum(result["value"] for result in results) / 2
    assert_equal(value, expected.pop("value"), rtol=1e-10, what="average of the values")
    for result in results:
        for name, gradient in expected.items():
            assert_equal(result[name], gradient, rtol=1e-9, atol=1e-12, what=name)


@each_head("two processes equal one")
def test_sync_without_a_process_group_changes_nothing(card):
    for call in head_calls(card):
        expected, expected_gradients = evaluate(build(card, {}), call)
        value, gradients = evaluate(build(card, {}, sync=True), call)
        assert_equal(value, expected, rtol=0, what=call.name)
        for name, gradient in gradients.items():
            assert_equal(gradient, expected_gradients[name], rtol=0, what=f"{name}, {call.name}")
