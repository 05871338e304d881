"""How fast is packed attention on a GPU against every other way? `python -m benchmarks.attention.race_gpu [--json FILE] [--dry-run]`

Every way (attention_gpu_peers.py) is first checked against ours, then all take turns, with a large matrix product among them: its rate is
what `% of product` refers to. Times are medians by the GPU's clock with an empty cache. Useful are 4 n^2 D FLOPs per sequence and head
forward, 2.5 times as many more backward. A ratio is a peer's time over that of ours in the same race: above 1, ours is faster.
What a way must compute once per batch, such as the longest length or a mask, is timed apart and is in no ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.attention.own_peers import load_peers
from benchmarks.attention.patterns import GPU_PATTERNS, gpu_lengths, useful_bytes, useful_flops
from benchmarks.attention.peers import LEAST_TRIED, PEERS, SLOW_TO_COMPILE, GpuProblem, NotApplicable
from benchmarks.attention.problem import BOTH, DIRECTIONS, NUM_HEADS, OURS, Way, ours
from benchmarks.attention.tables_gpu import Result, detail_table, headline, races_of, summary_table, verdicts
from benchmarks.measure.agreement import assert_same, describe_error
from benchmarks.measure.environment import describe_machine
from benchmarks.measure.results import write_results
from benchmarks.measure.timing import gpu_seconds, laps_of, seconds, square_product

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
TOLERANCES = {torch.bfloat16: 3e-2, torch.float16: 5e-3, torch.float32: 1e-4}
"""Of the norm of a difference over that of the result; each of q's, k's and v's gradients is held to it."""
PRODUCT_SIZE = 8192
METADATA_ROUNDS = 3
DRY_RUN_SEQUENCES = 3


@dataclass(frozen=True)
class Settings:
    """Of a run: how often each way takes its turn, and for how many seconds at most; dry_run means tiny problems on the CPU."""

    dtype: torch.dtype
    rounds: int
    patience: float
    dry_run: bool

    @property
    def device(self) -> torch.device:
        return torch.device("cpu" if self.dry_run else "cuda")

    @property
    def measure(self) -> Callable[[Any], float]:
        return seconds if self.dry_run else gpu_seconds


@dataclass(frozen=True)
class Contestant:
    """A way in one direction; a call is what is timed."""

    way: Way
    backward: bool

    def __call__(self) -> Any:
        return self.way.call(backward=self.backward)()


def check_way(way: Way, our_way: Way, dtype: torch.dtype, *, backward: bool) -> None:
    """Raise AssertionError unless the result is that of ours, to the dtype's tolerance; q's, k's and v's gradients each."""
    with way.context():
        result = way.to_packed(way.call(backward=backward)())
    expected = our_way.to_packed(our_way.call(backward=backward)())
    pairs = zip(result.unbind(1), expected.unbind(1), strict=True) if backward else [(result, expected)]
    for actual, wanted in pairs:
        assert_same(actual, wanted, TOLERANCES[dtype], "gradient" if backward else "out")


def race(pattern: str, head_dim: int, names: Iterable[str], settings: Settings) -> list[Result]:
    """Times of ours and of these peers in both directions, on one problem."""
    lengths = [20 + 13 * i for i in range(DRY_RUN_SEQUENCES)] if settings.dry_run else gpu_lengths(pattern)
    lengths = [64] * DRY_RUN_SEQUENCES if settings.dry_run and pattern == "uniform" else lengths
    problem = GpuProblem.random(lengths, head_dim, settings.dtype, settings.device)
    ways = {OURS: ours(problem)}
    errors: dict[str, str] = {}
    for name in names:
        try:
            ways[name] = PEERS[name](problem)
        except NotApplicable:
            continue
        except Exception as error:
            errors[name] = describe_error(error)
    metadata = time_metadata(ways, settings)
    results = []
    for direction in DIRECTIONS:
        backward = direction == BOTH
        notes = errors | find_faults(ways, settings.dtype, backward=backward)
        product = square_product(settings.dtype, 128 if settings.dry_run else PRODUCT_SIZE, settings.device)
        calls: dict[str, Callable[[], Any]] = {"product": product.call}
        calls |= {name: Contestant(way, backward) for name, way in ways.items() if name not in notes}

        def measure(call: Callable[[], Any]) -> float:
            if not isinstance(call, Contestant):
                return settings.measure(call)
            with call.way.context():
                return settings.measure(call)

        laps = laps_of(calls, settings.rounds, measure=measure, patience=settings.patience)
        flops = useful_flops(lengths, NUM_HEADS, head_dim, backward=backward)
        moved = useful_bytes(sum(lengths), NUM_HEADS, head_dim, settings.dtype.itemsize, backward=backward)
        product_rate = product.work / statistics.median(laps["product"])
        for name in (OURS, *(name for name in PEERS if name in ways or name in errors)):
            case = pattern, head_dim, direction, name
            if name in notes:
                results.append(Result(*case, note=notes[name]))
                continue
            ratio = statistics.median(laps[name]) / statistics.median(laps[OURS])
            results.append(Result(*case, tuple(laps[name]), flops, moved, product_rate, ratio, metadata.get(name)))
    return results


def find_faults(ways: dict[str, Way], dtype: torch.dtype, *, backward: bool) -> dict[str, str]:
    """What is wrong with a way, by name, for those that do not give what ours does."""
    faults = {}
    for name, way in ways.items():
        try:
            check_way(way, ways[OURS], dtype, backward=backward)
        except Exception as error:
            if name == OURS:
                raise
            faults[name] = describe_error(error)
    return faults


def time_metadata(ways: dict[str, Way], settings: Settings) -> dict[str, float]:
    """Milliseconds on the host's clock, as most of it makes the host wait for the GPU; 0 where a batch needs nothing."""
    calls = {name: way.metadata for name, way in ways.items() if way.metadata is not None}
    laps = laps_of(calls, METADATA_ROUNDS, patience=settings.patience)
    return {name: statistics.median(laps[name]) * 1e3 if name in laps else 0.0 for name in ways}


def plan(patterns: Sequence[str], head_dims: Sequence[int], names: Sequence[str]) -> list[tuple[str, int, list[str]]]:
    """Races in the order of their worth: first the usual ways, then those that compile long, last what may bring the GPU down."""
    last = [name for name in (SLOW_TO_COMPILE, LEAST_TRIED) if name in names]
    usual = [name for name in names if name not in last]
    cases = [(pattern, head_dim) for head_dim in head_dims for pattern in patterns]
    first = [(pattern, head_dim) for pattern, head_dim in cases if head_dim == head_dims[0]]
    stages = [(cases, usual)]
    if SLOW_TO_COMPILE in last:
        stages.append((first, [SLOW_TO_COMPILE]))
    if LEAST_TRIED in last:
        stages.append((cases, [LEAST_TRIED]))
    if SLOW_TO_COMPILE in last:
        stages.append(([case for case in cases if case not in first], [SLOW_TO_COMPILE]))
    return [(pattern, head_dim, ways) for stage, ways in stages for pattern, head_dim in stage]


def label(pattern: str, head_dim: int, names: Sequence[str]) -> str:
    return f"{pattern}, D {head_dim}: {', '.join(names)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for all numbers, written anew after every race")
    parser.add_argument("--patterns", nargs="+", choices=(*GPU_PATTERNS, "simulated"), default=list(GPU_PATTERNS))
    parser.add_argument("--head-dims", nargs="+", type=int, default=[64, 128, 32])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--peer", type=Path, help="a Python file with ways of your own; see benchmarks/README.md")
    parser.add_argument("--dtype", choices=DTYPES, help="default: bfloat16, float32 in a dry run, as every CPU multiplies it natively")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--patience", type=float, default=0.4, help="seconds after which a way takes no further turn in a race")
    parser.add_argument("--seconds", type=float, default=115.0, help="no race is begun after so long; those left out are named")
    parser.add_argument("--dry-run", action="store_true", help="tiny problems on the CPU: shows that the program runs, and nothing else")
    args = parser.parse_args()
    args.dtype = args.dtype or ("float32" if args.dry_run else "bfloat16")
    if args.peer is not None:
        own = load_peers(args.peer)
        PEERS.update(own)
        args.peers += own
    start = time.monotonic()
    settings = Settings(DTYPES[args.dtype], 2 if args.dry_run else args.rounds, args.patience, args.dry_run)
    if args.dry_run:
        args.patterns, args.head_dims = args.patterns[-1:], args.head_dims[:1]
    if not args.dry_run and not torch.cuda.is_available():
        raise SystemExit("there is no GPU that torch can use; --dry-run shows on a CPU that the program runs")
    results: list[Result] = []
    failures: list[str] = []
    machine = describe_machine() | {"dry_run": args.dry_run}  # once: it starts other programs
    races = plan(args.patterns, args.head_dims, args.peers)
    with contextlib.suppress(KeyboardInterrupt):  # it ends the measurement, not the report
        while races and time.monotonic() - start < args.seconds:
            try:
                results += race(*races[0], settings)
            except Exception as error:
                failures.append(f"failed: {label(*races[0])}: {describe_error(error)}")
            print(f"{time.monotonic() - start:6.1f} s  {label(*races.pop(0))}")
            gc.collect()
            if args.json is not None:
                write_results(args.json, races_of(results, args.dtype), machine=machine | {"failures": failures})
    missing = [*failures, *(f"left out for want of time: {label(*race)}" for race in races)]
    if args.dry_run:
        print("a dry run: no number below says anything about speed")
    for lines in (detail_table(results), summary_table(results), verdicts(results), missing):
        print("", *lines, sep="\n")
    print(headline(results))
    if failures:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
