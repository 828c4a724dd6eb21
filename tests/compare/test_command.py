"""The whole way from a request to the report, on a small table."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from rich.cells import cell_len
from small_table import table

from equipoise.compare import terminal
from equipoise.compare.command import Options, execute
from equipoise.compare.errors import CompareError
from equipoise.compare.metrics import NAMES
from equipoise.compare.study import Request

ESCAPE = "\x1b"


@pytest.fixture
def request_(csv: Path) -> Request:
    return Request(data=str(csv), seeds=2, epochs=1)


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_the_table_fits_and_the_last_line_is_the_path_of_the_report(
    request_: Request, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(tmp_path)
    execute(request_, Options(workers=1))
    output, errors = capsys.readouterr()
    lines = output.splitlines()
    assert lines[-1] == "report/index.html"
    assert Path(lines[-1]).exists()
    assert max(map(cell_len, lines)) <= width
    assert "…" not in output
    assert ESCAPE not in output
    assert errors == ""
    for name in ("cross_entropy", "softmax_focal", "inverse_frequency", "prior_corrected"):
        assert sum(line.startswith(f"{name} ") for line in lines) == 1
    assert sum("log loss" in line for line in lines) == (1 if width >= 100 else 0)
    assert sum("effective numbers" in line for line in lines) == 1


def test_json_is_one_document_and_equals_the_file(
    request_: Request, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(request_, Options(workers=1, out=str(tmp_path), as_json=True, command="equipoise compare --json"))
    output, errors = capsys.readouterr()
    document = json.loads(output)
    assert errors == ""
    assert json.loads((tmp_path / "results.json").read_text()) == document
    assert document["report"] == str(tmp_path / "index.html")
    assert document["command"] == "equipoise compare --json"
    common = int((table()["label"] == "common").sum())
    assert document["problem"]["classes"][0] == {
        "name": "common",
        "rows": common,
        "test_rows": round(0.2 * common),
        "group": "head",
        "excluded": False,
    }
    assert document["data"]["rows"] == document["data"]["rows_used"] == 240
    assert document["data"]["missing"] == table().isna().to_numpy().sum() > 0
    assert document["data"]["kinds"] == {"numeric": 2, "categorical": 1, "boolean": 1}
    names = [candidate["name"] for candidate in document["candidates"]]
    assert len(names) == len(set(names)) == 6
    for candidate in document["candidates"]:
        estimate = candidate["metrics"]["balanced_accuracy"]
        assert estimate["low"] <= estimate["mean"] <= estimate["high"]
        assert estimate["mean"] == pytest.approx(sum(candidate["values"]) / 2)
        assert list(candidate["recall"]) == ["common", "rarer", "rare"]


def test_the_document_holds_what_the_report_is_drawn_from(request_: Request, tmp_path: Path) -> None:
    execute(request_, Options(workers=1, out=str(tmp_path), save=str(tmp_path / "model")))
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["saved"] == {"path": str(tmp_path / "model"), "name": document["winner"]}
    assert document["code"].startswith("import torch\nimport equipoise\n")
    assert len(document["protocol"]["trials"]) == 3
    assert list(document["data"]["effective_numbers"]) == ["common", "rarer", "rare"]
    assert [each["group"] for each in document["problem"]["classes"]] == ["head", "middle", "tail"]
    plain = {each["name"] for each in document["candidates"] if each["plain"]}
    assert plain == {"prior_corrected"}
    for each in document["candidates"]:
        trained = each["name"] not in plain
        assert set(each["metrics"]) == set(NAMES)
        assert each["trials"] == 3
        assert each["chosen"] in document["protocol"]["trials"]
        assert set(each["groups"]) == {"head", "middle", "tail"}
        assert sum(each["calibration"]["rows"]) == 2 * 48
        assert len(each["calibration"]["confidence"]) == len(each["calibration"]["accuracy"]) == 10
        for name in ("seconds", "milliseconds_per_step", "curve", "gradient_norms"):
            assert (each[name] is not None) == trained
        if trained:
            norms, curve = each["gradient_norms"], each["curve"]
            assert len(norms["edges"]) - 1 == len(norms["share"]) == len(norms["mass"])
            assert (norms["edges"][0], norms["edges"][-1]) == (0, 1)
            assert curve["epoch"] == [1]
            assert len(curve["train_loss"]) == len(curve["validation"]) == 1
        difference = each["difference"]
        if each["name"] == "cross_entropy":
            assert difference is None
        else:
            keys = {"mean", "low", "high", "seeds", "p", "p_adjusted", "detectable", "verdict", "sign"}
            assert set(difference) == keys
            assert difference["verdict"] in ("helps", "hurts", "no evidence")


def test_what_was_done_with_the_data_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = 60
    frame = pd.DataFrame(
        {f"same {index}": 1 for index in range(9)} | {"x": [index**2 % 17 for index in range(rows)], "[b]y[/b]": "a"}
    )
    frame.loc[:25, "[b]y[/b]"] = "b"
    frame.loc[58, "[b]y[/b]"] = "odd"
    frame.loc[59, "[b]y[/b]"] = None
    frame.to_csv(tmp_path / "table.csv", index=False)
    execute(Request(data=str(tmp_path / "table.csv"), seeds=1, epochs=1), Options(workers=1, out=str(tmp_path)))
    output = " ".join(capsys.readouterr().out.split())
    assert "table.csv: 60 rows, 10 features (9 left out, 1 numeric), 0 missing cells" in output
    assert "target [b]y[/b] (the last column, as no target was named): binary, 2 classes of 32 to 26 rows" in output
    assert "note: rows without a target were left out: 1" in output
    assert "cannot be split and were left out: 'odd' (1 row)" in output
    assert "warning: fewer than 20 test rows" in output
    assert "column same 0: left out, constant" in output
    assert "and 3 columns more, see the report" in output
    assert "One seed gives no interval" in output


def test_a_report_that_cannot_be_written_is_said_in_one_line(request_: Request, tmp_path: Path) -> None:
    (tmp_path / "index.html").mkdir()
    with pytest.raises(CompareError, match=r"cannot write to the output folder .*: Is a directory"):
        execute(request_, Options(workers=1, out=str(tmp_path)))


@pytest.mark.parametrize(("value", "text"), [(None, "none"), (0.04, "<0.1 s"), (99.9, "99.9 s"), (99.96, "100 s")])
def test_times(value: float | None, text: str) -> None:
    assert terminal.seconds(value) == text
