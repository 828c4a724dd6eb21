"""The `equipoise` command: fast help, one line for every trouble, and the right exit status."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import equipoise
from equipoise import kernels
from equipoise.catalog import CARDS
from equipoise.cli import main
from equipoise.compare.errors import CompareError


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Call the command in an empty folder and return its status, its output and its errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        output, errors = capsys.readouterr()
        return status, output, errors

    return run


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_help_loads_nothing_heavy() -> None:
    code = """
import sys
from equipoise.cli import main
assert main(["--help"]) == main(["compare", "--help"]) == 0
heavy = {"torch", "numpy", "pandas", "scipy", "sklearn", "jinja2", "joblib", "pyarrow"} & set(sys.modules)
assert not heavy, heavy
"""
    run = run_python(code)
    assert (run.returncode, run.stderr) == (0, "")
    assert "Find out which loss to train with" in run.stdout


def test_python_m_is_the_command() -> None:
    run = subprocess.run([sys.executable, "-m", "equipoise", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == f"equipoise {equipoise.__version__}\n"


def test_losses_lists_every_card(call: Any) -> None:
    status, output, errors = call("losses")
    assert (status, errors) == (0, "")
    for card in CARDS:
        assert sum(line.startswith(f"{card.name} ") for line in output.splitlines()) == 1
    assert "\x1b" not in output


def test_compare_from_end_to_end(call: Any, tmp_path: Path) -> None:
    options = ["--losses", "softmax_focal", "--seeds", "2", "--epochs", "1", "--workers", "1", "--model", "linear"]
    status, output, errors = call("compare", "digits", *options, "--out", "there")
    assert (status, errors) == (0, "")
    assert output.splitlines()[-1] == "there/index.html"
    assert "equipoise compare digits --losses softmax_focal" in (tmp_path / "there" / "index.html").read_text()


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), (" 10 M ", 600), ("0.5", 0.5)]
)
def test_times_are_read_as_people_write_them(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("equipoise.compare.command.execute", lambda *arguments: asked.extend(arguments))
    assert main(["compare", f"--time-budget={text}", "--metric=brier", "--cluster=ray", "--trials=7"]) == 0
    request, options = asked
    assert (options.time_budget, options.cluster) == (seconds, "ray")
    assert (request.metric, request.trials) == ("brier", 7)


@pytest.fixture
def files(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "one.csv").write_text("x,y\n" + "1,a\n2,a\n" * 5)
    (tmp_path / "good.csv").write_text("x,y\n" + "1,a\n2,b\n3,b\n" * 5)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "broken.parquet").write_text("PAR1")
    (tmp_path / "same.csv").write_text("x,y\n" + "1,a\n1,b\n" * 5)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("missing.csv", "there is no file missing.csv"),
        ("farz", "there is no file farz and no built-in table (there are fars, digits and flights)"),
        ("empty.csv", "empty.csv is empty"),
        ("folder.csv", "folder.csv is a folder"),
        ("broken.parquet", "cannot read broken.parquet as Parquet"),
        ("one.csv", "target 'y' has one class, 'a' (10 rows)"),
        ("same.csv", "same.csv has no usable feature ('x': constant)"),
        ("good.csv --target z", "no column 'z' in good.csv; it has x, y"),
        ("good.csv --losses sigmoid_focl", "there is no loss 'sigmoid_focl'; did you mean 'sigmoid_focal'"),
        ("good.csv --losses softmax_focal", "does not train a binary problem"),
        ("good.csv --problem binary --target x", "has 3 classes, a binary problem has 2"),
        ("good.csv --out empty.csv", "cannot create the output folder empty.csv"),
        ("good.csv --out /proc/equipoise", "cannot create the output folder /proc/equipoise"),
        ("good.csv --seeds 0", "'--seeds'"),
        ("good.csv --seeds two", "'--seeds'"),
        ("good.csv --epochs -1", "'--epochs'"),
        ("good.csv --workers 0", "'--workers'"),
        ("good.csv --model forest", "--model 'forest' is none of linear, mlp"),
        ("good.csv --metric accuracy", "'--metric': 'accuracy' is not one of"),
        ("good.csv --trials 0", "'--trials'"),
        ("good.csv --rows 2", "'--rows'"),
        ("good.csv --time-budget soon", "'soon' is no time, expected 90s, 10m or 2h"),
        ("good.csv --time-budget 0", "'0' is no time"),
        ("good.csv --cluster slurm", "'--cluster'"),
        ("good.csv --device abacus", "--device abacus cannot be used"),
        ("good.csv --group z", "no column 'z' in good.csv"),
        ("good.csv --problem regression", "'--problem'"),
        ("good.csv --frobnicate", "--frobnicate"),
        ("good.csv more", "more"),
    ],
)
def test_every_trouble_ends_in_one_line_and_status_2(call: Any, arguments: str, message: str) -> None:
    status, output, errors = call("compare", *arguments.split())
    assert (status, output) == (2, "")
    assert message in errors
    assert errors.startswith("equipoise: ")
    assert errors.count("\n") == 1


def test_an_unknown_command_is_one_line_too(call: Any) -> None:
    status, _, errors = call("comprae")
    assert status == 2
    assert "comprae" in errors
    assert errors.count("\n") == 1


def test_messages_of_other_libraries_are_brought_to_one_line() -> None:
    assert str(CompareError("cannot read x:\n  line 3\n\n")) == "cannot read x: line 3"


@pytest.mark.parametrize("package", ["typer", "rich", "pandas", "sklearn", "jinja2"])
def test_a_missing_extra_is_one_line_that_says_what_to_install(package: str) -> None:
    code = f"""
import sys
sys.modules[{package!r}] = None
from equipoise.cli import main
sys.exit(main(["compare", "digits"]))
"""
    run = run_python(code)
    assert (run.returncode, run.stdout) == (2, "")
    expected = f'{package} is not installed; the command line needs: pip install "equipoise[compare]"'
    assert run.stderr.splitlines() == [f"equipoise: {expected}"]


def test_a_defect_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch, call: Any) -> None:
    def fail(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'equipoise.nonsense'", name="equipoise.nonsense")

    monkeypatch.setattr("equipoise.compare.command.execute", fail)
    with pytest.raises(ModuleNotFoundError, match="nonsense"):
        call("compare", "digits")
    monkeypatch.setattr("equipoise.compare.command.execute", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        call("compare", "digits")


def test_a_terminal_without_the_signs_shows_others_instead(tmp_path: Path) -> None:
    """▲ and a class named in another script are no reason to lose the answer after all the training."""
    (tmp_path / "table.csv").write_text(
        "a,y\n" + "".join(f"{row % 7},{'да' if row % 2 else 'нет'}\n" for row in range(60)), encoding="utf-8"
    )
    result = subprocess.run(
        [sys.executable, "-m", "equipoise", "compare", "table.csv", "--epochs=1", "--seeds=2", "--workers=1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == "report/index.html"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full is Linux's")
def test_output_that_cannot_be_written_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "equipoise", "losses"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 2
    assert result.stderr == "equipoise: [Errno 28] No space left on device\n"


def test_a_picture_that_cannot_be_written_is_named(call: Any) -> None:
    status, output, errors = call("curves", "sigmoid_focal", "--out", "nowhere/curves.csv")
    assert (status, output, errors) == (2, "", "equipoise: nowhere/curves.csv: No such file or directory\n")


@pytest.mark.parametrize("wrong", ["--losses=", "--out=", "--save="])
def test_an_empty_option_is_refused(tmp_path: Path, wrong: str) -> None:
    """What an unset variable of a shell leaves behind."""
    result = subprocess.run(
        [sys.executable, "-m", "equipoise", "compare", "digits", wrong],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)


def test_info_says_which_path_the_losses_take(call: Any) -> None:
    status, output, errors = call("info")
    assert (status, errors) == (0, "")
    active = kernels.status()
    assert f"kernels    {active.active}: " in output
    assert torch.__version__ in output
    assert all(len(line) <= 80 for line in output.splitlines() if active.path is None or active.path not in line)

    status, output, _ = call("info", "--json")
    assert status == 0
    assert json.loads(output)["kernels"] == dataclasses.asdict(active)
    with kernels.eager():
        assert "kernels    eager: this is inside equipoise.kernels.eager()" in call("info")[1]
