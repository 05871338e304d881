"""The list of methods is complete and every fill answers at every minute."""

import numpy as np

from lsm2.data.fills.simple import TrainingDays, VisibleDay
from lsm2.evaluate.methods import AIM, METHODS, fitted_fills


def training() -> TrainingDays:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 3, 288)).astype(np.float32)

    def hide(number, day):
        hidden = np.random.default_rng(number).random(day.shape) < 0.5
        yield hidden, hidden

    return TrainingDays(list("aabbcc"), lambda number: values[number], hide, sample_minutes=5)


def test_every_method_but_the_model_fills_every_minute_also_of_an_empty_day():
    fills = fitted_fills(training())
    assert set(fills) == set(METHODS) - {AIM}
    nothing = np.full((3, 288), np.nan, dtype=np.float32)
    some = nothing.copy()
    some[1, 50:90] = 1.0
    for visible in (nothing, some):
        for name, fill in fills.items():
            filled = fill(VisibleDay(visible, "x", 5))
            assert filled.shape == visible.shape and filled.dtype == np.float32, name
            assert np.isfinite(filled).all(), name


def test_methods_can_be_told_apart():
    for attribute in ("label", "colour", "note"):
        assert len({getattr(method, attribute) for method in METHODS.values()}) == len(METHODS)
    assert all(name == method.name and method.note.endswith(".") for name, method in METHODS.items())
    assert [name for name, method in METHODS.items() if method.sees_other_days] == ["person_time_of_day"]
