"""Where trainings run: in this process, in worker processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from pathlib import Path
from typing import Any

import joblib

from .errors import CompareError
from .jobs import Job, Result, run_job
from .store import Store
from .study import Study

# A worker that is killed, by hand or for want of memory, takes the pool with it; how often to build it anew.
POOLS = 3

# What runs jobs, keeps each result at once, and yields it. It starts no further job once the `stopped` says so.
Pool = Callable[[Study, Sequence[Job], Store, Callable[[], bool]], Iterator[tuple[Job, Result]]]


def local(workers: int) -> Pool:
    """Worker processes of this machine; 1 runs in this process, and so does a single job."""

    def run(
        study: Study, jobs: Sequence[Job], store: Store, stopped: Callable[[], bool]
    ) -> Iterator[tuple[Job, Result]]:
        if min(workers, len(jobs)) <= 1:
            yield from (_run_and_keep(study, job, store) for job in _until(stopped, jobs))
            return
        left = list(jobs)
        for _ in range(POOLS):
            pool = joblib.Parallel(
                n_jobs=max(2, min(workers, len(left))),  # 1 would be this process, which must live
                backend="loky",
                batch_size=1,
                pre_dispatch=workers,  # what waits in a queue would start after the time is over
                return_as="generator_unordered",
                initializer=_start_worker,
                initargs=(os.getpid(),),
            )
            try:
                tasks = (joblib.delayed(_run_and_keep)(study, job, store) for job in _until(stopped, tuple(left)))
                for job, result in pool(tasks):
                    left.remove(job)
                    yield job, result
                return
            except BrokenProcessPool:
                continue
        raise CompareError(
            "worker processes were killed again and again (too little memory? try --workers 1);"
            " finished trainings are kept, the same command goes on from there"
        )

    return run


def _until(stopped: Callable[[], bool], jobs: Sequence[Job]) -> Iterator[Job]:
    for job in jobs:
        if stopped():
            return
        yield job


def _run_and_keep(study: Study, job: Job, store: Store) -> tuple[Job, Result]:
    result = run_job(study, job)
    store.write(job.key, result)
    return job, result


def _start_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and do not outlive it: a killed parent cannot stop its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def ray_cluster(
    study: Study, jobs: Sequence[Job], store: Store, stopped: Callable[[], bool]
) -> Iterator[tuple[Job, Result]]:
    """The cluster that `RAY_ADDRESS` names, or else one on this machine that ends with this process.

    Its machines need the same versions of this package; results come back here and are kept here.
    """
    try:
        ray: Any = import_module("ray")
    except ModuleNotFoundError as error:
        raise CompareError('--cluster ray needs ray: pip install "equipoise[ray]"') from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    # A model of the person's own is imported from the current folder.
    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}}
    try:
        if not ray.is_initialized():  # by an earlier call, as for the trials
            ray.init(
                address=os.environ.get("RAY_ADDRESS"),
                runtime_env=environment,
                include_dashboard=False if "RAY_ADDRESS" not in os.environ else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        remote = ray.remote(num_cpus=1, max_retries=POOLS)(run_job)
        shared = ray.put(study)
        waiting: dict[Any, Job] = {}
        places = max(1, int(ray.cluster_resources().get("CPU", 1)))
        left = iter(jobs)
        while True:
            while len(waiting) < places and not stopped() and (job := next(left, None)) is not None:
                waiting[remote.remote(shared, job)] = job
            if not waiting:
                return
            (ready, *_), _ = ray.wait(list(waiting), num_returns=1)
            job, result = waiting.pop(ready), ray.get(ready)
            store.write(job.key, result)
            yield job, result
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, CompareError):
            raise error.cause from error
        raise CompareError(f"the Ray cluster failed: {error}; finished trainings are kept") from error
    except (ray.exceptions.RayError, ConnectionError, RuntimeError) as error:
        raise CompareError(f"the Ray cluster failed: {error}; finished trainings are kept") from error
