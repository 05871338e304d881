"""Verbs that make a store of days and say what it holds: simulate, import, info."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from lsm2.cli.command import Group
from lsm2.progress import say


def simulate(
    out: Positional[Path],
    /,
    people: int = 100,
    days_per_person: int = 14,
    seed: int = 0,
    noise: float = 0.35,
    replace: bool = False,
) -> None:
    """Write a simulated cohort: 26 signals, with gaps like those of real wearables.

    Args:
        out: Folder of the new store.
        people: Number of people.
        days_per_person: Days of each person.
        seed: The same seed gives the same cohort.
        noise: Share of white noise in each signal's variance.
        replace: Put the new store in the place of the one at OUT.
    """
    from lsm2.simulate.cohort import write_cohort

    store = write_cohort(out, people, days_per_person, seed, noise, progress=True, replace=replace)
    say(f"{out}: {len(store)} days of {people} people, {len(store.signals)} signals")


def table(
    source: Positional[Path],
    out: Positional[Path],
    /,
    replace: bool = False,
    columns: tuple[str, ...] = (),
    subject: str = "subject",
    timestamp: str = "timestamp",
    signal: str = "signal",
    value: str = "value",
    where: str | None = None,
    sample_minutes: int = 1,
    timezone: str = "local",
    aggregate: Literal["none", "mean"] = "none",
    min_observed: float = 0.0,
    log1p: tuple[str, ...] = (),
    units: dict[str, str] = {},  # noqa: B006  (tyro reads the default; nothing changes it)
) -> None:
    """Read a CSV or Parquet file, or a folder of them, into a new store of days.

    It has a column per signal, or a row per subject, timestamp, signal and value.

    Args:
        source: The file, or the folder.
        out: Folder of the new store.
        replace: Put the new store in the place of the one at OUT.
        columns: The signals to take, in this order; all if none is named.
        subject: Column that names the person.
        timestamp: Column of the time.
        signal: Column that names the signal, in a long table.
        value: Column of the value, in a long table.
        where: A true/false column; only rows where it is true are read.
        sample_minutes: Minutes per sample, a divisor of 60.
        timezone: `local` if times are wall clock, else the IANA zone that people lived in.
        aggregate: `mean` averages several values of one sample; otherwise they are an error.
        min_observed: Leave out days of which less than this fraction is observed.
        log1p: Signals to normalise through log(1 + x).
        units: Signal and unit, signal and unit, ...
    """
    from lsm2.importers.table import import_table

    store = import_table(
        source,
        out,
        columns=columns or None,
        subject=subject,
        timestamp=timestamp,
        signal=signal,
        value=value,
        where=where,
        sample_minutes=sample_minutes,
        timezone=timezone,
        aggregate=aggregate,
        min_observed=min_observed,
        log1p=log1p,
        units=units,
        replace=replace,
        progress=True,
    )
    say(f"{out}: {len(store)} days of {len(store.subjects)} people, {len(store.signals)} signals")


IMPORTERS = Group("source", "Turn files of wearables into a store of days.", lambda: {"table": table})


def info(store: Positional[Path], /) -> None:
    """Say what a store holds: people, days, signals, and what is missing how.

    Args:
        store: Folder of a store.
    """
    from lsm2.data.quality import describe
    from lsm2.data.store import DayStore
    from lsm2.report.terminal import show_cohort

    show_cohort(describe(DayStore.open(store)))
