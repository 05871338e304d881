"""Sums of errors and their intervals."""

import numpy as np
import pytest

from lsm2.evaluate.scores import interval


def test_interval_covers_the_mean_of_people_and_needs_five_of_them():
    rng = np.random.default_rng(0)
    errors, minutes = rng.gamma(2, 1, size=40), np.ones(40)
    low, high = interval(errors, minutes) or (0, 0)
    half_width = 1.96 * errors.std() / np.sqrt(40)
    assert (high - low) / 2 == pytest.approx(half_width, rel=0.15)
    assert low < errors.mean() < high
    assert interval(errors[:4], minutes[:4]) is None
    assert interval(errors[:6], np.array([1.0, 1, 1, 1, 0, 0])) is None
