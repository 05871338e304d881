"""The simple fills on days small enough to fill by hand."""

import numpy as np
import pytest

from lsm2.data.fills import CoMoments, Habit, last, linear, mean, nearest, person_time_of_day, same_minute

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
    habit = Habit.from_day(others[0], 15) + Habit.from_day(others[1], 15)
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


def test_co_moments_count_the_minutes_that_both_signals_have():
    moments = CoMoments.from_day(
        np.array([[1, 2, N, 4], [3, N, 5, 2]], dtype=np.float32)
    ) + CoMoments.from_day(np.array([[2, N], [2, 1]], np.float32))
    np.testing.assert_array_equal(moments.products, [[25, 15], [15, 43]])
    np.testing.assert_array_equal(moments.counts, [[4, 3], [3, 5]])
    np.testing.assert_allclose(moments.covariance(), [[25 / 4, 5], [5, 43 / 5]])


def test_covariance_of_pairs_that_contradict_each_other_is_one_all_the_same():
    # Each pair of three signals goes exactly opposite ways, which no three numbers can.
    moments = CoMoments.from_day(np.array([[1, N, 1], [-1, 1, N], [N, -1, -1]], dtype=np.float32))
    assert np.linalg.eigvalsh(moments.products / moments.counts).min() < -0.5
    assert np.linalg.eigvalsh(moments.covariance()).min() > 0


def test_same_minute_is_the_regression_on_what_is_visible():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 4))
    days = mixing @ rng.normal(size=(4, 20_000))
    covariance = CoMoments.from_day(days).covariance()
    visible = np.where(rng.random((4, 300)) < 0.5, days[:, :300], np.nan)
    filled = same_minute(visible, covariance)
    seen = ~np.isnan(visible)
    np.testing.assert_allclose(filled[seen], visible[seen], rtol=1e-6)
    for minute in (0, 1, 2, 17):
        known = seen[:, minute]
        coefficients = np.linalg.lstsq(days[known].T, days.T, rcond=None)[0]
        np.testing.assert_allclose(filled[:, minute], visible[known, minute] @ coefficients, atol=1e-6)
    assert not filled[:, ~seen.any(axis=0)].any()
    assert np.mean((filled - days[:, :300])[~seen] ** 2) < 0.9 * np.mean(days[:, :300][~seen] ** 2)


def test_same_minute_says_the_mean_of_signals_that_nobody_measured_together():
    covariance = CoMoments.from_day(np.array([[1, 2, N, N], [N, N, 3, 4]], dtype=np.float32)).covariance()
    np.testing.assert_allclose(
        same_minute(np.array([[1, N], [N, 2]], dtype=np.float32), covariance), [[1, 0], [0, 2]], atol=1e-6
    )
