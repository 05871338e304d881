"""The diary of MMASH as a label file."""

import csv
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

ACTIVITIES = {
    0: "sleep",
    1: "lying or sitting",
    2: "lying or sitting",
    3: "light",
    4: "medium or heavy",
    5: "medium or heavy",
    6: "eating",
    7: "screen",
    8: "screen",
}
"""Codes of the diary in six classes; caffeine, smoking, alcohol and what is unclear are left out."""


@pytest.fixture
def mmash_intervals() -> Callable[[Path], pa.Table]:
    """From activity_diary.csv to subject, start, end, activity: day 1 is 2019-01-01, and an interval that
    ends before it starts ends on the next day.
    """

    def read(diary: Path) -> pa.Table:
        rows: dict[tuple, str] = {}
        with diary.open() as file:
            for row in csv.DictReader(file):
                if not all(row.values()) or int(float(row["Activity"])) not in ACTIVITIES:
                    continue
                midnight = datetime(2018, 12, 31) + timedelta(days=int(float(row["Day"])))
                start, end = (_time(midnight, row[name]) for name in ("Start", "End"))
                end += timedelta(days=end < start)
                if start < end:
                    rows.setdefault((row["subject"], start, end), ACTIVITIES[int(float(row["Activity"]))])
        subjects, starts, ends = zip(*rows, strict=True)
        return pa.table({"subject": subjects, "start": starts, "end": ends, "activity": list(rows.values())})

    return read


def _time(midnight: datetime, text: str) -> datetime:
    hours, minutes = map(int, text.split(":")[:2])
    return midnight + timedelta(hours=hours, minutes=minutes)
