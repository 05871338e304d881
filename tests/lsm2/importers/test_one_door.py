"""The same table gives the same days, bit for bit, as a file through `import_table` and as a DataFrame."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lsm2.data import DayStore, Signal
from lsm2.data.dataframes import FrameDays
from lsm2.data.signals import named_signal
from lsm2.errors import InputError
from lsm2.importers.table import TableOptions, import_table

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")

SIGNALS = (named_signal("heart_rate"), Signal("mood"))
NAMES = [signal.name for signal in SIGNALS]
BERLIN = "Europe/Berlin"


def table(times, seed: int = 0):
    """Two people at these times, with gaps, rows in no order, and heart rates that nobody has."""
    rng = np.random.default_rng(seed)
    parts = []
    for subject in ("ann", "bo"):
        values = {"heart_rate": rng.normal(70, 9, len(times)), "mood": rng.normal(size=len(times))}
        for column in values.values():
            column[rng.random(len(times)) < 0.2] = np.nan
        values["heart_rate"][rng.random(len(times)) < 0.05] = 9999
        parts.append(pandas.DataFrame({"subject": subject, "timestamp": times, **values}))
    return pandas.concat(parts).sample(frac=1, random_state=seed)


def minutes(start: str, end: str, every: str = "1min", zone: str | None = None):
    return pandas.date_range(start, end, freq=every, tz=zone, inclusive="left")


NAIVE = minutes("2024-03-01", "2024-03-03 07:00")
SPRING, AUTUMN = (
    minutes(start, end, zone="UTC")
    for start, end in (("2024-03-30 20:00", "2024-03-31 20:00"), ("2024-10-26 20:00", "2024-10-27 20:00"))
)
# The times of the file, those of the frame (never in UTC: in the zone that people lived in), and --timezone.
CASES: dict[str, tuple[object, object, str]] = {
    "naive": (NAIVE, NAIVE, "local"),
    "naive in a named zone": (NAIVE, NAIVE, BERLIN),
    "named zone in spring": (SPRING.tz_convert(BERLIN), SPRING.tz_convert(BERLIN), "local"),
    "named zone in autumn": (AUTUMN.tz_convert(BERLIN), AUTUMN.tz_convert(BERLIN), "local"),
    "UTC in spring": (SPRING, SPRING.tz_convert(BERLIN), BERLIN),
    "UTC in autumn": (AUTUMN, AUTUMN.tz_convert(BERLIN), BERLIN),
    "offset": (
        SPRING.tz_convert("+09:00"),
        SPRING.tz_convert("America/St_Johns"),
        "America/St_Johns",
    ),
    "five minutes": (
        minutes("2024-03-01", "2024-03-03 07:00", "5min"),
        minutes("2024-03-01", "2024-03-03 07:00", "5min"),
        "local",
    ),
}
FORMS = {
    "pandas wide": lambda frame: frame,
    "pandas long": lambda frame: frame.melt(["subject", "timestamp"], var_name="signal").dropna(),
    "polars wide": lambda frame: polars.from_pandas(frame),
    "polars long": lambda frame: polars.from_pandas(
        frame.melt(["subject", "timestamp"], var_name="signal").dropna()
    ),
}


def write(frame, path: Path) -> Path:
    if type(frame).__module__.startswith("polars"):
        frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
    else:
        frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


def assert_same_days(days: FrameDays, store: DayStore) -> None:
    ids = [f"{subject}/{date}" for subject, date in zip(days.subjects or (), days.dates, strict=True)]
    assert ids == store.days["day_id"].to_pylist()
    assert days.values.dtype == np.float32
    assert days.values.tobytes() == np.stack([store.values(row) for row in range(len(store))]).tobytes()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(("times", "frame_times", "zone"), CASES.values(), ids=CASES)
def test_file_and_frame_give_the_same_days(tmp_path, form: Callable, times, frame_times, zone: str) -> None:
    source = write(form(table(times)), tmp_path / "a.parquet")
    store = import_table(source, tmp_path / "store", TableOptions(columns=tuple(NAMES), timezone=zone))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        days = FrameDays.from_frame(form(table(frame_times)), SIGNALS, store.sample_minutes)
    assert_same_days(days, store)
    assert np.nanmax(days.values[:, 0]) < 240


def test_a_csv_read_by_pandas_gives_the_same_days(tmp_path) -> None:
    source = write(table(NAIVE), tmp_path / "a.csv")
    store = import_table(source, tmp_path / "store", TableOptions(columns=tuple(NAMES)))
    for frame in (
        pandas.read_csv(source),
        pandas.read_csv(source, parse_dates=["timestamp"]),
        polars.read_csv(source),
    ):
        assert_same_days(FrameDays.from_frame(frame, SIGNALS, 1), store)


def both_errors(tmp_path: Path, frame) -> tuple[str, str]:
    """What is said of the file, and of the frame."""
    with pytest.raises(InputError) as of_file:
        import_table(write(frame, tmp_path / "a.parquet"), tmp_path / "store")
    with pytest.raises(InputError) as of_frame:
        FrameDays.from_frame(frame, SIGNALS, 1)
    return str(of_file.value), str(of_frame.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda frame: pandas.concat([frame, frame.iloc[:1]]),
            "subject '(ann|bo)' already has a value of '.*' in the 1 min from",
        ),
        (
            lambda frame: frame.assign(timestamp=frame["timestamp"].dt.tz_localize("UTC")),
            "has a time zone that names no place",
        ),
        (
            lambda frame: frame.assign(timestamp=frame["timestamp"].dt.tz_localize("Etc/GMT+3")),
            "has a time zone that names no place",
        ),
        (
            lambda frame: frame.assign(heart_rate=frame["heart_rate"] * 1000),
            "values of 'heart_rate' are outside 25 to 240 bpm",
        ),
        (lambda frame: frame.assign(mood="low"), "column 'mood': 'low' is not a number"),
        (lambda frame: frame.assign(mood=np.inf), "column 'mood' is infinite"),
        (lambda frame: frame.assign(subject=None), "column 'subject' is empty"),
        (
            lambda frame: frame.assign(timestamp=minutes("2024-03-01", "2024-03-02", "5s")[: len(frame)]),
            "has a value of '.*' every 5 s, but a sample lasts 1 min; average them",
        ),
    ],
    ids=["twice", "UTC", "offset", "unit", "text", "infinite", "nobody", "seconds"],
)
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_file_and_frame_are_refused_alike(tmp_path, change: Callable, words: str, library: str) -> None:
    frame = change(table(NAIVE).dropna())
    if library == "polars":
        frame = polars.from_pandas(frame)
    for said in both_errors(tmp_path, frame):
        assert re.search(words, said), said
