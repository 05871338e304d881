"""encode, impute and forecast on DataFrames say the same as on arrays, in the same library and names."""

import dataclasses
import datetime
import warnings

import numpy as np
import pytest
import torch

from lsm2 import LSM2, LSM2Config
from lsm2.data import DayStore, Normalization, Signal
from lsm2.errors import InputError

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")

NAMES = ["a", "b", "c"]
NORMALIZATION = Normalization(
    tuple(Signal(name) for name in NAMES), np.array([60.0, 3.0, 0.0]), np.array([10.0, 1.0, 2.0])
)
SAMPLES = 120  # of 12 minutes each


@pytest.fixture
def model(tiny_config: LSM2Config) -> LSM2:
    torch.manual_seed(0)
    config = dataclasses.replace(tiny_config, window_minutes=1440, sample_minutes=12, patch_minutes=120)
    return LSM2(config, NORMALIZATION).eval()


@pytest.fixture
def days() -> np.ndarray:
    """Two days of p1, one of p2."""
    values = np.random.default_rng(0).normal(size=(3, 3, SAMPLES)).astype(np.float32)
    values[:, 0] += 60
    values[:, :, 30:60] = np.nan
    values[1, 2] = np.nan
    return values


def wide(days: np.ndarray):
    rows = []
    for (subject, date), values in zip((("p1", 3), ("p1", 4), ("p2", 3)), days, strict=True):
        for sample in range(SAMPLES):
            time = datetime.datetime(2024, 3, date) + datetime.timedelta(minutes=12 * sample)
            rows.append(
                {"subject": subject, "timestamp": time, **dict(zip(NAMES, values[:, sample], strict=True))}
            )
    return pandas.DataFrame(rows).sample(frac=1, random_state=0)  # the order of rows means nothing


def long(days: np.ndarray):
    frame = wide(days).melt(["subject", "timestamp"], var_name="signal", value_name="value")
    return frame.dropna()


FRAMES = {
    "pandas wide": wide,
    "pandas long": long,
    "polars wide": lambda days: polars.from_pandas(wide(days)),
    "polars long": lambda days: polars.from_pandas(long(days)),
    "with a zone": lambda days: wide(days).assign(
        timestamp=lambda frame: frame["timestamp"].dt.tz_localize("Asia/Tokyo")
    ),
}


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_frames_say_what_arrays_say(model: LSM2, days: np.ndarray, make) -> None:
    frame = make(days)
    embedded, filled, ahead = model.encode(frame), model.impute(frame), model.forecast(frame, 240)
    assert type(embedded) is type(filled) is type(ahead) is type(frame)
    assert list(embedded.columns) == ["subject", "date", *(f"e{i}" for i in range(32))]
    assert list(filled.columns) == list(ahead.columns) == ["subject", "timestamp", *NAMES]
    assert list(embedded["subject"]) == ["p1", "p1", "p2"]
    assert [str(date) for date in embedded["date"]] == ["2024-03-03", "2024-03-04", "2024-03-03"]
    np.testing.assert_array_equal(embedded[[f"e{i}" for i in range(32)]].to_numpy(), model.encode(days))
    np.testing.assert_array_equal(
        filled[NAMES].to_numpy().reshape(3, SAMPLES, 3).transpose(0, 2, 1), model.impute(days)
    )
    np.testing.assert_array_equal(
        ahead[NAMES].to_numpy().reshape(3, 20, 3).transpose(0, 2, 1), model.forecast(days, 240)
    )
    assert (
        str(ahead["timestamp"][0]) == "2024-03-03 20:00:00"
        and str(ahead["timestamp"][59]) == "2024-03-03 23:48:00"
    )


def test_missing_subject_and_signal_are_fine(model: LSM2, days: np.ndarray) -> None:
    frame = wide(days).query("subject == 'p2'").drop(columns=["subject", "b"])
    without_b = days[2:].copy()
    without_b[:, 1] = np.nan
    embedded = model.encode(frame)
    assert list(embedded.columns)[:2] == ["date", "e0"]
    np.testing.assert_array_equal(embedded.drop(columns="date").to_numpy(), model.encode(without_b))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda frame: frame.rename(columns={"timestamp": "time"}), "no column timestamp"),
        (lambda frame: frame.assign(timestamp="4/12/2016 2:47:30 PM"), "row 0 .*is not a time"),
        (lambda frame: frame.assign(timestamp=5), "column 'timestamp' holds int64, not times"),
        (
            lambda frame: frame.assign(timestamp=frame["timestamp"].where(frame.index != frame.index[0])),
            "row 0.*, column 'timestamp' is empty",
        ),
        (lambda frame: frame.assign(steps=1.0), "no signal 'steps'"),
        (lambda frame: frame[["subject", "timestamp"]].assign(signal="steps", value=1), "no signal 'steps'"),
        (lambda frame: frame.assign(a="much"), "row 0 .*, column 'a': 'much' is not a number"),
        (
            lambda frame: pandas.concat([frame, frame.iloc[:1]]),
            "row 360 .* already has a value of '.' in the 12 min from 2024-03-0",
        ),
        (lambda frame: frame.iloc[:0], "no rows"),
    ],
    ids=[
        "no time",
        "text",
        "no times",
        "empty time",
        "unknown signal",
        "unknown long signal",
        "no numbers",
        "twice",
        "empty",
    ],
)
def test_bad_frames_are_named(model: LSM2, days: np.ndarray, change, named: str) -> None:
    with pytest.raises(InputError, match=named):
        model.impute(change(wide(days)))


def test_models_that_cannot_read_frames_say_so(model: LSM2, days: np.ndarray) -> None:
    frame = wide(days)
    with pytest.raises(InputError, match="needs arrays"):
        model.encode(frame, level="token")
    with pytest.raises(InputError, match=r"no signals\.json"):
        LSM2(model.config).encode(frame)
    odd = LSM2(dataclasses.replace(model.config, window_minutes=840), NORMALIZATION)
    with pytest.raises(InputError, match="70 samples"):
        odd.impute(frame)


def test_index_of_times_and_lazy_frames_are_taken(model: LSM2, days: np.ndarray) -> None:
    frame = wide(days)
    expected = model.encode(frame)
    by_time = frame.set_index("timestamp")
    for given in (by_time, by_time.rename_axis(None), frame.set_index(["subject", "timestamp"])):
        pandas.testing.assert_frame_equal(model.encode(given), expected)
    lazy = polars.from_pandas(frame).lazy()
    assert model.encode(lazy).equals(model.encode(lazy.collect()))


def test_lists_are_arrays_and_other_things_are_refused(
    model: LSM2, days: np.ndarray, small_store: DayStore
) -> None:
    np.testing.assert_array_equal(model.encode(days.tolist()), model.encode(days))
    np.testing.assert_array_equal(model.encode(list(days)), model.encode(days))
    with_none = [[[None if np.isnan(x) else x for x in row] for row in day] for day in days.tolist()]
    np.testing.assert_array_equal(model.impute(with_none), model.impute(days))
    for given, words in (
        (small_store, r"a DayStore; .*store\.values\(0\)"),
        ("days.csv", "of type str and no array of numbers"),
        ({"a": 1}, "of type dict and no array of numbers"),
        ([[1, 2], [3]], "of type list and no array of numbers"),
        (np.zeros((3, 3, SAMPLES), dtype="datetime64[s]"), "of type ndarray and no array of numbers"),
        (None, "NoneType|has shape"),
    ):
        with pytest.raises(InputError, match=words):
            model.encode(given)


def test_minutes_may_be_a_float_that_is_whole(model: LSM2, days: np.ndarray) -> None:
    np.testing.assert_array_equal(model.forecast(days, 240.0), model.forecast(days, 240))
    np.testing.assert_array_equal(model.forecast(days, np.float32(240)), model.forecast(days, 240))
    for minutes in (60.5, "60", True, float("nan"), None):
        with pytest.raises(InputError, match="give a whole number of minutes"):
            model.forecast(days, minutes)


def test_days_without_a_value_are_left_out(model: LSM2, days: np.ndarray) -> None:
    frame = wide(days)
    frame.loc[frame["subject"] == "p2", NAMES] = np.nan
    assert list(model.encode(frame)["subject"]) == ["p1", "p1"]
    frame[NAMES] = np.nan
    with pytest.raises(InputError, match="no values"):
        model.encode(frame)


def test_another_sampling_warns_or_is_refused(model: LSM2, days: np.ndarray) -> None:
    frame = wide(days)
    hourly = frame[frame["timestamp"].dt.minute == 0]
    with pytest.warns(
        UserWarning, match="'a' every 60 minutes, but the model was trained on one every 12 minutes"
    ):
        model.encode(hourly)
    finer = frame.assign(
        timestamp=frame["timestamp"].dt.normalize()
        + (frame["timestamp"] - frame["timestamp"].dt.normalize()) / 12
    )
    with pytest.raises(InputError, match=r"every 1 min, but a sample lasts 12 min; .*resample\('12min'\)"):
        model.encode(finer)


def test_values_of_another_unit_warn(model: LSM2, days: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.encode(days)
        model.encode(wide(days))
    days[:, 0] *= 1000
    for given in (days, wide(days)):
        with pytest.warns(
            UserWarning, match="270 of 270 values of 'a' lie outside 10 to 110, all that the model knows"
        ):
            model.encode(given)
