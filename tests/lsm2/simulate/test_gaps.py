"""Gaps: as many as in the real data, of the kinds that are named, at the times that people make them."""

import numpy as np
import pytest

from lsm2.data import LSM2_SIGNALS
from lsm2.rng import keyed_rng
from lsm2.simulate.cohort import simulate
from lsm2.simulate.gaps import SENSORS, WearHabits, sample_missing

SENSOR_OF = np.array([signal.sensor for signal in LSM2_SIGNALS])


@pytest.fixture(scope="module")
def gone() -> np.ndarray:
    """(300 people x 3 days, 26, 1440)."""
    return np.stack([np.isnan(day.values) for day in simulate(300, 3, seed=0)])


def test_missing_is_as_much_as_in_the_real_data(gone):
    missing = gone.mean((1, 2))
    assert abs(missing.mean() - 0.49) < 0.02 and abs(np.median(missing) - 0.48) < 0.03
    assert abs(missing.std() - 0.15) < 0.02
    assert missing.min() >= 0.02 and missing.max() <= 0.80
    assert 0.07 < missing.reshape(300, 3).mean(1).std() < 0.15


def test_gaps_are_of_the_kinds_named(gone):
    device_off = gone.all(1)
    runs = np.diff(np.flatnonzero(np.diff(np.pad(device_off.astype(int), ((0, 0), (1, 1))).reshape(-1))))[::2]
    assert device_off.any(1).mean() > 0.8 and np.median(runs) > 20
    for sensor in SENSORS:
        alone = gone[:, sensor == SENSOR_OF].all(1) & ~gone[:, sensor != SENSOR_OF].all(1)
        assert alone.any(1).mean() > 0.3
    whole_day = np.stack([gone[:, rows].all((1, 2)) for rows in SENSORS.values()])
    assert 0.05 < whole_day.any(0).mean() < 0.9


def test_sensors_are_contiguous_rows():
    assert {name: set(SENSOR_OF[rows]) for name, rows in SENSORS.items()} == {n: {n} for n in SENSORS}
    assert sum(rows.stop - rows.start for rows in SENSORS.values()) == len(LSM2_SIGNALS)


CAREFUL = WearHabits(-1.5, 0.0, 0.0, 600.0)


def missing_of(habits=CAREFUL, nights=(), bouts=(), movement=None, key=0, worn=None):
    movement = np.full(1440, 0.1, np.float32) if movement is None else movement
    return sample_missing(habits, movement, nights, bouts, keyed_rng("test", key), worn)


def test_motion_makes_artefacts():
    movement = np.zeros(1440, np.float32)
    movement[600:900] = 1.5
    gone = np.stack([missing_of(movement=movement, key=key) for key in range(60)])
    begins = gone[:, 0, 1:] & ~gone[:, 0, :-1] & ~gone[:, 10, 1:]
    assert begins[:, 600:899].mean() > 3 * np.delete(begins, np.s_[600:899], 1).mean() > 0


def test_the_device_is_worn_in_bouts_and_lies_beside_the_bed():
    off = WearHabits(1.5, 1.0, 0.0, 600.0)
    gone = np.stack([missing_of(off, [(0, 400)], [(800, 860)], key=key) for key in range(40)]).all(1)
    assert gone[:, :400].mean() > 0.95 and gone[:, 800:860].mean() < 0.01


def test_battery_is_saved_before_charging():
    saver = WearHabits(-0.5, 0.0, 1.0, 900.0)
    gone = np.stack([missing_of(saver, key=key) for key in range(60)])
    saved = gone[:, SENSORS["ppg"]].all(1) & ~gone[:, SENSORS["accelerometer"]].all(1)
    assert saved[:, 750:850].mean() > 2 * saved[:, 1100:1400].mean()


def test_real_wear_says_when_the_device_is_off():
    worn = np.zeros(1440, bool)
    worn[480:1300] = True
    gone = missing_of(worn=worn)
    assert gone[:, ~worn].all() and not gone[:, worn].all() and gone.mean() <= 0.8
