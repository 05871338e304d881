"""What every importer does with rows: the sampling, the report, and a place that is taken."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tyro

from lsm2.data import DayStore
from lsm2.errors import InputError
from lsm2.importers.report import ImportReport
from lsm2.importers.table import TableOptions, import_table

DATES = ("2024-03-01", "2024-03-02")


def table(
    every: str, people: tuple[str, ...] = ("ann", "bo"), share: float = 0.7, **columns: float
) -> pd.DataFrame:
    """Two days with a sample of everyone so often, of which a share is there."""
    rng = np.random.default_rng(0)
    times = pd.date_range("2024-03-01", "2024-03-03", freq=every, inclusive="left")
    parts = []
    for person in people:
        values = {"heart_rate": rng.normal(70, 5, len(times)), "mood": rng.normal(size=len(times))}
        for column in values.values():
            column[rng.random(len(times)) > share] = np.nan
        parts.append(pd.DataFrame({"subject": person, "timestamp": times, **values}))
    return pd.concat(parts)


def stored(tmp_path: Path, frame: pd.DataFrame, **options) -> DayStore:
    frame.to_csv(tmp_path / "a.csv", index=False)
    return import_table(tmp_path / "a.csv", tmp_path / "store", TableOptions(**options), replace=True)


@pytest.mark.parametrize("form", ["wide", "long"])
@pytest.mark.parametrize("minutes", [1, 2, 5, 15, 30])
def test_the_sampling_is_found_and_said(tmp_path, minutes: int, form: str) -> None:
    frame = table(f"{minutes}min")
    if form == "long":
        frame = frame.melt(["subject", "timestamp"], var_name="signal").dropna()
    store = stored(tmp_path, frame)
    assert store.sample_minutes == minutes and store.num_samples == 1440 // minutes
    named = stored(tmp_path, frame, sample_minutes=minutes)
    for row in range(len(store)):
        np.testing.assert_array_equal(store.values(row), named.values(row))
    stored(tmp_path, frame)
    report = ImportReport.read(tmp_path / "store")
    assert report.sample_minutes == minutes and report.sampling_found is True
    unit = "minute" if minutes == 1 else "minutes"
    assert f"a sample every {minutes} {unit}, found in the file" in report.lines()


def test_mixed_samplings_are_refused_with_who_has_which(tmp_path) -> None:
    frame = pd.concat([table("1min"), table("5min", ("cy", "di"))])
    with pytest.raises(
        InputError,
        match=r"a value every 1 minute for ann, bo, a value every 5 minutes for cy, di.*--sample-minutes 5",
    ):
        stored(tmp_path, frame)
    store = stored(tmp_path, frame, sample_minutes=5, aggregate="mean")
    assert store.subjects == ("ann", "bo", "cy", "di") and store.num_samples == 288


@pytest.mark.parametrize(("every", "seen"), [("15s", "every 15 s"), ("1s", "every 1 s")])
def test_samples_shorter_than_a_minute_ask_for_an_average(tmp_path, every: str, seen: str) -> None:
    frame = table(every, ("ann",), share=1.0)
    with pytest.raises(InputError, match=seen + ".*--aggregate mean --sample-minutes 1"):
        stored(tmp_path, frame)
    assert stored(tmp_path, frame, aggregate="mean").sample_minutes == 1


def test_a_signal_that_comes_less_often_is_said(tmp_path) -> None:
    frame = table("5min", share=1.0)
    frame.loc[frame.timestamp.dt.minute % 15 != 0, "mood"] = np.nan
    assert stored(tmp_path, frame).sample_minutes == 5
    assert any(
        "mood" in line and "a value every 15 minutes" in line
        for line in ImportReport.read(tmp_path / "store").lines()
    )


def test_the_report_counts_what_was_left_out(tmp_path) -> None:
    frame = table("1min", share=1.0)
    frame["worn"] = frame.timestamp >= "2024-03-01 12:00"
    frame.loc[(frame.subject == "bo") & (frame.timestamp >= "2024-03-02 01:00"), ["heart_rate", "mood"]] = (
        np.nan
    )
    frame.loc[(frame.subject == "ann") & (frame.timestamp < "2024-03-01 12:05"), "heart_rate"] = 999
    store = stored(tmp_path, frame, where="worn", min_observed=0.25)
    saved = json.loads((tmp_path / "store" / "import.json").read_text())
    assert ImportReport.read(store.path) == ImportReport(**saved)
    assert saved["files"] == ["a.csv"] and saved["rows"] == len(frame) and saved["timezone"] == "local"
    assert (saved["people"], saved["days"], saved["days_left_out"]) == (2, 3, 1)
    assert saved["rows_left_out"] == {"where worn is not true": 2 * 720}
    assert saved["values_out_of_range"] == {"heart_rate": 5}
    observed = np.stack([~np.isnan(store.values(row)) for row in range(3)]).mean((0, 2))
    np.testing.assert_allclose(list(saved["coverage"].values()), observed, atol=1e-4)
    assert ImportReport.read(store.path).lines() == [
        f"3 days of 2 people, 2 signals, from {len(frame)} rows",
        "a sample every 1 minute, found in the file",
        f"  heart_rate  {observed[0]:.1%} observed",
        f"  mood        {observed[1]:.1%} observed",
        "left out: 1 day with no value or less than 25% observed",
        "left out: 1440 rows where worn is not true",
        "left out: 5 values of heart_rate outside its plausible range",
    ]


def test_the_hour_that_happens_twice_is_counted(tmp_path) -> None:
    times = pd.date_range("2024-10-26T22:00Z", periods=25 * 60, freq="min")
    frame = pd.DataFrame({"subject": "ann", "timestamp": times, "mood": 1.0})
    stored(tmp_path, frame, timezone="Europe/Berlin")
    report = ImportReport.read(tmp_path / "store")
    assert report.rows_left_out == {"in the hour that happens twice when clocks go back": 60}


def test_a_store_is_replaced_only_if_asked(tmp_path) -> None:
    stored(tmp_path, table("5min"))
    before = (tmp_path / "store" / "manifest.json").read_bytes()
    with pytest.raises(InputError, match="--replace"):
        import_table(tmp_path / "does-not-exist.csv", tmp_path / "store")
    assert (tmp_path / "store" / "manifest.json").read_bytes() == before


def test_a_command_line_is_made_from_the_options() -> None:
    arguments = (
        "--columns hr steps --sample-minutes 5 --aggregate mean --units hr bpm steps count --where worn"
    )
    assert tyro.cli(TableOptions, args=arguments.split()) == TableOptions(
        columns=("hr", "steps"),
        sample_minutes=5,
        aggregate="mean",
        units={"hr": "bpm", "steps": "count"},
        where="worn",
    )
    assert tyro.cli(TableOptions, args=[]) == TableOptions()
    # Options out of bounds can be built, so that a command line refuses them in its own words.
    with pytest.raises(InputError, match="--min-observed is 3"):
        TableOptions(min_observed=3).checked()
