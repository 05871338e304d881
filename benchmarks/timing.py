"""The only clock of the benchmarks, and the race that compares ways of doing one thing fairly on a noisy machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def clock() -> float:
    """Seconds on a monotonic clock, once the GPU, if there is one, has finished what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(way: Callable[[], object]) -> float:
    """How long one call takes."""
    start = clock()
    way()
    return clock() - start


def race(
    benchmark, ours: Callable[[], object], peers: Mapping[str, Callable[[], object]], *, rounds: int, useful_flops: float | None = None
) -> None:
    """Time `ours` with pytest-benchmark; every peer runs once before each of its rounds, so drift of the machine hits all alike.

    The peers' medians, the ratios peer / ours (above 1: ours is faster) and useful GFLOP/s go into extra_info and are printed.
    """
    for way in (ours, *peers.values()):  # warm-up: allocation, compilation, caches
        way()
        way()
    laps: dict[str, list[float]] = {name: [] for name in peers}

    def run_peers() -> None:
        for name, way in peers.items():
            laps[name].append(seconds(way))

    benchmark.pedantic(ours, setup=run_peers, rounds=rounds, iterations=1)
    our_median = benchmark.stats.stats.median
    line = [f"ours {our_median * 1e3:.2f} ms"]
    for name, times in laps.items():
        median = statistics.median(times)
        benchmark.extra_info[name] = {"median_seconds": median, "ratio_to_ours": median / our_median}
        line.append(f"{name} {median * 1e3:.2f} ms ({median / our_median:.2f}x)")
    if useful_flops is not None:
        benchmark.extra_info["useful_gflops"] = useful_flops / our_median / 1e9
        line.append(f"{useful_flops / our_median / 1e9:.0f} useful GFLOP/s")
    print("  " + ", ".join(line))
