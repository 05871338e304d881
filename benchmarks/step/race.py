"""What does a training step cost, packed and as others do it? `python -m benchmarks.step.race [--targets] [--json FILE] [--plot FILE.png]`

The same weights, days and masks go forward and backward under bf16 autocast, without the optimizer, in every way of train_step_ways.py.
First, ways that compute the same thing are compared in float32 on a small model: loss and every gradient. Then each takes one step in
which its memory is counted, and all take turns; a time is the median of the rounds. FLOPs are by formula (train_step_work.py), and percent
refer to the best rate of a large matrix product that runs beside the ways. A ratio is a way's time over that of `ours_cross`. What must be
found out once per batch, such as block masks or which tokens to keep, is `prepare`, in no other number. Ways that compile long take turns
with `ours_cross` once more, after all others: their ratio is to its time there.
`python -m pytest benchmarks/step/race.py` is a short version.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.measure.agreement import describe_error
from benchmarks.measure.environment import describe_machine, name_machine
from benchmarks.measure.results import write_results
from benchmarks.measure.tables import show
from benchmarks.measure.timing import gpu_seconds, product_yardstick, race, seconds, square_product
from benchmarks.step.figure import draw
from benchmarks.step.memory import find_free_bytes, measure_peak_bytes
from benchmarks.step.tables import (
    OURS,
    TARGET_MISSING,
    TARGET_WINDOW,
    TARGETS,
    WINDOWS,
    Case,
    Result,
    headline,
    memory_tables,
    races_of,
    verdicts,
    way_tables,
)
from benchmarks.step.ways import COMPILED, SLOW_TO_COMPILE, WAYS, Days, Step, check_agreement, small_config
from lsm2 import presets
from lsm2.config import LSM2Config

PRESETS = ("tiny", "small", "base")
LAPS_OF_SMALL_THINGS = 3
SHARE_OF_MEMORY = 0.9
LOSS_TOLERANCE = 0.02
"""Relative, between ways under bf16 autocast."""


@pytest.mark.benchmark(group="train_step")
@pytest.mark.parametrize("missing", [0.2, 0.49, 0.8])
@pytest.mark.parametrize("preset", ["tiny", "base"])
def bench_train_step(benchmark, device, preset, missing):
    on_gpu = device.type == "cuda"
    names = ["ours_joint", "ours_full", "padded", "paper", "dense"]
    if not on_gpu:
        names.remove("dense")  # it takes longer than all others together
        if preset == "base" and missing != TARGET_MISSING:
            pytest.skip("base is timed on a CPU at one missing fraction only: it takes a minute")
    check_agreement([OURS, *names], device)
    days = Days.draw(getattr(presets, preset)(), 64 if on_gpu else 1 if preset == "base" else 2, missing)
    ours, peers = Step.of(OURS, days, device), {name: Step.of(name, days, device) for name in names}
    print(f"\n  {preset}, {len(days.values)} days, {missing:.0%} missing, {len(ours.batch.visible_ids)} visible tokens")
    race(benchmark, ours, peers, rounds=10 if on_gpu else 3, useful_flops=ours.count_flops()[0])


@dataclass(frozen=True)
class Settings:
    """Of a run; patience is the most seconds that a step may need to take part."""

    device: torch.device
    rounds: int
    patience: float
    dry_run: bool

    def config(self, case: Case) -> LSM2Config:
        config = small_config() if self.dry_run else getattr(presets, case.preset)()
        return dataclasses.replace(config, window_minutes=config.window_minutes * WINDOWS[case.window])

    def measure(self, call: Callable[[], object]) -> float:
        return gpu_seconds(call) if self.device.type == "cuda" else seconds(call)


def plan(args: argparse.Namespace, settings: Settings, num_days: int) -> list[tuple[Case, list[str]]]:
    """Races: short windows first, as what long ones need is estimated from them; ways that compile long in races of their own, last."""
    races: list[tuple[Case, list[str]]] = []
    for preset in args.presets:
        for window in sorted(args.window, key=lambda name: WINDOWS[name]):
            for missing in args.missing:
                name = f"{preset} (dry run)" if settings.dry_run else preset
                case = Case(name, window, missing / 100, max(1, num_days // WINDOWS[window]), 0)
                races.append((dataclasses.replace(case, window_tokens=settings.config(case).num_tokens), choose_ways(args, preset)))
    usual = [(case, [name for name in names if name not in SLOW_TO_COMPILE]) for case, names in races]
    slow = [(case, [name for name in names if name == OURS or name in SLOW_TO_COMPILE]) for case, names in races]
    return [(case, names) for case, names in (*usual, *slow) if names and names != [OURS]] or usual


def run_case(
    case: Case, names: Sequence[str], settings: Settings, earlier: Sequence[Result], advance: Callable[[str], object]
) -> list[Result]:
    """All ways on the same days: each warms up and has its memory counted, then all take turns."""
    days = Days.draw(settings.config(case), case.num_windows, case.missing)
    on_cpu = settings.device.type == "cpu"
    product = product_yardstick(torch.bfloat16) if on_cpu else square_product(torch.bfloat16, 8192, settings.device)
    products = [settings.measure(product.call) for _ in range(LAPS_OF_SMALL_THINGS)]
    steps: dict[str, Step] = {}
    results: dict[str, Result] = {}
    for name in names:
        advance(f"{case.title}: {name}, warming up")
        try:
            step = Step.of(name, days, settings.device)
            results[name] = prepare_result(name, case, step, product.work / min(products), settings, earlier)
        except Exception as error:
            if name.startswith("ours") and not isinstance(error, torch.OutOfMemoryError):
                raise
            results[name] = Result(case, name, note=f"does not run: {describe_error(error)}")
        if not results[name].note:
            steps[name] = step
    check_losses(results)
    laps: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(settings.rounds):
        for name, step in steps.items():
            advance(f"{case.title}: {name}, round {turn + 1}")
            products.append(settings.measure(product.call))
            laps[name].append(settings.measure(step))
    rate = product.work / min(products)
    median = {name: statistics.median(times) for name, times in laps.items()}
    for name in steps:
        ratio = median[name] / median[OURS] if OURS in median and steps[name].backward else None
        note = "" if steps[name].backward else "forward only"
        laps_ms = tuple(1e3 * lap for lap in laps[name])
        results[name] = dataclasses.replace(
            results[name], ms=1e3 * median[name], laps_ms=laps_ms, product_rate=rate, ratio=ratio, note=note
        )
    return list(results.values())


def prepare_result(name: str, case: Case, step: Step, product_rate: float, settings: Settings, earlier: Sequence[Result]) -> Result:
    """Everything but the laps; a note if the step would need more time or memory than there is."""
    useful, total = step.count_flops()
    result = Result(case, name, step.backward, len(step.batch.visible_ids), len(step.batch.query_ids), useful, total)
    needed_seconds, needed_bytes = estimate_need(result, step, product_rate, earlier)
    free = find_free_bytes(settings.device)
    if needed_seconds > settings.patience or needed_bytes > SHARE_OF_MEMORY * free:
        memory = f"{needed_bytes / 1e9:.3g} GB ({free / 1e9:.3g} GB are free) and " if needed_bytes else ""
        return dataclasses.replace(
            result, estimated_ms=1e3 * needed_seconds, note=f"not run: needs about {memory}{needed_seconds:.0f} s a step"
        )
    first_call = None
    if step.way.compile is not None or not step.way.backward_on_cpu or settings.device.type == "cuda":
        first_call = seconds(step)
    losses: list[torch.Tensor] = []
    peak = measure_peak_bytes(lambda: losses.append(step()), settings.device)
    prepare = [seconds(step.prepare) for _ in range(LAPS_OF_SMALL_THINGS)] if step.way.prepare is not None else [0.0]
    prepare_ms = 1e3 * statistics.median(prepare)
    return dataclasses.replace(result, peak_bytes=peak, prepare_ms=prepare_ms, first_call_s=first_call, loss=losses[0].item())


def estimate_need(result: Result, step: Step, product_rate: float, earlier: Sequence[Result]) -> tuple[float, float]:
    """Seconds and bytes of a step, from the way's last case of this preset; where there is none, its products' seconds alone, and 0."""
    case = result.case
    last = next((old for old in reversed(earlier) if (old.case.preset, old.way) == (case.preset, result.way) and old.ms is not None), None)
    if last is None or last.ms is None or last.peak_bytes is None:
        return result.total_flops / product_rate, 0.0
    power = 2 if step.way.quadratic_on_cpu and step.device.type == "cpu" else 1
    growth = (case.window_tokens / last.case.window_tokens) ** power * case.num_windows / last.case.num_windows
    return result.total_flops / last.total_flops * last.ms / 1e3, last.peak_bytes * growth


def check_losses(results: dict[str, Result]) -> None:
    """At full size and in bf16, too, ways with the same decoder must give the same loss."""
    for name, result in results.items():
        ours = results.get(f"ours_{WAYS[name].decoder}")
        if result.loss is not None and ours is not None and ours.loss is not None:
            assert abs(result.loss - ours.loss) <= LOSS_TOLERANCE * ours.loss, f"the loss of {name} is {result.loss}, ours {ours.loss}"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=["tiny"])
    parser.add_argument("--missing", nargs="+", type=int, default=[49], help="percent of a day's hours, mean over the batch")
    parser.add_argument("--ways", nargs="+", choices=WAYS, help="default: all but those under torch.compile")
    parser.add_argument("--targets", action="store_true", help="only what was aimed at: presets base and tiny, 49 percent, a day")
    parser.add_argument("--days", type=int, help="in a batch; of weeks a seventh; default 6 on a CPU, 64 on a GPU")
    parser.add_argument("--window", nargs="+", choices=WINDOWS, default=["day"])
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--rounds", type=int, help="default: 3 on a CPU, 10 on a GPU")
    parser.add_argument("--patience", type=float, default=300.0, help="seconds; a step that needs more is not taken")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no case is begun after so long; those left out are named")
    parser.add_argument("--json", type=Path, help="file for all numbers, written anew after every case")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="picture; needs matplotlib")
    parser.add_argument("--dry-run", action="store_true", help="a tiny model on the CPU, one round: shows that the program runs")
    args = parser.parse_args()
    if args.plot is not None and find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install matplotlib")
    if args.targets:
        args.presets, args.missing, args.window = ["base", "tiny"], [round(100 * TARGET_MISSING)], [TARGET_WINDOW]
    return args


def choose_ways(args: argparse.Namespace, preset: str) -> list[str]:
    """In the order of WAYS."""
    wanted = args.ways or [name for name in WAYS if name not in COMPILED]
    if args.targets and not args.ways:
        wanted = {name for target in TARGETS if target.preset == preset for name in (target.ours, target.peer)}
    return [name for name in WAYS if name in wanted]


def run_races(races: list[tuple[Case, list[str]]], args: argparse.Namespace, settings: Settings) -> tuple[list[Result], dict[str, str]]:
    """One result per case and way, and what is wrong with ways that do not run here; races that are done are taken off the list."""
    start = time.monotonic()
    results: dict[tuple[Case, str], Result] = {}
    faults: dict[str, str] = {}
    checked: set[str] = set()
    machine = describe_machine() | {"dry_run": settings.dry_run}  # once: it starts other programs
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=sum(len(names) for _, names in races) * (1 + settings.rounds))
        with contextlib.suppress(KeyboardInterrupt):  # it ends the measurement, not the report
            while races and time.monotonic() - start < args.seconds:
                case, names = races[0]
                bar.update(task, description="checking that the ways agree")
                faults |= check_agreement([name for name in names if name not in checked], settings.device)
                checked |= set(names)
                names = [name for name in names if name not in faults]
                earlier = list(results.values())
                for result in run_case(case, names, settings, earlier, lambda text: bar.update(task, advance=1, description=text)):
                    results.setdefault((case, result.way), result)
                races.pop(0)
                if args.json is not None:
                    write_results(args.json, races_of(list(results.values()), faults), machine=machine)
    return list(results.values()), faults


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() and not args.dry_run else "cpu")
    on_gpu = device.type == "cuda"
    settings = Settings(device, 1 if args.dry_run else args.rounds or (10 if on_gpu else 3), args.patience, args.dry_run)
    machine = name_machine(device)
    races = plan(args, settings, args.days or (2 if args.dry_run else 64 if on_gpu else 6))
    results, faults = run_races(races, args, settings)
    show([*way_tables(results), *memory_tables(results)])
    if args.plot is not None and results:
        draw(args.plot, results, machine)
    notes = [f"does not run on this device: {name}: {fault}" for name, fault in faults.items()]
    notes += [f"left out for want of time: {case.title}: {', '.join(names)}" for case, names in races]
    if args.dry_run:
        notes.append("a dry run: no number above says anything about speed")
    for line in (*notes, *verdicts(results), f"{machine}: {headline(results)}"):
        print(line)


if __name__ == "__main__":
    main()
