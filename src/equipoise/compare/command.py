"""What `equipoise compare` does, from the request to the path of the report."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import joblib

from . import engine, report, terminal
from .document import document
from .errors import CompareError
from .store import PAGE, RESULTS, Store, write_atomically
from .study import Request, prepare
from .summary import summarize


@dataclass(frozen=True, kw_only=True)
class Options:
    """What changes how a comparison is run and shown, but not its numbers.

    Attributes:
        workers: processes; None for one per core.
        out: the folder for everything that is written.
        as_json: print the results as JSON instead of a table.
        command: the command line, for the report.
    """

    workers: int | None = None
    out: str = "report"
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
    store = Store(out / "runs")
    store.open()
    if not options.as_json:
        terminal.show_study(study, request.seeds, stdout)
    workers = options.workers or joblib.cpu_count()
    with terminal.progress(terminal.console(sys.stderr, no_color)) as on_progress:
        results = engine.run(study, request.seeds, workers, store, on_progress)
    comparison = summarize(study, request.seeds, workers, results)
    page = out / PAGE
    content = document(comparison, options.command, str(page))
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    try:
        write_atomically(out / RESULTS, text + "\n")
        write_atomically(page, report.render(content))
    except OSError as error:
        raise CompareError(f"cannot write to the output folder {out}: {error.strerror}") from error
    if options.as_json:
        sys.stdout.write(text + "\n")
        return
    terminal.show_comparison(comparison, stdout)
    terminal.print_path(str(page))
