"""Running all trainings: in one process or several, interrupted or not, always with the same numbers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from equipoise.compare import engine
from equipoise.compare import study as study_module
from equipoise.compare.errors import CompareError
from equipoise.compare.store import Store
from equipoise.compare.study import Request, Study, prepare

SEEDS = 2


def run(
    study: Study, folder: Path, workers: int = 1, seeds: int = SEEDS, on_progress: Any = lambda *_: None
) -> dict[str, Any]:
    store = Store(folder)
    store.open()
    return engine.run(study, seeds, workers, store, on_progress)


def scores(results: dict[str, Any]) -> dict[str, Any]:
    """The results without the time they took."""
    return {name: [(each["validation"], each["test"]) for each in seeds] for name, seeds in results.items()}


def test_each_candidate_has_scores_of_each_seed(study: Study, tmp_path: Path) -> None:
    results = run(study, tmp_path / "runs")
    assert list(results) == ["cross_entropy", "softmax_focal", "prior_corrected"]
    for seeds in results.values():
        assert len(seeds) == SEEDS
        assert seeds[0]["test"] != seeds[1]["test"]
        assert len(seeds[0]["test"]["recall"]) == 3
    assert results["cross_entropy"][0]["seconds"] > 0
    assert results["prior_corrected"][0]["seconds"] is None
    assert results["prior_corrected"][0]["test"] != results["cross_entropy"][0]["test"]


def test_finished_trainings_are_not_repeated_and_damaged_ones_are(study: Study, tmp_path: Path) -> None:
    first = run(study, tmp_path)
    files = sorted(tmp_path.glob("*.json"))
    assert len(files) == 4  # two losses on two seeds; prior correction rides on cross-entropy
    files[0].unlink()
    files[1].write_text(files[1].read_text()[:100])
    written = {path: path.stat().st_mtime_ns for path in files[2:]}
    progress: list[tuple[int, int]] = []
    second = run(study, tmp_path, on_progress=lambda *numbers: progress.append(numbers))
    assert progress == [(2, 4), (3, 4), (4, 4)]
    assert scores(second) == scores(first)
    assert {path: path.stat().st_mtime_ns for path in files[2:]} == written


def test_the_chosen_losses_do_not_change_each_others_numbers(study: Study, csv: Path, tmp_path: Path) -> None:
    alone = prepare(Request(data=str(csv), losses="softmax_focal", epochs=2))
    assert scores(run(alone, tmp_path / "a"))["softmax_focal"] == scores(run(study, tmp_path / "b"))["softmax_focal"]


@pytest.mark.parametrize("change", [{"epochs": 3}, {"model": "linear"}, {"problem": "multiclass", "target": "flag"}])
def test_another_request_is_another_set_of_trainings(study: Study, csv: Path, change: dict[str, Any]) -> None:
    other = prepare(Request(**{"data": str(csv), "epochs": 2} | change))
    assert other.key("cross_entropy", 0) != study.key("cross_entropy", 0)


def test_other_data_code_or_versions_are_another_set_of_trainings(
    study: Study, csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key() -> dict[str, Any]:
        return prepare(Request(data=str(csv), epochs=2)).key("cross_entropy", 0)

    assert key() == study.key("cross_entropy", 0)
    with monkeypatch.context() as patch:
        patch.setattr(study_module, "code_fingerprint", lambda: "changed")
        assert key() != study.key("cross_entropy", 0)
    with monkeypatch.context() as patch:
        patch.setattr(study_module, "versions", lambda: {"torch": "0"})
        assert key() != study.key("cross_entropy", 0)
    csv.write_text(csv.read_text() + "1,1,red,True,common\n")
    assert key() != study.key("cross_entropy", 0)


@pytest.mark.parametrize("problem", ["binary", "multilabel"])
def test_other_problems_run_too(csv: Path, tmp_path: Path, problem: Any) -> None:
    posed = prepare(Request(data=str(csv), target="flag", problem=problem, epochs=1))
    results = run(posed, tmp_path / "runs")
    assert results.keys() == posed.candidates.keys()
    assert all(each["test"]["metrics"]["balanced accuracy"] is not None for seeds in results.values() for each in seeds)


def children() -> list[int]:
    """The worker processes of this one."""
    lists = (task / "children" for task in Path("/proc/self/task").iterdir())
    found = [int(child) for each in lists for child in each.read_text().split()]
    return [child for child in found if b"popen_loky" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="worker processes are found through Linux's /proc")
def test_a_killed_worker_is_replaced_and_the_numbers_are_those_of_one_process(study: Study, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_once(done: int, total: int) -> None:
        if done == 1 and not killed:
            killed.extend(children())
            os.kill(killed[0], signal.SIGKILL)

    broken = run(study, tmp_path / "broken", workers=2, on_progress=kill_once)
    assert killed
    assert scores(broken) == scores(run(study, tmp_path / "whole", workers=1))


def test_workers_that_cannot_live_end_in_one_line(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: list[dict[str, Any]] = []

    def broken_pool(**options: Any) -> Any:
        pools.append(options)
        return lose_a_worker

    def lose_a_worker(_: Any) -> Any:
        raise BrokenProcessPool

    monkeypatch.setattr("joblib.Parallel", broken_pool)
    with pytest.raises(CompareError, match=r"killed again and again .*finished trainings are kept"):
        run(study, tmp_path, workers=9)
    assert [pool["n_jobs"] for pool in pools] == [4, 4, 4]  # no more processes than trainings


# Many short trainings: what is interrupted after the first one has most of them before it.
LONG = 12
REQUEST = Request(data="digits", losses="prior_corrected", epochs=20)


def hear_control_c() -> None:
    """Undo what a shell does to a job in the background, whose children would ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def start(out: Path, workers: int) -> subprocess.Popen[str]:
    """A comparison as `REQUEST` asks for, in a process of its own."""
    options = f"digits --losses prior_corrected --epochs 20 --seeds {LONG} --json --workers {workers} --out {out}"
    return subprocess.Popen(
        [sys.executable, "-m", "equipoise", "compare", *options.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_control_c,
    )


def finished(out: Path) -> int:
    return len(list(out.glob("runs/*.json")))


def wait_for_first(process: subprocess.Popen[str], out: Path) -> None:
    """Until the first training is finished."""
    deadline = time.monotonic() + 120
    while not finished(out):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_killed_and_continued_ends_with_the_numbers_of_an_unbroken_one(tmp_path: Path) -> None:
    process = start(tmp_path, workers=2)
    wait_for_first(process, tmp_path)
    process.kill()
    process.communicate()  # returns when the workers, who hold the same pipes, have ended too
    assert process.returncode == -signal.SIGKILL
    assert 1 <= finished(tmp_path) < LONG
    study = prepare(REQUEST)
    left = finished(tmp_path)
    progress: list[int] = []
    continued = run(study, tmp_path / "runs", seeds=LONG, on_progress=lambda done, _: progress.append(done))
    assert progress[0] == left
    assert scores(continued) == scores(run(study, tmp_path / "whole", seeds=LONG))


def test_control_c_keeps_the_work_and_says_so_in_one_line(tmp_path: Path) -> None:
    process = start(tmp_path, workers=2)
    wait_for_first(process, tmp_path)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    assert errors == "equipoise: interrupted; finished trainings are kept, the same command goes on from there\n"


def test_two_runs_into_one_folder_end_with_the_same_numbers(tmp_path: Path) -> None:
    processes = [start(tmp_path, workers=1) for _ in range(2)]
    candidates = []
    for process in processes:
        output, errors = process.communicate(timeout=300)
        assert (process.returncode, errors) == (0, "")
        candidates.append([(each["name"], each["values"]) for each in json.loads(output)["candidates"]])
    assert candidates[0] == candidates[1]
    assert json.loads((tmp_path / "results.json").read_text())["metric"] == "balanced accuracy"
    assert not list(tmp_path.rglob("*.unfinished"))
