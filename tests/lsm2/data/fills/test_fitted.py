"""The fills that are fitted on training people."""

import numpy as np
import pytest

from lsm2.data.fills.fitted import BANDWIDTH_MINUTES, SHRINKAGES, CoMoments, Smooth, same_minute
from lsm2.data.fills.simple import TimeOfDay, TrainingDays, VisibleDay, half_hours, linear

N = np.nan


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


def noisy_days(people: str, smoothness: float, length: int = 288, missing: float = 0.2):
    """A day for each letter: a time of day that all share, a smooth course, and white noise in the second
    signal.
    """
    rng = np.random.default_rng(0)
    kernel = np.exp(-0.5 * (np.arange(-60, 61) / smoothness) ** 2)
    days = {}
    for number, person in enumerate(people):
        course = np.convolve(rng.normal(size=length + 120), kernel / np.linalg.norm(kernel), mode="valid")
        shared = np.sin(2 * np.pi * np.arange(length) / length)
        values = np.stack([course, shared + 2 * rng.normal(size=length)]).astype(np.float32)
        values[rng.random(values.shape) < missing] = np.nan
        days[f"{person}{number}"] = values
    return days


def training(days: dict[str, np.ndarray], sample_minutes: int = 5, hidden_share: float = 0.5) -> TrainingDays:
    """The person of a day is the first letter of its name."""
    values = list(days.values())

    def hide(number, day):
        hidden = np.random.default_rng(number).random(day.shape) < hidden_share
        yield hidden, hidden & ~np.isnan(day)

    return TrainingDays([name[0] for name in days], lambda number: values[number], hide, sample_minutes)


def test_smooth_is_the_kernel_mean_shrunk_to_the_time_of_day():
    fitted = Smooth.fit(training(noisy_days("aabbcc", 6)))
    visible = noisy_days("x", 6)["x0"]
    filled = fitted(VisibleDay(visible, "x", 5))
    assert filled.dtype == np.float32 and np.isfinite(filled).all()
    best = sum(fitted.errors.values()).reshape(-1, 2).argmin(axis=0)
    prior = fitted.prior("x", 288, 5)
    minutes = 5 * np.arange(288)
    for signal, pair in enumerate(best):
        bandwidth, shrinkage = BANDWIDTH_MINUTES[pair // 4], SHRINKAGES[pair % 4]
        seen = ~np.isnan(visible[signal])
        for sample in (0, 17, 150, 287):
            weights = np.exp(-0.5 * ((minutes[seen] - minutes[sample]) / bandwidth) ** 2)
            expected = (weights @ visible[signal, seen] + shrinkage * prior[signal, sample]) / (
                weights.sum() + shrinkage
            )
            assert filled[signal, sample] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_smooth_chooses_for_each_signal_and_beats_linear_on_noise():
    fitted = Smooth.fit(training(noisy_days("aabbccdd", 6)))
    best = sum(fitted.errors.values()).reshape(-1, 2).argmin(axis=0)
    assert BANDWIDTH_MINUTES[best[0] // 4] < BANDWIDTH_MINUTES[best[1] // 4]
    whole = noisy_days("xyz", 6, missing=0.0)["z2"]
    hidden = np.random.default_rng(1).random(whole.shape) < 0.5
    visible = np.where(hidden, np.float32(np.nan), whole)
    errors = {
        name: np.square((fill - whole)[1][hidden[1]]).mean()
        for name, fill in (("smooth", fitted(VisibleDay(visible, "x", 5))), ("linear", linear(visible)))
    }
    assert errors["smooth"] < 0.8 * errors["linear"]


def test_smooth_learns_nothing_from_the_person_it_fills():
    days = noisy_days("aabbcc", 6)
    with_x = days | {"x8": 100 * noisy_days("x", 1)["x0"]}
    visible = VisibleDay(noisy_days("x", 6)["x0"], "x", 5)
    alone, among = Smooth.fit(training(days)), Smooth.fit(training(with_x))
    np.testing.assert_allclose(among.prior("x", 288, 5), alone.prior("x", 288, 5), atol=1e-9)
    assert "x" in among.errors and not np.allclose(among.prior("a", 288, 5), alone.prior("a", 288, 5))
    # What is left of them is the prior under which the others' days were filled.
    assert np.isfinite(among(visible)).all()


def test_smooth_fills_signals_and_days_that_nobody_measured():
    days = noisy_days("ab", 6)
    for values in days.values():
        values[0] = np.nan
    fitted = Smooth.fit(training(days))
    nothing = np.full((2, 288), np.nan, dtype=np.float32)
    filled = fitted(VisibleDay(nothing, "x", 5))
    assert not filled[0].any()
    np.testing.assert_allclose(filled, fitted.prior("x", 288, 5), atol=1e-6)


def test_smooth_fills_a_day_of_26_signals_in_milliseconds(fastest):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(26, 1440)).astype(np.float32)
    fitted = Smooth.fit(training({"a0": values}, sample_minutes=1))
    visible = VisibleDay(np.where(rng.random(values.shape) < 0.8, np.float32(np.nan), values), "x", 1)
    assert fastest(fitted, visible) < 0.1


def test_time_of_day_sums_add_and_subtract():
    first, second = np.random.default_rng(0).normal(size=(2, 3, 96))
    both = TimeOfDay.from_day(first, 15) + TimeOfDay.from_day(second, 15)
    np.testing.assert_allclose(
        (both - TimeOfDay.from_day(second, 15)).total, TimeOfDay.from_day(first, 15).total
    )
    assert half_hours(96, 15)[[0, 1, 2, 95]].tolist() == [0, 0, 1, 47]
