"""Whatever the file: an answer, or one readable line and exit status 2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import malformed
import pytest

from equipoise.cli import main

CASES = malformed.every()
OPTIONS = ["--epochs=1", "--seeds=1", "--trials=1", "--workers=1", "--losses=cross_entropy", "--json"]
# Unreadable in the sense that a person would see a traceback's or a library's inner life.
TELLTALE = ("Traceback", "<class", "object at 0x", "np.float64", "\x1b", "\0")


def test_there_are_two_hundred_and_all_are_different() -> None:
    assert len(CASES) >= 200
    assert len({name for name, *_ in CASES}) == len(CASES)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "ending", "content"), CASES, ids=[name for name, *_ in CASES])
def test_every_file_ends_in_an_answer_or_in_one_line(
    name: str, ending: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"t{ending}"
    path.write_bytes(content)
    status = main(["compare", str(path), *OPTIONS, "--out", str(tmp_path / "out")])
    output, errors = capsys.readouterr()
    if status == 0:
        document = json.loads(output)
        assert errors == ""
        assert document["candidates"][0]["values"]
        assert (tmp_path / "out" / "index.html").exists()
        return
    assert (status, output) == (2, "")
    assert errors.startswith("equipoise: ")
    assert errors.count("\n") == 1
    assert len(errors) < 1000 + len(str(path))
    assert not [each for each in TELLTALE if each in errors]


MILLION = """
import resource
from pathlib import Path

import numpy as np
import pandas as pd

from equipoise.compare.preparation import prepare
from equipoise.compare.study import Request

path, rows = Path({path!r}), 1_000_000
generator = np.random.default_rng(0)
columns = {{f"x{{index}}": generator.integers(0, 1000, rows) / 8 for index in range(6)}}
columns |= {{f"c{{index}}": np.array(["red", "green", "blue"])[generator.integers(0, 3, rows)] for index in range(4)}}
columns["y"] = np.array(["a", "b"])[(generator.random(rows) < 0.02) * 1]
pd.DataFrame(columns).to_csv(path, index=False)
del columns
study = prepare(Request(data=str(path)))
assert study.table.numeric.shape == (rows, 6), study.table.numeric.shape
assert study.table.codes.shape == (rows, 4)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of the peak memory is Linux's")
def test_a_million_rows_are_profiled_within_two_gibibytes(tmp_path: Path) -> None:
    code = MILLION.format(path=str(tmp_path / "million.csv"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    (tmp_path / "million.csv").unlink(missing_ok=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert float(done.stdout) < 2
