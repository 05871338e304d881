"""Gaps of the kinds that LSM-2 names (arXiv 2506.05321, section on missingness): device off, charging,
sensors off to save battery, motion artefacts, environmental noise, values out of range.

How much is missing per day follows the numbers known of that data: mean 49 %, standard deviation 15 %,
between 2 and 80 %, no complete day. How the kinds share it is not published: those shares are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lsm2.data.day_grid import MINUTES_PER_DAY as _MINUTES
from lsm2.data.signals import LSM2_SIGNALS

MEAN_MISSING, SPREAD_MISSING, MIN_MISSING, MAX_MISSING = 0.49, 0.16, 0.02, 0.79
_PERSON_SHARE = 0.5
"""Part of the variance of the missing fraction that lies between people, the rest between days."""
_SIGNALS = len(LSM2_SIGNALS)
_ALL = slice(0, _SIGNALS)
_OUT_OF_RANGE = 0.004
"""Share of the minutes of a sensor whose values no body has; preprocessing removes them."""


def _rows_of_sensors() -> dict[str, slice]:
    """Signals of one sensor stand together, so that a slice finds them."""
    sensors = [signal.sensor for signal in LSM2_SIGNALS]
    return {
        sensor: slice(sensors.index(sensor), sensors.index(sensor) + sensors.count(sensor))
        for sensor in dict.fromkeys(sensors)
    }


SENSORS = _rows_of_sensors()
_SENSOR_ROWS = tuple(SENSORS.values())


class WearHabits(NamedTuple):
    """How a person wears the device."""

    carelessness: float
    """Standard normal: how much more than others is missing."""
    nights_off: float
    """Probability that the device lies beside the bed."""
    saves_battery: float
    """Probability per day that sensors are switched off in the hours before charging."""
    charging: float
    """Minute of the day at which the device is usually charged."""


def sample_wear_habits(rng: np.random.Generator) -> WearHabits:
    """One person's habits."""
    carelessness = float(rng.standard_normal())
    nights, battery, hour = rng.random(3)
    return WearHabits(carelessness, 0.7 * nights**2, 0.6 * battery, 60 * (7 + 15 * hour))


def sample_missing(
    habits: WearHabits,
    movement: np.ndarray,
    nights: Sequence[tuple[int, int]],
    bouts: Sequence[tuple[int, int]],
    rng: np.random.Generator,
    worn: np.ndarray | None = None,
) -> np.ndarray:
    """True (26, 1440) where a day has no value.

    `movement` (1440,), 0 at rest and about 1 in sport, makes motion artefacts likelier. `nights` and `bouts`
    are begin and end in minutes; a device that records a bout is worn. `worn` (1440,) bool is a real day's
    wear: it says when the device is off, and only gaps of single sensors are added.
    """
    missing = np.zeros((_SIGNALS, _MINUTES), dtype=bool)
    target = MEAN_MISSING + SPREAD_MISSING * (
        np.sqrt(_PERSON_SHARE) * habits.carelessness + np.sqrt(1 - _PERSON_SHARE) * rng.standard_normal()
    )
    target = float(np.clip(target, MIN_MISSING + 0.01, MAX_MISSING))
    scattered = _motion_artefacts(missing, movement, target, rng) + _out_of_range(missing, target, rng)
    if worn is not None:
        missing[:, ~worn] = True
        most = int(MAX_MISSING * missing.size)
        _sensor_gaps(_Gaps(missing, max(min(most - int(missing.sum()), most // 8), 0)), rng)
        return missing
    gaps = _Gaps(missing, int(target * missing.size) - scattered, bouts)
    _charging(gaps, habits, rng)
    for start, end in nights:
        if rng.random() < habits.nights_off:
            gaps.device_off(start - 15, end + 15)
    while gaps.left > 0:
        if rng.random() < 0.5:
            length = 20 + int(rng.exponential(150))
            start = int(rng.integers(-length, _MINUTES))
            gaps.device_off(start, start + length)
        else:
            _sensor_gap(gaps, rng)
    return missing


class _Gaps:
    """Cells that may still go missing, so that a day ends at its missing fraction whatever the gaps are."""

    def __init__(self, missing: np.ndarray, cells: int, bouts: Sequence[tuple[int, int]] = ()) -> None:
        self.missing, self.left = missing, cells
        self._may_be_off = np.ones(_MINUTES, dtype=bool)
        for start, end in bouts:
            self._may_be_off[start:end] = False

    def device_off(self, start: int, end: int) -> None:
        """Hide all signals from minute `start` to `end`, but for the bouts."""
        begin = max(start, 0)
        self._hide(_ALL, begin, self._may_be_off[begin : max(end, 0)])

    def sensor_off(self, rows: slice, start: int, end: int) -> None:
        """Hide some signals from minute `start` to `end`."""
        begin = max(start, 0)
        self._hide(rows, begin, np.ones(max(min(end, _MINUTES) - begin, 0), dtype=bool))

    def _hide(self, rows: slice, start: int, chosen: np.ndarray) -> None:
        part = self.missing[rows, start : start + len(chosen)]
        fresh = chosen & ~part
        spent = np.cumsum(np.count_nonzero(fresh, axis=0))
        if not len(spent) or self.left <= 0:
            return
        last = int(np.searchsorted(spent, self.left)) + 1
        part[:, :last] |= fresh[:, :last]
        self.left -= int(spent[min(last, len(spent)) - 1])


def _charging(gaps: _Gaps, habits: WearHabits, rng: np.random.Generator) -> None:
    """Once a day at a habitual hour; before it, some people save battery: only the accelerometer measures."""
    start = int(habits.charging + 40 * rng.standard_normal())
    if rng.random() < habits.saves_battery:
        saved = start - int(60 + rng.exponential(120))
        for sensor, rows in SENSORS.items():
            if sensor != "accelerometer":
                gaps.sensor_off(rows, saved, start)
    gaps.device_off(start, start + int(rng.integers(30, 90)))


def _sensor_gap(gaps: _Gaps, rng: np.random.Generator) -> None:
    """A sensor is off for hours or all day, or noise from outside spoils one signal."""
    kind = rng.random()
    if kind < 0.1:
        one = int(rng.integers(_SIGNALS))
        rows, length = slice(one, one + 1), 5 + int(rng.exponential(120))
    else:
        rows = _SENSOR_ROWS[int(rng.integers(len(_SENSOR_ROWS)))]
        length = 3 * _MINUTES if kind < 0.35 else 30 + int(rng.exponential(180))
    start = int(rng.integers(-length // 2, _MINUTES)) if length < _MINUTES else 0
    gaps.sensor_off(rows, start, start + length)


def _sensor_gaps(gaps: _Gaps, rng: np.random.Generator) -> None:
    """A few gaps of single sensors."""
    for _ in range(int(rng.poisson(1.5))):
        _sensor_gap(gaps, rng)


def _motion_artefacts(
    missing: np.ndarray, movement: np.ndarray, target: float, rng: np.random.Generator
) -> int:
    """Bursts of up to 7 minutes in PPG and EDA, the more the body moves; returns the number of cells."""
    cells = 0
    rate = 0.03 * target * np.exp(2 * np.minimum(movement, 1.5))
    for sensor, share in (("ppg", 1.0), ("eda", 0.5)):
        starts = np.flatnonzero(rng.random(_MINUTES, dtype=np.float32) < share * rate)
        ends = np.minimum(starts + rng.integers(1, 8, size=len(starts)), _MINUTES)
        change = np.bincount(starts, minlength=_MINUTES + 1) - np.bincount(ends, minlength=_MINUTES + 1)
        hidden = np.cumsum(change[:-1]) > 0
        missing[SENSORS[sensor]] |= hidden
        cells += int(np.count_nonzero(hidden)) * (SENSORS[sensor].stop - SENSORS[sensor].start)
    return cells


def _out_of_range(missing: np.ndarray, target: float, rng: np.random.Generator) -> int:
    """Single minutes of one sensor; returns an upper bound of the number of cells."""
    count = int(rng.poisson(_OUT_OF_RANGE * 2 * target * _MINUTES * len(_SENSOR_ROWS)))
    which, minutes = rng.integers(len(_SENSOR_ROWS), size=count), rng.integers(_MINUTES, size=count)
    cells = 0
    for sensor, minute in zip(which.tolist(), minutes.tolist(), strict=True):
        rows = _SENSOR_ROWS[sensor]
        missing[rows, minute] = True
        cells += rows.stop - rows.start
    return cells
