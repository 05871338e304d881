"""The simple fills on days small enough to fill by hand."""

import numpy as np
import pytest

from lsm2.data.fills.simple import TimeOfDay, last, linear, mean, nearest, person_time_of_day

N = np.nan
DAY = np.array([[N, 1, N, N, N, 5, N], [N, N, N, N, N, N, N], [2, N, N, 8, N, N, N]], dtype=np.float32)


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        (mean, [[0] * 7, [0] * 7, [0] * 7]),
        (nearest, [[1, 1, 1, 1, 5, 5, 5], [0] * 7, [2, 2, 8, 8, 8, 8, 8]]),
        (linear, [[1, 1, 2, 3, 4, 5, 5], [0] * 7, [2, 4, 6, 8, 8, 8, 8]]),
        (last, [[0, 1, 1, 1, 1, 5, 5], [0] * 7, [2, 2, 2, 8, 8, 8, 8]]),
    ],
    ids=["mean", "nearest_earlier_of_two", "linear", "last"],
)
def test_fills_by_hand(fill, expected):
    np.testing.assert_allclose(fill(DAY), expected, rtol=1e-6)


def test_linear_agrees_with_numpy_interp():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 400)).astype(np.float32)
    visible = np.where(rng.random(values.shape) < 0.3, values, np.float32(np.nan))
    position = np.arange(400)
    expected = [np.interp(position, position[~np.isnan(row)], row[~np.isnan(row)]) for row in visible]
    np.testing.assert_allclose(linear(visible), expected, atol=1e-5)


def test_person_time_of_day_by_hand():
    # One sample every 15 minutes for two hours: four half hours of two samples each.
    today = np.array([[1, 3, N, N, N, N, N, N], [N] * 8, [N] * 8], dtype=np.float32)
    others = [
        np.array([[5, N, 4, 6, N, N, N, N], [N, N, N, N, N, N, 7, 9], [N] * 8], dtype=np.float32),
        np.array([[N, N, N, 8, N, N, N, N], [N] * 8, [N] * 8], dtype=np.float32),
    ]
    habit = TimeOfDay.from_day(others[0], 15) + TimeOfDay.from_day(others[1], 15)
    person_mean = (1 + 3 + 5 + 4 + 6 + 8) / 6
    expected = [[3, 3, 6, 6] + [person_mean] * 4, [8] * 8, [0] * 8]
    np.testing.assert_allclose(person_time_of_day(today, habit, 15), expected, rtol=1e-6)
    np.testing.assert_allclose(person_time_of_day(today, None, 15)[0], [2] * 8)


@pytest.mark.parametrize("sample_minutes", [1, 5, 20, 30, 60])
def test_person_time_of_day_runs_at_every_epoch(sample_minutes):
    day = np.random.default_rng(0).normal(size=(2, 1440 // sample_minutes)).astype(np.float32)
    filled = person_time_of_day(day, None, sample_minutes)
    half_hour = 1 if sample_minutes >= 30 else int(np.flatnonzero(np.arange(0, 60, sample_minutes) >= 30)[0])
    np.testing.assert_allclose(filled[:, 0], day[:, :half_hour].mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(filled[:, -1], filled[:, -1 - (half_hour - 1) // 2])
