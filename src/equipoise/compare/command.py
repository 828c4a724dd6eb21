"""What `equipoise compare` does, from the request to the path of the report."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import joblib

from . import engine, pools, report, terminal
from .errors import CompareError
from .preparation import prepare
from .saving import make_folder
from .store import PAGE, RESULTS, Store, locked, write_atomically
from .study import Request
from .ways import way_of


@dataclass(frozen=True, kw_only=True)
class Options:
    """What changes how a comparison is run and shown, but not the numbers of a training.

    Attributes:
        workers: processes; None for one per core.
        cluster: where trainings run, if not on this machine.
        time_budget: seconds after which no further training starts.
        out: the folder for everything that is written.
        save: the folder for the winner; None to save nothing.
        as_json: print the results as JSON instead of a table.
        command: the command line, for the report.
    """

    workers: int | None = None
    cluster: Literal["ray"] | None = None
    time_budget: float | None = None
    out: str = "report"
    save: str | None = None
    as_json: bool = False
    command: str = "equipoise compare"


def execute(request: Request, options: Options) -> None:
    """Compare, print, and write `index.html`, `results.json` and `runs/` into the output folder.

    Raises:
        CompareError: where the request cannot be met.
    """
    out = Path(options.out)
    no_color = bool(os.environ.get("NO_COLOR"))
    stdout = terminal.console(sys.stderr if options.as_json else sys.stdout, no_color)
    study = prepare(request)
    way = way_of(study)
    if options.save is not None and way.save_winner is None:
        raise CompareError("--save keeps the model of one target; of several, train the winner by the report's code")
    store = Store(out / "runs")
    store.open()
    if options.save is not None:
        make_folder(Path(options.save))
    with locked(out):
        if not options.as_json:
            way.show_study(study, request.seeds, stdout)
        workers = options.workers or joblib.cpu_count()
        pool = pools.ray_cluster if options.cluster == "ray" else pools.local(workers)
        with terminal.progress(terminal.console(sys.stderr, no_color)) as on_progress:
            outcome = engine.run(study, request.seeds, pool, store, on_progress, options.time_budget)
        comparison = way.summarize(study, outcome, workers, request.seeds)
        page = out / PAGE
        content = way.document(comparison, options.command, str(page), options.save)
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        try:
            write_atomically(out / RESULTS, text + "\n")
            write_atomically(page, report.render(content))
        except OSError as error:
            raise CompareError(f"cannot write to the output folder {out}: {error.strerror}") from error
        if options.save is not None and way.save_winner is not None:
            way.save_winner(comparison, Path(options.save))
    if options.as_json:
        sys.stdout.write(text + "\n")
        return
    way.show_comparison(comparison, stdout)
    if options.save is not None:
        stdout.print(
            f"{comparison.winner} is saved in {options.save}: equipoise predict {options.save} DATA", markup=False
        )
    terminal.print_path(str(page))
