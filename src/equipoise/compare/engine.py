"""Run every training of a comparison that is not finished yet, in worker processes, and keep each at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from typing import Any

import joblib
import numpy as np
from torch import Tensor

from . import candidates, features, metrics, training
from .errors import CompareError
from .splits import split
from .store import Key, Store
from .study import Study

# A worker that is killed, by hand or for want of memory, takes the pool with it; how often to build it anew.
POOLS = 3

OnProgress = Callable[[int, int], None]
Result = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One training: a candidate on a seed."""

    candidate: str
    seed: int
    key: Key = field(compare=False)


def jobs(study: Study, seeds: int) -> list[Job]:
    """All trainings of a study, seed by seed."""
    names = [name for name, candidate in study.candidates.items() if candidate.make is not None]
    return [Job(name, seed, study.key(name, seed)) for seed in range(seeds) for name in names]


def run(study: Study, seeds: int, workers: int, store: Store, on_progress: OnProgress) -> dict[str, list[Result]]:
    """Run what is missing and collect everything.

    Args:
        study: what to compare.
        seeds: how many seeds; they are 0, 1, 2, ...
        workers: how many processes; 1 runs in this one.
        store: where finished trainings are kept.
        on_progress: called with the numbers of finished and of all trainings, at the start and after each.

    Returns:
        For each candidate its results, one per seed: `validation` and `test` scores, and `seconds` of training (None
        where nothing was trained).
    """
    wanted = jobs(study, seeds)
    done = {job: result for job in wanted if (result := store.read(job.key)) is not None}
    on_progress(len(done), len(wanted))
    for job, result in _run_missing(study, [job for job in wanted if job not in done], workers, store):
        done[job] = result
        on_progress(len(done), len(wanted))
    collected: dict[str, list[Result]] = {name: [] for name in study.candidates}
    for job in wanted:
        for name, result in done[job].items():
            if name in collected:
                collected[name].append(result)
    return collected


def _run_missing(study: Study, missing: Sequence[Job], workers: int, store: Store) -> Iterator[tuple[Job, Result]]:
    """Run jobs and yield each with its result as it ends; in other processes where there are several of both."""
    if min(workers, len(missing)) <= 1:
        yield from (_run_job(study, job, store) for job in missing)
        return
    left = list(missing)
    for _ in range(POOLS):
        pool = joblib.Parallel(
            n_jobs=max(2, min(workers, len(left))),  # 1 would be this process, which must live
            backend="loky",
            batch_size=1,
            return_as="generator_unordered",
            initializer=_start_worker,
            initargs=(os.getpid(),),
        )
        try:
            for job, result in pool(joblib.delayed(_run_job)(study, job, store) for job in tuple(left)):
                left.remove(job)
                yield job, result
            return
        except BrokenProcessPool:
            continue
    raise CompareError(
        "worker processes were killed again and again (too little memory? try --workers 1);"
        " finished trainings are kept, the same command goes on from there"
    )


def _start_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and do not outlive it: a killed parent cannot stop its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@dataclass(frozen=True)
class Part:
    """The rows of one part of a split: their features, the loss's targets, and the labels to score against."""

    features: features.Features
    targets: Tensor
    labels: np.ndarray[tuple[int, ...], np.dtype[np.int64]]


# Jobs come seed by seed, so that a worker that remembers the last seed's data prepares it once per seed.
_last: tuple[tuple[str, int], tuple[Part, Part, Part]] | None = None


def _parts(study: Study, seed: int) -> tuple[Part, Part, Part]:
    """The training, validation and test rows of a seed."""
    global _last
    if _last is None or _last[0] != (study.identity, seed):
        cut = split(study.problem, seed)
        rows = (cut.train, cut.validation, cut.test)
        prepared = features.prepare(study.table, *rows)
        train, validation, test = (
            Part(each, study.targets(part), study.problem.labels[part].astype(np.int64))
            for each, part in zip(prepared, rows, strict=True)
        )
        _last = (study.identity, seed), (train, validation, test)
    return _last[1]


def _run_job(study: Study, job: Job, store: Store) -> tuple[Job, Result]:
    """Train, score and keep one candidate; with the yardstick also its prior-corrected predictions."""
    with training.one_thread():
        train, validation, test = _parts(study, job.seed)
        candidate = study.candidates[job.candidate]
        assert candidate.make is not None  # `jobs` lists only what is trained
        outputs = study.problem.num_outputs
        loss = candidate.make(train.targets, outputs)
        bias = training.best_constant(loss, train.targets, outputs)  # also warms torch up for the clock
        started = time.perf_counter()
        model = training.train(loss, train.features, train.targets, bias, study.plan, job.seed)
        result: Result = {job.candidate: {"seconds": time.perf_counter() - started}}
        if job.candidate == candidates.YARDSTICK:
            result[candidates.PRIOR_CORRECTED] = {"seconds": None}
        for name, part in (("validation", validation), ("test", test)):
            logits = training.predict(model, part.features)
            result[job.candidate][name] = _score(study, candidate, logits, part)
            if job.candidate == candidates.YARDSTICK:
                corrected = candidates.correct_prior(logits, train.targets, study.problem.kind)
                result[candidates.PRIOR_CORRECTED][name] = _score(study, candidate, corrected, part)
    store.write(job.key, result)
    return job, result


def _score(study: Study, candidate: candidates.Candidate, logits: Tensor, part: Part) -> Result:
    """The metrics of one set of predictions, as JSON can hold them."""
    independent = candidate.card is not None and candidate.card.kind == "elementwise"
    return asdict(metrics.evaluate(study.problem.kind, logits.double().numpy(), part.labels, independent))
