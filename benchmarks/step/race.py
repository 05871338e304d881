"""What does a training step cost, packed and as others do it? `python -m benchmarks.step.race [--targets]
[--json FILE]`

The same weights, days and masks go forward and backward, under bf16 autocast where the device multiplies
bfloat16 natively, without the optimizer, in every way of ways.py. First, ways that compute the same thing are
compared in float32 on a small model: loss and every gradient. Then each takes one step in which its memory is
counted, and all take turns; a time is the median of the rounds. FLOPs are by formula (work.py), and percent
refer to the best rate of a large matrix product that runs beside the ways. A ratio is a way's time over that
of `ours_cross`. What must be found out once per batch, such as block masks or which tokens to keep, is
`prepare`, in no other number. Ways that compile long take turns with `ours_cross` once more, after all
others: their ratio is to its time there.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure.agreement import describe_error
from benchmarks.measure.environment import describe_machine, name_machine
from benchmarks.measure.figures import draw_panels, panels_by_parameter
from benchmarks.measure.options import add_run_options, make_parser
from benchmarks.measure.results import Race
from benchmarks.measure.tables import count_met, race_tables, show
from benchmarks.measure.timing import clock_of, compare_laps, seconds
from benchmarks.measure.turns import end, take_turns
from benchmarks.measure.yardsticks import product_yardstick
from benchmarks.step.memory import find_free_bytes, measure_peak_bytes
from benchmarks.step.tables import OURS, TARGET_CASE, TARGETS, make_title, memory_tables
from benchmarks.step.ways import COMPILED, SLOW_TO_COMPILE, WAYS, Days, Step, check_agreement, small_config
from lsm2 import presets
from lsm2.config import LSM2Config, Precision
from lsm2.model.precision import choose_precision

PRESETS = ("tiny", "small", "base")
DAYS_IN_WINDOW = {"day": 1, "week": 7}
LAPS_OF_SMALL_THINGS = 3
SHARE_OF_MEMORY = 0.9
LOSS_TOLERANCE = 0.02
"""Relative, between ways under bf16 autocast."""
Turn = tuple[dict[str, Any], tuple[str, ...]]
"""The parameters of a race, and the ways that take part."""


@dataclass(frozen=True)
class Settings:
    """Of a run; patience is the most seconds that a step may need to take part."""

    device: torch.device
    precision: Precision
    rounds: int
    patience: float
    dry_run: bool

    @property
    def dtype(self) -> str:
        """Of the products."""
        return {"bf16": "bfloat16", "fp32": "float32"}[choose_precision(self.precision, self.device)]

    def config(self, preset: str, window: str) -> LSM2Config:
        config = small_config() if self.dry_run else getattr(presets, preset)()
        return dataclasses.replace(config, window_minutes=config.window_samples * DAYS_IN_WINDOW[window])

    @property
    def measure(self) -> Callable[[Callable[[], object]], float]:
        """The clock."""
        return clock_of(self.device)


def plan(args: argparse.Namespace, settings: Settings, num_days: int) -> list[Turn]:
    """Short windows first, as long ones are estimated from them; ways that compile long come last."""
    turns: list[Turn] = []
    windows = sorted(args.window, key=lambda name: DAYS_IN_WINDOW[name])
    for preset, window, missing in product(args.presets, windows, args.missing):
        params = {
            "preset": f"{preset} (dry run)" if settings.dry_run else preset,
            "window": window,
            "missing": missing / 100,
            "num_windows": max(1, num_days // DAYS_IN_WINDOW[window]),
            "window_tokens": settings.config(preset, window).num_tokens,
        }
        turns.append((params, choose_ways(args, preset)))
    slow = {OURS, *SLOW_TO_COMPILE}
    usual = set(WAYS) - set(SLOW_TO_COMPILE)
    stages = [
        (params, tuple(name for name in names if name in stage))
        for stage, (params, names) in product((usual, slow), turns)
    ]
    return [(params, names) for params, names in stages if names and names != (OURS,)] or turns


def choose_ways(args: argparse.Namespace, preset: str) -> tuple[str, ...]:
    """In the order of WAYS."""
    wanted = args.ways or [name for name in WAYS if name not in COMPILED]
    if args.targets and not args.ways:
        of_preset = [target for target in TARGETS if target.params["preset"] == preset]
        wanted = {name for target in of_preset for name in (target.ours, target.peer)}
    return tuple(name for name in WAYS if name in wanted)


def race(turn: Turn, settings: Settings, earlier: Sequence[Race]) -> Race:
    """All ways on the same days: each warms up and has its memory counted, then all take turns."""
    params, names = turn
    config = settings.config(params["preset"].split()[0], params["window"])
    days = Days.draw(config, params["num_windows"], params["missing"])
    title, dtype = make_title(params, settings.dtype), getattr(torch, settings.dtype)
    ruler = product_yardstick(dtype, settings.device)
    products = [settings.measure(ruler.call) for _ in range(LAPS_OF_SMALL_THINGS)]
    steps: dict[str, Step] = {}
    ways: dict[str, dict[str, Any]] = {}
    for name in names:
        try:
            step = Step.of(name, days, settings.device, settings.precision)
            ways[name] = prepare(name, params, step, ruler.work / min(products), settings, earlier)
        except Exception as error:
            if name.startswith("ours") and not isinstance(error, torch.OutOfMemoryError):
                raise
            ways[name] = {"error": f"does not run: {describe_error(error)}"}
        if "error" not in ways[name]:
            steps[name] = step
    check_losses(ways)
    laps: dict[str, list[float]] = {name: [] for name in steps}
    for _, (name, step) in product(range(settings.rounds), steps.items()):
        products.append(settings.measure(ruler.call))
        laps[name].append(settings.measure(step))
    for name, times in (compare_laps(laps) if laps else {}).items():
        second, num_days = times["median_seconds"], params["num_windows"] * DAYS_IN_WINDOW[params["window"]]
        rates: dict[str, Any] = {"days_per_second": num_days / second}
        rates["visible_tokens_per_second"] = ways[name]["visible_tokens"] / second
        if not steps[name].backward:
            del times["ratio_to_ours"]
            rates["note"] = "forward only"
        ways[name] = times | ways[name] | rates
        if OURS not in laps:
            ways[name].pop("ratio_to_ours", None)
    rate = {"flops_per_second": ruler.work / min(products)}
    return Race(
        "train_step", title, params, ways, {"dtype": settings.dtype, "ceilings": rate}, laps.get(OURS, ())
    )


def prepare(
    name: str,
    params: dict[str, Any],
    step: Step,
    product_rate: float,
    settings: Settings,
    earlier: Sequence[Race],
) -> dict[str, Any]:
    """Everything but the laps; an error if the step would need more time or memory than there is."""
    useful, total = step.count_flops()
    found: dict[str, Any] = {
        "visible_tokens": len(step.batch.visible_ids),
        "query_tokens": len(step.batch.query_ids),
        "useful_flops": useful,
        "total_flops": total,
    }
    needed_seconds, needed_bytes = estimate_need(name, params, step, total, product_rate, earlier)
    free = find_free_bytes(settings.device)
    if needed_seconds > settings.patience or needed_bytes > SHARE_OF_MEMORY * free:
        memory = f"{needed_bytes / 1e9:.3g} GB ({free / 1e9:.3g} GB are free) and " if needed_bytes else ""
        error = f"not run: needs about {memory}{needed_seconds:.0f} s a step"
        return found | {"estimated_ms": 1e3 * needed_seconds, "error": error}
    if step.way.compile is not None or not step.way.backward_on_cpu or settings.device.type == "cuda":
        found["first_call_s"] = seconds(step)
    losses: list[torch.Tensor] = []
    found["peak_bytes"] = measure_peak_bytes(lambda: losses.append(step()), settings.device)
    found["loss"] = losses[0].item()
    if step.way.prepare is not None:
        laps = [seconds(step.prepare) for _ in range(LAPS_OF_SMALL_THINGS)]
        found["metadata_ms"] = 1e3 * statistics.median(laps)
    return found


def estimate_need(
    name: str,
    params: dict[str, Any],
    step: Step,
    total_flops: float,
    product_rate: float,
    earlier: Sequence[Race],
) -> tuple[float, float]:
    """Seconds and bytes of a step, from the way's last race with this preset, else of its products alone."""
    for last in reversed(earlier):
        way = last.ways.get(name, {})
        if last.params["preset"] == params["preset"] and {"median_seconds", "peak_bytes"} <= set(way):
            power = 2 if step.way.quadratic_on_cpu and step.device.type == "cpu" else 1
            growth = (params["window_tokens"] / last.params["window_tokens"]) ** power
            growth *= params["num_windows"] / last.params["num_windows"]
            return total_flops / way["total_flops"] * way["median_seconds"], way["peak_bytes"] * growth
    return total_flops / product_rate, 0.0


def check_losses(ways: dict[str, dict[str, Any]]) -> None:
    """At full size, too, ways with the same decoder must give the same loss."""
    for name, way in ways.items():
        ours, theirs = ways.get(f"ours_{WAYS[name].decoder}", {}).get("loss"), way.get("loss")
        if ours is not None and theirs is not None:
            close = abs(theirs - ours) <= LOSS_TOLERANCE * ours
            assert close, f"the loss of {name} is {theirs}, ours {ours}"


def headline(races: Sequence[Race]) -> str:
    """The most important numbers in one line."""
    race = next((race for race in races if "median_seconds" in race.ways.get(OURS, {})), None)
    if race is None:
        return "ours was not measured"
    ratios = ", ".join(f"{ratio:.2f}x {name}" for name, ratio in race.ratios.items())
    return f"{race.case}: {OURS} {1e3 * race.ways[OURS]['median_seconds']:.3g} ms, {ratios}"


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=["tiny"])
    parser.add_argument("--missing", nargs="+", type=int, default=[49], help="percent of the hours")
    parser.add_argument("--ways", nargs="+", choices=WAYS, help="default: all but those under torch.compile")
    parser.add_argument("--targets", action="store_true", help="only the cases aimed at")
    parser.add_argument("--days", type=int, help="in a batch, of weeks a seventh; default: 6, on a GPU 64")
    parser.add_argument("--window", nargs="+", choices=DAYS_IN_WINDOW, default=["day"])
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--rounds", type=int, help="default: 3 on a CPU, 10 on a GPU")
    parser.add_argument("--patience", type=float, default=300.0, help="the most seconds that a step may need")
    add_run_options(parser)
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="picture; needs matplotlib")
    args = parser.parse_args(arguments)
    if args.plot is not None and find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install matplotlib")
    if args.targets:
        args.presets, args.window = ["base", "tiny"], [TARGET_CASE["window"]]
        args.missing = [round(100 * TARGET_CASE["missing"])]
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    torch.set_num_threads(args.threads)
    on_gpu = torch.cuda.is_available() and not args.dry_run
    device = torch.device("cuda" if on_gpu else "cpu")
    rounds = 1 if args.dry_run else args.rounds or (10 if on_gpu else 3)
    settings = Settings(device, args.precision, rounds, args.patience, args.dry_run)
    turns = plan(args, settings, args.days or (2 if args.dry_run else 64 if on_gpu else 6))
    faults: dict[str, str] = {}
    checked: set[str] = set()

    def take(turn: Turn, earlier: list[Race]) -> Iterator[Race]:
        """After a check that ways agree; what does not run here stands in every race with its fault."""
        params, names = turn
        faults.update(check_agreement([name for name in names if name not in checked], device))
        checked.update(names)
        found = race((params, tuple(name for name in names if name not in faults)), settings, earlier)
        found.ways.update({name: {"error": fault} for name, fault in faults.items()})
        yield found

    def title(turn: Turn) -> str:
        return f"{make_title(turn[0], settings.dtype)}: {', '.join(turn[1])}"

    races = take_turns(turns, take, title, args)
    show([*race_tables(races), *memory_tables(races)])
    machine = name_machine(describe_machine())
    drawn = [panel for _, panels in panels_by_parameter(races) for panel in panels]
    if args.plot is not None and drawn:
        args.plot.write_bytes(draw_panels(drawn, f"{machine}; hollow: estimated, not run"))
    notes = [f"does not run on this device: {name}: {fault}" for name, fault in faults.items()]
    verdicts = [target.verdict(races) for target in TARGETS]
    print(*notes, *verdicts, f"{machine}: {headline(races)}; {count_met(verdicts)}", sep="\n")
    end(args)


if __name__ == "__main__":
    main()
