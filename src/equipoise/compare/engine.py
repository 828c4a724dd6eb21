"""Run every training of a comparison that is not finished yet: first the trials, then the seeds with what won."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from . import metrics, trials
from .errors import CompareError
from .jobs import Job, Result
from .pools import Pool
from .store import Store
from .study import Study
from .trials import Settings

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Outcome:
    """What all trainings gave.

    Attributes:
        results: for each candidate its results, one per seed.
        chosen: for each candidate the settings that won its trials.
        seeds: how many seeds were finished, which may be fewer than were asked for where time was short.
    """

    results: Mapping[str, Sequence[Result]]
    chosen: Mapping[str, Settings]
    seeds: int


@dataclass
class Runner:
    """Runs jobs that are not finished yet, and counts.

    Attributes:
        study: what to compare.
        pool: where trainings run.
        store: where finished trainings are kept.
        on_progress: called with the numbers of finished and of all trainings, at the start and after each.
        deadline: no training starts after this moment of the monotonic clock.
        total: how many trainings there are in all.
    """

    study: Study
    pool: Pool
    store: Store
    on_progress: OnProgress
    deadline: float | None
    total: int
    done: int = 0

    def run(self, jobs: Sequence[Job]) -> dict[Job, Result]:
        """Results by job; without those that the deadline kept from starting."""
        found = {job: result for job in jobs if (result := self.store.read(job.key)) is not None}
        self.done += len(found)
        self.on_progress(self.done, self.total)
        missing = [job for job in jobs if job not in found]
        for job, result in self.pool(self.study, missing, self.store, self._stopped) if missing else ():
            found[job] = result
            self.done += 1
            self.on_progress(self.done, self.total)
        return found

    def _stopped(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline


def run(
    study: Study,
    seeds: int,
    pool: Pool,
    store: Store,
    on_progress: OnProgress,
    time_budget: float | None = None,
) -> Outcome:
    """Run what is missing and collect everything.

    Args:
        study: what to compare.
        seeds: how many seeds; they are 0, 1, 2, ...
        pool: where trainings run.
        store: where finished trainings are kept.
        on_progress: called with the numbers of finished and of all trainings.
        time_budget: seconds after which no further training starts; whole seeds count.

    Raises:
        CompareError: where the time was not enough for one seed.
    """
    trained = [name for name, candidate in study.candidates.items() if candidate.make is not None]
    total = len(trained) * seeds + len(_trials(study))
    deadline = None if time_budget is None else time.monotonic() + time_budget
    runner = Runner(study, pool, store, on_progress, deadline, total)
    chosen = _choose(runner)
    # Candidates that use the yardstick's model may have chosen other settings for it, and what has no model is no
    # training but has jobs of its own.
    needed = list(dict.fromkeys((study.candidates[name].trained_as, chosen[name]) for name in study.candidates))
    runner.total += seeds * (len(needed) - len(trained))
    jobs = {(name, settings, seed): Job.of(study, name, seed, settings, "final")
            for seed in range(seeds) for name, settings in needed}  # fmt: skip
    done = runner.run(list(jobs.values()))
    whole = _whole_seeds(seeds, (job for job in jobs.values() if job not in done))
    if not whole:
        raise _too_little_time(runner)
    results = {
        name: [done[jobs[candidate.trained_as, chosen[name], seed]][name] for seed in range(whole)]
        for name, candidate in study.candidates.items()
    }
    return Outcome(results, chosen, whole)


def _trials(study: Study) -> list[tuple[str, Settings]]:
    """Who is trained with which settings before the seeds: the first trial of all, then the second, and so on."""
    tried = {name: each.tried(study.settings) for name, each in study.candidates.items() if each.make is not None}
    if len(study.settings) < 2:
        return []
    return [(name, tried[name][place]) for place in range(len(study.settings)) for name in tried]


def _choose(runner: Runner) -> dict[str, Settings]:
    """For each candidate the settings that are best on the validation rows of the first seed."""
    study = runner.study
    jobs = {(name, each): Job.of(study, name, 0, each, "trial") for name, each in _trials(study)}
    done = runner.run(list(jobs.values())) if jobs else {}
    if len(done) < len(jobs):
        raise _too_little_time(runner)
    chosen = {}
    for name, candidate in study.candidates.items():
        tried = candidate.tried(study.settings)
        if len(tried) < 2:
            chosen[name] = tried[0]
            continue
        scores = [done[jobs[candidate.trained_as, each]][name]["validation"] for each in tried]
        values = [metrics.value(each, study.metric, study.counted) for each in scores]
        chosen[name] = tried[trials.best(values, study.larger_is_better)]
    return chosen


def _whole_seeds(seeds: int, missing: Iterable[Job]) -> int:
    """How many of the first seeds lack no training."""
    return min((job.seed for job in missing), default=seeds)


def _too_little_time(runner: Runner) -> CompareError:
    return CompareError(
        f"the time budget ended after {runner.done} of {runner.total} trainings, before the first seed was complete;"
        " they are kept, the same command goes on from there"
    )
