"""When a simulated person sleeps and what the person does by day: everything that has a begin and an end."""

from __future__ import annotations

import datetime
from typing import NamedTuple

import numpy as np

from lsm2.data.day_grid import MINUTES_PER_DAY as MINUTES
from lsm2.rng import keyed_rng
from lsm2.simulate.activities import ACTIVITIES, STYLE, TRAITS, TRAITS_OF_KINDS
from lsm2.simulate.people import Person

FIRST_DATE = datetime.date(2024, 3, 1)
SHORTEST_BOUT, LONGEST_BOUT, MOST_BOUTS = 15, 90, 4
_PAUSE = 10


class Night(NamedTuple):
    """One sleep; minutes count from the midnight before the day on which it ends."""

    start: int
    end: int
    cycle_minutes: float
    awake: np.ndarray
    """(n, 2) begin and end of each awakening, in minutes from `start`."""


class Bout(NamedTuple):
    """One bout of activity, from minute `start` up to, but not including, minute `end` of its day."""

    start: int
    end: int
    kind: int
    """Index into ACTIVITIES."""
    traits: np.ndarray
    """(8,) how this bout moves the body: its kind's traits, and the style of the moment."""
    interval_minutes: float
    """Period of its alternation of load and rest."""
    rest: float
    """How much of the load is gone in the rests."""

    @property
    def name(self) -> str:
        """The kind's name."""
        return ACTIVITIES[self.kind].name


class Plan(NamedTuple):
    """The frame of one day."""

    nights: tuple[Night, Night]
    """The night that ends on this day, and the next one; minutes of both count from this day's midnight."""
    bouts: list[Bout]


def date_of(day: int) -> datetime.date:
    """The date of day 0, 1, ..."""
    return FIRST_DATE + datetime.timedelta(days=day)


def is_weekend(day: int) -> bool:
    """Whether the day is a Saturday or a Sunday."""
    return date_of(day).weekday() >= 5


def plan_day(person: Person, day: int) -> Plan:
    """The nights and bouts of one day, a pure function of seed, person and day."""
    last, following = _night(person, day), _night(person, day + 1)
    following = following._replace(start=following.start + MINUTES, end=following.end + MINUTES)
    rng = keyed_rng("bouts", person.seed, person.number, day)
    rate = person.bouts_per_day * (1.4 if is_weekend(day) else 1.0)
    bouts: list[Bout] = []
    count = min(int(rng.poisson(rate)), MOST_BOUTS)
    cumulative = np.cumsum(person.preferences)
    for where, length, kind, pause, rest in rng.random((count, 5)).tolist():
        minutes = int(SHORTEST_BOUT * (LONGEST_BOUT / SHORTEST_BOUT) ** length)
        first, latest = last.end + 20, min(following.start, MINUTES) - 20 - minutes
        start = first + int(where * max(latest - first, 0))
        end = start + minutes
        if latest <= first or any(
            start < other.end + _PAUSE and other.start < end + _PAUSE for other in bouts
        ):
            continue
        number = min(int(np.searchsorted(cumulative, kind)), len(ACTIVITIES) - 1)
        traits = TRAITS_OF_KINDS[number] + STYLE * rng.standard_normal(len(TRAITS))
        bouts.append(Bout(start, end, number, traits, 4 + 8 * pause, 0.6 * rest))
    return Plan((last, following), sorted(bouts, key=lambda bout: bout.start))


def _night(person: Person, day: int) -> Night:
    """The night that ends on `day`."""
    rng = keyed_rng("night", person.seed, person.number, day)
    onset, length, cycle = rng.standard_normal(3)
    weekend = is_weekend(day)
    start = int(person.bedtime + 25 * onset + (50 if weekend else 0))
    minutes = int(max(person.sleep_minutes + 35 * length + (40 if weekend else 0), 240))
    begins = rng.random(rng.poisson(2.5)) * minutes
    awake = np.stack([begins, begins + 2 + 10 * rng.random(len(begins))], 1).astype(int)
    return Night(start, start + minutes, 95 + 6 * float(cycle), awake)
