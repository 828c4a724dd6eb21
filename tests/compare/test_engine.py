"""Running all trainings: in one process or several, interrupted or not, always with the same numbers."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from equipoise import kernels
from equipoise.compare import engine, metrics, pools
from equipoise.compare import study as study_module
from equipoise.compare.errors import CompareError
from equipoise.compare.jobs import Job, run_job
from equipoise.compare.preparation import prepare
from equipoise.compare.store import Store, locked
from equipoise.compare.study import Request, Study

SEEDS = 2


def run(
    study: Study, folder: Path, workers: int = 1, seeds: int = SEEDS, on_progress: Any = lambda *_: None
) -> engine.Outcome:
    store = Store(folder)
    store.open()
    return engine.run(study, seeds, pools.local(workers), store, on_progress)


def scores(outcome: engine.Outcome) -> dict[str, Any]:
    """The results without the time they took."""
    return {
        name: [{key: value for key, value in each.items() if key != "seconds"} for each in seeds]
        for name, seeds in outcome.results.items()
    }


def test_each_candidate_has_scores_of_each_seed(study: Study, tmp_path: Path) -> None:
    results = run(study, tmp_path / "runs").results
    assert list(results) == ["cross_entropy", "softmax_focal", "prior_corrected"]
    for seeds in results.values():
        assert len(seeds) == SEEDS
        assert seeds[0]["test"] != seeds[1]["test"]
        assert len(seeds[0]["test"]["by_class"]["recall"]) == 3
    assert results["cross_entropy"][0]["seconds"] > 0
    assert results["prior_corrected"][0]["seconds"] is None
    assert results["prior_corrected"][0]["test"] != results["cross_entropy"][0]["test"]


def test_finished_trainings_are_not_repeated_and_damaged_ones_are(study: Study, tmp_path: Path) -> None:
    first = run(study, tmp_path)
    files = sorted(tmp_path.glob("*.json"))
    # Two losses, three trials each, then two seeds; prior correction may want another trial's model of cross-entropy.
    total = len(files)
    assert total in (10, 12)
    files[0].unlink()
    files[1].write_text(files[1].read_text()[:100])
    written = {path: path.stat().st_mtime_ns for path in files[2:]}
    progress: list[tuple[int, int]] = []
    second = run(study, tmp_path, on_progress=lambda *numbers: progress.append(numbers))
    assert progress[-1] == (total, total)
    assert len(progress) == 4  # the start of the trials and of the seeds, and two trainings
    assert scores(second) == scores(first)
    assert {path: path.stat().st_mtime_ns for path in files[2:]} == written


def test_the_chosen_losses_do_not_change_each_others_numbers(study: Study, csv: Path, tmp_path: Path) -> None:
    alone = prepare(Request(data=str(csv), losses="softmax_focal", epochs=2))
    assert scores(run(alone, tmp_path / "a"))["softmax_focal"] == scores(run(study, tmp_path / "b"))["softmax_focal"]


@pytest.mark.parametrize("change", [{"epochs": 3}, {"model": "linear"}, {"problem": "multiclass", "target": "flag"}])
def test_another_request_is_another_set_of_trainings(study: Study, csv: Path, change: dict[str, Any]) -> None:
    other = prepare(Request(**{"data": str(csv), "epochs": 2} | change))
    assert other.key("cross_entropy", 0) != study.key("cross_entropy", 0)


def test_other_data_code_versions_or_kernels_are_another_set_of_trainings(
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
    other = {"native": "eager", "eager": "native"}[kernels.status().active]
    with monkeypatch.context() as patch:  # their results differ in the last digits
        patch.setattr(kernels, "status", lambda: kernels.Status(other, "as EQUIPOISE_EAGER says"))
        assert key() != study.key("cross_entropy", 0)
    csv.write_text(csv.read_text() + "1,1,red,True,common\n")
    assert key() != study.key("cross_entropy", 0)


@pytest.mark.parametrize("problem", ["binary", "multilabel"])
def test_other_problems_run_too(csv: Path, tmp_path: Path, problem: Any) -> None:
    posed = prepare(Request(data=str(csv), target="flag", problem=problem, epochs=1))
    results = run(posed, tmp_path / "runs").results
    assert results.keys() == posed.candidates.keys()
    balanced = [each["test"]["by_class"]["balanced_accuracy"] for seeds in results.values() for each in seeds]
    assert all(value is not None for values in balanced for value in values)


def children() -> list[int]:
    """The worker processes of this one."""
    lists = (task / "children" for task in Path("/proc/self/task").iterdir())
    found = [int(child) for each in lists for child in each.read_text().split()]
    return [child for child in found if b"popen_loky" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="worker processes are found through Linux's /proc")
def test_a_killed_worker_is_replaced_and_the_numbers_are_those_of_one_process(study: Study, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_once(done: int, total: int) -> None:
        if done == 2 and not killed:
            killed.extend(children())
            os.kill(killed[0], signal.SIGKILL)

    broken = run(study, tmp_path / "broken", workers=2, on_progress=kill_once)
    assert killed
    assert scores(broken) == scores(run(study, tmp_path / "whole", workers=1))


def test_workers_that_cannot_live_end_in_one_line(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[dict[str, Any]] = []

    def broken_pool(**options: Any) -> Any:
        built.append(options)
        return lose_a_worker

    def lose_a_worker(_: Any) -> Any:
        raise BrokenProcessPool

    monkeypatch.setattr("joblib.Parallel", broken_pool)
    with pytest.raises(CompareError, match=r"killed again and again .*finished trainings are kept"):
        run(study, tmp_path, workers=9)
    assert [each["n_jobs"] for each in built] == [6, 6, 6]  # no more processes than trainings


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


def test_two_runs_into_one_folder_refuse_each_other(tmp_path: Path) -> None:
    first = start(tmp_path, workers=1)
    wait_for_first(first, tmp_path)
    second = start(tmp_path, workers=1)
    output, errors = second.communicate(timeout=120)
    assert (second.returncode, output) == (2, "")
    assert errors == (
        f"equipoise: another comparison is writing to the output folder {tmp_path}: wait for it, or name another with"
        " --out\n"
    )
    output, errors = first.communicate(timeout=300)
    assert (first.returncode, errors) == (0, "")
    assert json.loads(output)["metric"] == "balanced_accuracy"
    assert not list(tmp_path.rglob("*.unfinished"))


def test_a_killed_run_lets_go_of_its_folder(tmp_path: Path) -> None:
    process = start(tmp_path, workers=1)
    wait_for_first(process, tmp_path)
    process.kill()
    process.communicate()
    with locked(tmp_path):
        assert (tmp_path / "runs").exists()


class Counting:
    """A pool in this process that notes what was run."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def __call__(self, study: Study, jobs: Any, store: Store, stopped: Any) -> Any:
        for job, result in pools.local(1)(study, jobs, store, stopped):
            self.jobs.append(job)
            yield job, result


def counted(study: Study, folder: Path, **options: Any) -> tuple[engine.Outcome, list[Job]]:
    store = Store(folder)
    store.open()
    pool = Counting()
    return engine.run(study, SEEDS, pool, store, lambda *_: None, **options), pool.jobs


def test_every_loss_has_the_same_trials_on_the_first_seed_alone(study: Study, tmp_path: Path) -> None:
    _, jobs = counted(study, tmp_path)
    tried = [job for job in jobs if job.stage == "trial"]
    assert {job.seed for job in tried} == {0}
    for name in ("cross_entropy", "softmax_focal"):
        assert tuple(job.settings for job in tried if job.candidate == name) == study.settings
    assert len(tried) == 6


def test_trials_do_not_touch_test_rows(study: Study) -> None:
    (trial, *_) = study.settings
    result = run_job(study, Job.of(study, "cross_entropy", 0, trial, "trial"))
    assert [set(each) for each in result.values()] == [{"validation"}] * 2


def test_the_winner_of_the_trials_is_the_best_on_validation_rows(study: Study, tmp_path: Path) -> None:
    outcome, jobs = counted(study, tmp_path)
    store = Store(tmp_path)
    for name, candidate in study.candidates.items():
        values = []
        for each in study.settings:
            result = store.read(Job.of(study, candidate.trained_as, 0, each, "trial").key)
            assert result is not None
            values.append(metrics.value(result[name]["validation"], study.metric, study.counted))
        assert outcome.chosen[name] == study.settings[values.index(max(values))]
        finals = {job.settings for job in jobs if job.stage == "final" and job.candidate == candidate.trained_as}
        assert outcome.chosen[name] in finals


def test_a_plain_remedy_may_choose_another_model_of_cross_entropy(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _, last = study.settings
    chosen = {"cross_entropy": first, "softmax_focal": first, "prior_corrected": last}
    monkeypatch.setattr(engine, "_choose", lambda *_: chosen)
    outcome, jobs = counted(study, tmp_path)
    finals = [(job.candidate, job.settings, job.seed) for job in jobs]
    assert sorted(seed for name, settings, seed in finals if (name, settings) == ("cross_entropy", last)) == [0, 1]
    store = Store(tmp_path)
    kept = store.read(Job.of(study, "cross_entropy", 1, last, "final").key)
    assert kept is not None
    assert outcome.results["prior_corrected"][1] == kept["prior_corrected"]
    assert outcome.results["cross_entropy"][1] != kept["cross_entropy"]


def test_one_trial_is_the_default_and_trains_nothing_more(csv: Path, tmp_path: Path) -> None:
    one = prepare(Request(data=str(csv), losses="softmax_focal", epochs=1, trials=1))
    outcome, jobs = counted(one, tmp_path)
    assert {job.stage for job in jobs} == {"final"}
    assert len(jobs) == 4
    assert set(outcome.chosen.values()) == {one.settings[0]}


def test_more_trials_or_seeds_go_on_from_what_is_finished(csv: Path, tmp_path: Path) -> None:
    few = prepare(Request(data=str(csv), losses="softmax_focal", epochs=1, trials=2))
    counted(few, tmp_path)
    _, jobs = counted(prepare(Request(data=str(csv), losses="softmax_focal", epochs=1, trials=3)), tmp_path)
    assert sum(job.stage == "trial" for job in jobs) == 2


def test_a_final_training_is_measured(study: Study, tmp_path: Path) -> None:
    results = run(study, tmp_path).results
    trained, remedied = results["softmax_focal"][0], results["prior_corrected"][0]
    assert trained["steps"] == 2 * math.ceil(144 / study.plan.batch_size)
    assert trained["curve"]["epoch"] == [1, 2]
    assert len(trained["curve"]["train_loss"]) == len(trained["curve"]["validation"]) == 2
    assert trained["curve"]["validation"][-1] == metrics.value(trained["validation"], study.metric, study.counted)
    for name in ("share", "mass"):
        assert sum(trained["gradient_norms"][name]) == pytest.approx(1)
    assert sum(trained["test"]["bins"]["rows"]) == 48
    assert remedied["curve"] is remedied["steps"] is remedied["gradient_norms"] is None


def test_a_time_budget_ends_with_whole_seeds(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("equipoise.compare.engine.time.monotonic", lambda: next(clock))
    outcome, jobs = counted(study, tmp_path, time_budget=6 + 4)  # asked once at the start, then before each training
    assert outcome.seeds == 1
    assert len(jobs) in (9, 10)
    assert all(len(seeds) == 1 for seeds in outcome.results.values())


@pytest.mark.parametrize("trainings", [3, 7])
def test_a_time_budget_too_small_for_one_seed_is_said_in_one_line(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainings: int
) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("equipoise.compare.engine.time.monotonic", lambda: next(clock))
    with pytest.raises(CompareError, match=rf"ended after {trainings} of 1[02] trainings, before the first seed"):
        counted(study, tmp_path, time_budget=trainings + 1)
