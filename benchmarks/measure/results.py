"""Saved results. `python -m benchmarks.measure.results FILE... --csv FILE.csv` turns files of a run into rows
of a CSV.

Suites and programs save pytest-benchmark's JSON. An entry is a race, in which ways of doing one thing took
turns: `group` is the suite, `param` and `params` say what was computed, `stats` holds the seconds of ours. In
extra_info, `ways` has for every way, ours first, median_seconds, p20_seconds, p80_seconds, shortest_seconds
and ratio_to_ours, or the error with which it did not run; beside it stands what a suite knows, such as
useful_flops and ceilings.

A CSV holds the runs of one machine and day: a row per run, race and way. `param.*` say what was computed,
`race.*` are numbers of the whole race, the other columns those of the way; a list of numbers is [1 2 3]. Rows
of a run that is converted again are replaced.
"""

import csv
import datetime
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure.environment import describe_machine, name_machine
from benchmarks.measure.options import make_parser
from benchmarks.measure.timing import summarise

VERSION = "5.3.1"
"""Of pytest-benchmark, whose format the JSON is."""
MACHINE_COLUMNS = ("date", "machine", "driver", "versions", "commit")
DIGITS = 7
"""Of a number in a CSV."""


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

    @property
    def ratios(self) -> dict[str, float]:
        """Of the other ways that ran, their time over that of ours."""
        found = {name: way.get("ratio_to_ours") for name, way in self.ways.items() if name != self.ours}
        return {name: ratio for name, ratio in found.items() if ratio is not None}


@dataclass(frozen=True)
class Results:
    """A run: a file of JSON, or its rows in a CSV."""

    path: Path
    run: str
    machine: dict[str, Any]
    races: list[Race]

    @property
    def machine_name(self) -> str:
        """In a few words, for headings."""
        return name_machine(self.machine)


def write_results(path: Path, races: Iterable[Race], *, machine: Mapping[str, Any] | None = None) -> None:
    """Write JSON with the machine, which is described anew where it is not given."""
    from pytest_benchmark.stats import Stats

    entries = []
    for race in races:
        stats = Stats()
        for lap in race.laps:
            stats.update(lap)
        name = f"{race.suite}[{race.case}]"
        entries.append(
            {
                "group": race.suite,
                "name": name,
                "fullname": f"benchmarks::{name}",
                "param": race.case,
                "params": race.params,
                "extra_info": {"ways": race.ways} | race.extra,
                "options": {},
                "stats": stats.as_dict() | {"data": stats.data, "iterations": 1} if race.laps else {},
            }
        )
    machine = dict(machine or describe_machine())
    commit = {"id": machine.get("commit"), "dirty": machine.get("files changed since") != 0, "branch": None}
    now = datetime.datetime.now(datetime.UTC).isoformat()
    report = {"machine_info": machine, "commit_info": commit, "benchmarks": entries, "datetime": now}
    path.write_text(json.dumps(report | {"version": VERSION}, indent=1))


def read_json(path: Path) -> Results | None:
    """What a file holds, or None for JSON of another kind; raises SystemExit for what is no JSON."""
    try:
        report = json.loads(path.read_bytes())
    except ValueError as error:
        raise SystemExit(f"{path} is no JSON ({error})") from None
    if not isinstance(report, dict) or "benchmarks" not in report:
        return None
    races = []
    for entry in report["benchmarks"]:
        extra = dict(entry["extra_info"])
        ways = extra.pop("ways", {})
        laps = entry["stats"].get("data", [])
        if not ways and laps:
            ways = {"ours": summarise(laps) | {"ratio_to_ours": 1.0}}
        case = entry["param"] or entry["name"]
        if extra.get("dtype", "") not in case:
            case = f"{case}-{extra['dtype']}"
        races.append(Race(entry["group"] or "", case, entry["params"] or {}, ways, extra, laps))
    machine = report.get("machine_info", {}) | {"date": report.get("datetime", "")[:10]}
    return Results(path, path.stem, machine, races)


def read_csv(path: Path) -> list[Results]:
    """The runs in a file; raises SystemExit where it is not one that write_csv wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not {"run", "suite", "case", "way", *MACHINE_COLUMNS} <= set(reader.fieldnames or ()):
            raise SystemExit(
                f"{path} is no CSV of benchmarks: it lacks columns of `benchmarks.measure.results`"
            )
        runs: dict[str, Results] = {}
        races: dict[tuple[str, str, str], Race] = {}
        for row in reader:
            run, suite, case, way = (row.pop(name) for name in ("run", "suite", "case", "way"))
            machine = {name: row.pop(name) for name in MACHINE_COLUMNS}
            found = {name: _parse(cell) for name, cell in row.items() if cell}
            results = runs.setdefault(run, Results(path, run, machine, []))
            race = races.get((run, suite, case))
            if race is None:
                race = Race(suite, case, _within("param", found), {}, _nest(_within("race", found)))
                races[run, suite, case] = race
                results.races.append(race)
            race.ways[way] = {name: value for name, value in found.items() if "." not in name}
    return list(runs.values())


def write_csv(path: Path, runs: Iterable[Results]) -> None:
    """Add runs to a file, in place of those of the same name that it holds."""
    kept = {results.run: results for results in (read_csv(path) if path.exists() else [])}
    kept |= {results.run: results for results in runs}
    rows = [row for results in kept.values() for row in _rows(results)]
    names = dict.fromkeys(name for row in rows for name in row)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, sorted(names, key=_place), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def find_results(paths: Sequence[Path]) -> list[Results]:
    """Runs in these files and folders; raises SystemExit for what is not there or holds no results."""
    found: list[Results] = []
    for path in paths:
        if not path.exists():
            raise SystemExit(f"{path} does not exist; name files of results or folders of them")
        files = sorted(file for file in path.rglob("*") if file.suffix in (".json", ".csv"))
        for file in files if path.is_dir() else [path]:
            results = read_csv(file) if file.suffix == ".csv" else [read_json(file)]
            if file == path and None in results:
                raise SystemExit(f"{path} holds no results of a benchmark")
            found += [run for run in results if run is not None]
    return found


def _rows(results: Results) -> Iterator[dict[str, str]]:
    machine = {name: str(results.machine.get(name) or "") for name in MACHINE_COLUMNS} | {"run": results.run}
    for race in results.races:
        shared = _flatten(race.params, "param.") | _flatten(race.extra, "race.")
        for name, way in race.ways.items():
            row = machine | {"suite": race.suite, "case": race.case, "way": name}
            yield row | {key: _show(value) for key, value in (shared | way).items() if value is not None}


def _place(name: str) -> tuple[int, int]:
    """Columns of the machine first, then what was computed, the way, its numbers, and those of the race."""
    first = (*MACHINE_COLUMNS, "run", "suite", "case", "way")
    group = 0 if name in first else {"param": 1, "race": 3}.get(name.split(".")[0], 2)
    return group, first.index(name) if name in first else 0


def _flatten(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= (
            _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
        )
    return flat


def _within(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name[len(prefix) + 1 :]: value for name, value in values.items() if name.startswith(f"{prefix}.")}


def _nest(values: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in values.items():
        first, *rest = name.split(".")
        if rest:
            nested[first] = _nest(_within(first, values))
        else:
            nested[first] = value
    return nested


def _show(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(map(_show, value))}]"
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)


def _parse(cell: str) -> Any:
    if cell.startswith("[") and cell.endswith("]"):
        return [_parse(part) for part in cell[1:-1].split()]
    if cell in ("True", "False"):
        return cell == "True"
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="JSON of suites and programs, or folders of it")
    parser.add_argument("--csv", type=Path, required=True, help="benchmarks/results/DATE-MACHINE.csv")
    args = parser.parse_args(arguments)
    runs = find_results(args.files)
    write_csv(args.csv, runs)
    print(f"{args.csv}: {len(runs)} runs, {sum(len(run.races) for run in runs)} races")


if __name__ == "__main__":
    main()
