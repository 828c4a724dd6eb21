"""The `equipoise` command. Thin: it reads options, calls `equipoise.compare` and says what went wrong in one line."""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from equipoise import __version__

if TYPE_CHECKING:
    from .card import Card

NEEDED = {"typer", "rich", "pandas", "pyarrow", "sklearn", "scipy", "jinja2", "joblib", "filelock", "safetensors"}
NEEDED_FOR_PICTURES = {"matplotlib"}


def _fail(message: str, status: int) -> int:
    """Say one line on standard error."""
    sys.stderr.write(f"equipoise: {' '.join(message.split())}\n")
    return status


def _fail_for_want_of(error: ModuleNotFoundError) -> int:
    """Say what to install where the tool's extra is missing; any other missing module is a defect of ours."""
    package = (error.name or "").partition(".")[0]
    if package in NEEDED_FOR_PICTURES:
        return _fail(f'{package} is not installed; pictures of curves need: pip install "equipoise[compare,plots]"', 2)
    if package not in NEEDED:
        raise error
    return _fail(f'{package} is not installed; the command line needs: pip install "equipoise[compare]"', 2)


try:
    import typer
    from rich.console import Console
except ModuleNotFoundError as missing:
    raise SystemExit(_fail_for_want_of(missing)) from None

# Earlier versions of typer are built on click, later ones bring their own copy: either way this is its error of usage.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class Problem(StrEnum):
    """The kinds of problem, for `--problem`."""

    binary = "binary"
    multiclass = "multiclass"
    multilabel = "multilabel"
    retrieval = "retrieval"


class Metric(StrEnum):
    """The metrics that can decide, for `--metric`."""

    balanced_accuracy = "balanced_accuracy"
    macro_f1 = "macro_f1"
    average_precision = "average_precision"
    log_loss = "log_loss"
    brier = "brier"
    calibration_error = "calibration_error"
    map_at_r = "map_at_r"
    recall_at_1 = "recall_at_1"
    recall_at_5 = "recall_at_5"


class Cluster(StrEnum):
    """The clusters, for `--cluster`."""

    ray = "ray"


app = typer.Typer(
    help="PyTorch losses that balance training, and a tool that tells which of them helps on your data.",
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"equipoise {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command()
def compare(
    context: typer.Context,
    data: Annotated[
        str,
        typer.Argument(
            metavar="[DATA]",
            help="`fars`, `digits` or `flights`, or the path of a .csv, .tsv, .parquet or .npz file"
            " (NPZ: arrays X [N, D] and y [N] or [N, C], or one array [N] per column).",
        ),
    ] = "fars",
    target: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="The column to learn; a,b,c for several labels of 0 and 1; a:binary,b:regression,c:multiclass for"
            " several tasks of one network, and what their losses should weigh (c:multiclass:softmax_focal names a"
            " loss).",
            show_default="the last column",
        ),
    ] = None,
    problem: Annotated[
        Problem | None,
        typer.Option(
            metavar="KIND",
            help="binary, multiclass or multilabel; or retrieval, of rows of a class that was not seen in training.",
            show_default="inferred from the target",
        ),
    ] = None,
    losses: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            help="The losses to compare with plain `cross_entropy`, or for several tasks the balancers to compare with"
            " single-task models and constant weights; `equipoise losses` lists them.",
            show_default="all that fit",
        ),
    ] = None,
    metric: Annotated[
        Metric | None,
        typer.Option(
            metavar="NAME",
            help=f"What decides, in the trials and in the verdict: {', '.join(Metric)}.",
            show_default="balanced_accuracy for several classes, map_at_r for retrieval, the mean relative change for"
            " several tasks, else average_precision",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, max=1000, help="How often to repeat, each time on a fresh split.")
    ] = 5,
    trials: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            max=1000,
            help="Learning rates and weight decays to try for each loss, the same ones, on the first seed.",
        ),
    ] = 3,
    group: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Keep rows of one value together: they are no independent rows."),
    ] = None,
    time: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Test on later rows than those trained on.")
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=10,
            help="Use a sample of so many rows, each class in proportion.",
            show_default="all; of `flights` 100,000",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="`mlp` (one hidden layer of 64), `linear`, or your own as module:factory, called with the numbers of"
            " features and of scores.",
        ),
    ] = "mlp",
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=100_000,
            help="Rounds over the training rows.",
            show_default="12, more for small tables",
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="Where to train, as torch names it.")] = "cpu",
    time_budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Start no further training after 90s, 10m or 2h; whole seeds count."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=1024, help="Processes, of one thread each.", show_default="one per core"),
    ] = None,
    cluster: Annotated[
        Cluster | None,
        typer.Option(metavar="KIND", help="`ray`: train on the Ray cluster at RAY_ADDRESS, or else a local one."),
    ] = None,
    save: Annotated[
        str | None, typer.Option(metavar="DIR", help="Save the model that the verdict is for; see `equipoise predict`.")
    ] = None,
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Where the report, the results and finished trainings go.")
    ] = "report",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the table.")] = False,
) -> None:
    """Find out which loss to train with on DATA, and whether any of them helps at all.

    Every loss gets the same model, initial weights, batches, trials and budget.
    Interrupted, the same command goes on where it stopped: DIR/runs keeps each
    finished training.
    """
    from .compare.command import Options, execute
    from .compare.study import Request

    for hint, folder in (("--out", out), ("--save", save)):
        if folder == "":
            raise typer.BadParameter("the folder has no name", param_hint=hint)
    seconds = None if time_budget is None else _seconds(time_budget)
    request = Request(
        data=data,
        target=target,
        problem=problem.value if problem else None,
        losses=losses,
        metric=metric.value if metric else None,
        seeds=seeds,
        trials=trials,
        group=group,
        time=time,
        rows=rows,
        model=model,
        epochs=epochs,
        device=device,
    )
    options = Options(
        workers=workers,
        cluster=cluster.value if cluster else None,
        time_budget=seconds,
        out=out,
        save=save,
        as_json=as_json,
        command=shlex.join(["equipoise", *context.obj]),
    )
    execute(request, options)


def _seconds(text: str) -> float:
    """`90`, `90s`, `1.5m` or `2h` in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    if match is None or not float(match[1]):
        raise typer.BadParameter(f"{text!r} is no time, expected 90s, 10m or 2h", param_hint="--time-budget")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


@app.command()
def predict(
    saved: Annotated[str, typer.Argument(metavar="MODEL", help="The folder that `equipoise compare --save` wrote.")],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A .csv, .tsv, .parquet or .npz file with the columns trained on.")
    ],
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="The CSV file to write.", show_default="standard output")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODULE:FACTORY", help="Your own model, where MODEL was trained with one.")
    ] = None,
) -> None:
    """Predict the target of each row of DATA: a CSV with the class and the probability of each.

    Of a model for retrieval the embedding of each row, of length 1: e0, e1, ...
    """
    from .compare.predicting import predict as run

    run(saved, data, out, model)


@app.command()
def losses(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One loss, to be shown in full: `softmax_focal`.")
    ] = None,
) -> None:
    """List all losses of the catalogue, or show one in full."""
    from . import listing
    from .compare.remedies import REMEDIES

    console = Console(highlight=False, color_system=None if os.environ.get("NO_COLOR") else "auto")
    if name is None:
        listing.show_all(console)
        return
    if name.lower() in REMEDIES:
        listing.show_remedy(REMEDIES[name.lower()], console)
    else:
        listing.show_one(_card(name), console)


@app.command()
def curves(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Losses of the catalogue.")],
    gamma: Annotated[
        str | None,
        typer.Option(metavar="A,B,C", help="A curve for each, of losses that take gamma.", show_default="0,0.5,1,2,5"),
    ] = None,
    out: Annotated[
        str, typer.Option(metavar="FILE", help="A picture (.png or .svg), or its numbers (.csv).")
    ] = "curves.png",
) -> None:
    """Draw loss and gradient against the probability of the true class and its logit.

    Of gradient harmonizing also the weight against the gradient norm, for a
    made-up batch: the figures of the papers.
    """
    from . import plots

    cards = [_card(name) for name in names]
    try:
        drawn = plots.curves(cards, plots.gammas(gamma))
        plots.write(drawn, out)
    except plots.CurveError as error:
        raise typer.BadParameter(str(error)) from None
    typer.echo(out)


def _card(name: str) -> Card:
    """The card of a loss that was named."""
    from .catalog import find

    try:
        return find(name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from None


@app.command()
def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
) -> None:
    """Show the versions, the machine, and whether the compiled kernels are in use."""
    from . import information

    facts = information.collect()
    typer.echo(information.as_json(facts) if as_json else information.as_lines(facts))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 2 for a request that cannot be met, 130 for Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a sign shows another, and no traceback
    status = 130
    try:
        # Some versions of typer raise Abort for Ctrl-C, others return 130.
        status = app(args=arguments, prog_name="equipoise", standalone_mode=False, obj=arguments) or 0
    except (KeyboardInterrupt, typer.Abort):
        pass
    except ModuleNotFoundError as error:
        return _fail_for_want_of(error)
    except UsageError as error:
        message: str = error.format_message()  # type: ignore[attr-defined]  # typer does not export the class
        message = message.replace("Value error, ", "")  # some versions of typer let Pydantic speak
        return _fail(f"{message} (see equipoise --help)", 2) if message else 2
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error), 2)
    except Exception as error:
        from .compare.errors import CompareError

        if not isinstance(error, CompareError):
            raise
        return _fail(str(error), 2)
    if status == 130:
        return _fail("interrupted; finished trainings are kept, the same command goes on from there", status)
    return status
