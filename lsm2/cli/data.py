"""Verbs that make a store of days and say what it holds: simulate, import, info."""

from collections.abc import Mapping
from pathlib import Path

from tyro.conf import OmitArgPrefixes, Positional

from lsm2.cli.command import Group, Verb
from lsm2.progress import say


def simulate(
    out: Positional[Path],
    /,
    people: int = 100,
    days_per_person: int = 14,
    seed: int = 0,
    noise: float = 0.2,
    wear: Path | None = None,
    replace: bool = False,
) -> None:
    """Write a simulated cohort: 26 signals, with gaps like those of real wearables.

    Args:
        out: Folder of the new store.
        people: Number of people.
        days_per_person: Days of each person.
        seed: The same seed gives the same cohort.
        noise: Share of white noise in each signal's variance.
        wear: Parquet file of real wear (columns subject, weekday, wear_bits) that says when devices are off.
        replace: Put the new store in the place of the one at OUT.
    """
    from lsm2.simulate.cohort import write_cohort

    store = write_cohort(out, people, days_per_person, seed, noise, progress=True, replace=replace, wear=wear)
    say(f"{out}: {len(store)} days of {people} people, {len(store.signals)} signals")


def _load_importers() -> Mapping[str, Verb | Group]:
    from lsm2.importers.report import ImportReport
    from lsm2.importers.table import TableOptions, import_table

    def table(
        source: Positional[Path],
        out: Positional[Path],
        /,
        replace: bool = False,
        reading: OmitArgPrefixes[TableOptions] = TableOptions(),  # noqa: B008  (frozen)
    ) -> None:
        """Read a CSV or Parquet file, or a folder of them, into a new store of days.

        It has a column per signal, or a row per subject, timestamp, signal and value.

        Args:
            source: The file, or the folder.
            out: Folder of the new store.
            replace: Put the new store in the place of the one at OUT.
        """
        import_table(source, out, reading, replace=replace, progress=True)
        for line in ImportReport.read(out).lines():
            say(line)

    return {"table": table}


IMPORTERS = Group("source", "Turn files of wearables into a store of days.", _load_importers)


def info(store: Positional[Path], /) -> None:
    """Say what a store holds: people, days, signals, and what is missing how.

    Args:
        store: Folder of a store.
    """
    from lsm2.data.quality import describe
    from lsm2.data.store import DayStore
    from lsm2.report.terminal import show_cohort

    show_cohort(describe(DayStore.open(store)))
