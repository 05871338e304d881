"""The tables of benchmarks.step.race, and what was aimed at: each target is met, missed or not measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from benchmarks.measure.results import Race
from benchmarks.measure.tables import empty_table, grouped, verdict
from benchmarks.measure.timing import summarise

OURS = "ours_cross"
"""What ratios refer to: the default decoder."""
TARGET_WINDOW, TARGET_MISSING = "day", 0.49
WINDOWS = {"day": 1, "week": 7}
"""Days."""


@dataclass(frozen=True)
class Case:
    """What is computed: a step on windows of so many tokens, of which this part is missing on average."""

    preset: str
    window: str
    missing: float
    num_windows: int
    window_tokens: int

    @property
    def title(self) -> str:
        windows = f"{self.num_windows} {self.window}{'s' if self.num_windows > 1 else ''}"
        return f"{self.preset}, {windows} of {self.window_tokens} tokens, {self.missing:.0%} missing"


@dataclass(frozen=True)
class Result:
    """One way in one case; tokens and FLOPs are those of a step.

    ms is the median of its laps. Where it did not run, a note says why, and estimated_ms what it would need.
    """

    case: Case
    way: str
    backward: bool = True
    visible_tokens: int = 0
    query_tokens: int = 0
    useful_flops: float = 0.0
    total_flops: float = 0.0
    ms: float | None = None
    laps_ms: tuple[float, ...] = ()
    product_rate: float | None = None
    peak_bytes: int | None = None
    prepare_ms: float | None = None
    first_call_s: float | None = None
    loss: float | None = None
    ratio: float | None = None
    estimated_ms: float | None = None
    note: str = ""

    def rates(self) -> dict[str, float]:
        """What ms means; nothing where the way did not run."""
        if self.ms is None or self.product_rate is None:
            return {}
        seconds = self.ms / 1e3
        return {
            "days_per_second": self.case.num_windows * WINDOWS[self.case.window] / seconds,
            "visible_tokens_per_second": self.visible_tokens / seconds,
            "useful_share_of_product": self.useful_flops / seconds / self.product_rate,
            "total_share_of_product": self.total_flops / seconds / self.product_rate,
        }


@dataclass(frozen=True)
class Target:
    """Ours should be at least so many times as fast as a peer on days, about half of whose tokens are missing."""

    preset: str
    ours: str
    peer: str
    wanted: float

    def verdict(self, results: Sequence[Result]) -> str:
        """One line."""
        laps = {
            result.way: result.laps_ms
            for result in results
            if result.laps_ms
            and (result.case.preset, result.case.window, result.case.missing) == (self.preset, TARGET_WINDOW, TARGET_MISSING)
        }
        what = f"{self.preset}, {self.ours}: wanted {self.wanted:g}x the speed of {self.peer}"
        if self.ours not in laps or self.peer not in laps:
            return verdict(None, f"{what}, is unknown")
        median, shortest = (pick(laps[self.peer]) / pick(laps[self.ours]) for pick in (statistics.median, min))
        return verdict(median >= self.wanted, f"{what}, is {median:.2f}x by medians, {shortest:.2f}x by shortest laps")


TARGETS = (
    Target("base", "ours_cross", "paper", 5),
    Target("base", "ours_cross", "dense", 12),
    Target("base", "ours_joint", "paper", 4),
    Target("base", "ours_full", "paper", 2.5),
    Target("tiny", "ours_cross", "paper", 3),
)


def races_of(results: Sequence[Result], faults: Mapping[str, str]) -> Iterable[Race]:
    """As they are saved: a race per case; what is wrong with ways that do not run at all stands in each."""
    for case, group in grouped(results, lambda result: result.case):
        ways: dict[str, dict[str, Any]] = {}
        for result in group:
            seconds = [lap / 1e3 for lap in result.laps_ms]
            times = summarise(seconds) if seconds else {"error": result.note}
            ratio = {"ratio_to_ours": result.ratio} if result.ratio is not None else {}
            found = {name: value for name, value in asdict(result).items() if name not in ("case", "way")}
            ways[result.way] = times | ratio | {"found": found} | result.rates()
        ways |= {name: {"error": fault} for name, fault in faults.items()}
        laps = next((result.laps_ms for result in group if result.way == OURS), ())
        yield Race("train_step", case.title, asdict(case), ways, laps=[lap / 1e3 for lap in laps])


def results_of(races: Iterable[Race]) -> list[Result]:
    """The results that races_of took; races of the suite, which know less, have none."""
    found = []
    for race in races:
        for name, way in race.ways.items():
            if race.suite == "train_step" and "found" in way:
                fields = way["found"] | {"laps_ms": tuple(way["found"]["laps_ms"])}
                found.append(Result(Case(**race.params), name, **fields))
    return found


def verdicts(results: Sequence[Result]) -> list[str]:
    """A line per target."""
    return [target.verdict(results) for target in TARGETS]


def way_tables(results: Sequence[Result]) -> Iterable[Table]:
    """A table per case, a row per way."""
    numbers = "ms", "days/s", "visible/s", "useful", "total", "useful %", "total %", "peak MB", "prepare", "ratio"
    for case, group in grouped(results, lambda result: result.case):
        table = empty_table(("way",), numbers)
        table.add_column("note", overflow="fold")
        tokens = f"{group[0].visible_tokens / case.num_windows:.0f} visible tokens a {case.window}"
        table.title = f"{case.title}, {tokens}; useful and total TFLOP a step"
        for result in group:
            table.add_row(*_cells(result))
        yield table


def _cells(result: Result) -> list[str]:
    if result.ms is None:
        return [result.way, *[""] * 10, result.note]
    rates = result.rates()
    shares = [f"{100 * rates[share]:.0f}" for share in ("useful_share_of_product", "total_share_of_product")]
    speeds = [f"{result.ms:.0f}" if result.ms >= 100 else f"{result.ms:.3g}", f"{rates['days_per_second']:.3g}"]
    return [
        result.way,
        *speeds,
        f"{rates['visible_tokens_per_second']:.0f}",
        *(f"{flops / 1e12:.3g}" for flops in (result.useful_flops, result.total_flops)),
        *shares,
        "" if result.peak_bytes is None else f"{result.peak_bytes / 1e6:.0f}",
        f"{result.prepare_ms:.1f} ms" if result.prepare_ms else "",
        "" if result.ratio is None else f"{result.ratio:.2f}x",
        result.note,
    ]


def memory_tables(results: Sequence[Result]) -> Iterable[Table]:
    """A table per preset and window: peak bytes per window by missing fraction, and what a visible or query token more adds."""
    ran = [result for result in results if result.peak_bytes is not None]
    for (preset, window), group in grouped(ran, lambda result: (result.case.preset, result.case.window)):
        cases = sorted({result.case for result in group}, key=lambda case: case.missing)
        tokens = {
            result.case: (result.visible_tokens + result.query_tokens) / result.case.num_windows for result in group if result.way == OURS
        }
        heads = [f"{case.missing:.0%} missing" + (f"\n{tokens[case]:.0f} tokens" if case in tokens else "") for case in cases]
        table = empty_table(("way",), [*heads, "kB a token more"])
        table.title = f"{preset}: peak MB a {window}, by visible and query tokens a {window}"
        for way, of_way in grouped(group, lambda result: result.way):
            peaks = {result.case: (result.peak_bytes or 0) / result.case.num_windows for result in of_way}
            measured = [case for case in cases if case in peaks and case in tokens]
            first, last = (measured[0], measured[-1]) if measured else (None, None)
            slope = ""
            if first is not None and last is not None and tokens[first] != tokens[last]:
                slope = f"{(peaks[first] - peaks[last]) / (tokens[first] - tokens[last]) / 1e3:.1f}"
            table.add_row(way, *(f"{peaks[case] / 1e6:.0f}" if case in peaks else "" for case in cases), slope)
        yield table


def headline(results: Sequence[Result]) -> str:
    """The most important numbers in one line."""
    ours = next((result for result in results if result.way == OURS and result.ms is not None), None)
    if ours is None:
        return "ours was not measured"
    ratios = [f"{result.ratio:.2f}x {result.way}" for result in results if result.case == ours.case and result.ratio and result.way != OURS]
    lines = verdicts(results)
    met = f"{sum(line.startswith('met') for line in lines)} of {len(lines)} targets met"
    return f"{ours.case.title}: {OURS} {ours.ms:.3g} ms, {', '.join(ratios)}; {met}"
