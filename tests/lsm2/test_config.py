"""Settings: true minutes, and presets that fit themselves to a store."""

from __future__ import annotations

import dataclasses

import pytest

from lsm2 import LSM2Config, presets
from lsm2.errors import InputError


def test_samples_and_slots_follow_from_minutes() -> None:
    config = LSM2Config(num_signals=2, sample_minutes=5, window_minutes=1440, patch_minutes=15)
    assert (config.window_samples, config.patch_samples, config.num_slots, config.num_tokens) == (
        288,
        3,
        96,
        192,
    )
    assert LSM2Config.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_minutes": 7}, "window_minutes is 1440; it must be a multiple of sample_minutes = 7"),
        ({"sample_minutes": 4}, "patch_minutes is 10; it must be a multiple of sample_minutes = 4"),
        ({"patch_minutes": 25}, "patch_minutes is 25; it must be a divisor of window_minutes = 1440"),
    ],
    ids=["window", "token", "window in tokens"],
)
def test_minutes_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(LSM2Config(), **changes)


@pytest.mark.parametrize(
    ("num_samples", "sample_minutes", "patch_minutes"),
    [
        (1440, 1, 10),
        (720, 2, 10),
        (288, 5, 10),
        (96, 15, 15),
        (360, 4, 12),
        (24, 60, 60),
        (7, 1, 7),
        (60, 1, 10),
    ],
    ids=["minutes", "2 min", "5 min", "15 min", "4 min", "hours", "a window of 7 minutes", "an hour"],
)
def test_a_preset_fits_itself_to_a_store(num_samples: int, sample_minutes: int, patch_minutes: int) -> None:
    config = presets.tiny().fitted_to(3, num_samples, sample_minutes)
    assert config.num_signals == 3 and config.window_samples == num_samples
    assert config.patch_minutes == patch_minutes
    assert config.encoder_width == presets.tiny().encoder_width
