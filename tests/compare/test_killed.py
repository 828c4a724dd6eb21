"""A comparison that is killed, at whatever moment, goes on to the numbers of an unbroken one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MOMENTS = 20


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_killed_at_twenty_random_moments_it_goes_on_to_the_same_numbers(csv: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("killed_runs.py")
    command = [sys.executable, str(script), str(csv), str(tmp_path), str(MOMENTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    whole, found = json.loads(done.stdout)
    assert len(found) == MOMENTS
    # Not all before the first training or after the last.
    assert len({left for left, *_ in found}) > 2
    for _, results, unfinished in found:
        assert results == whole
        assert unfinished <= 1  # of the moment itself; it is removed an hour later
