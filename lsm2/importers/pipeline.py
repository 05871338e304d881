"""What all importers share: rows of any source become days, a store, and a report of what was left out."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from lsm2.data.day_grid import Advice, DayGrid, PlausibleRanges, Rows
from lsm2.data.sampling import find_sampling
from lsm2.data.signals import Signal, named_signal
from lsm2.data.store import DayStore
from lsm2.data.store.layout import Day
from lsm2.data.store.writer import check_replaceable
from lsm2.data.wall_clock import LOCAL
from lsm2.errors import InputError
from lsm2.importers.report import REPORT, ImportReport
from lsm2.progress import counted

_EPOCH = datetime.date(1970, 1, 1)
ADVICE = Advice(
    duplicate="remove one, or average them with --aggregate mean",
    finer="average them with --aggregate mean --sample-minutes {minutes}",
    unit="Name it with --units {signal} UNIT, or rename the signal",
    zone="name the zone the person lived in with --timezone, for instance Europe/Berlin",
    choice="name the signals to import with --columns",
)
Options = TypeVar("Options", bound="ImportOptions")


@dataclass(frozen=True)
class ImportOptions:
    """How rows become days; each importer adds what its source needs."""

    columns: tuple[str, ...] = ()
    """The signals to take, in this order; all if none is named."""
    sample_minutes: int | None = None
    """Minutes per sample, a divisor of 60; found from the source if not named."""
    timezone: str = LOCAL
    """`local` if times are wall clock or carry the zone people lived in, else the IANA name of that zone."""
    aggregate: Literal["none", "mean"] = "none"
    """`mean` averages several values of one sample; otherwise they are an error."""
    min_observed: float = 0.0
    """Leave out days of which less than this fraction is observed; days without a value never stay."""
    log1p: tuple[str, ...] = ()
    """Signals to normalise through log(1 + x)."""
    units: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Signal and unit, signal and unit, ...: for signals that are not LSM-2's, or not in LSM-2's unit."""

    def checked(self: Options) -> Options:
        """These options; raises InputError naming the one that is out of bounds."""
        if self.sample_minutes is not None and (self.sample_minutes < 1 or 60 % self.sample_minutes):
            raise InputError(f"--sample-minutes is {self.sample_minutes}; it must divide 60")
        if self.aggregate not in ("none", "mean"):
            raise InputError(f"--aggregate is {self.aggregate!r}; choose none or mean")
        if not 0 <= self.min_observed <= 1:
            raise InputError(f"--min-observed is {self.min_observed}; it must be a fraction between 0 and 1")
        return self


def import_rows(
    source: Path,
    out: Path,
    batches: Iterable[Rows],
    options: ImportOptions,
    *,
    replace: bool,
    progress: bool,
) -> DayStore:
    """Gather rows into days and write them to a new store at `out`, with the report in import.json.

    Nothing of `batches` is read before `out` is known to be free. Raises InputError for faulty rows, and
    leaves `out` unchanged.
    """
    options.checked()
    check_replaceable(out, replace)
    scratch = next(folder for folder in out.absolute().parents if folder.is_dir())
    grid = DayGrid(options.sample_minutes or 1, ADVICE, average=options.aggregate == "mean", folder=scratch)
    report = ImportReport(timezone=options.timezone)
    available: dict[str, None] = {}
    for rows in counted(batches, "reading batches of rows", progress):
        grid.add(rows)
        report.add(rows)
        available.update(dict.fromkeys(rows.available))
    if absent := [name for name in options.columns if name not in available]:
        raise InputError(
            f"{source} has no signal {absent[0]!r}; it has {', '.join(available)}: correct --columns"
        )
    signals = _described(options.columns or list(available), options)
    if options.sample_minutes is None:
        sampling = find_sampling(grid.steps(), str(source))
        report.sample_minutes = sampling.minutes
        report.sampling_found = sampling.found
        report.sparser_signals = dict(sampling.sparser)
    else:
        report.sample_minutes = options.sample_minutes
    return DayStore.write(
        out,
        signals,
        _days(grid, signals, options.min_observed, report, source),
        sample_minutes=report.sample_minutes,
        progress=progress,
        attachments={REPORT: report.to_json},
        replace=replace,
    )


def _described(names: Sequence[str], options: ImportOptions) -> tuple[Signal, ...]:
    """The signals of the store; raises InputError for a name in `log1p` or `units` that is none of them."""
    for flag, given in (("--log1p", options.log1p), ("--units", options.units)):
        if unknown := [name for name in given if name not in names]:
            raise InputError(
                f"{flag} names the signal {unknown[0]!r}, which is not imported; "
                f"the signals are {', '.join(names)}"
            )
    signals = (named_signal(name, options.units.get(name)) for name in names)
    return tuple(
        dataclasses.replace(signal, transform="log1p") if signal.name in options.log1p else signal
        for signal in signals
    )


def _days(
    grid: DayGrid, signals: Sequence[Signal], min_observed: float, report: ImportReport, source: Path
) -> Iterator[Day]:
    """The days to keep.

    After the last one, completes the report, and raises InputError for signals that lie out of range.
    """
    ranges = PlausibleRanges(signals)
    report.min_observed = min_observed
    observed_samples = np.zeros(len(signals), dtype=np.int64)
    people: set[str] = set()
    for subject, date, values in grid.days(
        ranges, [signal.name for signal in signals], report.sample_minutes
    ):
        observed = np.count_nonzero(~np.isnan(values), axis=1)
        if not observed.any() or observed.sum() / values.size < min_observed:
            report.days_left_out += 1
            continue
        people.add(subject)
        observed_samples += observed
        report.days += 1
        yield Day(subject, (_EPOCH + datetime.timedelta(days=date)).isoformat(), values)
    ranges.check(str(source), ADVICE)
    report.people = len(people)
    num_samples = max(1, report.days * 1440 // report.sample_minutes)
    for signal, count, outside in zip(signals, observed_samples, ranges.outside, strict=True):
        report.coverage[signal.name] = float(count / num_samples)
        if outside:
            report.values_out_of_range[signal.name] = int(outside)
