"""The compiled library is loaded or is not, with a reason; whatever the file, nothing raises or changes besides."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import equipoise
from equipoise import kernels
from equipoise.kernels import native

COMPILER = shutil.which("c++")
LIBRARY = kernels.status().path if kernels.status().active == "native" else None
needs_library = pytest.mark.skipif(LIBRARY is None, reason=f"no kernels: {kernels.status().reason}")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

REPORT = """
import json, dataclasses
from equipoise import kernels
print(json.dumps(dataclasses.asdict(kernels.status())))
"""
# A loss and its gradient, which must come out whichever path is taken.
LOSS = """
import torch, equipoise
scores = torch.linspace(-3, 3, 7, requires_grad=True)
equipoise.sigmoid_focal_loss(scores, torch.tensor([0., 1, 0, 1, 0, 1, 0])).backward()
assert scores.grad.isfinite().all() and scores.grad.count_nonzero() == 7
"""


def run(code: str, **environment: str) -> str:
    """What the code prints in a fresh process."""
    kept = {name: value for name, value in os.environ.items() if name not in ("EQUIPOISE_EAGER", "EQUIPOISE_LIBRARY")}
    process = subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def report(**environment: str) -> dict[str, Any]:
    """The status of a fresh process in which a loss has worked."""
    return json.loads(run(LOSS + REPORT, **environment))


def compiled(folder: Path, source: str) -> str:
    """A library compiled from a line of C++."""
    assert COMPILER is not None
    code, library = folder / "some.cpp", folder / "libsome.so"
    code.write_text(source)
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, code], check=True)
    return str(library)


@needs_library
def test_the_library_is_loaded_and_says_its_level() -> None:
    status = report(EQUIPOISE_LIBRARY=LIBRARY or "")
    assert status["active"] == "native"
    assert status["level"] in ("avx512", "avx2", "baseline")
    assert status["reason"] == f"the compiled library is loaded ({status['level']})"
    assert (status["path"], status["threads"]) == (LIBRARY, "torch's pool")


@pytest.mark.parametrize(("value", "active"), [("1", "eager"), ("0", "native"), ("", "native")])
def test_the_environment_asks_for_eager(value: str, active: str) -> None:
    status = report(EQUIPOISE_EAGER=value, EQUIPOISE_LIBRARY=LIBRARY or "")
    assert status["active"] == (active if LIBRARY else "eager")
    assert (status["reason"] == "EQUIPOISE_EAGER is set") == (value == "1")


def test_a_missing_file_means_eager(tmp_path: Path) -> None:
    path = str(tmp_path / "none.so")
    status = report(EQUIPOISE_LIBRARY=path)
    assert (status["active"], status["reason"], status["path"]) == ("eager", "EQUIPOISE_LIBRARY names no file", path)


@pytest.mark.parametrize("content", [b"", b"\x7fELF, but no more", bytes(range(256)) * 64])
def test_a_damaged_file_means_eager(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.so"
    path.write_bytes(content)
    status = report(EQUIPOISE_LIBRARY=str(path))
    assert (status["active"], status["level"], status["path"]) == ("eager", None, str(path))
    assert status["reason"].startswith("the compiled library cannot be loaded: ")
    assert "\n" not in status["reason"]


@needs_compiler
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            'extern "C" int equipoise_abi() { return 9999; }',
            f"the compiled library has interface 9999, this version needs {native.ABI}: install again",
        ),
        (
            f'extern "C" int equipoise_abi() {{ return {native.ABI}; }}',
            "the file is not this version's library: .* equipoise_level",
        ),
        ("int unrelated = 1;", "the file is not this version's library: .* equipoise_abi"),
    ],
    ids=["another interface", "functions missing", "another library"],
)
def test_another_library_means_eager(tmp_path: Path, source: str, reason: str) -> None:
    path = compiled(tmp_path, source)
    status = report(EQUIPOISE_LIBRARY=path)
    assert (status["active"], status["path"]) == ("eager", path)
    assert re.fullmatch(reason, status["reason"]), status["reason"]


@needs_library
def test_a_torch_without_a_pool_to_lend_means_one_thread() -> None:
    code = """
import pathlib, sys, torch
here = torch.__file__
torch.__file__ = "/nowhere/torch/__init__.py"
from equipoise.kernels import native
torch.__file__ = here
"""
    status = json.loads(run(code + LOSS + REPORT, EQUIPOISE_LIBRARY=LIBRARY or ""))
    assert (status["active"], status["threads"]) == (
        "native",
        "one: this torch lends no threads (2.10 and later do)",
    )


@needs_library
def test_eager_holds_for_its_block_and_its_thread_alone() -> None:
    elsewhere: list[str] = []

    def look() -> None:
        elsewhere.append(kernels.status().active)

    with kernels.eager():
        with kernels.eager():
            assert not native.is_active()
        assert kernels.status().active == "eager"
        assert kernels.status().reason == "this is inside equipoise.kernels.eager()"
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert elsewhere == ["native"]
    assert kernels.status().active == "native"
    with pytest.raises(KeyError), kernels.eager():
        raise KeyError
    assert native.is_active()


@needs_library
def test_a_compiled_function_takes_the_path_that_holds_when_it_is_called() -> None:
    @torch.compile(fullgraph=True, backend="eager")
    def which(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if native.is_active() else x - 1

    zero = torch.zeros(())
    assert which(zero) == 1
    with kernels.eager():
        assert which(zero) == -1
    assert which(zero) == 1


@needs_library
@linux
def test_loading_changes_nothing_in_the_process() -> None:
    """A library linked with -ffast-math would set flush-to-zero, one with OpenMP bring a second pool of threads."""
    code = """
import numpy, torch

def observed():
    denormals = float(numpy.float32(1e-38) / numpy.float32(16)), (torch.tensor([1e-38]) / 16).item()
    return denormals, torch.get_num_threads()

def files():
    with open("/proc/self/maps") as maps:
        return {line.split()[-1] for line in maps if ".so" in line}

import equipoise.reduction
before, files_before = observed(), files()
assert min(before[0]) > 0, before
from equipoise.kernels import native
assert native.is_active(), native.status()
assert observed() == before, (before, observed())
assert files() - files_before == {native.status().path}, files() - files_before
"""
    run(code, EQUIPOISE_LIBRARY=LIBRARY or "")


@needs_library
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_computes_on_its_own() -> None:
    """Threads do not survive a fork: a child that waited for its parent's pool would wait for ever."""
    code = """
import os, sys, torch, equipoise
from equipoise import kernels
torch.set_num_threads(2)
scores = torch.linspace(-5, 5, 1_000_000)
target = (scores > 1).float()
def loss():
    return equipoise.sigmoid_focal_loss(scores, target, alpha=0.25, reduction="sum")
with torch.no_grad():
    before = loss()
    child = os.fork()
    if child == 0:
        threads = kernels.status().threads
        os._exit(0 if loss() == before and threads.startswith("one: a forked process") else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert status == 0, status
assert kernels.status().threads == "torch's pool" and loss() == before
"""
    run(code, EQUIPOISE_LIBRARY=LIBRARY or "")


def test_the_losses_work_without_the_library() -> None:
    with kernels.eager():
        loss = equipoise.sigmoid_focal_loss(torch.zeros(4), torch.ones(4), gamma=0.0)
    torch.testing.assert_close(loss, torch.tensor(2.0).log())
