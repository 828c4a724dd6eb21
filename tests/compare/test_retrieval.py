"""The whole way from `equipoise compare --problem retrieval` to its answer, its report and a saved model."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from browser import BROWSER, SCHEMES, WHY_NOT, complaints
from many_classes import things
from rich.cells import cell_len

from equipoise.cli import main
from equipoise.compare import saving
from equipoise.compare.command import Options, execute
from equipoise.compare.engine import Outcome
from equipoise.compare.jobs import parts_of
from equipoise.compare.metrics import OF_RETRIEVAL
from equipoise.compare.preparation import prepare
from equipoise.compare.report import render
from equipoise.compare.retrieval.measures import Search, measure
from equipoise.compare.snippet import snippet
from equipoise.compare.study import Request, Study
from equipoise.compare.summary import Comparison, summarize

PLAIN = [0.50, 0.52, 0.47, 0.51, 0.49]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("things") / "things.csv"
    frame = things(16, 6)
    keep = frame["thing"] != "thing 3"
    keep |= frame.index == frame.index[~keep][0]
    frame[keep].to_csv(path, index=False)  # one class is left with a row
    return path


@pytest.fixture(scope="module")
def done(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished comparison."""
    out = tmp_path_factory.mktemp("out")
    request = Request(data=str(file), problem="retrieval", seeds=2, epochs=2, trials=2)
    execute(request, Options(workers=1, out=str(out), save=str(out / "model"), command="equipoise compare things.csv"))
    return out


@pytest.fixture
def document(done: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((done / "results.json").read_text())
    return found


def test_the_document_holds_what_a_classification_has_and_the_split_by_classes(document: dict[str, Any]) -> None:
    assert document["metric"] == "map_at_r"
    assert document["problem"]["kind"] == "retrieval"
    assert [each["rows"] for each in document["problem"]["classes"]] == [6] * 15
    assert "classes with fewer than 2 rows have nothing to find and were left out: 'thing 3' (1 row)" in " ".join(
        document["data"]["notes"]
    )
    protocol = document["protocol"]
    assert protocol["split"] == "class"
    assert protocol["classes"] == {"training": 8, "validation": 3, "test": 4}
    assert protocol["test_share"] == pytest.approx(4 / 15)
    assert "share classes" in document["caveat"]
    assert document["data"]["effective_numbers"] == {}
    names = [each["name"] for each in document["candidates"]]
    assert names[0] == "cross_entropy"
    assert set(names) >= {"raw_features", "batch_triplet_semihard", "supcon", "info_nce", "batch_contrastive"}
    for each in document["candidates"]:
        raw = each["name"] == "raw_features"
        assert set(each["metrics"]) == set(OF_RETRIEVAL)
        assert each["calibration"] is each["gradient_norms"] is None
        assert (each["curve"] is None) == (each["chosen"] is None) == (each["seconds"] is None) == raw
        assert each["plain"] == raw
        assert each["trials"] == (0 if raw else 2)
        assert (each["difference"] is None) == (each["name"] == "cross_entropy")
    supcon = next(each for each in document["candidates"] if each["name"] == "supcon")
    assert set(supcon["chosen"]) == {"learning_rate", "weight_decay", "temperature"}
    tested = [each["seeds"] for each in supcon["recall"].values()]
    assert sum(tested) == 2 * 4


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_says_what_was_split_and_searched(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    options = ["--seeds=2", "--epochs=1", "--trials=1", "--workers=1", "--losses=supcon", f"--out={tmp_path}"]
    assert main(["compare", str(file), "--problem", "retrieval", *options]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    assert max(map(cell_len, output.splitlines()[:-1])) <= width
    text = " ".join(output.split())
    assert "retrieval, 15 classes of 6 to 6 rows" in text
    assert "its own split of classes, 8 for training, 3 for validation, 4 for test" in text
    assert "1 trial of learning rate, weight decay and margin or temperature per loss" in text
    assert "MAP@R on rows of classes unseen in training, mean ± 95 % interval over 2 seeds" in text
    assert "effective" not in text
    assert "Recall@1" in text
    assert "Recall@5" in text


def test_another_metric_may_decide(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--metric=recall_at_5", "--seeds=2", "--epochs=1", "--trials=1", "--workers=1", "--losses=supcon"]
    assert main(["compare", str(file), "--problem", "retrieval", *options, "--json", f"--out={tmp_path}"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metric"] == "recall_at_5"
    assert "Recall@5" in found["verdict"][0]


def test_a_wrong_request_ends_in_one_line(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(file), "--problem", "retrieval", "--group", "x1", f"--out={tmp_path}"]) == 2
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    assert errors.startswith("equipoise: --group splits rows")


# -- The answer


def answer(file: Path, asked: int = 5, **values: Any) -> Comparison:
    """What is said of made-up results; plain cross-entropy is at about 0.5."""
    study = prepare(Request(data=str(file), problem="retrieval", losses="supcon,info_nce", epochs=1))
    names = ["cross_entropy", *(name for name in study.candidates if name in values)]
    study = replace(study, candidates={name: study.candidates[name] for name in names})
    found = {"cross_entropy": results(study, PLAIN), **{name: results(study, each) for name, each in values.items()}}
    chosen = {name: study.candidates[name].tried(study.settings)[0] for name in found}
    return summarize(study, Outcome(found, chosen, len(PLAIN)), 1, asked)


def results(study: Study, values: list[float]) -> list[dict[str, Any]]:
    nothing = {"recall": [None] * len(study.problem.classes)}
    about = {"seconds": 1.0, "steps": 1, "gradient_norms": None}
    curve = {"epoch": [1], "train_loss": [1.0], "validation": [0.5]}
    return [
        {"test": {"by_class": nothing, "overall": dict.fromkeys(OF_RETRIEVAL, each), "bins": None}, "curve": curve}
        | about
        for each in values
    ]


def near(mean: float) -> list[float]:
    """Close to plain cross-entropy's seeds, moved to a mean; each mean with a noise of its own."""
    noise = np.random.default_rng(round(1000 * mean)).normal(scale=0.003, size=5)
    return [mean - 0.498 + plain + each for plain, each in zip(PLAIN, noise - noise.mean(), strict=True)]


def test_features_that_are_as_good_are_the_answer(file: Path) -> None:
    comparison = answer(file, raw_features=near(0.5), supcon=near(0.503))
    assert comparison.winner == "raw_features"
    assert comparison.verdict[0].startswith(
        "Search by the features as they are will do: no loss is shown to do better. Its MAP@R is 0.500, that of the"
        " best trained loss, supcon, 0.503"
    )


def test_plain_cross_entropy_is_the_best_trained_loss_where_it_is(file: Path) -> None:
    comparison = answer(file, raw_features=near(0.5), supcon=near(0.4))
    assert "the best trained loss, cross_entropy, 0.498" in comparison.verdict[0]
    assert comparison.winner == "raw_features"


def test_a_loss_that_beats_cross_entropy_but_not_the_features_is_not_the_answer(file: Path) -> None:
    comparison = answer(file, raw_features=near(0.6), supcon=near(0.58))
    assert comparison.winner == "raw_features"
    assert "helps: raw_features, supcon" in comparison.verdict[1]


def test_a_loss_that_beats_cross_entropy_must_beat_features_that_are_not_shown_to_help(file: Path) -> None:
    """The features swing so much that they are no better than cross-entropy, and no worse than the loss."""
    swinging = [0.9, 0.1, 0.8, 0.2, 0.95]
    comparison = answer(file, raw_features=swinging, supcon=near(0.53))
    assert next(row for row in comparison.rows if row.name == "supcon").difference.sign == 1  # type: ignore[union-attr]
    assert comparison.winner == "raw_features"


def test_a_loss_that_beats_both_helps(file: Path) -> None:
    comparison = answer(file, raw_features=near(0.3), supcon=near(0.6), info_nce=near(0.65))
    assert comparison.winner == "info_nce"
    assert comparison.verdict[0].startswith("info_nce helps: MAP@R 0.650 against 0.498 for plain cross-entropy")
    assert "so does supcon" in comparison.verdict[0]


def test_cross_entropy_that_beats_the_features_will_do_where_nothing_beats_it(file: Path) -> None:
    comparison = answer(file, raw_features=near(0.3), supcon=near(0.5))
    assert comparison.winner == "cross_entropy"
    assert comparison.verdict[0].startswith("Plain cross-entropy will do")


def test_intervals_allow_for_test_classes_per_training_class(file: Path) -> None:
    comparison = answer(file, supcon=near(0.6))
    gaps = np.array(near(0.6)) - PLAIN
    from scipy.stats import t

    expected = t.ppf(0.975, 4) * gaps.std(ddof=1) * np.sqrt(1 / 5 + 4 / 8)
    assert comparison.rows[1].difference.half_width == pytest.approx(expected)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["cross_entropy", "supcon", "info_nce", "raw_features"])
def test_the_code_to_paste_runs(file: Path, name: str) -> None:
    values = {each: near(0.6) for each in ("supcon", "info_nce", "raw_features")}
    comparison = replace(answer(file, **values), winner=name)
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    space: dict[str, Any] = {
        "model": torch.nn.Linear(5, 64),
        "features": torch.randn(8, 5),  # what the search is among where nothing is trained
        "all_features": torch.randn(8, 5),
        "all_labels": labels,
    }
    exec(snippet(comparison), space)
    assert space["nearest"].shape == (8, 5)
    assert all(each not in space["nearest"][each] for each in range(8))
    if name != "raw_features":
        space["loss"].backward()
        make = comparison.study.candidates[name].make
        assert make is not None
        if name != "cross_entropy":  # whose last layer is drawn anew
            made = make(labels, 64)
            torch.testing.assert_close(space["loss"], made(space["embedding"], space["labels"]))


# -- The report


def test_the_report_has_what_applies_and_nothing_else(document: dict[str, Any]) -> None:
    text = render(document)
    heads = re.findall(r"<h2>(.*?)</h2>", text)
    assert heads == [
        "Against plain cross-entropy",
        "All numbers",
        "Recall@1 per class, from head to tail",
        "Training",
        "The data",
        "Code to paste",
        "How to do it again",
    ]
    for words in (
        "8 to train on, 3 to tune on and 4 to test on",
        "Musgrave",
        "MAP@R on validation classes",
        "Recall@1 of tail",
    ):
        assert words in text
    for words in ("best constant prediction", "Effective number", "stratified", "map_at_r", "Map@r"):
        assert words not in text


@pytest.mark.skipif(BROWSER is None, reason=WHY_NOT)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_browser_has_nothing_to_complain_about(document: dict[str, Any], scheme: str, tmp_path: Path) -> None:
    found = complaints({"retrieval": render(document)}, (360, 390, 1280), scheme, tmp_path)
    for page, seen in found.items():
        assert seen["wide"] <= int(page.rsplit(" ", 1)[1]), "the page scrolls sideways"
        for trouble in ("out", "overlaps", "cut", "small", "faint", "unnamed"):
            assert seen[trouble] == [], trouble
        assert seen["requests"] == 0
        assert seen["charts"] >= 5


# -- A saved model


def test_what_is_saved_gives_the_embeddings_that_were_scored(file: Path, done: Path, document: dict[str, Any]) -> None:
    study = prepare(Request(data=str(file), problem="retrieval", seeds=2, epochs=2, trials=2))
    assert document["saved"]["name"] == document["winner"]
    assert main(["predict", str(done / "model"), str(file), "--out", str(done / "e.csv")]) == 0
    embedding = pd.read_csv(done / "e.csv").to_numpy()[study.problem.rows]
    assert np.linalg.norm(embedding, axis=1) == pytest.approx(1, abs=1e-5)
    parts, _ = parts_of(study, 0)
    search = Search.of(parts["test"].labels, 0)
    cut = np.flatnonzero(np.isin(study.problem.labels, np.unique(parts["test"].labels)))
    found = measure(torch.from_numpy(embedding[cut][search.rows]), search, len(study.problem.classes))
    winner = next(each for each in document["candidates"] if each["name"] == document["winner"])
    assert found.overall["map_at_r"] == pytest.approx(winner["values"][0], abs=1e-6)


@pytest.mark.parametrize("name", ["raw_features", "cross_entropy", "supcon"])
def test_every_kind_of_winner_can_be_saved(file: Path, tmp_path: Path, name: str) -> None:
    values = {each: near(0.6) for each in ("supcon", "raw_features")}
    saving.make_folder(tmp_path / "m")
    saving.save_winner(replace(answer(file, **values), winner=name), tmp_path / "m")
    loaded = saving.load(tmp_path / "m")
    assert (loaded.name, loaded.kind) == (name, "retrieval")
    assert main(["predict", str(tmp_path / "m"), str(file), "--out", str(tmp_path / "e.csv")]) == 0
    found = pd.read_csv(tmp_path / "e.csv")
    width = 24 if name == "raw_features" else 64
    assert list(found) == [f"e{place}" for place in range(width)]
    assert np.linalg.norm(found.to_numpy(), axis=1) == pytest.approx(1, abs=1e-5)
