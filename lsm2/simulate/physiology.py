"""The body that the simulator invents: six hidden causes, and how each of the 26 signals follows them. All numbers are ours.

In the signal's transformed scale, value = centre + spread * z with z of variance 1: a mixture of the causes, and white noise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lsm2.data.signals import LSM2_SIGNALS


class Cause(NamedTuple):
    """One hidden cause of what the sensors show, a sum of a person's level, a daily rhythm and an AR(1) process."""

    name: str
    minutes: float
    """Correlation time of the AR(1) part."""
    peak_hour: float
    """When the daily rhythm is highest, for a person of average chronotype."""


CAUSES = (
    Cause("activity", 20, 15),
    Cause("arousal", 35, 12),
    Cause("posture", 60, 20),
    Cause("vagal_tone", 100, 3),
    Cause("skin_blood_flow", 160, 1),
    Cause("recovery", 240, 6),
)


class Response(NamedTuple):
    """How one signal follows the causes."""

    centre: float
    """Typical value, transformed as the signal is."""
    spread: float
    """Standard deviation around it over people and time, transformed likewise."""
    weights: tuple[float, float, float, float, float, float]
    """Relative weight of each cause, in the order of CAUSES."""


RESPONSES: dict[str, Response] = {
    "heart_rate": Response(76, 14, (3, 2, 1, -2, 0, -1)),
    "heart_rate_at_rest": Response(63, 8, (0, 1, 0, -1, 0, -3)),
    "rr_percent_valid": Response(70, 12, (-3, -1, 0, 1, 2, 0)),
    "rr_80th_percentile": Response(880, 130, (-2, -2, -1, 3, 0, 1)),
    "rr_20th_percentile": Response(760, 110, (-3, -1, -1, 2, 0, 1)),
    "rr_median": Response(820, 120, (-3, -2, -1, 2, 0, 1)),
    "rmssd": Response(3.6, 0.5, (-1, -1, 0, 3, 0, 2)),
    "sdnn": Response(3.9, 0.45, (1, -1, 1, 3, 0, 1)),
    "shannon_entropy_rr": Response(2.6, 0.4, (1, 2, 1, 2, 0, 0)),
    "shannon_entropy_rr_differences": Response(2.3, 0.4, (0, 1, -1, 3, 0, 1)),
    "step_count": Response(2.2, 0.8, (4, 0, 1, 0, 0, -1)),
    "jerk_autocorrelation_ratio": Response(0.9, 0.25, (3, 1, -2, 0, 0, 0)),
    "log_energy": Response(2.0, 1.8, (4, 1, 0, -1, 0, 0)),
    "covariance_condition": Response(2.5, 0.7, (-2, 0, 3, 0, 0, 0)),
    "log_energy_ratio": Response(0.5, 1.0, (2, -2, 2, 0, 0, 0)),
    "zero_crossing_std": Response(0.8, 0.25, (1, 2, -2, 0, 0, 1)),
    "zero_crossing_average": Response(0.9, 0.3, (-2, 1, 2, 0, 0, 0)),
    "axis_mean": Response(0.1, 0.4, (0, 0, 4, 0, 1, 1)),
    "kurtosis": Response(2.2, 0.6, (-1, 3, 1, 0, 0, 0)),
    "sleep_coefficient": Response(2.5, 0.8, (-3, -1, -1, 1, 2, 2)),
    "skin_conductance_value": Response(1.2, 0.4, (1, 3, 0, -1, 2, 0)),
    "skin_conductance_slope": Response(0, 6, (2, 3, 0, -1, -1, 0)),
    "lead_contact_counts": Response(4.0, 0.6, (-1, 0, 2, 0, 3, 0)),
    "skin_temperature_value": Response(32.5, 1.6, (-1, 0, 0, 1, 4, 1)),
    "skin_temperature_slope": Response(0, 2.5, (-2, -1, 1, 0, 3, -1)),
    "altitude_std_norm": Response(0.5, 0.15, (3, 0, 2, 0, 0, -1)),
}

CENTRE = np.array([RESPONSES[signal.name].centre for signal in LSM2_SIGNALS])
SPREAD = np.array([RESPONSES[signal.name].spread for signal in LSM2_SIGNALS])
_WEIGHTS = np.array([RESPONSES[signal.name].weights for signal in LSM2_SIGNALS], dtype=float)
LOADINGS = _WEIGHTS / np.linalg.norm(_WEIGHTS, axis=1, keepdims=True)
"""(26, 6): how much of each cause is in each signal's noise-free part; rows have length 1, so that part has variance 1."""
