"""The ResNet's input by hand: binned days of people, single days, and minutes around intervals."""

import numpy as np
import pytest

from lsm2.data import Day, DayStore, Signal
from lsm2.data.labels import read_labels
from lsm2.data.normalize import Normalization
from lsm2.evaluate.probes.resnet_input import MOST_DAYS, resnet_input

NORMALIZATION = Normalization((Signal("a", "bpm"), Signal("b", "ms")), np.array([1, 0]), np.array([2, 1]))


@pytest.fixture
def store(tmp_path):
    """p0 has 20 days, p1 two; signal b is never observed, and a lacks 11:40 to 13:20."""
    rng = np.random.default_rng(0)

    def days():
        for person, count in enumerate((20, 2)):
            for date in range(1, count + 1):
                values = rng.normal(person, 1, (2, 1440)).astype(np.float32)
                values[1] = np.nan
                values[0, 700:800] = np.nan
                yield Day(f"p{person}", f"2024-01-{date:02}", values)

    return DayStore.write(tmp_path / "store", NORMALIZATION.signals, days())


def input_of(tmp_path, store, text):
    file = tmp_path / "labels.csv"
    file.write_text(text)
    return resnet_input(store, read_labels(file, "y", store, kind="regression"), NORMALIZATION)


def normalised(store, day_id):
    return NORMALIZATION.apply(store.values(store.index(day_id)))[0]


def test_people_have_five_minute_means_and_deviations_of_days_spread_evenly(tmp_path, store):
    found = input_of(tmp_path, store, "subject,y\np1,0.5\np0,1.5\n")
    assert found.shape == (2, MOST_DAYS, 6, 288)
    assert found.dtype == np.float16
    for place, day_id in ((0, "p0/2024-01-01"), (MOST_DAYS - 1, "p0/2024-01-20")):
        bins = normalised(store, day_id).reshape(288, 5)
        np.testing.assert_allclose(found[1, place, 0], bins.mean(1), atol=2e-3)
        np.testing.assert_allclose(found[1, place, 2], bins.std(1), atol=2e-3)
    assert np.isnan(found[:, :, [1, 3]]).all()
    assert np.isnan(found[0, 2:, :4]).all()
    assert np.isfinite(found[0, :2, 0, :140]).all()


def test_a_day_is_that_day_alone(tmp_path, store):
    found = input_of(tmp_path, store, "subject,date,y\np0,2024-01-03,0.5\np1,2024-01-02,1.5\n")
    assert found.shape == (2, 1, 6, 288)
    bins = normalised(store, "p1/2024-01-02").reshape(288, 5)
    np.testing.assert_allclose(found[1, 0, 0], bins.mean(1), atol=2e-3)


def test_an_interval_has_its_minutes_and_the_half_hours_around_it(tmp_path, store):
    text = "subject,start,end,y\np1,2024-01-01T23:50,2024-01-02T00:10,0.5\n"
    text += "p1,2024-01-01T12:00,2024-01-01T12:10,1.5\n"
    found = input_of(tmp_path, store, text)
    assert found.shape == (2, 1, 4, 120)
    first, second = (normalised(store, f"p1/2024-01-0{day}") for day in (1, 2))
    np.testing.assert_allclose(found[0, 0, 0, 20:100], np.r_[first[-40:], second[:40]], atol=2e-3)
    assert np.isnan(found[0, 0, :2, :20]).all()
    assert np.isnan(found[0, 0, :2, 100:]).all()
    # 11:30 to 12:40, of which everything after 11:40 is missing.
    np.testing.assert_allclose(found[1, 0, 0, 25:35], first[690:700], atol=2e-3)
    assert np.isnan(found[1, 0, 0]).sum() == 110


def test_the_clock_tells_the_time_of_day(tmp_path, store):
    found = input_of(tmp_path, store, "subject,y\np1,0.5\np0,1.5\n")
    np.testing.assert_allclose(found[0, 5, 4:, 72], [1, 0], atol=2e-2)
    text = "subject,start,end,y\np0,2024-01-01T17:50,2024-01-01T18:10,0.5\n"
    text += "p1,2024-01-01T05:50,2024-01-01T06:10,1.5\n"
    np.testing.assert_allclose(input_of(tmp_path, store, text)[:, 0, 2, 60], [-1, 1], atol=2e-2)
