"""The only clock of the benchmarks, and the races that compare ways of doing one thing fairly on a noisy machine."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
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

    The cache is emptied by writing other memory, and meanwhile the host can give the call's first kernels to the GPU: only what the host
    needs beyond that, or between kernels, is counted.
    """
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    _flush_buffer().zero_()
    start.record()
    way()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


@functools.cache
def _flush_buffer() -> torch.Tensor:
    return torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda")


def race(
    benchmark,
    ours: Callable[[], object],
    peers: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    errors: Mapping[str, str] | None = None,
    ceilings: Mapping[str, Yardstick] | None = None,
    on_host: bool = False,
    **extra: Any,
) -> None:
    """Time `ours` with pytest-benchmark; every peer runs once before each of its rounds, so drift of the machine hits all alike.

    All ways' medians, the ratios peer / ours (above 1: ours is faster), the errors of peers that do not run, the best rates of the
    yardsticks that run beside them, and `extra` go into extra_info; see results.py. On a GPU times are by the GPU's clock; what
    pytest-benchmark itself reports of `ours` then contains the wait for the GPU. `on_host`: nothing here concerns a GPU.
    """
    measure = gpu_seconds if torch.cuda.is_available() and not on_host else seconds
    for way in (ours, *peers.values()):
        for _ in range(WARM_UP_ROUNDS):
            way()
    laps: dict[str, list[float]] = {"ours": [], **{name: [] for name in peers}}
    rates: dict[str, float] = {}

    def run_peers() -> None:
        for name, yardstick in (ceilings or {}).items():
            rates[name] = max(rates.get(name, 0.0), yardstick.work / measure(yardstick.call))
        for name, way in peers.items():
            laps[name].append(measure(way))

    benchmark.pedantic(lambda: laps["ours"].append(measure(ours)), setup=run_peers, rounds=rounds, iterations=1)
    ways = compare_laps(laps)
    benchmark.extra_info.update(
        extra | ({"ceilings": rates} if ceilings else {}), ways=ways | {name: {"error": error} for name, error in (errors or {}).items()}
    )
    line = [f"{name} {1e3 * way['median_seconds']:.2f} ms ({way['ratio_to_ours']:.2f}x)" for name, way in ways.items()]
    line += [f"{name} did not run: {error}" for name, error in (errors or {}).items()]
    if "useful_flops" in extra:
        line.append(f"{extra['useful_flops'] / ways['ours']['median_seconds'] / 1e9:.0f} useful GFLOP/s")
    print("  " + ", ".join(line))


def compare_laps(laps: Mapping[str, list[float]], by: str = "median_seconds") -> dict[str, dict[str, float]]:
    """Of every way, ours first, what summarise says and the ratio of one of these numbers to that of ours."""
    ways = {name: summarise(times) for name, times in laps.items()}
    ours = next(iter(ways.values()))
    return {name: way | {"ratio_to_ours": way[by] / ours[by]} for name, way in ways.items()}


def summarise(laps: Sequence[float]) -> dict[str, float]:
    """Median, where the fastest and the slowest fifth of the laps begin, and the shortest."""
    fifths = statistics.quantiles(laps, n=5, method="inclusive") if len(laps) > 1 else [*laps] * 4
    return {"median_seconds": statistics.median(laps), "p20_seconds": fifths[0], "p80_seconds": fifths[-1], "shortest_seconds": min(laps)}


def laps_of(
    ways: Mapping[Name, Callable[[], object]],
    rounds: int,
    *,
    measure: Callable[[Any], float] = seconds,
    patience: float = float("inf"),
    pause: float = 0.0,
    after_round: Callable[[], object] = lambda: None,
) -> dict[Name, list[float]]:
    """Each way's times in seconds by `measure`; every way runs once a round, in turn, so drift of the machine hits all alike.

    Before come rounds that warm up. A way that has run for `patience` seconds in all sits out the rest. Before every call nothing runs for
    `pause` seconds: threads of some libraries keep a core busy for a while after their work is done, at the cost of who comes next.
    """
    laps: dict[Name, list[float]] = {name: [] for name in ways}
    for turn in range(WARM_UP_ROUNDS + rounds):
        for name, way in ways.items():
            if sum(laps[name]) < patience:
                time.sleep(pause)
                laps[name].append(measure(way))
        if turn >= WARM_UP_ROUNDS:
            after_round()
    return {name: times[WARM_UP_ROUNDS:] or times for name, times in laps.items()}


def best_of(
    ways: Mapping[Name, Callable[[], object]],
    rounds: int,
    *,
    patience: float = float("inf"),
    pause: float = 0.0,
    after_round: Callable[[], object] = lambda: None,
) -> dict[Name, float]:
    """Each way's shortest time in seconds, as laps_of finds it."""
    laps = laps_of(ways, rounds, patience=patience, pause=pause, after_round=after_round)
    return {name: min(times) for name, times in laps.items()}


@dataclass(frozen=True)
class Yardstick:
    """A call that does a known amount of work as fast as the machine can; in a race it shows the machine's rate at that time."""

    work: float
    call: Callable[[], object]


def product_yardstick(dtype: torch.dtype, size: int = 2048) -> Yardstick:
    """FLOPs of torch.mm on large square CPU matrices, in the faster of this dtype and float32, which holds its values exactly.

    On a machine without float16 arithmetic torch.mm in float16 reaches a hundredth of the float32 rate: it says nothing of the machine.
    """
    small = {candidate: square_product(candidate, 192).call for candidate in {dtype, torch.float32}}
    times = best_of(small, rounds=5)
    return square_product(min(times, key=lambda candidate: times[candidate]), size)


def exponential_yardstick() -> Yardstick:
    """Exponentials by torch.exp2 in float32; each thread's share of input and result is 1 MiB, a core's own cache."""
    repeats = 20
    x = torch.linspace(-8, 0, 131072 * torch.get_num_threads())
    out = torch.empty_like(x)

    def exponentiate() -> None:
        for _ in range(repeats):
            torch.exp2(x, out=out)

    return Yardstick(repeats * x.numel(), exponentiate)


def square_product(dtype: torch.dtype, size: int, device: torch.device | str = "cpu") -> Yardstick:
    """FLOPs of torch.mm on square matrices of random numbers."""
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return Yardstick(2.0 * size**3, lambda: torch.mm(a, b, out=out))


def large_copy(num_bytes: int, device: torch.device | str) -> Yardstick:
    """Bytes read plus bytes written by a copy within the device's memory."""
    source = torch.randn(num_bytes // 4, device=device)
    target = torch.empty_like(source)
    return Yardstick(2.0 * num_bytes, lambda: target.copy_(source))


@functools.cache
def yardsticks(dtype: torch.dtype, device: torch.device) -> dict[str, Yardstick]:
    """What shows the ceilings over attention in a race: large matrix products in this dtype, and large copies."""
    on_gpu = device.type == "cuda"
    product = square_product(dtype, 8192, device) if on_gpu else product_yardstick(dtype, 1536)
    return {"flops_per_second": product, "bytes_per_second": large_copy(4 << 30 if on_gpu else 128 << 20, device)}
