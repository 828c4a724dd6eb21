"""Colours and progress: on a terminal only."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from equipoise.compare import terminal
from equipoise.compare.engine import run
from equipoise.compare.pools import local
from equipoise.compare.store import Store
from equipoise.compare.study import Study
from equipoise.compare.summary import summarize


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(study: Study, tmp_path: Path, to: Console) -> str:
    store = Store(tmp_path)
    store.open()
    with terminal.progress(to) as on_progress:
        outcome = run(study, 2, local(1), store, on_progress)
    terminal.show_comparison(summarize(study, outcome, 1), to)
    return to.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def a_plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def test_a_terminal_gets_colours_and_live_progress(study: Study, tmp_path: Path) -> None:
    text = shown(study, tmp_path, terminal.console(Terminal(), no_color=False))
    assert "\x1b[1m" in text
    assert "10/10" in text or "12/12" in text
    assert "left" in text


def test_without_colours_there_are_no_styles(study: Study, tmp_path: Path) -> None:
    to = terminal.console(Terminal(), no_color=True)
    terminal.show_study(study, 2, to)
    assert "\x1b" not in to.file.getvalue()  # type: ignore[attr-defined]


def test_a_pipe_gets_neither(study: Study, tmp_path: Path) -> None:
    text = shown(study, tmp_path, terminal.console(io.StringIO(), no_color=False))
    assert "\x1b" not in text
    assert "elapsed" not in text
    assert "cross_entropy" in text
