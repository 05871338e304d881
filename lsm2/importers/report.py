"""What an import read, what it made of it, and what it left out."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from lsm2.data.day_grid import Rows
from lsm2.data.sampling import minutes_text
from lsm2.files import read_json

REPORT = "import.json"
"""The file of a store that holds the report."""


@dataclass
class ImportReport:
    """The closing report of an import."""

    timezone: str
    files: list[str] = field(default_factory=list)
    rows: int = 0
    sample_minutes: int = 1
    sampling_found: bool | None = None
    """True: found from the source; False: too few values to tell, so 1 minute; None: named by the user."""
    sparser_signals: dict[str, int] = field(default_factory=dict)
    """Minutes between values of signals that come less often than samples."""
    people: int = 0
    days: int = 0
    coverage: dict[str, float] = field(default_factory=dict)
    """Fraction of the samples of all days that is observed, by signal."""
    min_observed: float = 0.0
    days_left_out: int = 0
    rows_left_out: dict[str, int] = field(default_factory=dict)
    """How many rows, by reason."""
    values_out_of_range: dict[str, int] = field(default_factory=dict)
    """How many values were outside their plausible range and are missing now, by signal."""

    def add(self, rows: Rows) -> None:
        """Count a batch of rows."""
        if rows.source and rows.source not in self.files:
            self.files.append(rows.source)
        self.rows += len(rows.seconds)
        for reason, count in rows.left_out.items():
            if count:
                self.rows_left_out[reason] = self.rows_left_out.get(reason, 0) + count

    def to_json(self) -> bytes:
        """The report as a JSON file."""
        return (json.dumps(dataclasses.asdict(self), indent=1) + "\n").encode()

    @classmethod
    def read(cls, store: Path) -> ImportReport:
        """The report in the folder of a store that was imported; raises InputError if it is missing."""
        saved = read_json(store / REPORT, "only `lsm2 import` writes it")
        known = {each.name for each in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in saved.items() if name in known})

    def lines(self) -> list[str]:
        """The report as lines of text."""
        found = {
            True: ", found in the file",
            False: ": too few values lie close together to tell (--sample-minutes names another)",
            None: "",
        }[self.sampling_found]
        lines = [
            f"{_counted(self.days, 'day')} of {_counted(self.people, 'person', 'people')}, "
            f"{_counted(len(self.coverage), 'signal')}, from {_counted(self.rows, 'row')}",
            f"a sample every {minutes_text(self.sample_minutes)}{found}",
        ]
        width = max(map(len, self.coverage), default=0)
        for name, fraction in self.coverage.items():
            sparser = self.sparser_signals.get(name)
            lines.append(
                f"  {name:<{width}} {fraction:6.1%} observed"
                + (f" (a value every {minutes_text(sparser)})" if sparser else "")
            )
        return lines + [f"left out: {line}" for line in self._left_out()]

    def _left_out(self) -> list[str]:
        days = f" or less than {self.min_observed:.0%} observed" if self.min_observed else ""
        return [
            *([f"{_counted(self.days_left_out, 'day')} with no value{days}"] if self.days_left_out else []),
            *(f"{_counted(count, 'row')} {reason}" for reason, count in self.rows_left_out.items()),
            *(
                f"{_counted(count, 'value')} of {name} outside its plausible range"
                for name, count in self.values_out_of_range.items()
            ),
        ]


def _counted(count: int, one: str, several: str | None = None) -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"
