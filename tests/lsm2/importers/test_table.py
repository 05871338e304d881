"""Importing tables: every form of the same data gives the same store; bad input is named with its place."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lsm2.data import LSM2_SIGNALS, DayStore, Signal, day_grid
from lsm2.data.tables import file as table_file
from lsm2.errors import InputError
from lsm2.importers.table import TableOptions, import_table


def imported(source: Path, out: Path, **options) -> DayStore:
    """The store of a table, in the place of what was there."""
    return import_table(source, out, TableOptions(**options), replace=True)


def make_wide() -> pd.DataFrame:
    """Two people, three days, two signals, gaps, rows in no order."""
    rng = np.random.default_rng(0)
    minutes = pd.date_range("2024-03-01", periods=3 * 1440, freq="min")
    parts = [
        pd.DataFrame(
            {
                "subject": person,
                "timestamp": minutes,
                "heart_rate": rng.normal(70, 9, len(minutes)),
                "mood": rng.normal(size=len(minutes)),
            }
        )
        for person in ("ann", "bo")
    ]
    wide = pd.concat(parts)
    wide.loc[rng.random(len(wide)) < 0.3, "heart_rate"] = np.nan
    wide.loc[rng.random(len(wide)) < 0.3, "mood"] = np.nan
    wide = wide[(wide.subject == "ann") | (wide.timestamp < "2024-03-02 07:00")].reset_index(drop=True)
    return wide.sample(frac=1, random_state=1).reset_index(drop=True)


WIDE = make_wide()


def to_long(wide: pd.DataFrame) -> pd.DataFrame:
    return wide.melt(["subject", "timestamp"], var_name="signal").dropna().sample(frac=1, random_state=2)


def expected_values(wide: pd.DataFrame, subject: str, date: str, columns: list[str]) -> np.ndarray:
    day = wide[(wide.subject == subject) & (wide.timestamp.dt.strftime("%Y-%m-%d") == date)].set_index(
        "timestamp"
    )
    minutes = pd.date_range(date, periods=1440, freq="min")
    return day.reindex(minutes)[columns].to_numpy(np.float32).T


def assert_is_wide(store: DayStore, signals: list[str]) -> None:
    assert [signal.name for signal in store.signals] == signals
    assert store.days["day_id"].to_pylist() == [f"ann/2024-03-0{day}" for day in (1, 2, 3)] + [
        "bo/2024-03-01",
        "bo/2024-03-02",
    ]
    for index, row in enumerate(store.days.to_pylist()):
        np.testing.assert_array_equal(
            store.values(index), expected_values(WIDE, row["subject"], row["date"], signals)
        )


def write_csv(path: Path, frame: pd.DataFrame, **arguments) -> Path:
    frame.to_csv(path, index=False, **arguments)
    return path


def write_folder(path: Path) -> Path:
    """Signals and people in several files: one long, one compressed, one Parquet, one that is no table."""
    path.mkdir()
    WIDE[WIDE.subject == "ann"].drop(columns="mood").to_parquet(path / "heart.parquet")
    write_csv(path / "heart.csv.gz", WIDE[WIDE.subject == "bo"].drop(columns="mood"))
    write_csv(path / "mood.csv", to_long(WIDE.drop(columns="heart_rate")))
    (path / "README.md").write_text("not a table")
    return path


def write_parquet(path: Path, frame: pd.DataFrame) -> Path:
    frame.to_parquet(path)
    return path


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_csv(path / "wide.csv", WIDE),
        lambda path: write_csv(path / "wide.csv", WIDE, na_rep="NaN", date_format="%Y-%m-%dT%H:%M"),
        lambda path: write_csv(path / "long.csv", to_long(WIDE)),
        lambda path: write_parquet(path / "wide.parquet", WIDE),
        lambda path: write_parquet(
            path / "long.parquet", to_long(WIDE).astype({"signal": "category", "subject": "category"})
        ),
        lambda path: write_folder(path / "folder"),
    ],
    ids=["wide-csv", "wide-csv-iso", "long-csv", "wide-parquet", "long-parquet-categories", "folder-of-all"],
)
def test_every_form_gives_the_same_store(tmp_path, write):
    assert_is_wide(
        imported(write(tmp_path), tmp_path / "store", columns=["mood", "heart_rate"]),
        ["mood", "heart_rate"],
    )


def test_many_batches_and_growing_scratch_give_the_same_store(tmp_path, monkeypatch):
    monkeypatch.setattr(table_file, "_CSV_BLOCK_BYTES", 4096)
    monkeypatch.setattr(day_grid, "_FIRST_CAPACITY", 1)
    store = imported(write_csv(tmp_path / "wide.csv", WIDE), tmp_path / "store")
    assert_is_wide(store, ["heart_rate", "mood"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "wide.csv"]


def test_signals_are_described(tmp_path):
    source = write_csv(tmp_path / "wide.csv", WIDE.assign(mood=WIDE.mood.abs()))
    store = imported(source, tmp_path / "store", log1p=["mood"], units={"mood": "points"})
    assert store.signals == (LSM2_SIGNALS[0], Signal("mood", "points", transform="log1p"))
    assert json.loads((tmp_path / "store" / "import.json").read_text())["rows"] == len(WIDE)


def test_names_of_columns_and_rows_to_read(tmp_path):
    renamed = WIDE.rename(columns={"subject": "who", "timestamp": "when"}).assign(
        worn=(WIDE.subject == "bo"), note="text"
    )
    for source in (write_csv(tmp_path / "a.csv", renamed), write_parquet(tmp_path / "a.parquet", renamed)):
        store = imported(
            source, tmp_path / "store", subject="who", timestamp="when", where="worn", columns=["mood"]
        )
        assert store.subjects == ("bo",) and [signal.name for signal in store.signals] == ["mood"]


def test_days_with_too_little_are_left_out(tmp_path):
    store = imported(write_csv(tmp_path / "wide.csv", WIDE), tmp_path / "store", min_observed=0.4)
    assert "bo/2024-03-02" not in store.days["day_id"].to_pylist() and len(store) == 4
    assert json.loads((tmp_path / "store" / "import.json").read_text())["days_left_out"] == 1


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.parametrize("epoch", [1, 5, 15, 60])
def test_epochs_average(tmp_path, epoch):
    frame = WIDE.assign(timestamp=WIDE.timestamp + pd.Timedelta("17s"))
    store = imported(
        write_csv(tmp_path / "wide.csv", frame), tmp_path / "store", sample_minutes=epoch, aggregate="mean"
    )
    assert store.num_samples == 1440 // epoch and store.sample_minutes == epoch
    minutes = expected_values(WIDE, "ann", "2024-03-02", ["heart_rate", "mood"]).astype(np.float64)
    np.testing.assert_allclose(
        store.values(1), np.nanmean(minutes.reshape(2, -1, epoch), axis=-1), rtol=1e-5, atol=1e-5
    )


def test_values_averaged_over_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(table_file, "_CSV_BLOCK_BYTES", 4096)
    store = imported(
        write_csv(tmp_path / "wide.csv", WIDE), tmp_path / "store", sample_minutes=60, aggregate="mean"
    )
    minutes = expected_values(WIDE, "ann", "2024-03-02", ["heart_rate", "mood"]).astype(np.float64)
    np.testing.assert_allclose(
        store.values(1), np.nanmean(minutes.reshape(2, -1, 60), axis=-1), rtol=1e-5, atol=1e-5
    )


def test_implausible_values_are_missing_but_a_wrong_unit_is_an_error(tmp_path):
    few = WIDE.copy()
    few.loc[few.index[:50], "heart_rate"] = 999
    store = imported(write_csv(tmp_path / "few.csv", few), tmp_path / "store")
    assert max(np.nanmax(store.values(index)[0]) for index in range(len(store))) < 240
    assert json.loads((tmp_path / "store" / "import.json").read_text())["values_out_of_range"] == {
        "heart_rate": 50
    }
    wrong = write_csv(tmp_path / "wrong.csv", WIDE.assign(heart_rate=WIDE.heart_rate / 60))
    before = (tmp_path / "store" / "manifest.json").read_bytes()
    with pytest.raises(
        InputError, match=r"wrong\.csv.*'heart_rate' are outside 25 to 240 bpm; is the unit another one"
    ):
        imported(wrong, tmp_path / "store")
    assert (tmp_path / "store" / "manifest.json").read_bytes() == before
    assert imported(wrong, tmp_path / "store", units={"heart_rate": "Hz"}).signals[0] == Signal(
        "heart_rate", "Hz"
    )


def test_times_with_a_zone_are_cut_at_local_midnight(tmp_path):
    rows = "s,2024-01-31T22:59:00Z,1\ns,2024-01-31T23:00Z,2\ns,2024-02-01T07:30+09:00,3\n"
    (tmp_path / "a.csv").write_text("subject,timestamp,x\n" + rows)
    store = imported(tmp_path / "a.csv", tmp_path / "store", timezone="Europe/Berlin")
    assert store.days["date"].to_pylist() == ["2024-01-31", "2024-02-01"]
    assert np.flatnonzero(~np.isnan(store.values(0)[0])).tolist() == [23 * 60 + 30, 23 * 60 + 59]
    assert store.values(1)[0, 0] == 2


def test_parquet_times_with_a_zone(tmp_path):
    times = pd.to_datetime(["2024-01-31T23:00Z", "2024-06-30T22:00Z"]).tz_convert("America/Chicago")
    write_parquet(tmp_path / "a.parquet", pd.DataFrame({"subject": "s", "timestamp": times, "x": [1.0, 2.0]}))
    store = imported(tmp_path / "a.parquet", tmp_path / "store", timezone="Europe/Berlin")
    assert store.days["date"].to_pylist() == ["2024-02-01", "2024-07-01"]
    assert [store.values(index)[0, 0] for index in range(2)] == [1, 2]


def test_days_on_which_clocks_change(tmp_path):
    """Spring: 02:00-02:59 does not exist and stays missing.

    Autumn: 02:00-02:59 happens twice, and the first is kept.
    """
    for start, hours in (("2024-03-30T23:00Z", 23), ("2024-10-26T22:00Z", 25)):
        times = pd.date_range(start, periods=hours * 60, freq="min")
        write_parquet(
            tmp_path / "a.parquet",
            pd.DataFrame({"subject": "s", "timestamp": times, "x": np.arange(hours * 60.0)}),
        )
        store = imported(tmp_path / "a.parquet", tmp_path / "store", timezone="Europe/Berlin")
        values = store.values(0)[0]
        assert len(store) == 1
        if hours == 23:
            assert np.isnan(values[120:180]).all()
            np.testing.assert_array_equal(np.delete(values, np.arange(120, 180)), np.arange(23 * 60))
        else:
            np.testing.assert_array_equal(values, np.concatenate([np.arange(180), np.arange(240, 25 * 60)]))


def test_wall_clock_of_a_named_zone_stays_as_it_is(tmp_path):
    store = imported(write_csv(tmp_path / "wide.csv", WIDE), tmp_path / "store", timezone="America/Chicago")
    assert_is_wide(store, ["heart_rate", "mood"])


HEADER = "subject,timestamp,x\n"
LONG = "subject,timestamp,signal,value\n"
BAD_FILES = {
    "empty": ("", {}, ["a.csv is empty"]),
    "header-only": (HEADER, {}, ["a.csv has no rows"]),
    "not-text": (b"\xff\xfe\x00\x01,\x9d\n\xc3\x28,1\n", {}, ["a.csv"]),
    "ragged": (
        HEADER + "s,2024-03-01 00:00,1\ns,2024-03-01 00:01\n",
        {},
        ["a.csv cannot be read as CSV", "Expected 3 columns, got 2"],
    ),
    "no-subject": (
        "who,timestamp,x\ns,2024-03-01,1\n",
        {},
        ["a.csv has no column 'subject'", "who, timestamp, x"],
    ),
    "no-time": ("subject,when,x\ns,2024-03-01,1\n", {}, ["a.csv has no column 'timestamp'"]),
    "no-where": (HEADER + "s,2024-03-01,1\n", {"where": "worn"}, ["no column 'worn'", "where"]),
    "where-not-boolean": (HEADER + "s,2024-03-01,3\n", {"where": "x"}, ["beside subject, timestamp, x"]),
    "where-words": (
        "subject,timestamp,x,w\ns,2024-03-01,3,perhaps\n",
        {"where": "w"},
        ["row 2, column 'w': 'perhaps' is not true or false"],
    ),
    "no-signal-column": ("subject,timestamp\ns,2024-03-01\n", {}, ["no column with numbers"]),
    "twice-the-column": ("subject,timestamp,x,x\ns,2024-03-01,1,2\n", {}, ["two columns named 'x'"]),
    "word": (
        HEADER + "s,2024-03-01 00:00,1\ns,2024-03-01 00:01,high\n",
        {},
        ["a.csv, row 3, column 'x': 'high' is not a number"],
    ),
    "long-word": (
        LONG + "s,2024-03-01 00:00,x,1\ns,2024-03-01 00:01,x,?\n",
        {},
        ["row 3, column 'value': '?' is not a number"],
    ),
    "infinite": (
        HEADER + "s,2024-03-01 00:00,1\ns,2024-03-01 00:01,-inf\n",
        {},
        ["row 3, column 'x' is infinite"],
    ),
    "unknown-signal": (HEADER + "s,2024-03-01,1\n", {"columns": ["x", "y"]}, ["no signal 'y'; it has x"]),
    "unknown-long-signal": (LONG + "s,2024-03-01,hr,1\n", {"columns": ["y"]}, ["no signal 'y'; it has hr"]),
    "unknown-log1p": (HEADER + "s,2024-03-01,1\n", {"log1p": ["y"]}, ["log1p names the signal 'y'"]),
    "unknown-unit": (HEADER + "s,2024-03-01,1\n", {"units": {"y": "m"}}, ["units names the signal 'y'"]),
    "log-of-negative": (
        HEADER + "s,2024-03-01,-3\n",
        {"log1p": ["x"]},
        ["'s/2024-03-01': signal 'x' has the value -3"],
    ),
    "empty-subject": (
        HEADER + "s,2024-03-01 00:00,1\n,2024-03-01 00:01,1\n",
        {},
        ["row 3, column 'subject' is empty"],
    ),
    "empty-time": (HEADER + "s,,1\n", {}, ["row 2, column 'timestamp' is empty"]),
    "empty-signal": (LONG + "s,2024-03-01 00:00,,1\n", {}, ["row 2, column 'signal' is empty"]),
    "not-a-time": (
        HEADER + "s,2024-03-01 00:00,1\ns,4/12/2016 2:47:30 PM,1\n",
        {},
        ["row 3", "'4/12/2016 2:47:30 PM' is not a time", "ISO 8601"],
    ),
    "zone-needed": (
        HEADER + "s,2024-03-01T00:00Z,1\n",
        {},
        ["row 2", "has a time zone", "name the zone", "timezone"],
    ),
    "zone-missing": (
        HEADER + "s,2024-03-01T00:00Z,1\ns,2024-03-01T00:01,1\n",
        {"timezone": "Europe/Berlin"},
        ["row 3", "'2024-03-01T00:01' has no time zone"],
    ),
    "zone-unexpected": (
        HEADER + "s,2024-03-01T00:00,1\ns,2024-03-01T00:01+01:00,1\n",
        {},
        ["row 3", "has a time zone, but the rows before"],
    ),
    "no-such-zone": (
        HEADER + "s,2024-03-01T00:00,1\n",
        {"timezone": "Mars/Base"},
        ["timezone 'Mars/Base' is not known"],
    ),
    "duplicate": (
        HEADER + "s,2024-03-01 07:05,1\nt,2024-03-01 07:05,1\ns,2024-03-01 07:05:30,2\n",
        {},
        ["a.csv, row 4: subject 's'", "'x'", "2024-03-01 07:05", "--aggregate mean"],
    ),
    "long-duplicate": (
        LONG + "s,2024-03-01 07:05,hr,1\ns,2024-03-01 07:05,x,1\ns,2024-03-01 07:05,hr,2\n",
        {},
        ["row 4: subject 's'", "'hr'"],
    ),
    "epoch": (HEADER + "s,2024-03-01,1\n", {"sample_minutes": 7}, ["--sample-minutes is 7"]),
    "aggregate": (HEADER + "s,2024-03-01,1\n", {"aggregate": "sum"}, ["--aggregate is 'sum'"]),
    "min-observed": (HEADER + "s,2024-03-01,1\n", {"min_observed": 3}, ["--min-observed is 3"]),
    "nothing-left": (HEADER + "s,2024-03-01,1\n", {"min_observed": 0.5}, ["no day to write"]),
    "nothing-measured": (HEADER + "s,2024-03-01,\n", {}, ["no day to write"]),
}


@pytest.mark.parametrize(("content", "arguments", "words"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_file_is_named_and_nothing_is_touched(tmp_path, content, arguments, words):
    source = tmp_path / "a.csv"
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "good.csv").write_text(HEADER + "s,2024-03-01,1\n")
    before = imported(tmp_path / "good.csv", tmp_path / "store").path.joinpath("manifest.json").read_bytes()
    with pytest.raises(InputError) as error:
        imported(source, tmp_path / "store", **arguments)
    for word in words:
        assert word in str(error.value)
    assert (tmp_path / "store" / "manifest.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "good.csv", "store"]


def test_duplicate_over_batches_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(table_file, "_CSV_BLOCK_BYTES", 4096)
    frame = WIDE.sort_values(["subject", "timestamp"])
    first = frame[frame.mood.notna()].iloc[[0]]
    source = write_csv(tmp_path / "wide.csv", pd.concat([frame, first]))
    with pytest.raises(
        InputError,
        match=rf"row {len(frame) + 2}: subject 'ann' already has a value of '(mood|heart_rate)'.*"
        rf"{first.timestamp.iloc[0]:%Y-%m-%d %H:%M}",
    ):
        imported(source, tmp_path / "store")


def test_text_column_asks_for_a_choice(tmp_path):
    for frame, words in (
        (WIDE.assign(note="calm"), "row 1, column 'note': 'calm' is not a number"),
        (WIDE.assign(worn=True), "column 'worn' holds true and false"),
    ):
        with pytest.raises(InputError, match=words + ".*columns"):
            imported(write_parquet(tmp_path / "a.parquet", frame), tmp_path / "store")


@pytest.mark.parametrize("cut", [0, 4, 3000])
def test_cut_parquet(tmp_path, cut):
    source = write_parquet(tmp_path / "a.parquet", WIDE)
    source.write_bytes(source.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"a\.parquet (is empty|cannot be read as Parquet)"):
        imported(source, tmp_path / "store")


def test_cut_gzip(tmp_path):
    content = gzip.compress(WIDE.to_csv(index=False).encode())
    (tmp_path / "a.csv.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"a\.csv\.gz"):
        imported(tmp_path / "a.csv.gz", tmp_path / "store")


def test_sources_that_hold_no_table(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.xlsx").write_text("x")
    for source, words in (
        ("nothing.csv", "does not exist"),
        ("folder", "holds no file ending in"),
        ("a.xlsx", "is not a table"),
    ):
        with pytest.raises(InputError, match=words):
            imported(tmp_path / source, tmp_path / "store")


def test_a_place_that_is_taken_is_refused_before_reading(tmp_path):
    (tmp_path / "store").write_text("thesis")
    with pytest.raises(InputError, match="is not a DayStore"):
        imported(tmp_path / "does-not-exist.csv", tmp_path / "store")


NURSE = ["hr", "rmssd", "ibi_n", "eda_mean", "eda_sd", "skin_temp", "acc_mean", "acc_sd"]


@pytest.mark.parametrize(
    ("name", "columns", "arguments"),
    [
        ("nurse_e4/nurse_e4_minute.parquet", NURSE, {"log1p": ["rmssd", "eda_mean", "eda_sd"]}),
        (
            "covid_fitbit/covid_fitbit_minute.parquet",
            ["hr", "steps"],
            {"where": "hr_file_available", "log1p": ["steps"], "min_observed": 0.25},
        ),
        ("t1d_uom/t1d_uom_5min.parquet", ["hr", "stress", "glucose_mmol_l"], {"sample_minutes": 5}),
    ],
    ids=["nurse_e4", "covid_fitbit", "t1d_uom"],
)
def test_real_data(tmp_path, shared_data, name, columns, arguments):
    source = shared_data(name)
    store = imported(source, tmp_path / "store", columns=columns, **arguments)
    frame = pd.read_parquet(source)
    if "where" in arguments:
        frame = frame[frame[arguments["where"]]]
    frame["subject"], frame["date"] = frame["subject"].astype(str), frame["timestamp"].dt.strftime("%Y-%m-%d")
    observed = frame.groupby(["subject", "date"])[columns].count()
    kept = observed[
        observed.sum(axis=1) >= max(1, arguments.get("min_observed", 0) * store.num_samples * len(columns))
    ]
    assert store.days["day_id"].to_pylist() == [f"{subject}/{date}" for subject, date in sorted(kept.index)]
    for index in range(0, len(store), 37):
        values, row = store.values(index), store.days.slice(index, 1).to_pylist()[0]
        day = frame[(frame["subject"] == row["subject"]) & (frame["date"] == row["date"])]
        at = ((day["timestamp"].dt.hour * 60 + day["timestamp"].dt.minute) // store.sample_minutes).to_numpy()
        expected = np.full_like(values, np.nan)
        expected[:, at] = day[columns].to_numpy(np.float32).T
        np.testing.assert_array_equal(values, expected)
