"""The 26 minute-level signals of LSM-2: name, unit, plausible range, transform, sensor; the only home of physical units.

Names and sensors follow the feature list of LSM-1 and LSM-2 (arXiv 2410.13638, 2506.05321) as far as it is known from
secondary sources. The papers' units and ranges were not available: units and plausible ranges are ours, wide enough for
healthy and sick people at rest and in sport.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from lsm2.errors import InputError

Transform = Literal["identity", "log1p"]


@dataclass(frozen=True)
class Signal:
    """One quantity that is sampled at regular times."""

    name: str
    """snake_case name, unique within a store."""
    unit: str = ""
    """Physical unit; empty for pure numbers and where it is unknown."""
    low: float = -math.inf
    """Smallest plausible physical value."""
    high: float = math.inf
    """Largest plausible physical value."""
    transform: Transform = "identity"
    """What is applied before z-scoring: `log1p` for skewed quantities above -1."""
    sensor: str = ""
    """Which sensor it comes from; signals of one sensor go missing together."""

    def __post_init__(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise InputError(f"a signal is named {self.name!r}; give every signal a name")
        if self.transform not in ("identity", "log1p"):
            raise InputError(
                f"signal {self.name!r} has transform {self.transform!r}; choose 'identity' or 'log1p'"
            )
        if not self.low < self.high:
            raise InputError(
                f"signal {self.name!r} has the plausible range {self.low} to {self.high}; low must be below high"
            )

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold: None stands for no bound."""
        bounds = {
            side: value if math.isfinite(value) else None
            for side, value in (("low", self.low), ("high", self.high))
        }
        return {
            "name": self.name,
            "unit": self.unit,
            **bounds,
            "transform": self.transform,
            "sensor": self.sensor,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Signal:
        """The inverse of `to_dict`."""
        bounds = {"low": -math.inf, "high": math.inf} | {
            side: values[side] for side in ("low", "high") if values.get(side) is not None
        }
        return cls(
            values["name"],
            values.get("unit", ""),
            bounds["low"],
            bounds["high"],
            values.get("transform", "identity"),
            values.get("sensor", ""),
        )


LSM2_SIGNALS: tuple[Signal, ...] = (
    Signal("heart_rate", "bpm", 25, 240, "identity", "ppg"),
    Signal("heart_rate_at_rest", "bpm", 25, 150, "identity", "ppg"),
    Signal("rr_percent_valid", "%", 0, 100, "identity", "ppg"),
    Signal("rr_80th_percentile", "ms", 250, 2400, "identity", "ppg"),
    Signal("rr_20th_percentile", "ms", 250, 2400, "identity", "ppg"),
    Signal("rr_median", "ms", 250, 2400, "identity", "ppg"),
    Signal("rmssd", "ms", 0, 400, "log1p", "ppg"),
    Signal("sdnn", "ms", 0, 400, "log1p", "ppg"),
    Signal("shannon_entropy_rr", "nat", 0, 8, "identity", "ppg"),
    Signal("shannon_entropy_rr_differences", "nat", 0, 8, "identity", "ppg"),
    Signal("step_count", "steps", 0, 300, "log1p", "accelerometer"),
    Signal("jerk_autocorrelation_ratio", "", 0, 50, "log1p", "accelerometer"),
    Signal("log_energy", "", -20, 20, "identity", "accelerometer"),
    Signal("covariance_condition", "", 0, 10000, "log1p", "accelerometer"),
    Signal("log_energy_ratio", "", -20, 20, "identity", "accelerometer"),
    Signal("zero_crossing_std", "s", 0, 60, "log1p", "accelerometer"),
    Signal("zero_crossing_average", "s", 0, 60, "log1p", "accelerometer"),
    Signal("axis_mean", "g", -2, 2, "identity", "accelerometer"),
    Signal("kurtosis", "", 0, 1000, "log1p", "accelerometer"),
    Signal("sleep_coefficient", "", 0, 1000, "log1p", "accelerometer"),
    Signal("skin_conductance_value", "uS", 0, 60, "log1p", "eda"),
    Signal("skin_conductance_slope", "uS/h", -120, 120, "identity", "eda"),
    Signal("lead_contact_counts", "counts", 0, 10000, "log1p", "eda"),
    Signal("skin_temperature_value", "degC", 10, 45, "identity", "temperature"),
    Signal("skin_temperature_slope", "degC/h", -30, 30, "identity", "temperature"),
    Signal("altitude_std_norm", "m", 0, 100, "log1p", "altimeter"),
)

_BY_NAME = {signal.name: signal for signal in LSM2_SIGNALS}


def named_signal(name: str, unit: str | None = None) -> Signal:
    """The LSM-2 signal of this name, or one of unknown range.

    A `unit` that is not LSM-2's also makes the range unknown.
    """
    known = _BY_NAME.get(name)
    if known is not None and unit in (None, known.unit):
        return known
    return Signal(name, unit or "")
