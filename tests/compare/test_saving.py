"""A model that was saved predicts what it predicted, and reading it runs no code."""

from __future__ import annotations

import json
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_table import table

from equipoise.cli import main
from equipoise.compare import saving
from equipoise.compare.command import Options, execute
from equipoise.compare.engine import Outcome
from equipoise.compare.errors import CompareError
from equipoise.compare.jobs import Job, run_job
from equipoise.compare.metrics import evaluate
from equipoise.compare.predicting import predictions
from equipoise.compare.preparation import prepare
from equipoise.compare.readers import read
from equipoise.compare.splits import split
from equipoise.compare.study import Request, Study
from equipoise.compare.summary import summarize

TARGETS = {"multiclass": "label", "binary": "flag", "multilabel": "flag,other"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    frame = table(400).assign(other=np.arange(400) % 3 == 0, day=pd.date_range("2020-01-01", periods=400).astype(str))
    frame.to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


def saved(study: Study, winner: str, folder: Path) -> tuple[saving.Saved, dict[str, Any]]:
    """The model of a candidate as it comes back, and what it scored on the first seed."""
    settings = study.settings[1 % len(study.settings)]
    chosen = dict.fromkeys(study.candidates, settings)
    results = {}
    for name in (each for each, candidate in study.candidates.items() if candidate.make is not None):
        if name in ("cross_entropy", winner):
            results |= run_job(study, Job.of(study, name, 0, settings, "final"))
    comparison = summarize(study, Outcome({name: [each] for name, each in results.items()}, chosen, 1), 1)
    object.__setattr__(comparison, "winner", winner)
    saving.make_folder(folder)
    saving.save_winner(comparison, folder)
    return saving.load(folder), results[winner]


@pytest.mark.parametrize("kind", list(TARGETS))
def test_every_candidate_predicts_after_loading_what_was_scored(file: Path, tmp_path: Path, kind: str) -> None:
    """From the file again, so that reading and encoding are part of it."""
    study = prepare(Request(data=str(file), target=TARGETS[kind], epochs=2))
    frame = read(file).frame
    for name in study.candidates:
        model, result = saved(study, name, tmp_path / name)
        rows = split(study.problem, 0).test
        encoded = model.encode(frame.iloc[study.problem.rows])
        found = evaluate(
            study.problem.kind,
            model.scores(encoded, rows).numpy(),
            study.problem.labels[rows].astype(np.int64),
            model.independent,
            model.threshold,
        )
        assert found.by_class == result["test"]["by_class"]
        assert found.overall == result["test"]["overall"]


def test_predictions_are_the_likeliest_class_with_probabilities_that_sum_to_one(file: Path, tmp_path: Path) -> None:
    study = prepare(Request(data=str(file), target="label", epochs=2))
    model, _ = saved(study, "class_balanced_sigmoid_focal", tmp_path / "m")
    answer = predictions(model, read(file).frame)
    columns = [f"probability of {name}" for name in study.problem.classes]
    assert list(answer) == ["label", *columns]
    assert answer[columns].sum(axis=1).to_numpy() == pytest.approx(1)
    likeliest = np.array(study.problem.classes)[answer[columns].to_numpy().argmax(axis=1)]
    assert answer["label"].tolist() == likeliest.tolist()


def test_a_threshold_moves_the_decision_and_not_the_probability(file: Path, tmp_path: Path) -> None:
    study = prepare(Request(data=str(file), target="flag", epochs=2, metric="macro_f1"))
    plain, _ = saved(study, "cross_entropy", tmp_path / "a")
    moved, _ = saved(study, "threshold", tmp_path / "b")
    assert moved.threshold != 0
    first, second = (predictions(model, read(file).frame) for model in (plain, moved))
    assert first.iloc[:, 1:].equals(second.iloc[:, 1:])
    assert first["flag"].tolist() != second["flag"].tolist()


def test_from_the_command_line_to_predictions(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--epochs=1", "--seeds=2", "--trials=1", "--workers=1", "--losses=softmax_focal"]
    assert main(["compare", "t.csv", "--target", "label", *options, "--save", "model"]) == 0
    output = capsys.readouterr().out
    assert "equipoise predict model DATA" in " ".join(output.split())
    document = json.loads(Path("report/results.json").read_text())
    assert document["saved"] == {"path": "model", "name": document["winner"]}

    assert main(["predict", "model", "t.csv"]) == 0
    shown = capsys.readouterr().out
    # No target, and columns in another order: what a person has of new rows.
    table(400).assign(day="2020-01-01")[["day", "flag", "noise", "colour", "number"]].assign(other=True).to_csv(
        "new.csv"
    )
    assert main(["predict", "model", "new.csv", "--out", "answer.csv"]) == 0
    answer = pd.read_csv("answer.csv")
    assert next(iter(answer)) == "label"
    assert len(answer) == len(shown.splitlines()) - 1 == 400
    assert set(answer["label"]) <= {"common", "rarer", "rare"}


def test_what_is_saved_holds_no_pickle(file: Path, tmp_path: Path) -> None:
    execute(
        Request(data=str(file), target="label", epochs=1, seeds=1, trials=1, losses="softmax_focal"),
        Options(workers=1, out=str(tmp_path / "out"), save=str(tmp_path / "m")),
    )
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["model.json", "weights.safetensors"]
    json.loads((tmp_path / "m" / "model.json").read_text())
    with pytest.raises(ValueError, match=r".*"):
        list(pickletools.genops((tmp_path / "m" / "weights.safetensors").read_bytes()))


@pytest.fixture
def model(file: Path, tmp_path: Path) -> Path:
    study = prepare(Request(data=str(file), target="label", epochs=1, trials=1))
    saved(study, "cross_entropy", tmp_path / "m")
    return tmp_path / "m"


def test_what_is_no_saved_model_is_said_in_one_line(model: Path, tmp_path: Path) -> None:
    text = (model / "model.json").read_text()
    weights = (model / "weights.safetensors").read_bytes()
    for name, content, message in [
        ("model.json", "{", "is no saved model"),
        ("model.json", "[]", "has another format"),
        ("model.json", text.replace('"format": 1', '"format": 2'), "has another format"),
        ("model.json", text.replace('"shift"', '"lift"'), "is no saved model: KeyError: 'shift'"),
        ("model.json", re.sub(r'"inputs": \d+', '"inputs": 3', text), "is no saved model: RuntimeError"),
        ("weights.safetensors", weights[:50], "is no saved model"),
        ("weights.safetensors", b"", "is no saved model"),
    ]:
        (model / name).write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(CompareError, match=message):
            saving.load(model)
        (model / "model.json").write_text(text)
        (model / "weights.safetensors").write_bytes(weights)
    with pytest.raises(CompareError, match=r"nowhere is no saved model: .*No such file"):
        saving.load(tmp_path / "nowhere")


def test_data_without_a_column_is_said_in_one_line(
    model: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read(file).frame.drop(columns=["number", "colour"]).to_csv(tmp_path / "less.csv", index=False)
    assert main(["predict", str(model), str(tmp_path / "less.csv")]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.endswith("less.csv lacks columns that the model needs: number, colour\n")
    assert errors.count("\n") == 1
    assert main(["predict", str(model), str(file), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


OWN = """
from torch import nn

def make(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 5), nn.Dropout(0.5), nn.Tanh(), nn.Linear(5, outputs))
"""


def test_a_model_of_ones_own(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_network.py").write_text(OWN)
    options = ["--epochs=1", "--seeds=1", "--trials=1", "--losses=softmax_focal", "--workers=1"]
    arguments = ["compare", "t.csv", "--target=label", "--model=own_network:make", *options, "--save=model"]
    assert main(arguments) == 0
    assert "your own model, own_network:make" in capsys.readouterr().out
    # The name in the file is not imported unless the person says it.
    assert main(["predict", "model", "t.csv"]) == 2
    assert "the saved model is your own, own_network:make: say so with --model" in capsys.readouterr().err
    assert main(["predict", "model", "t.csv", "--model", "own_network:make"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 401


def test_another_source_of_ones_own_model_is_another_set_of_trainings(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_net.py").write_text(OWN)
    request = Request(data=str(file), target="label", model="my_net:make")
    first = prepare(request).key("cross_entropy", 0)
    (tmp_path / "my_net.py").write_text(OWN.replace("0.5", "0.25"))
    assert prepare(request).key("cross_entropy", 0) != first


def test_what_ones_own_model_imports_beside_it_decides_too(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_width.py").write_text("WIDTH = 8\n")
    (tmp_path / "my_other_net.py").write_text("import my_width\n" + OWN)
    request = Request(data=str(file), target="label", model="my_other_net:make")
    first = prepare(request).key("cross_entropy", 0)
    (tmp_path / "my_width.py").write_text("WIDTH = 32\n")
    assert prepare(request).key("cross_entropy", 0) != first


BOOM = """
import torch

class Boom(torch.nn.Linear):
    def forward(self, x):
        if len(x) > 3:
            raise RuntimeError("boom")
        return super().forward(x)
"""
TIED = """
import torch
class Tied(torch.nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.first, self.second = torch.nn.Linear(inputs, inputs), torch.nn.Linear(inputs, inputs)
        self.second.weight = self.first.weight
        self.norm = torch.nn.BatchNorm1d(inputs)
        self.last = torch.nn.Linear(inputs, outputs)
    def forward(self, x):
        return self.last(self.norm(self.second(self.first(x))))
"""


def test_weights_that_are_used_twice_are_saved_and_normalisation_meets_no_single_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "tied_network.py").write_text(TIED)
    table(322).to_csv(tmp_path / "t.csv", index=False)  # 193 training rows in batches of 16
    options = ["--epochs=1", "--seeds=1", "--trials=1", "--losses=softmax_focal", "--workers=1", "--save=model"]
    assert main(["compare", "t.csv", "--target=label", "--model=tied_network:Tied", *options]) == 0
    assert main(["predict", "model", "t.csv", "--model=tied_network:Tied", "--out=p.csv"]) == 0


def test_a_model_of_ones_own_that_fails_is_one_line(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken_network.py").write_text(BOOM)
    options = ["--epochs=1", "--seeds=1", "--trials=1", "--losses=softmax_focal", "--workers=1"]
    assert main(["compare", "t.csv", "--target=label", "--model=broken_network:Boom", *options]) == 2
    error = capsys.readouterr().err
    assert "--model broken_network:Boom failed in training: RuntimeError: boom" in error


def test_numbers_among_words_are_the_levels_that_they_were(tmp_path: Path) -> None:
    """Also in a file where they stand alone, or beside missing cells: it is no column of numbers there."""
    generator = np.random.default_rng(0)
    levels = generator.choice(["1", "2", "3", "unknown"], 400)
    frame = pd.DataFrame({"x": generator.normal(size=400), "level": levels, "y": np.where(levels == "1", "a", "b")})
    frame.to_csv(tmp_path / "t.csv", index=False)
    study = prepare(Request(data=str(tmp_path / "t.csv"), epochs=20))
    model, _ = saved(study, "cross_entropy", tmp_path / "m")
    assert model.columns[1].kind == "categorical"
    some = frame[frame.level != "unknown"].head(50).copy()
    some.loc[some.index[:3], "level"] = None
    whole = predictions(model, frame.loc[some.index[3:]])
    some.to_csv(tmp_path / "some.csv", index=False)
    assert main(["predict", str(tmp_path / "m"), str(tmp_path / "some.csv"), "--out", str(tmp_path / "p.csv")]) == 0
    found = pd.read_csv(tmp_path / "p.csv").iloc[3:].reset_index(drop=True)
    np.testing.assert_allclose(found.iloc[:, 1:], whole.iloc[:, 1:], rtol=1e-6)
    some.astype({"level": float}).to_parquet(tmp_path / "some.parquet")
    arguments = ["predict", str(tmp_path / "m"), str(tmp_path / "some.parquet"), "--out", str(tmp_path / "p.csv")]
    assert main(arguments) == 0
    np.testing.assert_allclose(pd.read_csv(tmp_path / "p.csv").iloc[3:, 1:], whole.iloc[:, 1:], rtol=1e-6)


def test_values_that_training_never_saw_are_warned_of(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = prepare(Request(data=str(file), target="label", epochs=1))
    saved(study, "cross_entropy", tmp_path / "m")
    frame = read(file).frame
    name = next(column.name for column in study.table.columns if column.kind == "categorical")
    frame[name] = "never seen"
    frame.to_csv(tmp_path / "new.csv", index=False)
    assert main(["predict", str(tmp_path / "m"), str(tmp_path / "new.csv"), "--out", str(tmp_path / "p.csv")]) == 0
    assert f"column {name!r}: 100 % of the cells hold values that training never saw" in capsys.readouterr().err


def test_weights_and_description_of_two_models_are_no_model(file: Path, tmp_path: Path) -> None:
    """As a process leaves them that is killed between the two."""
    study = prepare(Request(data=str(file), target="label", epochs=1))
    for name, folder in (("cross_entropy", "one"), ("softmax_focal", "two")):
        saved(study, name, tmp_path / folder)
    (tmp_path / "two" / "weights.safetensors").replace(tmp_path / "one" / "weights.safetensors")
    with pytest.raises(CompareError, match="are of different models: saving was cut short, or two runs saved here"):
        saving.load(tmp_path / "one")


@pytest.mark.parametrize(
    ("folder", "message"),
    [("t.csv", "File exists"), ("t.csv/m", "Not a directory"), ("taken", "model.json: Is a directory")],
)
def test_a_folder_that_cannot_be_saved_in_is_said_before_training(
    file: Path, tmp_path: Path, folder: str, message: str
) -> None:
    (tmp_path / "taken" / "model.json").mkdir(parents=True)
    options = Options(out=str(tmp_path / "out"), save=str(tmp_path / folder))
    with pytest.raises(CompareError, match=f"cannot save a model in .*: {message}"):
        execute(Request(data=str(file), target="label"), options)
    assert not list(tmp_path.rglob("out/runs/*.json"))
