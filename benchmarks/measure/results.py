"""Saved results: the JSON of pytest-benchmark, whichever program wrote it.

An entry is a race, in which ways of doing one thing took turns: `group` is the suite, `param` and `params` say what was computed, `stats`
holds the seconds of ours. In extra_info, `ways` has for every way, ours first, median_seconds, p20_seconds, p80_seconds, shortest_seconds
and ratio_to_ours, or the error with which it did not run; beside it stands what a suite knows, such as useful_flops and ceilings.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure.environment import describe_machine
from benchmarks.measure.timing import summarise

VERSION = "5.3.1"
"""Of pytest-benchmark, whose format this is."""


@dataclass(frozen=True)
class Race:
    """One case: what every way took, and what that means."""

    suite: str
    case: str
    params: dict[str, Any]
    ways: dict[str, dict[str, Any]]
    extra: dict[str, Any] = field(default_factory=dict)
    laps: Sequence[float] = ()
    """Seconds of ours."""

    @property
    def ours(self) -> str:
        """The first way."""
        return next(iter(self.ways), "")


@dataclass(frozen=True)
class Results:
    """A file."""

    path: Path
    machine: dict[str, Any]
    races: list[Race]

    @property
    def machine_name(self) -> str:
        """In a few words, for headings."""
        processor = self.machine.get("gpu") or self.machine.get("cpu_model", "unknown machine")
        return f"{processor}, torch {self.machine.get('torch', 'unknown')}"


def write_results(path: Path, races: Iterable[Race], *, machine: Mapping[str, Any] | None = None) -> None:
    """Write them with the machine, which is described anew where it is not given."""
    from pytest_benchmark.stats import Stats

    entries = []
    for race in races:
        stats = Stats()
        for lap in race.laps:
            stats.update(lap)
        name = f"{race.suite}[{race.case}]"
        case = {"group": race.suite, "name": name, "fullname": f"benchmarks/{race.suite}.py::{name}", "param": race.case}
        extra = {"ways": race.ways} | race.extra
        numbers = stats.as_dict() | {"data": stats.data, "iterations": 1} if race.laps else {}
        entries.append(case | {"params": race.params, "extra_info": extra, "options": {}, "stats": numbers})
    machine = dict(machine or describe_machine())
    commit = {"id": machine.get("commit"), "dirty": machine.get("files changed since") != "0", "branch": None}
    now = datetime.datetime.now(datetime.UTC).isoformat()
    report = {"machine_info": machine, "commit_info": commit, "benchmarks": entries, "datetime": now, "version": VERSION}
    path.write_text(json.dumps(report, indent=1))


def read_results(path: Path) -> Results | None:
    """What a file holds, or None for JSON of another kind; raises SystemExit for a file that is missing or no JSON."""
    try:
        report = json.loads(path.read_bytes())
    except OSError as error:
        raise SystemExit(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise SystemExit(f"{path} is no JSON ({error})") from None
    if not isinstance(report, dict) or "benchmarks" not in report:
        return None
    races = []
    for entry in report["benchmarks"]:
        extra = dict(entry["extra_info"])
        ways = extra.pop("ways", {})
        suite = entry["group"] or Path(entry["fullname"].split("::")[0]).stem
        laps = entry["stats"].get("data", [])
        if not ways and laps:
            ways = {"ours": summarise(laps) | {"ratio_to_ours": 1.0}}
        races.append(Race(suite, entry["param"] or entry["name"], entry["params"] or {}, ways, extra, laps))
    return Results(path, report.get("machine_info", {}), races)


def find_results(paths: Sequence[Path]) -> list[Results]:
    """Of these files and folders; raises SystemExit for what is not there, and for a named file without results."""
    found = []
    for path in paths:
        if not path.exists():
            raise SystemExit(f"{path} does not exist; name files of results or folders of them")
        for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
            results = read_results(file)
            if results is not None:
                found.append(results)
            elif file == path:
                raise SystemExit(f"{path} holds no results of a benchmark")
    return found
