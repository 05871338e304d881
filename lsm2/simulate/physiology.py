"""The body that the simulator invents: shared causes over a day, and how each of the 26 signals follows them.

All numbers are ours. In the signal's transformed scale a value is its base, plus effect x cause for each
cause, plus the person's own level, plus white noise.
"""

from __future__ import annotations

import numpy as np

from lsm2.data.signals import LSM2_SIGNALS
from lsm2.simulate.activities import TRAITS
from lsm2.simulate.people import EXPRESSIONS, Person
from lsm2.simulate.schedule import MINUTES, Night, Plan, is_weekend

CAUSES = (
    "circadian", "evening", "asleep", "deep_sleep", "rem_sleep", "heart_dip",
    "exertion", "sweating", "arousal", "vagal_tone", "skin_blood_flow", "alertness", "ambient_warmth",
    "upright", "movement", *TRAITS[1:],
)  # fmt: skip
_ROW = {cause: row for row, cause in enumerate(CAUSES)}

BASES_AND_EFFECTS: dict[str, tuple[float, dict[str, float]]] = {
    "heart_rate": (74, {"circadian": 2.5, "heart_dip": -12, "rem_sleep": 4, "exertion": 75, "alertness": 3,
        "upright": 3, "movement": 6, "vagal_tone": -2.5}),
    "heart_rate_at_rest": (64, {"circadian": 1.2, "heart_dip": -6, "alertness": 1.2, "vagal_tone": -2}),
    "rr_percent_valid": (74, {"movement": -9, "exertion": -25, "arm": -8, "jerk": -8, "asleep": 11,
        "skin_blood_flow": 4}),
    "rr_80th_percentile": (890, {"circadian": -28, "heart_dip": 150, "rem_sleep": -40, "exertion": -450,
        "alertness": -30, "upright": -45, "movement": -45, "vagal_tone": 60}),
    "rr_20th_percentile": (760, {"circadian": -22, "heart_dip": 105, "rem_sleep": -30, "exertion": -380,
        "alertness": -28, "upright": -35, "movement": -55, "vagal_tone": 18}),
    "rr_median": (825, {"circadian": -25, "heart_dip": 130, "rem_sleep": -35, "exertion": -420,
        "alertness": -29, "upright": -40, "movement": -50, "vagal_tone": 35}),
    "rmssd": (3.55, {"vagal_tone": 0.22, "deep_sleep": 0.2, "exertion": -1.6, "arousal": -0.22,
        "circadian": -0.12}),
    "sdnn": (3.85, {"vagal_tone": 0.18, "rem_sleep": 0.2, "exertion": -1.1, "arousal": -0.16,
        "upright": 0.08}),
    "shannon_entropy_rr": (2.6, {"vagal_tone": 0.14, "rem_sleep": 0.15, "exertion": -0.9, "arousal": -0.18,
        "movement": 0.08}),
    "shannon_entropy_rr_differences": (2.3, {"vagal_tone": 0.2, "deep_sleep": -0.15, "exertion": -0.8,
        "arousal": -0.16}),
    "step_count": (1.1, {"movement": 1.0, "cadence": 3.2, "asleep": -0.9, "upright": 0.2}),
    "jerk_autocorrelation_ratio": (0.85, {"rhythm": 0.6, "movement": 0.12, "asleep": -0.2, "jerk": -0.15}),
    "log_energy": (1.4, {"movement": 1.3, "arm": 3, "cadence": 1.5, "asleep": -2.4, "upright": 0.4}),
    "covariance_condition": (2.4, {"wrist": 0.5, "rhythm": 0.6, "movement": -0.3, "asleep": 0.25,
        "upright": -0.2}),
    "log_energy_ratio": (0.4, {"movement": 0.35, "jerk": 1.8, "cadence": -0.8, "upright": 0.35}),
    "zero_crossing_std": (0.75, {"jerk": 0.45, "rhythm": -0.35, "asleep": 0.12, "movement": -0.06}),
    "zero_crossing_average": (0.9, {"cadence": -0.4, "arm": -0.3, "asleep": 0.22, "upright": -0.06}),
    "axis_mean": (0.05, {"wrist": 0.5, "upright": -0.15, "asleep": 0.1}),
    "kurtosis": (2.1, {"jerk": 1.1, "rhythm": -0.5, "movement": 0.25, "asleep": -0.25}),
    "sleep_coefficient": (2.2, {"asleep": 1.1, "movement": -0.45, "exertion": -0.6, "deep_sleep": 0.2}),
    "skin_conductance_value": (1.1, {"arousal": 0.3, "sweating": 1.4, "skin_blood_flow": 0.08,
        "circadian": 0.08, "deep_sleep": 0.15}),
    "lead_contact_counts": (4.0, {"skin_blood_flow": 0.16, "sweating": 0.5, "movement": -0.15, "asleep": 0.2,
        "cooling": -0.5}),
    "skin_temperature_value": (32.4, {"asleep": 1.1, "evening": 0.5, "skin_blood_flow": 0.7,
        "ambient_warmth": 0.6, "sweating": -1.5, "cooling": -4}),
    "altitude_std_norm": (0.4, {"climb": 1.2, "movement": 0.12, "cadence": 0.1, "upright": 0.05}),
}  # fmt: skip
SLOPES = {
    "skin_conductance_slope": "skin_conductance_value",
    "skin_temperature_slope": "skin_temperature_value",
}
"""These signals are the change per hour of another one, over ten minutes and before its noise."""
_LABEL_LEVELS: dict[str, dict[str, float]] = {
    "age": {"rmssd": -0.8, "sdnn": -0.8, "shannon_entropy_rr": -0.8, "shannon_entropy_rr_differences": -0.8},
    "sex": {"skin_temperature_value": -0.7, "lead_contact_counts": -0.7, "skin_conductance_value": 0.5},
    "bmi": {"log_energy": -0.4, "covariance_condition": 0.7, "zero_crossing_average": 0.6, "kurtosis": 0.7},
    "resting_heart_rate": {"heart_rate": 0.5, "heart_rate_at_rest": 1.2, "rr_median": -0.5,
        "rr_80th_percentile": -0.5, "rr_20th_percentile": -0.5},
}  # fmt: skip
"""By how many standard deviations of a signal one standard deviation of a label's expression moves it."""
OWN_LEVEL = 0.2
"""Standard deviation over people of each signal's own level, in standard deviations of the signal."""
BLUNTED_DIP = 0.7
"""Part of the nightly fall of heart rate that is lost per standard deviation of hypertension's expression."""
BURSTS_PER_HOUR, AROUSAL_MINUTES, BURST = 3.5, 12.0, 1.0
ANXIETY_ON_BURSTS, ANXIETY_ON_RECOVERY, ANXIETY_ON_SIZE = 0.5, 0.9, -0.7
"""What one standard deviation of anxiety's expression adds to the logarithm of the rate of bursts of arousal,
of the time in which arousal falls, and of the size of a burst: the dynamics show it, and half as much the
level.
"""

_NAMES = [signal.name for signal in LSM2_SIGNALS]
BASES = np.array([BASES_AND_EFFECTS.get(name, (0.0, {}))[0] for name in _NAMES], np.float32)
EFFECTS = np.array(
    [[BASES_AND_EFFECTS.get(name, (0.0, {}))[1].get(cause, 0.0) for cause in CAUSES] for name in _NAMES],
    np.float32,
)
"""(26, K): what one unit of each cause adds to each signal, in its transformed scale."""
LEVELS = np.array([[_LABEL_LEVELS.get(label, {}).get(name, 0.0) for label in EXPRESSIONS] for name in _NAMES])
"""(26, 6): the effect of each label's expression on each signal's level, in standard deviations."""
SPREADS = np.array(
    [15.3, 4.87, 9.55, 167, 122, 144, 0.388, 0.263, 0.245, 0.266, 0.85, 0.137, 1.74, 0.396,
     0.403, 0.0805, 0.167, 0.277, 0.2, 0.605, 0.346, 4.51, 0.205, 1.24, 2.53, 0.15],
    np.float32,
)  # fmt: skip
"""(26,) standard deviation of each signal over people's minutes, transformed, without noise and differences
of level: measured on 300 days.
"""
_SLOPE_ROWS = [(_NAMES.index(slope), _NAMES.index(value)) for slope, value in SLOPES.items()]


def transformed_values(person: Person, day: int, plan: Plan, rng: np.random.Generator) -> np.ndarray:
    """The noise-free signals of one day in their transformed scale, (26, 1440) float32."""
    causes = cause_series(person, day, plan, rng)
    values = EFFECTS @ causes
    levels = LEVELS @ person.expressions + OWN_LEVEL * person.levels
    values += (BASES + SPREADS * levels.astype(np.float32))[:, None]
    for slope, value in _SLOPE_ROWS:
        padded = np.pad(values[value], 5, mode="edge")
        change = 6 * (padded[10:] - padded[:-10])
        if _NAMES[value] == "skin_conductance_value":
            change *= 3  # from log1p(uS) to uS at a typical level
        values[slope] += change
    return values


def movement_of(plan: Plan) -> np.ndarray:
    """(1440,): how much the wrist moves: 0.1 by day, 0 asleep, and more in bouts."""
    movement = np.full(MINUTES, 0.1, np.float32)
    for night in plan.nights:
        movement[max(night.start, 0) : max(night.end, 0)] = 0
    for bout in plan.bouts:
        movement[bout.start : bout.end] = max(float(bout.traits[1:4].sum()), 0.2)
    return movement


def cause_series(person: Person, day: int, plan: Plan, rng: np.random.Generator) -> np.ndarray:
    """(K, 1440) float32: the causes of one day."""
    causes = np.zeros((len(CAUSES), MINUTES), np.float32)
    _clock(causes, person)
    for night in plan.nights:
        _sleep(causes, night)
    asleep = causes[_ROW["asleep"]]
    dip = 1 - BLUNTED_DIP * float(np.clip(person.expressions[4], -2.5, 2.5))
    causes[_ROW["heart_dip"]] = dip * (asleep + 0.3 * causes[_ROW["deep_sleep"]])
    _posture(causes, asleep, rng)
    load, heat = _bouts(causes, plan)
    _dynamics(causes, person, load, heat, is_weekend(day), rng)
    return causes


def _clock(causes: np.ndarray, person: Person) -> None:
    shift = (person.bedtime + 50) / 60
    angle = 2 * np.pi * (_HOURS - 16 - shift) / 24
    causes[_ROW["circadian"]] = person.rhythm * np.cos(angle)
    causes[_ROW["evening"]] = person.rhythm * np.sin(angle)


_HOURS = np.arange(MINUTES, dtype=np.float32) / 60


def _sleep(causes: np.ndarray, night: Night) -> None:
    """Cycles of deep sleep, which fades over the night, and of REM, which grows."""
    begin, end = max(night.start, 0), min(night.end, MINUTES)
    if begin >= end:
        return
    minute = np.arange(begin - night.start, end - night.start, dtype=np.float32)
    done = minute / (night.end - night.start)
    wave = np.sin(2 * np.pi * minute / night.cycle_minutes)
    asleep = np.ones(len(minute), np.float32)
    for first, last in night.awake.tolist():
        asleep[max(first + night.start - begin, 0) : max(last + night.start - begin, 0)] = 0
    causes[_ROW["asleep"], begin:end] = asleep
    causes[_ROW["deep_sleep"], begin:end] = asleep * np.maximum(wave, 0) * (1 - done)
    causes[_ROW["rem_sleep"], begin:end] = asleep * np.maximum(-wave, 0) * (0.3 + 0.7 * done)


def _posture(causes: np.ndarray, asleep: np.ndarray, rng: np.random.Generator) -> None:
    """Lying, sitting, standing or moving about for a while each, with the forearm somewhere."""
    count = 200
    lengths = 3 + (rng.standard_exponential(count) * 18).astype(int)
    state = rng.random(count)
    moving = np.where(state > 0.78, 0.4 + 0.5 * rng.standard_exponential(count), 0.05)
    of_minute = np.repeat(np.arange(count), lengths)[:MINUTES]
    awake = 1 - asleep
    upright = (state > 0.5)[of_minute] * awake - asleep
    causes[_ROW["upright"]] = upright
    causes[_ROW["movement"]] = moving[of_minute] * awake
    causes[_ROW["wrist"]] = 0.45 * rng.standard_normal(count)[of_minute]


def _bouts(causes: np.ndarray, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Write the traits of the bouts into the causes; returns load on the heart and heat, (1440,) each."""
    load = 0.06 * causes[_ROW["movement"]]
    heat = load.copy()
    for bout in plan.bouts:
        span = slice(bout.start, bout.end)
        minute = np.arange(bout.end - bout.start, dtype=np.float32)
        on = 1 - bout.rest * (np.mod(minute, bout.interval_minutes) > 0.6 * bout.interval_minutes)
        on = on.astype(np.float32)
        effort, *moved = bout.traits.tolist()
        load[span] = max(effort, 0.02) * on
        heat[span] = max(effort, 0.02)
        causes[_ROW["movement"], span] = 0.3
        causes[_ROW["upright"], span] = 0.5
        for trait, amount in zip(TRAITS[1:], moved, strict=True):
            causes[_ROW[trait], span] = amount * (1 if trait in ("wrist", "cooling") else on)
    return load, heat


def _dynamics(
    causes: np.ndarray,
    person: Person,
    load: np.ndarray,
    heat: np.ndarray,
    weekend: bool,
    rng: np.random.Generator,
) -> None:
    """What goes on after its cause: exertion, sweating, cooling, arousal; and slow wandering."""
    anxiety = float(np.clip(person.expressions[5], -2.5, 2.5))
    recovery = AROUSAL_MINUTES * np.exp(ANXIETY_ON_RECOVERY * anxiety)
    awake = 1 - causes[_ROW["asleep"]]
    rate = BURSTS_PER_HOUR / 60 * np.exp(ANXIETY_ON_BURSTS * anxiety) * (0.35 + 0.65 * awake)
    rate *= 0.8 if weekend else 1.0
    bursts = (rng.random(MINUTES, dtype=np.float32) < rate) * rng.standard_exponential(MINUTES, np.float32)
    minutes = np.array([person.recovery_minutes, 25, 12, recovery, 90, 150, 40, 200])
    decay = np.exp(-1 / minutes)[:, None].astype(np.float32)
    series = np.empty((8, MINUTES), np.float32)
    series[0], series[1], series[2] = load, heat, causes[_ROW["cooling"]]
    series[:3] *= 1 - decay[:3]
    series[3] = BURST * np.exp(ANXIETY_ON_SIZE * anxiety) * bursts
    series[4:] = rng.standard_normal((4, MINUTES), np.float32)
    series[4:, 1:] *= np.sqrt(1 - decay[4:] ** 2)
    decayed_sums(series, decay)
    series[6] += (0.4 if not weekend else -0.4) * awake
    for cause, row in zip(
        ("exertion", "sweating", "cooling", "arousal", "vagal_tone", "skin_blood_flow", "alertness",
         "ambient_warmth"), series, strict=True,
    ):  # fmt: skip
        causes[_ROW[cause]] = row


def decayed_sums(series: np.ndarray, decay: np.ndarray) -> None:
    """Turn each row of (R, L) in place into the sum of its past, which fades by `decay` (R, 1) a step."""
    # A scan by doubling: after the step of s, each minute holds the decayed sum of its last 2 s values.
    step = 1
    while step < series.shape[1]:
        series[:, step:] = series[:, step:] + decay**step * series[:, :-step]
        step *= 2
