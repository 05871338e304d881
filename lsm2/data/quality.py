"""What a store holds: people, days, signals, and how much is missing and how."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lsm2.data.store import DayStore

MISSING_KINDS = {
    "device": "every signal at once (device off or not worn)",
    "day": "whole signals, all day",
    "sensor": "all signals of one sensor at once",
    "signal": "single signals, for a while",
}


@dataclass(frozen=True)
class SignalQuality:
    """One signal of a cohort."""

    name: str
    unit: str
    missing: float
    """Share of all samples."""
    median_gap_minutes: float | None
    """None without gaps."""
    quantiles: tuple[float, float, float] | None
    """5 %, 50 % and 95 % of the measured values; None where nothing was measured."""


@dataclass(frozen=True)
class Cohort:
    """What a store holds: counts of all of it, the rest over the days that were looked at."""

    num_people: int
    num_days: int
    samples_per_day: int
    sample_minutes: int
    num_days_looked_at: int
    missing: float
    """Share of all samples of all signals."""
    missing_of_days: tuple[float, float]
    """Of the day that misses least and of the one that misses most."""
    missing_kinds: dict[str, float]
    """Share of all samples by kind of `MISSING_KINDS`; each missing sample counts in the first that fits."""
    per_signal: tuple[SignalQuality, ...]

    @property
    def num_signals(self) -> int:
        """C."""
        return len(self.per_signal)


def describe(store: DayStore, max_days: int = 200) -> Cohort:
    """Counts of the whole store; missingness and quantiles over at most max_days days spread evenly over
    it.
    """
    looked_at = np.unique(np.linspace(0, len(store) - 1, min(len(store), max_days)).round().astype(int))
    kinds = dict.fromkeys(MISSING_KINDS, 0)
    missing_of_signal = np.zeros(len(store.signals))
    missing_of_day = []
    gaps = [[] for _ in store.signals]
    samples = [[] for _ in store.signals]
    for index in looked_at:
        values = store.values(int(index))
        missing = np.isnan(values)
        missing_of_signal += missing.mean(axis=1)
        missing_of_day.append(missing.mean())
        for kind, cells in _kinds(missing, [signal.sensor for signal in store.signals]).items():
            kinds[kind] += int(cells.sum())
        for signal, row in enumerate(missing):
            gaps[signal].extend(_run_lengths(row))
            samples[signal].append(values[signal, ~row][::7])
    num_samples = len(looked_at) * len(store.signals) * store.num_samples
    return Cohort(
        num_people=len(store.subjects),
        num_days=len(store),
        samples_per_day=store.num_samples,
        sample_minutes=store.sample_minutes,
        num_days_looked_at=len(looked_at),
        missing=float(np.mean(missing_of_day)),
        missing_of_days=(float(np.min(missing_of_day)), float(np.max(missing_of_day))),
        missing_kinds={kind: count / num_samples for kind, count in kinds.items()},
        per_signal=tuple(
            SignalQuality(
                name=signal.name,
                unit=signal.unit,
                missing=float(missing_of_signal[number] / len(looked_at)),
                median_gap_minutes=_median_gap(gaps[number], store.sample_minutes),
                quantiles=_quantiles(np.concatenate(samples[number])),
            )
            for number, signal in enumerate(store.signals)
        ),
    )


def _median_gap(lengths: list[int], sample_minutes: int) -> float | None:
    return float(np.median(lengths) * sample_minutes) if lengths else None


def _quantiles(values: np.ndarray) -> tuple[float, float, float] | None:
    if not len(values):
        return None
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
    return float(low), float(middle), float(high)


def _kinds(missing: np.ndarray, sensors: list[str]) -> dict[str, np.ndarray]:
    """The missing cells (C, L) of one day, each under the first kind that fits."""
    device = np.broadcast_to(missing.all(axis=0), missing.shape)
    day = missing & missing.all(axis=1, keepdims=True) & ~device
    sensor_off = np.zeros_like(missing)
    for name in set(sensors) - {""}:
        rows = [row for row, sensor in enumerate(sensors) if sensor == name]
        if len(rows) > 1:
            sensor_off[rows] = missing[rows].all(axis=0)
    sensor = sensor_off & ~device & ~day
    return {"device": device, "day": day, "sensor": sensor, "signal": missing & ~device & ~day & ~sensor}


def _run_lengths(row: np.ndarray) -> list[int]:
    """Lengths of the runs of True in row (L,)."""
    edges = np.diff(np.pad(row.astype(np.int8), 1))
    return (np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)).tolist()
