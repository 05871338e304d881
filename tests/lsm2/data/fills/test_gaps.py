"""Filling days first: what is measured stays, short gaps are lines or smooth, long ones what is usual."""

import dataclasses
import json

import numpy as np
import pytest

from lsm2.data import DayStore, Normalization
from lsm2.data.fills.gaps import GapFill, fit_gap_fill


def a_day(*seen: tuple[int, float]) -> np.ndarray:
    day = np.full((1, 1440), np.nan, np.float32)
    for minute, value in seen:
        day[0, minute] = value
    return day


def test_gaps_of_up_to_three_hours_are_lines_and_all_others_what_is_usual():
    usual = np.arange(48.0)[None]
    filled = GapFill(1, usual)(a_day((0, 0.0), (181, 181.0), (363, 0.0)))[0]
    np.testing.assert_allclose(filled[:182], np.arange(182), atol=1e-3)
    assert filled[182:363].tolist() == [minute // 30 for minute in range(182, 363)]  # 181 minutes long
    assert filled[363] == 0
    assert filled[364:].tolist() == [minute // 30 for minute in range(364, 1440)]


@pytest.mark.parametrize("choices", [None, np.array([[1], [1]])])
def test_measured_samples_stay_and_an_empty_day_stays_empty(choices):
    fill = GapFill(1, np.zeros((1, 48)), choices)
    day = np.random.default_rng(0).normal(size=(1, 1440)).astype(np.float32)
    day[:, 300:900] = np.nan
    filled = fill(day)
    assert filled.dtype == np.float32 and not np.isnan(filled).any()
    np.testing.assert_array_equal(filled[:, :300], day[:, :300])
    assert np.isnan(fill(a_day())).all()


@pytest.mark.parametrize("kind", ["linear", "smooth"])
def test_it_is_fitted_on_the_given_people_alone_and_comes_back_from_json(kind, small_store, tiny_config):
    config = dataclasses.replace(tiny_config, fill_gaps=kind)
    people = ["p0", "p1"]
    normalization = Normalization.from_moments(small_store.signals, small_store.moments_of(people))
    fill = fit_gap_fill(config, small_store, small_store.indices_of(people), normalization)
    assert fill.fits(config) and not fill.fits(tiny_config)
    assert not fill.fits(dataclasses.replace(config, num_signals=2))

    days = [
        dataclasses.replace(day, values=day.values if day.subject in people else day.values + 100)
        for day in days_of(small_store)
    ]
    changed = DayStore.write(small_store.path.parent / f"changed_{kind}", small_store.signals, days)
    again = fit_gap_fill(config, changed, changed.indices_of(people), normalization)
    back = GapFill.from_dict(json.loads(json.dumps(fill.to_dict())))
    for other in (again, back):
        assert other.to_dict() == fill.to_dict()


def days_of(store: DayStore):
    from lsm2.data.store import Day

    for index, row in enumerate(store.days.to_pylist()):
        yield Day(row["subject"], str(row["date"]), store.values(index))
