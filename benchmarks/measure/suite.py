"""Races inside a suite of pytest-benchmark, whose JSON then holds what every other result holds."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.measure.timing import WARM_UP_ROUNDS, compare_laps, gpu_seconds, seconds
from benchmarks.measure.yardsticks import Yardstick
from lsm2.model.precision import bfloat16_is_fast

NO_BFLOAT16 = "left out: PyTorch multiplies bfloat16 many times slower than float32 on this processor"


def native_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it natively, else float32."""
    return torch.bfloat16 if bfloat16_is_fast(device) else torch.float32


def name_dtype(dtype: torch.dtype) -> str:
    """As results name it."""
    return str(dtype).removeprefix("torch.")


def leave_out(benchmark, reason: str, **extra: Any) -> None:
    """Save why a race is not run; a skipped test would leave no trace in the results."""
    benchmark.pedantic(lambda: None, rounds=1)
    benchmark.extra_info.update(extra, ways={"ours": {"error": reason}})
    print(f"  {reason}")


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
    """Time `ours` with pytest-benchmark; every peer runs once before each of its rounds, so drift hits all
    alike.

    All ways' medians, the ratios peer / ours (above 1: ours is faster), the errors of peers that do not run,
    the best rates of the yardsticks that run beside them, and `extra` go into extra_info; see results.py. On
    a GPU times are by the GPU's clock; what pytest-benchmark itself reports of `ours` then contains the wait
    for the GPU. `on_host`: nothing here concerns a GPU.
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

    benchmark.pedantic(
        lambda: laps["ours"].append(measure(ours)), setup=run_peers, rounds=rounds, iterations=1
    )
    ways: dict[str, dict[str, Any]] = compare_laps(laps)
    ways |= {name: {"error": error} for name, error in (errors or {}).items()}
    benchmark.extra_info.update(extra | ({"ceilings": rates} if ceilings else {}), ways=ways)
    line = [
        f"{name} did not run: {way['error']}"
        if "error" in way
        else f"{name} {1e3 * way['median_seconds']:.2f} ms ({way['ratio_to_ours']:.2f}x)"
        for name, way in ways.items()
    ]
    if "useful_flops" in extra:
        rate = extra["useful_flops"] / ways["ours"]["median_seconds"]
        line.append(f"{rate / 1e9:.0f} useful GFLOP/s")
    print("  " + ", ".join(line))
