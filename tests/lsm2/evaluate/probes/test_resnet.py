"""The supervised ResNet learns what is planted in days, and nothing of the people it is scored on."""

import numpy as np
import pytest

from lsm2.evaluate.probes.metrics import scores
from lsm2.evaluate.probes.resnet import predict_by_resnet
from lsm2.evaluate.probes.resnet_input import CLOCK_CHANNELS


@pytest.fixture(scope="module")
def planted():
    """40 people of up to 2 days, one signal and the clock: half of them have a bump in the morning, the
    others one in the evening; a third of the day is missing, and one person has no data at all.
    """
    rng = np.random.default_rng(0)
    people, steps = 40, 96
    values = (np.arange(people) % 2).astype(float)
    days = rng.normal(size=(people, 2, 1 + CLOCK_CHANNELS, steps)).astype(np.float32)
    time = 2 * np.pi * np.arange(steps) / steps
    days[:, :, 1:] = np.stack([np.sin(time), np.cos(time)])
    for person in range(people):
        bump = slice(20, 32) if values[person] else slice(70, 82)
        days[person, :, 0, bump] += 2.5
    days[:, :, 0][rng.random((people, 2, steps)) < 0.33] = np.nan
    days[3, 1, 0] = np.nan
    days[5, :, 0] = np.nan
    return days.astype(np.float16), values


def predicted(days, values, kind="binary", classes=2):
    everyone = np.arange(len(values))
    return predict_by_resnet(days, values, kind, classes, everyone, everyone[:30], everyone[30:])


@pytest.mark.slow
def test_it_learns_when_a_bump_comes_and_uses_no_test_label(planted):
    days, values = planted
    said = predicted(days, values)
    assert scores("binary", values[30:], said, np.ones((1, 10)))["auroc"][0] > 0.9
    turned = np.concatenate([values[:30], 1 - values[30:]])
    np.testing.assert_array_equal(predicted(days, turned), said)


@pytest.mark.slow
def test_what_other_test_people_measure_changes_no_prediction(planted):
    days, values = planted
    other = days.copy()
    other[39] = np.float16(50)
    said = predicted(days, values, "regression", 0)
    np.testing.assert_allclose(predicted(other, values, "regression", 0)[:9], said[:9], atol=1e-4)
    assert np.isfinite(said).all()
