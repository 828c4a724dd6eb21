"""The same jobs on a Ray cluster, a local one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

OPTIONS = ["--losses=softmax_focal", "--seeds=2", "--trials=2", "--epochs=2", "--json"]


def run(csv: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "equipoise", "compare", str(csv), *OPTIONS, *options, "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def numbers(text: str) -> list[Any]:
    return [(each["name"], each["values"], each["chosen"]) for each in json.loads(text)["candidates"]]


def test_a_ray_cluster_gives_the_numbers_of_one_process(csv: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    remote = run(csv, tmp_path / "remote", "--cluster=ray")
    assert (remote.returncode, remote.stderr) == (0, "")
    assert numbers(remote.stdout) == numbers(run(csv, tmp_path / "here", "--workers=1").stdout)
    # Kept here, whichever machine trained: the same command, on the cluster or not, has nothing left to train.
    kept = sorted(path.name for path in (tmp_path / "remote" / "runs").glob("*.json"))
    assert kept == sorted(path.name for path in (tmp_path / "here" / "runs").glob("*.json"))


def test_a_cluster_that_fails_is_one_line(csv: Path, tmp_path: Path) -> None:
    """As one does that is not there; Ray itself looks for minutes."""
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    lost = call(csv, tmp_path, "import ray\ndef init(**_): raise ConnectionError('nobody is\\nthere')\nray.init = init")
    assert (lost.returncode, lost.stdout) == (2, "")
    assert lost.stderr == "equipoise: the Ray cluster failed: nobody is there; finished trainings are kept\n"


def test_without_ray_one_line_says_what_to_install(csv: Path, tmp_path: Path) -> None:
    done = call(csv, tmp_path, "import sys; sys.modules['ray'] = None")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'equipoise: --cluster ray needs ray: pip install "equipoise[ray]"\n'


def call(csv: Path, out: Path, before: str) -> subprocess.CompletedProcess[str]:
    """The comparison on a cluster, after some code."""
    arguments = ["compare", str(csv), *OPTIONS, "--cluster=ray", "--out", str(out)]
    code = f"{before}\nimport sys\nfrom equipoise.cli import main\nsys.exit(main({arguments!r}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
