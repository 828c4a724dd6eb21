"""The same jobs on a Ray cluster, a local one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

OPTIONS = ["--losses=softmax_focal", "--seeds=2", "--trials=2", "--epochs=2", "--json"]


def run(csv: Path, out: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "equipoise", "compare", str(csv), *OPTIONS, *options, "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


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


def test_a_cluster_that_is_not_there_is_one_line(csv: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    lost = run(csv, tmp_path, "--cluster=ray", RAY_ADDRESS="127.0.0.1:1")
    assert (lost.returncode, lost.stdout, lost.stderr.count("\n")) == (2, "", 1)
    assert "the Ray cluster failed" in lost.stderr


def test_without_ray_one_line_says_what_to_install(csv: Path, tmp_path: Path) -> None:
    code = f"import sys; sys.modules['ray'] = None; from equipoise.cli import main; sys.exit(main({['compare', str(csv), *OPTIONS, '--cluster=ray', '--out', str(tmp_path)]!r}))"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'equipoise: --cluster ray needs ray: pip install "equipoise[ray]"\n'
