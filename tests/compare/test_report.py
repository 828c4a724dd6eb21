"""The report: complete, escaped, and one file that asks nothing of any network."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree

import documents
import pytest
from browser import BROWSER, WHY_NOT, shown
from hypothesis import given
from hypothesis import strategies as st
from small_table import table

from equipoise.compare.command import Options, execute
from equipoise.compare.report import _half_width, render
from equipoise.compare.study import Request

HOSTILE = "<script>console.error(1)</script><img src='https://example.org/x.png'>"


class Page(HTMLParser):
    """The texts of the rows of each table by its id, and everything that could be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: dict[str, list[str]] = {}
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self._table: str | None = None
        self._in_body = False
        self._texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.fetched += [str(values[name]) for name in ("src", "srcset", "href", "action", "data") if name in values]
        if tag == "table":
            self._table = str(values["id"])
            self.rows[self._table] = []
        if tag == "tbody":
            self._in_body = True
        if tag == "tr" and self._in_body and self._table:
            self.rows[self._table].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "tbody":
            self._in_body = False
        if tag == "table":
            self._table = None

    @property
    def texts(self) -> str:
        """All text of the page, as it is read."""
        return " ".join("".join(self._texts).split())

    def handle_data(self, data: str) -> None:
        self._texts.append(data)
        if self._in_body and self._table and self.rows[self._table]:
            self.rows[self._table][-1] += data


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on a table whose names are out for trouble."""
    folder = tmp_path_factory.mktemp("report")
    frame = table().rename(columns={"noise": HOSTILE})
    frame["label"] = frame["label"].replace("rare", HOSTILE)
    frame.to_csv(folder / "table.csv", index=False)
    request = Request(data=str(folder / "table.csv"), seeds=2, epochs=1)
    execute(request, Options(workers=1, out=str(folder), command="equipoise compare 'table <1>.csv'"))
    return folder / "index.html"


CANDIDATES = 6
COLUMNS = ("number", HOSTILE, "colour", "flag")


def test_the_page_has_every_part(report: Path) -> None:
    text = report.read_text()
    page = Page(text)
    assert len(page.rows["comparison"]) == CANDIDATES
    assert page.rows["comparison"][0].split()[0] == "cross_entropy"
    assert [row.split()[0] for row in page.rows["recall"][:2]] == ["common", "rarer"]
    assert len(page.rows["recall"]) == 3
    assert [row.startswith(name) for row, name in zip(page.rows["columns"], COLUMNS, strict=True)] == [True] * 4
    assert "equipoise compare &#39;table &lt;1&gt;.csv&#39;" in text
    missing = table().isna().to_numpy().sum()
    for words in ("torch 2.", "cores", "Seeds", "0, 1", "240 rows", f"{missing} missing cells", "widened"):
        assert words in text


def test_names_from_the_data_are_text_and_nothing_is_fetched(report: Path) -> None:
    text = report.read_text()
    page = Page(text)
    assert page.fetched == ["data:,"]
    assert not {"script", "img", "iframe", "object", "base"} & set(page.tags)
    assert "@import" not in text
    assert not re.search(r"url\(", text)
    assert page.tags.count("link") == 1


@pytest.mark.skipif(BROWSER is None, reason=WHY_NOT)
def test_a_browser_shows_it_without_a_complaint_or_a_request(report: Path, tmp_path: Path) -> None:
    log = tmp_path / "net.json"
    page = shown(report, tmp_path, f"--log-net-log={log}")
    assert len(Page(page.stdout).rows["comparison"]) == CANDIDATES
    assert "CONSOLE" not in page.stderr
    # The browser calls its maker on its own account; the page can only ask hosts that it names, and names just one.
    requested = set(re.findall(r'"url":"https?://([^/"]+)', log.read_text()))
    assert "example.org" in report.read_text()
    assert not [host for host in requested if host in report.read_text()]


def test_the_answer_comes_first_and_then_every_part_in_its_order() -> None:
    document = documents.long_tailed()
    text = render(document)
    parts = re.findall(r"<h([12])>(.*?)</h", text)
    assert parts == [
        ("1", "Plain cross-<wbr>entropy with prior correction will do: no loss is shown to do better."),
        ("2", "Against plain cross-entropy"),
        ("2", "All numbers"),
        ("2", "Recall per class, from head to tail"),
        ("2", "Training"),
        ("2", "Calibration"),
        ("2", "Where the gradient comes from"),
        ("2", "The data"),
        ("2", "Code to paste"),
        ("2", "How to do it again"),
    ]
    header = Page(text).texts
    for sentence in document["verdict"]:
        assert " ".join(sentence.split()) in header, "nothing of the verdict is lost"
    data = text[text.index("<h2>The data") :]
    assert data.index("copies of another row") < data.index("<dt>Table"), "warnings first"
    assert html.escape(document["code"]).replace("&#x27;", "&#39;") in text


def test_every_chart_has_a_table_of_its_numbers() -> None:
    document = documents.long_tailed()
    page = Page(render(document))
    trained = [each for each in document["candidates"] if each["curve"]]
    assert len(page.rows["training"]) == len(trained)
    filled = sum(map(bool, document["candidates"][0]["calibration"]["rows"]))
    assert len(page.rows["calibration"]) == filled * len(document["candidates"])
    assert len(page.rows["gradient"]) == documents.BINS
    assert len(page.rows["differences"]) == len(document["candidates"]) - 1
    assert len(page.rows["recall"]) == len(page.rows["classes"]) == len(document["problem"]["classes"])


def test_the_tuning_is_told_where_there_was_any() -> None:
    document = documents.long_tailed()
    text = render(document)
    assert "tuned for each loss alike: 3 trials on the first seed" in text
    rows = Page(text).rows["chosen"]
    assert len(rows) == len(document["candidates"])
    assert rows[0].strip() == "cross_entropy3learning rate 0.01, weight decay 0.0001"
    assert "Nothing was tuned" in render(documents.one_seed())


def test_a_part_without_anything_to_show_is_left_out() -> None:
    text = render(documents.one_seed())
    for part in ("Training", "Calibration", "Where the gradient comes from", "Code to paste"):
        assert f"<h2>{part}" not in text
    assert "interval. The grey band" not in text


def test_plain_cross_entropy_is_shown_beside_the_winner_or_the_best_of_the_others() -> None:
    document = documents.long_tailed()
    best = document["candidates"][1]["name"]
    for winner, shown_with in (("ghm_c", "ghm_c"), ("cross_entropy", best), (None, best)):
        text = render({**document, "winner": winner})
        assert re.findall(r"best-mark\"/></svg>(.*?)</li>", text) == [shown_with.replace("_", "_<wbr>")]


def test_less_may_be_better() -> None:
    document = {**documents.long_tailed(), "metric": "log_loss", "larger_is_better": False}
    assert "← better" in render(document)
    assert "Log loss ↓" in render(document)


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("stratified", "a stratified split (60 % training"),
        ("group", "keeps the rows of one CASE together (60 %"),
        ("time", "a stretch of time by CASE of its own for test, and trains on what was before (20 % of the rows"),
    ],
)
def test_the_split_is_told(split: str, words: str) -> None:
    document = documents.long_tailed()
    document["protocol"].update(split=split, split_column=None if split == "stratified" else "CASE")
    assert words in render(document)


def test_alone_plain_cross_entropy_has_a_report() -> None:
    document = documents.long_tailed()
    text = render({**document, "candidates": document["candidates"][:1]})
    assert "Against plain cross-entropy" not in text
    assert len(Page(text).rows["comparison"]) == 1


def test_p_values_have_digits_that_say_something() -> None:
    document = documents.long_tailed()
    document["candidates"][1]["difference"].update(p=1e-9, p_adjusted=0.04256)
    assert "&lt; 0.0010.043" in Page(render(document)).rows["differences"][0].replace("<", "&lt;")


def test_one_is_no_plural() -> None:
    document = documents.long_tailed()
    document["protocol"]["epochs"] = document["machine"]["cores"] = document["data"]["missing"] = 1
    text = Page(render(document)).texts
    assert "1 epoch," in text
    assert "1 core," in text
    assert "1 missing cell Target" in text
    assert not re.search(r"\b1 (epochs|cores|missing cells)\b", text)


def test_options_in_a_warning_are_not_broken() -> None:
    document = documents.long_tailed()
    document["data"]["warnings"] = ["name with --time-budget <b> what"]
    assert '<li>name with <code class="whole">--time-budget</code> &lt;b&gt; what</li>' in render(document)


def test_a_training_is_told_by_the_epochs_that_were_looked_at() -> None:
    document = documents.long_tailed()
    for each in filter(None, (each["curve"] for each in document["candidates"])):
        each["epoch"] = [3 * place for place in range(1, len(each["epoch"]) + 1)]
    assert "Validation after epoch 3" in Page(render(document)).texts


def test_a_group_without_classes_has_no_column() -> None:
    document = documents.long_tailed()
    assert "Recall of middle</th>" in render(document)
    for each in document["candidates"]:
        each["groups"] = {**each["groups"], "middle": None}
    assert "Recall of middle</th>" not in render(document)


def test_relative_changes_are_in_per_cent_with_one_digit() -> None:
    page = Page(render(documents.tasks()))
    assert "Difference in %" in page.texts
    assert all(re.search(r"[+−]\d+\.\d[+−]", row) for row in page.rows["differences"])


def test_an_interval_has_no_more_digits_than_its_mean() -> None:
    assert _half_width({"mean": 25.7, "high": 33.197}) == " ± 7.5"
    assert _half_width({"mean": 0.7, "high": 0.721}) == " ± 0.021"
    assert _half_width({"mean": 0.7, "high": None}) == ""


def test_labels_are_called_labels() -> None:
    document = documents.long_tailed()
    document["problem"]["kind"] = "multilabel"
    text = render(document)
    assert "<h2>Recall per label, from head to tail" in text
    assert "Tail: 2 labels" in text
    assert "<b>8</b> labels of" in text


@given(st.randoms(use_true_random=False), st.sampled_from(list(documents.ALL)))
def test_whatever_is_null_the_report_is_drawn(chance: Random, name: str) -> None:
    """No interval, no mean, no curve, an epoch or a bin without a value, nothing at all: anywhere, at once."""

    def holed(value: Any, key: str = "") -> Any:
        if isinstance(value, dict) and {"mean", "low", "high"} <= value.keys():
            lost = chance.choice([(), (), ("low", "high"), ("mean", "low", "high"), ("p", "p_adjusted", "detectable")])
            return {**value, **{end: None for end in lost if end in value}}
        if key in ("curve", "calibration", "gradient_norms", "chosen") and chance.random() < 0.2:
            return None
        if isinstance(value, dict):
            return {each: holed(inside, each) for each, inside in value.items()}
        if key in ("train_loss", "validation", "accuracy", "share", "mass"):
            return [None if chance.random() < 0.3 else each for each in value]
        return value

    document = documents.ALL[name]()
    document["candidates"] = [holed(each) for each in document["candidates"]]
    text = render(document)
    assert not re.search(r"\b(None|nan|inf|Undefined)\b", text)
    for chart in re.findall(r"<svg id=.*?</svg>\n", text, re.DOTALL):
        ElementTree.fromstring(chart)
