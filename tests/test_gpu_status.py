"""Which path the losses take on a GPU: said, never waited for, and no reason to fail where there is none."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from equipoise import kernels
from equipoise.kernels import native
from equipoise.kernels import triton as gpu
from equipoise.ops import histogram

ROOT = Path(__file__).parents[1]
H100 = torch.device("cuda", 0)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def one_gpu(monkeypatch):
    """A machine with one GPU, as far as the questions go that are asked of torch."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Something")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    gpu._obstacle.cache_clear()
    yield monkeypatch
    gpu._obstacle.cache_clear()


def test_importing_the_package_does_not_import_triton() -> None:
    done = run("-c", "import sys, equipoise, equipoise.kernels; assert 'triton' not in sys.modules")
    assert done.returncode == 0, done.stderr


def test_the_package_works_where_triton_cannot_be_found() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import importlib.util as u; find = u.find_spec; u.find_spec = lambda n: None if n == 'triton' else find(n)\n"
        "import torch, equipoise\n"
        "from equipoise import kernels\n"
        "equipoise.sigmoid_focal_loss(torch.zeros(3, requires_grad=True), torch.ones(3)).backward()\n"
        "assert 'not installed' in kernels.triton._obstacle(torch.device('cuda', 0))\n"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so() -> None:
    assert kernels.gpu_status() == kernels.GPUStatus("none", "torch sees no CUDA GPU")


def test_with_triton_the_kernels_are_in_use(one_gpu) -> None:
    triton = pytest.importorskip("triton", reason="Triton has wheels for Linux alone")
    status = kernels.gpu_status()
    assert (status.active, status.device, status.version) == ("triton", "NVIDIA Something", triton.__version__)


def test_every_obstacle_is_named(one_gpu) -> None:
    one_gpu.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert kernels.gpu_status().active == "eager"
    assert "compute capability 8.0, this GPU has 7.5" in kernels.gpu_status().reason
    gpu._obstacle.cache_clear()
    one_gpu.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    one_gpu.setattr(gpu.importlib, "import_module", broken)
    assert kernels.gpu_status().reason == "Triton cannot be imported: its library is of another version"
    gpu._obstacle.cache_clear()
    one_gpu.setattr(torch.version, "hip", "7.0")
    assert kernels.gpu_status().reason == "the kernels are written for NVIDIA GPUs"
    gpu._obstacle.cache_clear()
    one_gpu.setattr(gpu, "_found", False)
    assert "Triton is not installed" in kernels.gpu_status().reason


def broken(name: str) -> None:
    raise OSError("its library\nis of another version")


def test_plain_torch_can_be_asked_for(one_gpu) -> None:
    with kernels.eager():
        assert kernels.gpu_status().active == "eager"
    one_gpu.setattr(native, "_forced", True)
    assert kernels.gpu_status().active == "eager"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_the_kernels_take_scores_on_a_gpu_but_not_in_float64(one_gpu, dtype) -> None:
    pytest.importorskip("triton", reason="Triton has wheels for Linux alone")
    scores = OnGPU(dtype)
    assert gpu.takes(scores) == (dtype != torch.float64)
    assert not gpu.takes(torch.zeros(1, dtype=dtype))
    with kernels.eager():
        assert not gpu.takes(scores)


def test_more_bins_than_a_program_can_count_go_through_the_eager_form() -> None:
    scores = OnGPU(torch.float32)
    assert histogram._can_count(scores, gpu.MOST_BINS)
    assert not histogram._can_count(scores, gpu.MOST_BINS + 1)
    assert histogram._can_count(torch.zeros(1), gpu.MOST_BINS + 1)


class OnGPU:
    """What is asked of scores before they are touched."""

    is_cuda = True
    device = H100

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


@pytest.mark.parametrize("name", ["sigmoid_loss", "softmax_loss", "ghm_loss", "ghm_counts"])
def test_the_operators_are_registered_for_cuda(name: str) -> None:
    for family in ("elementwise", "rowwise", "histogram"):
        importlib.import_module(f"equipoise.ops.{family}")  # they register when they are first needed
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"equipoise::{name}", "CUDA")


def test_the_benchmark_runs_when_a_gpu_is_there(tmp_path: Path) -> None:
    """Rehearsed on the CPU: first what must be moved and done, the table last."""
    done = run("-m", "benchmarks.gpu", "--rehearse", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("## What must be moved and done")
    assert "REHEARSAL" in done.stdout
    assert "met:" not in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].startswith("| batch_triplet")
    assert not list(tmp_path.iterdir())
    entries = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert {"sigmoid_focal", "softmax_focal", "ghm_c", "linear_softmax_focal", "batch_triplet"} == {
        entry["name"].partition(",")[0] for entry in entries
    }


def test_a_peer_or_a_contest_that_fails_costs_no_other_its_numbers(monkeypatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import gpu as gpu_benchmark
    from benchmarks.gpu_contests import Contest, Peer, elements

    def broken(*_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no such kernel\nand more")

    def full(*_: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("of 80 GiB")

    def plain(input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (input - target).square().mean()

    peers = (Peer("broken", broken), Peer("full", full), Peer("plain", plain))
    make = partial(elements, torch.float32)
    contests = [Contest("ours fails", make, broken), Contest("peers fail", make, plain, peers=peers)]
    failed, done = gpu_benchmark.measure(contests, torch.device("cpu"))["contests"]
    assert failed["status"] == "RuntimeError: no such kernel"
    assert done["ms"] > 0
    assert [peer.get("status") for peer in done["peers"]] == [
        "RuntimeError: no such kernel", "out of memory: of 80 GiB", None,
    ]  # fmt: skip
    assert done["peers"][2]["ms"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_the_benchmark_claims_nothing(tmp_path: Path) -> None:
    done = run("-m", "benchmarks.gpu", "--out", str(tmp_path))
    assert (done.returncode, done.stderr) == (2, "torch sees no CUDA GPU: nothing is measured\n")
    assert not list(tmp_path.iterdir())
