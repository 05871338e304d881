"""How often a source has a value: found from the minutes between successive values, whatever gaps it has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lsm2.errors import InputError

LONGEST_STEP = 60
"""Minutes; values further apart than an hour are taken for a gap."""
_ENOUGH_STEPS = 10
"""So many steps between values tell a sampling."""
_PEOPLE_NAMED = 3


@dataclass(frozen=True)
class Sampling:
    """The sampling of a source."""

    minutes: int
    """Minutes per sample, a divisor of 60."""
    found: bool
    """False if too few values lie within an hour of each other to tell; it is 1 minute then."""
    sparser: Mapping[str, int]
    """Minutes between values of signals that come less often than samples."""


def find_sampling(steps: Iterable[tuple[str, str, np.ndarray]], source: str) -> Sampling:
    """The commonest step between successive values, from `DayGrid.steps`.

    Of each person the finest signal counts. Raises InputError with what was seen if that differs between
    people who have the same signals, if no step is common, or if it does not divide 60.
    """
    clear, total = clear_steps(steps)
    if not clear:
        return _sampling_of_few(total, source)
    finest = min(minutes for people in clear.values() for minutes in people.values())
    with_finest = {
        person for people in clear.values() for person, minutes in people.items() if minutes == finest
    }
    for signal, people in clear.items():
        # Who has one signal in every sample may have another less often; some may lack the finest signal.
        if len(set(people.values())) > 1 and not with_finest.issuperset(people):
            raise InputError(
                f"{source} mixes samplings: {signal!r} has {_by_minutes(people)}; import them one by one, or "
                f"name one sampling for all with --sample-minutes {max(people.values())} --aggregate mean"
            )
    of_signal = {signal: min(people.values()) for signal, people in clear.items()}
    if uneven := {signal: minutes for signal, minutes in of_signal.items() if minutes % finest}:
        raise InputError(
            f"{source} mixes samplings: it has {_by_minutes(of_signal)}, and {max(uneven.values())} is no "
            f"multiple of {finest}; choose signals with --columns, or name one sampling for all with "
            "--sample-minutes and --aggregate mean"
        )
    _check_divides(finest, source)
    return Sampling(
        finest, True, {signal: minutes for signal, minutes in of_signal.items() if minutes > finest}
    )


def clear_steps(
    steps: Iterable[tuple[str, str, np.ndarray]],
) -> tuple[dict[str, dict[str, int]], np.ndarray]:
    """(minutes by signal and person, where they are clear; counts of the steps of all, by minutes)."""
    clear: dict[str, dict[str, int]] = {}
    total = np.zeros(LONGEST_STEP + 1, dtype=np.int64)
    for subject, signal, counts in steps:
        total += counts
        if counts[1:].sum() >= _ENOUGH_STEPS and _is_regular(counts):
            clear.setdefault(signal, {})[subject] = _commonest(counts)
    return clear, total


def commonest_step(steps: np.ndarray) -> int | None:
    """The commonest of these steps (n,), if they are enough and at least half are multiples of it."""
    if len(steps) < _ENOUGH_STEPS:
        return None
    values, counts = np.unique(steps, return_counts=True)
    commonest = int(values[counts.argmax()])
    return commonest if 2 * np.count_nonzero(steps % commonest == 0) >= len(steps) else None


def minutes_text(minutes: int) -> str:
    """1 minute, 5 minutes."""
    return "1 minute" if minutes == 1 else f"{minutes} minutes"


def _sampling_of_few(total: np.ndarray, source: str) -> Sampling:
    """The sampling where no signal of anyone tells it alone."""
    within = int(total[1:].sum())
    longer = int(total[0])
    if within >= _ENOUGH_STEPS and not _is_regular(total):
        common = np.argsort(-total[1:], kind="stable")[:3] + 1
        seen = ", ".join(f"{total[step] / within:.0%} are {minutes_text(step)}" for step in common)
        raise InputError(
            f"{source} has no regular sampling: of the times between its values, {seen}; "
            "name one with --sample-minutes, and --aggregate mean where samples hold several values"
        )
    if within < _ENOUGH_STEPS <= longer:
        raise InputError(
            f"{source} has values that are more than an hour apart; "
            "name a sampling with --sample-minutes, 60 at most"
        )
    step = _commonest(total)
    if within >= _ENOUGH_STEPS:
        _check_divides(step, source)
        return Sampling(step, True, {})
    alike = within and within == total[step::step].sum() and LONGEST_STEP % step == 0
    return Sampling(step if alike else 1, bool(alike), {})


def _commonest(counts: np.ndarray) -> int:
    """The commonest step of these within an hour; of several about as common, the one with most multiples.

    Where most values are missing, two steps in one are about as common as one.
    """
    common = 1 + np.flatnonzero(2 * counts[1:] >= counts[1:].max())
    return int(max(common, key=lambda step: (counts[step::step].sum(), counts[step])))


def _is_regular(counts: np.ndarray) -> bool:
    """Whether at least half of the steps within an hour are multiples of the commonest."""
    step = _commonest(counts)
    return 2 * counts[step::step].sum() >= counts[1:].sum()


def _check_divides(minutes: int, source: str) -> None:
    if LONGEST_STEP % minutes:
        raise InputError(
            f"{source} has a value every {minutes_text(minutes)}, which does not divide 60; "
            "name a sampling that does with --sample-minutes, and --aggregate mean where samples hold "
            "several values"
        )


def _by_minutes(names: Mapping[str, int]) -> str:
    """Who has a value how often."""
    parts = []
    for minutes in sorted(set(names.values())):
        of = [name for name, value in names.items() if value == minutes]
        parts.append(f"a value every {minutes_text(minutes)} for {_listed(of)}")
    return ", ".join(parts)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _PEOPLE_NAMED
    return ", ".join(names[:_PEOPLE_NAMED]) + (f" and {more} more" if more > 0 else "")
