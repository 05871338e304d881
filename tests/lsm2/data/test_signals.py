"""Signals: the 26 of LSM-2, what is wrong with one, and their way to JSON and back."""

import json

import pytest

from lsm2.data import LSM2_SIGNALS, Signal
from lsm2.data.signals import named_signal
from lsm2.errors import InputError


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
    for signal in (*LSM2_SIGNALS, Signal("flat"), Signal("count", "steps", 0, 300, "log1p", "accelerometer")):
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


def test_an_unknown_key_is_an_error_and_not_a_lost_transform():
    values = LSM2_SIGNALS[6].to_dict()
    values["transforn"] = values.pop("transform")
    with pytest.raises(InputError, match="signal 'rmssd' has the unknown key 'transforn'"):
        Signal.from_dict(values)
