"""What a store holds: people, days, signals, and how much is missing and how."""

from __future__ import annotations

from typing import Any

import numpy as np

from lsm2.data.store import DayStore

MISSING_KINDS = {
    "device": "every signal at once (device off or not worn)",
    "day": "whole signals, all day",
    "sensor": "all signals of one sensor at once",
    "signal": "single signals, for a while",
}


def describe(store: DayStore, max_days: int = 200) -> dict[str, Any]:
    """Counts of the whole store, and missingness and quantiles per signal over at most max_days days spread evenly over it.

    Each missing minute counts in the first of `MISSING_KINDS` that fits; "missing_kinds" are shares of all cells.
    """
    looked_at = np.unique(np.linspace(0, len(store) - 1, min(len(store), max_days)).round().astype(int))
    kinds = dict.fromkeys(MISSING_KINDS, 0)
    missing_of_signal = np.zeros(len(store.signals))
    missing_of_day, gaps, samples = [], [[] for _ in store.signals], [[] for _ in store.signals]
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
    cells = len(looked_at) * len(store.signals) * store.num_samples
    pooled = [np.concatenate(parts) for parts in samples]
    return {
        "num_people": len(store.subjects),
        "num_days": len(store),
        "num_signals": len(store.signals),
        "samples_per_day": store.num_samples,
        "sample_minutes": store.sample_minutes,
        "num_days_looked_at": len(looked_at),
        "missing": float(np.mean(missing_of_day)),
        "missing_of_days": [float(np.min(missing_of_day)), float(np.max(missing_of_day))],
        "missing_kinds": {kind: count / cells for kind, count in kinds.items()},
        "per_signal": [
            {
                "name": signal.name,
                "unit": signal.unit,
                "missing": float(missing_of_signal[number] / len(looked_at)),
                "median_gap_minutes": float(np.median(gaps[number]) * store.sample_minutes)
                if gaps[number]
                else None,
                "quantiles": [float(q) for q in np.quantile(pooled[number], (0.05, 0.5, 0.95))]
                if len(pooled[number])
                else None,
            }
            for number, signal in enumerate(store.signals)
        ],
    }


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
