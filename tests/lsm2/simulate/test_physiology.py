"""The simulated body: causes with begin and end, signals that follow them, noise of the promised share."""

import numpy as np
import pytest

from lsm2.data import LSM2_SIGNALS
from lsm2.rng import keyed_rng
from lsm2.simulate.cohort import simulate
from lsm2.simulate.people import sample_person
from lsm2.simulate.physiology import CAUSES, SPREADS, cause_series, decayed_sums, transformed_values
from lsm2.simulate.schedule import plan_day

NAMES = [signal.name for signal in LSM2_SIGNALS]


@pytest.fixture(scope="module")
def clean() -> list:
    """(plan, transformed values without noise, causes) of 120 days, a person each."""
    days = []
    for number in range(120):
        person = sample_person(1, number)
        plan = plan_day(person, 3)
        rows = [f(person, 3, plan, keyed_rng("test", number)) for f in (transformed_values, cause_series)]
        days.append((plan, *rows))
    return days


def test_spreads_are_those_of_the_signals(clean):
    values = np.stack([values for _, values, _ in clean]).astype(float)
    within = np.sqrt((values - values.mean(2, keepdims=True)).var((0, 2)))
    assert (within / SPREADS).min() > 0.75 and (within / SPREADS).max() < 1.25


@pytest.mark.parametrize("noise", [0.0, 0.2, 0.6])
def test_noise_is_the_white_share_of_the_variance(noise):
    inner = [index for index, signal in enumerate(LSM2_SIGNALS) if signal.transform == "identity"]
    inner.remove(NAMES.index("rr_percent_valid"))  # 100 % bounds it
    noisy, clean = (
        np.stack([day.values[inner] for day in simulate(8, 1, seed=4, noise=share, complete=True)])
        for share in (noise, 0.0)
    )
    white = (noisy - clean).std((0, 2))
    np.testing.assert_allclose(white, np.sqrt(noise / (1 - noise)) * SPREADS[inner], rtol=0.05)


def test_sleep_and_bouts_show(clean):
    asleep, heart, energy = (CAUSES.index("asleep"), NAMES.index("heart_rate"), NAMES.index("log_energy"))
    night = np.concatenate([values[:, causes[asleep] > 0] for _, values, causes in clean], 1).mean(1)
    day = np.concatenate([values[:, causes[asleep] == 0] for _, values, causes in clean], 1).mean(1)
    assert day[heart] > night[heart] + 8 and day[energy] > night[energy] + 2
    hard = [
        values[heart, bout.start + 8 : bout.end].mean() - values[heart, bout.start - 10 : bout.start].mean()
        for plan, values, _ in clean
        for bout in plan.bouts
        if bout.traits[0] > 0.7
    ]
    assert np.mean(hard) > 15


def test_slopes_are_the_change_per_hour(clean):
    _, values, _ = clean[0]
    warmth = values[NAMES.index("skin_temperature_value")].astype(float)
    slope = values[NAMES.index("skin_temperature_slope")]
    change = 6 * (warmth[10:] - warmth[:-10])
    assert np.corrcoef(slope[5:-5], change)[0, 1] > 0.999


def test_decayed_sums_are_the_recursion():
    series = np.random.default_rng(0).standard_normal((3, 200))
    decay = np.array([[0.5], [0.95], [0.999]])
    expected = series.copy()
    for step in range(1, 200):
        expected[:, step] += decay[:, 0] * expected[:, step - 1]
    decayed_sums(series, decay)
    np.testing.assert_allclose(series, expected, rtol=1e-9, atol=1e-12)
