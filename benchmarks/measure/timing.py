"""The only clock of the benchmarks, by which all ways of doing one thing take turns."""

import functools
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import torch

Name = TypeVar("Name", bound=Hashable)
WARM_UP_ROUNDS = 2
"""For allocation, compilation and caches."""
FLUSH_BYTES = 1 << 30
"""Several times any GPU's cache; written in about a third of a millisecond."""


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


def gpu_seconds(way: Callable[[], object]) -> float:
    """How long the GPU works on one call, by its own clock, none of its inputs in the cache.

    The cache is emptied by writing other memory, and meanwhile the host can give the call's first kernels to
    the GPU: only what the host needs beyond that, or between kernels, is counted.
    """
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    _flush_buffer().zero_()
    start.record()
    way()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def clock_of(device: torch.device) -> Callable[[Callable[[], object]], float]:
    """What times one call there."""
    return gpu_seconds if device.type == "cuda" else seconds


@functools.cache
def _flush_buffer() -> torch.Tensor:
    return torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda")


def laps_of(
    ways: Mapping[Name, Callable[[], object]],
    rounds: int,
    *,
    measure: Callable[[Any], float] = seconds,
    patience: float = float("inf"),
    pause: float = 0.0,
) -> dict[Name, list[float]]:
    """Each way's times in seconds by `measure`; every way runs once a round, so drift of the machine hits all
    alike.

    Before come rounds that warm up. A way that has run for `patience` seconds in all sits out the rest.
    Before every call nothing runs for `pause` seconds: threads of some libraries keep a core busy for a while
    after their work.
    """
    laps: dict[Name, list[float]] = {name: [] for name in ways}
    for _ in range(WARM_UP_ROUNDS + rounds):
        for name, way in ways.items():
            if sum(laps[name]) < patience:
                time.sleep(pause)
                laps[name].append(measure(way))
    return {name: times[WARM_UP_ROUNDS:] or times for name, times in laps.items()}


def summarise(laps: Sequence[float]) -> dict[str, float]:
    """Median, where the fastest and the slowest fifth of the laps begin, the shortest, and their number."""
    fifths = statistics.quantiles(laps, n=5, method="inclusive") if len(laps) > 1 else [*laps] * 4
    return {
        "median_seconds": statistics.median(laps),
        "p20_seconds": fifths[0],
        "p80_seconds": fifths[-1],
        "shortest_seconds": min(laps),
        "rounds": len(laps),
    }


def compare_laps(
    laps: Mapping[str, Sequence[float]], by: str = "median_seconds"
) -> dict[str, dict[str, Any]]:
    """Of every way, ours first, what summarise says and the ratio of one of these numbers to that of ours."""
    ways = {name: summarise(times) for name, times in laps.items()}
    ours = next(iter(ways.values()))
    return {name: way | {"ratio_to_ours": way[by] / ours[by]} for name, way in ways.items()}
