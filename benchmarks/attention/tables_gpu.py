"""The tables of benchmarks.attention.race_gpu, and what was aimed at: each target is met, missed or not measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.attention.problem import BOTH, DIRECTIONS, FORWARD, OURS
from benchmarks.measure.results import Race
from benchmarks.measure.tables import grouped, verdict
from benchmarks.measure.timing import summarise

LEAST_RATIO = 0.95
"""Nowhere should the best peer take less of our time than this."""


@dataclass(frozen=True)
class Result:
    """One way in one race; no laps but a note where it could not take part. `ratio` is to ours, metadata_ms is spent once per batch."""

    pattern: str
    head_dim: int
    direction: str
    way: str
    laps: tuple[float, ...] = ()
    """Seconds."""
    flops: float = 0.0
    moved_bytes: float = 0.0
    """Both useful ones."""
    product_rate: float = 0.0
    """FLOP/s of a large matrix product, in the same race."""
    ratio: float | None = None
    metadata_ms: float | None = None
    note: str = ""

    @property
    def ms(self) -> float | None:
        """Median of the laps."""
        return statistics.median(self.laps) * 1e3 if self.laps else None

    @property
    def tflops(self) -> float:
        """Useful TFLOP/s; 0 where there are no laps."""
        return self.flops / statistics.median(self.laps) / 1e12 if self.laps else 0.0

    @property
    def share_of_product(self) -> float:
        """Of the rate of the matrix product."""
        return self.tflops * 1e12 / self.product_rate if self.laps else 0.0

    @property
    def case(self) -> tuple[str, int, str]:
        """What is computed."""
        return self.pattern, self.head_dim, self.direction


@dataclass(frozen=True)
class Target:
    """At least so many useful TFLOP/s, or so many times as fast as a peer."""

    pattern: str
    head_dim: int
    direction: str
    wanted: float
    peer: str | None = None

    def verdict(self, results: Sequence[Result]) -> str:
        """One line."""
        measured = next((result for result in results if (*result.case, result.way) == self._measured_by()), None)
        value = None if measured is None or not measured.laps else measured.tflops if self.peer is None else measured.ratio
        what = f"{self.pattern}, D {self.head_dim}, {self.direction}: wanted {self.wanted:g}"
        what += " TFLOP/s" if self.peer is None else f"x the speed of {self.peer}"
        return verdict(None if value is None else value >= self.wanted, f"{what}, is {'unknown' if value is None else f'{value:.3g}'}")

    def _measured_by(self) -> tuple[str, int, str, str]:
        return self.pattern, self.head_dim, self.direction, self.peer or OURS


TARGETS = (
    Target("aim", 64, FORWARD, 400),
    Target("aim", 64, BOTH, 330),
    Target("aim", 128, FORWARD, 480),
    Target("aim", 128, BOTH, 400),
    Target("aim", 64, BOTH, 1.5, "torch_varlen"),
    Target("short", 64, BOTH, 2.0, "torch_varlen"),
)


def races_of(results: Sequence[Result], dtype: str) -> Iterator[Race]:
    """As they are saved: a race per case, ours as in its first; each way's ratio is to ours in the race that it took part in."""
    for (pattern, head_dim, direction), group in grouped(results, lambda result: result.case):
        ours = next(result for result in group if result.way == OURS)
        ways: dict[str, dict[str, Any]] = {}
        for result in group:
            times = summarise(result.laps) | {"ratio_to_ours": result.ratio} if result.laps else {"error": result.note}
            ways.setdefault(result.way, times | {"metadata_ms": result.metadata_ms})
        params = {"pattern": pattern, "head_dim": head_dim, "direction": direction, "dtype": dtype}
        extra = {
            "dtype": dtype,
            "useful_flops": ours.flops,
            "useful_bytes": ours.moved_bytes,
            "ceilings": {"flops_per_second": ours.product_rate},
        }
        yield Race("attention_gpu", f"D {head_dim}, {dtype}, {direction}, {pattern}", params, ways, extra, ours.laps)


def verdicts(results: Sequence[Result]) -> list[str]:
    """A line per target, then the closest that any peer comes."""
    lines = [target.verdict(results) for target in TARGETS]
    best = [result for result in best_peers(results).values() if result.ratio is not None]
    closest = min(best, key=lambda result: result.ratio or 0.0, default=None)
    if closest is None:
        return [*lines, verdict(None, f"everywhere: wanted {LEAST_RATIO}x the speed of the best peer, is unknown")]
    where = f"{closest.pattern}, D {closest.head_dim}, {closest.direction}, {closest.way}"
    met = (closest.ratio or 0.0) >= LEAST_RATIO
    return [
        *lines,
        verdict(met, f"everywhere: wanted {LEAST_RATIO}x the speed of the best peer, is {closest.ratio:.3g} at the least ({where})"),
    ]


def best_peers(results: Sequence[Result]) -> dict[tuple[str, int, str], Result]:
    """The fastest peer of each case, by its ratio to ours in its own race."""
    best: dict[tuple[str, int, str], Result] = {}
    for result in results:
        if (
            result.way != OURS
            and result.ratio is not None
            and result.ratio < (getattr(best.get(result.case), "ratio", None) or float("inf"))
        ):
            best[result.case] = result
    return best


def summary_table(results: Sequence[Result]) -> Iterator[str]:
    """A row per case: ours, and the best peer."""
    best = best_peers(results)
    yield f"{'lengths':9}{'D':>4}  {'direction':18}{'ours ms':>9}{'TFLOP/s':>9}{'% product':>11}  {'best peer':20}{'ratio':>7}"
    for case, ours in first_of_ours(results).items():
        pattern, head_dim, direction = case
        peer = best.get(case)
        beaten = f"{peer.way:20}{peer.ratio:6.2f}x" if peer is not None else "none"
        yield f"{pattern:9}{head_dim:4}  {direction:18}{ours.ms:9.3f}{ours.tflops:9.3g}{100 * ours.share_of_product:11.1f}  {beaten}"


def first_of_ours(results: Sequence[Result]) -> dict[tuple[str, int, str], Result]:
    """Ours in each case's first race, in which most ways took part."""
    ours: dict[tuple[str, int, str], Result] = {}
    for result in results:
        if result.way == OURS:
            ours.setdefault(result.case, result)
    return ours


def detail_table(results: Sequence[Result]) -> Iterator[str]:
    """Every way of every case, also those that failed; ours once per race."""
    for case in first_of_ours(results):
        pattern, head_dim, direction = case
        yield f"{pattern}, D {head_dim}, {direction}"
        for result in results:
            if result.case != case:
                continue
            if not result.laps:
                yield f"  {result.way:20}{result.note}"
                continue
            middle, low, high, _ = (1e3 * seconds for seconds in summarise(result.laps).values())
            times = f"{middle:9.3f} ms (p20 {low:.3f}, p80 {high:.3f}, {len(result.laps)} laps)"
            metadata = f"  metadata {result.metadata_ms:.2f} ms" if result.metadata_ms else ""
            shares = f"{result.tflops:7.3g} TFLOP/s{100 * result.share_of_product:6.1f}%{result.ratio:7.2f}x"
            yield f"  {result.way:20}{times:50}{shares}{metadata}"


def headline(results: Sequence[Result]) -> str:
    """The most important numbers in one line."""
    ours, best, parts = first_of_ours(results), best_peers(results), []
    for direction in DIRECTIONS:
        case = next((case for case in ours if case[2] == direction), None)
        if case is not None:
            peer = best.get(case)
            against = "" if peer is None else f", {peer.ratio:.2f}x {peer.way}"
            parts.append(f"{case[0]} D {case[1]} {direction} {ours[case].tflops:.3g} TFLOP/s{against}")
    lines = verdicts(results)
    return "; ".join([*parts, f"{sum(line.startswith('met') for line in lines)} of {len(lines)} targets met"])
