"""Normalisation: statistics over observed minutes only, round trip, clip, words for what cannot be transformed."""

import json

import numpy as np
import pytest

from lsm2.data import LSM2_SIGNALS, Normalization, Signal
from lsm2.data.normalize import day_moments, merge_moments
from lsm2.data.signals import named_signal
from lsm2.errors import InputError

SIGNALS = (
    Signal("level", "Pa", transform="identity"),
    Signal("count", "steps", 0, 300, "log1p", "accelerometer"),
    Signal("flat"),
    Signal("never"),
)


def make_days(number: int = 6) -> list[np.ndarray]:
    """Days with gaps; the first signal varies by 0.5 around 101,325, where a plain sum of squares would cancel."""
    rng = np.random.default_rng(0)
    days = []
    for _ in range(number):
        values = np.stack(
            [
                101325 + 0.5 * rng.standard_normal(50),
                np.expm1(np.abs(rng.standard_normal(50))),
                np.full(50, 0.1),
                np.full(50, np.nan),
            ]
        )
        values[:, rng.random(50) < rng.random()] = np.nan
        days.append(values.astype(np.float32))
    days.append(np.full((4, 50), np.nan, np.float32))
    return days


def fit(days: list[np.ndarray]) -> Normalization:
    """The normalisation by these days."""
    moments = [day_moments(values, SIGNALS) for values in days]
    return Normalization.from_moments(SIGNALS, merge_moments(np.stack(moments)))


def test_moments_give_mean_and_deviation_over_observed_samples():
    days = [make_days()[index] for index in (0, 2, 5, 6)]
    fitted = fit(days)
    pooled = np.concatenate(days, axis=1).astype(np.float64)
    pooled[1] = np.log1p(pooled[1])
    for index in range(2):
        np.testing.assert_allclose(fitted.mean[index], np.nanmean(pooled[index]), rtol=1e-7)
        np.testing.assert_allclose(fitted.std[index], np.nanstd(pooled[index]), rtol=1e-5)
    np.testing.assert_allclose(fitted.mean[2:], [0.1, 0], rtol=1e-7)
    np.testing.assert_array_equal(fitted.std[2:], 1)


def test_moments_merge_in_any_grouping():
    days = np.stack([day_moments(values, SIGNALS) for values in make_days(30)])
    together = merge_moments(days)
    one_by_one = days[0]
    for moments in days[1:]:
        one_by_one = merge_moments(np.stack([one_by_one, moments]))
    in_groups = merge_moments(np.stack([merge_moments(days[start::3]) for start in range(3)]))
    for other in (one_by_one, in_groups):
        np.testing.assert_array_equal(other[0], together[0])
        np.testing.assert_allclose(other[1:, :3], together[1:, :3], rtol=1e-11, atol=1e-11)
    np.testing.assert_array_equal(together[:, 3], 0)


def test_apply_keeps_missing_and_clips():
    normalization = Normalization(SIGNALS[:2], np.array([1.0, np.log1p(9)]), np.array([2.0, 0.5]))
    values = np.array([[[3, np.nan, -1e30, 1e30], [9, 0, np.nan, 1e5]]], np.float32)
    expected = [[[1, np.nan, -5, 5], [0, -np.log(10) / 0.5, np.nan, 5]]]
    before = values.copy()
    normalised = normalization.apply(values)
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised, expected, atol=1e-6)
    np.testing.assert_array_equal(values, before)


def test_invert_undoes_apply():
    days = make_days()
    normalization = fit(days)
    for values in days:
        np.testing.assert_allclose(
            normalization.invert(normalization.apply(values))[1:], values[1:], rtol=1e-5, atol=1e-5
        )
    stacked = np.stack(days)
    np.testing.assert_array_equal(normalization.apply(stacked)[3], normalization.apply(days[3]))


def test_survives_json():
    fitted = fit(make_days())
    read = Normalization.from_dict(json.loads(json.dumps(fitted.to_dict(), allow_nan=False)))
    assert read.signals == fitted.signals
    assert read.mean.tobytes() == fitted.mean.tobytes() and read.std.tobytes() == fitted.std.tobytes()


@pytest.mark.parametrize(
    ("signal", "value", "words"),
    [
        (0, np.inf, "'level' has the value inf"),
        (1, -np.inf, "'count' has the value -inf"),
        (1, -1, "'count' has the value -1.*identity"),
        (1, -5, "log1p"),
    ],
    ids=["inf", "minus-inf", "log-of-0", "log-of-negative"],
)
def test_values_without_a_transform_are_named(signal, value, words):
    values = np.ones((4, 9), np.float32)
    values[signal, 3] = value
    for call in (
        lambda: day_moments(values, SIGNALS),
        lambda: Normalization(SIGNALS, np.zeros(4), np.ones(4)).apply(values),
    ):
        with pytest.raises(InputError, match=words):
            call()


@pytest.mark.parametrize(
    ("mean", "std"),
    [([0, 0], [1, 1]), ([0] * 4, [1, 1, 0, 1]), ([0, np.nan, 0, 0], [1] * 4)],
    ids=["length", "zero", "nan"],
)
def test_bad_statistics_are_errors(mean, std):
    with pytest.raises(InputError, match="normalisation"):
        Normalization(SIGNALS, np.array(mean), np.array(std))


def test_wrong_number_of_signals_is_an_error():
    normalization = Normalization(SIGNALS, np.zeros(4), np.ones(4))
    for call in (normalization.apply, normalization.invert):
        with pytest.raises(InputError, match=r"\(3, 9\).*4 signals"):
            call(np.ones((3, 9), np.float32))


def test_lsm2_signals():
    assert len(LSM2_SIGNALS) == len({signal.name for signal in LSM2_SIGNALS}) == 26
    sensors = [signal.sensor for signal in LSM2_SIGNALS]
    assert {sensor: sensors.count(sensor) for sensor in sensors} == {
        "ppg": 10,
        "accelerometer": 10,
        "eda": 3,
        "temperature": 2,
        "altimeter": 1,
    }
    assert all(signal.low > -1 for signal in LSM2_SIGNALS if signal.transform == "log1p")
    for signal in (*LSM2_SIGNALS, *SIGNALS):
        assert Signal.from_dict(json.loads(json.dumps(signal.to_dict(), allow_nan=False))) == signal


def test_named_signal_knows_lsm2_units_and_no_others():
    assert named_signal("heart_rate") == named_signal("heart_rate", "bpm") == LSM2_SIGNALS[0]
    assert named_signal("heart_rate", "Hz") == Signal("heart_rate", "Hz")
    assert named_signal("glucose") == Signal("glucose")


@pytest.mark.parametrize(
    "arguments",
    [{"name": ""}, {"name": "a", "transform": "sqrt"}, {"name": "a", "low": 2, "high": 1}],
    ids=["name", "transform", "range"],
)
def test_bad_signals_are_errors(arguments):
    with pytest.raises(InputError):
        Signal(**arguments)
