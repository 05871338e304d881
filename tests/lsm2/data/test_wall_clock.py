"""Wall clock: zones that change at odd minutes, times that no clock shows, zones in which nobody lives."""

import datetime
import zoneinfo

import numpy as np
import pyarrow as pa
import pytest

from lsm2.data.wall_clock import LOCAL, WallClock
from lsm2.errors import InputError


def wall_clock(cells: pa.Array, timezone: str = LOCAL) -> tuple[np.ndarray, np.ndarray]:
    return WallClock(timezone, "timestamp", "ADVICE").seconds(cells, lambda row: f"row {row}")


def utc_minutes(first: str, count: int) -> np.ndarray:
    return np.datetime64(first, "s") + np.arange(count) * np.timedelta64(60, "s")


@pytest.mark.parametrize(
    ("zone", "date"),
    [
        ("America/St_Johns", "2010-11-07"),
        ("America/St_Johns", "2011-03-13"),
        ("Australia/Lord_Howe", "2024-04-07"),
        ("Australia/Lord_Howe", "2024-10-06"),
        ("Europe/Berlin", "2024-10-27"),
        ("Europe/Berlin", "2024-03-31"),
    ],
)
def test_every_minute_of_days_on_which_clocks_change(zone: str, date: str) -> None:
    instants = utc_minutes(f"{date}T00:00", 3 * 1440) - np.timedelta64(1, "D")
    seconds, keep = wall_clock(pa.array(instants).cast(pa.timestamp("s", tz="UTC")), zone)
    local = [
        datetime.datetime.fromtimestamp(int(instant), zoneinfo.ZoneInfo(zone))
        for instant in instants.astype(np.int64)
    ]
    expected = [time.replace(tzinfo=datetime.UTC, fold=0).timestamp() for time in local]
    np.testing.assert_array_equal(seconds, np.array(expected, dtype=np.int64))
    np.testing.assert_array_equal(keep, [time.fold == 0 for time in local])
    assert len(np.unique(seconds[keep])) == keep.sum()


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
@pytest.mark.parametrize("time", ["9999-12-31", "0001-01-01", "2500-01-01T12:00", "1677-12-31T23:59"])
def test_placeholders_are_refused_and_do_not_wrap(unit: str, time: str) -> None:
    times = np.array(["2024-03-01T00:00", time], dtype=f"datetime64[{unit}]")
    with pytest.raises(InputError, match=rf"row 1, column 'timestamp': {time}.*outside the years 1678"):
        wall_clock(pa.array(times))
    with pytest.raises(InputError, match=rf"row 1, .*{time}.* is outside the years"):
        wall_clock(pa.array(["2024-03-01", time]))


def test_times_before_1970_and_fractions_keep_their_minute() -> None:
    times = np.array(["1969-12-31T23:59:59.999999999", "1969-12-31T00:00:00"], dtype="datetime64[ns]")
    assert (wall_clock(pa.array(times))[0] // 60).tolist() == [-1, -1440]
    assert (wall_clock(pa.array(times.astype(str)))[0] // 60).tolist() == [-1, -1440]


def test_a_named_zone_is_the_clock_that_people_saw() -> None:
    instants = pa.array(utc_minutes("2024-07-01T00:00", 3))
    seconds, keep = wall_clock(instants.cast(pa.timestamp("us", tz="Europe/Berlin")))
    assert seconds.tolist() == [
        int(np.datetime64("2024-07-01T02:00", "s").astype(int)) + 60 * i for i in range(3)
    ]
    assert keep.all()
    # A zone that is named by the user counts more than the one that the times are written in.
    other, _ = wall_clock(instants.cast(pa.timestamp("us", tz="Europe/Berlin")), "Asia/Tokyo")
    assert (other - seconds).tolist() == [7 * 3600] * 3


@pytest.mark.parametrize("zone", ["UTC", "Etc/UTC", "GMT", "Etc/GMT+5", "+01:00", "-05:30", "Zulu"])
def test_zones_that_are_no_place_are_refused(zone: str) -> None:
    times = pa.array(utc_minutes("2024-07-01T00:00", 2)).cast(pa.timestamp("us", tz=zone))
    with pytest.raises(InputError, match=r"row 0, column 'timestamp': .* no place.*ADVICE"):
        wall_clock(times)
    assert wall_clock(times, "UTC")[0][0] == np.datetime64("2024-07-01", "s").astype(int)


def test_text_with_an_offset_is_refused_without_a_zone() -> None:
    with pytest.raises(InputError, match="no place"):
        wall_clock(pa.array(["2024-07-01T00:00+02:00"]))
