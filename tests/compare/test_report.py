"""The report: complete, escaped, and one file that asks nothing of any network."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from small_table import table

from equipoise.compare.command import Options, execute
from equipoise.compare.study import Request

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
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

    def handle_data(self, data: str) -> None:
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


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome on the PATH (Debian: apt-get install chromium)")
def test_a_browser_shows_it_without_a_complaint_or_a_request(report: Path, tmp_path: Path) -> None:
    log = tmp_path / "net.json"
    command = [
        str(BROWSER),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--log-net-log={log}",
        "--dump-dom",
        report.as_uri(),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert len(Page(shown.stdout).rows["comparison"]) == CANDIDATES
    assert "CONSOLE" not in shown.stderr
    # The browser calls its maker on its own account; the page can only ask hosts that it names, and names just one.
    requested = set(re.findall(r'"url":"https?://([^/"]+)', log.read_text()))
    assert "example.org" in report.read_text()
    assert not [host for host in requested if host in report.read_text()]
