"""encode, impute and forecast on DataFrames say the same as on arrays, in the library and with the names that came."""

import dataclasses
import datetime

import numpy as np
import pytest
import torch

from lsm2 import LSM2, LSM2Config
from lsm2.data import Normalization, Signal
from lsm2.errors import InputError

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")

NAMES = ["a", "b", "c"]
NORMALIZATION = Normalization(
    tuple(Signal(name) for name in NAMES), np.array([60.0, 3.0, 0.0]), np.array([10.0, 1.0, 2.0])
)
SAMPLES = 120  # of 12 minutes each


@pytest.fixture
def model(small_model_config: LSM2Config) -> LSM2:
    torch.manual_seed(0)
    config = dataclasses.replace(
        small_model_config, window_minutes=1440, sample_minutes=12, patch_minutes=120
    )
    return LSM2(config, NORMALIZATION).eval()


@pytest.fixture
def days() -> np.ndarray:
    """Two days of p1, one of p2."""
    values = np.random.default_rng(0).normal(size=(3, 3, SAMPLES)).astype(np.float32)
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
        (lambda frame: frame.assign(a="much"), "row 0 .*, column 'a': 'much' is not a number"),
        (lambda frame: pandas.concat([frame, frame.iloc[:1]]), "row 360 .* already has a value of '.' in the 12 min from 2024-03-0"),
        (lambda frame: frame.iloc[:0], "no rows"),
    ],
    ids=["no time", "text", "no times", "empty time", "unknown signal", "no numbers", "twice", "empty"],
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
