"""Finished trainings on disk."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from equipoise.compare.errors import CompareError
from equipoise.compare.store import STALE_SECONDS, Store, digest, write_atomically

KEY = {"candidate": "softmax_focal", "seed": 3, "data": "abc"}
RESULT = {"softmax_focal": {"test": {"metrics": {"macro F1": 0.1 + 0.2, "log loss": None}}}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "deep" / "runs")
    store.open()
    return store


def only_run(store: Store) -> Path:
    (path,) = store.folder.glob("*.json")
    return path


def test_what_is_written_is_read_exactly(store: Store) -> None:
    assert store.read(KEY) is None
    store.write(KEY, RESULT)
    assert store.read(KEY) == RESULT
    assert only_run(store).name.startswith("softmax_focal-seed3-")


@pytest.mark.parametrize("change", [{"seed": 4}, {"data": "abd"}, {"candidate": "other"}, {"version": 2}])
def test_another_key_is_another_training(store: Store, change: dict[str, Any]) -> None:
    store.write(KEY, RESULT)
    assert store.read({**KEY, **change}) is None


def test_the_order_of_the_key_does_not_matter(store: Store) -> None:
    store.write(KEY, RESULT)
    assert store.read(dict(reversed(KEY.items()))) == RESULT
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def damaged(text: str) -> list[str]:
    record = json.loads(text)
    changed = json.loads(text)
    changed["result"]["softmax_focal"]["test"]["metrics"]["macro F1"] = 0.9
    return [
        "",
        text[: len(text) // 2],
        text.replace("{", "", 1),
        "\0" * len(text),
        "[]",
        "7",
        json.dumps({"result": record["result"]}),
        json.dumps(changed),
    ]


def test_damaged_files_count_as_absent_and_are_replaced(store: Store) -> None:
    store.write(KEY, RESULT)
    text = only_run(store).read_text()
    for content in damaged(text):
        only_run(store).write_text(content)
        assert store.read(KEY) is None
    store.write(KEY, RESULT)
    assert store.read(KEY) == RESULT


def test_a_file_moved_to_another_name_counts_as_absent(store: Store) -> None:
    store.write(KEY, RESULT)
    other = {**KEY, "seed": 4}
    store.write(other, RESULT)
    first, second = sorted(store.folder.glob("*.json"))
    second.write_text(first.read_text())
    assert store.read(other) is None


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "old")

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_whole_rather_than_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "old")
    with path.open() as reader:
        write_atomically(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_only_old_leftovers_of_killed_processes_are_removed(store: Store) -> None:
    old, young = store.folder / ".a.json.1.unfinished", store.folder / ".b.json.2.unfinished"
    for path in (old, young):
        path.write_text("{")
    os.utime(old, (time.time() - STALE_SECONDS - 60,) * 2)
    store.open()
    assert not old.exists()
    assert young.exists()


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CompareError, match=r"cannot create the output folder .*/file: File exists$"):
        Store(tmp_path / "file" / "runs").open()
    with pytest.raises(CompareError, match=r"cannot create the output folder .*/file/out: Not a directory$"):
        Store(tmp_path / "file" / "out" / "runs").open()
    (tmp_path / "runs").write_text("")
    with pytest.raises(CompareError, match=rf"cannot write to the output folder {tmp_path}: File exists$"):
        Store(tmp_path / "runs").open()


@pytest.mark.parametrize("name", ["index.html", "results.json"])
def test_a_report_that_could_not_be_written_is_said_before_training(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(CompareError, match=rf"cannot write to the output folder {tmp_path}: {name}: Is a directory$"):
        Store(tmp_path / "runs").open()


def test_a_disk_that_fails_later_is_said_in_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CompareError, match="No space left on device"):
        store.write(KEY, RESULT)
