"""How fast is packed attention against what people use now? `python -m benchmarks.attention.race [--json
FILE]`

On the GPU where there is one, else on the CPU. Every way of the table in peers.py is first checked against
ours, then all take turns in one process, with a large matrix product among them. A ratio is the time of
another way over that of ours in the same race (on a CPU the shortest, on a GPU the median): above 1, ours is
faster. Useful are 4 n^2 D FLOPs per sequence and head forward, 2.5 times as many more backward. On a CPU the
floor is what the machine needs at the least, useful FLOPs / rate of products + exponentials / rate of
exponentials, without overlap of the two, at the best rates that torch.mm on large square matrices and
torch.exp2 within the cache reached on the same threads. What a way must compute once per batch, such as the
longest length or a mask, is timed apart and is in no ratio.
"""

import argparse
import contextlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.attention.patterns import PATTERNS, SUITE_PATTERNS, draw_lengths, useful_work
from benchmarks.attention.peers import BASIC, LEAST_TRIED, PEERS, SLOW_TO_COMPILE, USUAL, Peer, load_peers
from benchmarks.attention.problem import (
    BOTH,
    DIRECTIONS,
    DTYPES,
    NUM_HEADS,
    OURS,
    REFERENCE,
    Problem,
    Way,
    at_level,
    check,
    enter,
    ours,
    set_level,
)
from benchmarks.measure.options import add_run_options, make_parser
from benchmarks.measure.results import Race
from benchmarks.measure.suite import NO_BFLOAT16
from benchmarks.measure.tables import best_ratio, race_tables, show, summary_table
from benchmarks.measure.timing import clock_of, compare_laps, laps_of
from benchmarks.measure.turns import end, take_turns
from benchmarks.measure.yardsticks import Yardstick, exponential_yardstick, product_yardstick, square_product
from lsm2.model.precision import bfloat16_is_fast
from lsm2_kernels import _ops

SETTLING_SECONDS = 0.2
"""Before every call, where a library whose threads wait busily takes part."""
METADATA_ROUNDS = 3
DRY_RUN_LENGTHS = {"uniform": [64] * 3}


@dataclass(frozen=True)
class Settings:
    """Of a run: how often each way takes its turn, and for how many seconds at most."""

    device: torch.device
    rounds: int
    patience: float
    levels: tuple[str, ...]
    dry_run: bool = False
    rates: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)
    """By dtype and threads, the best that this machine showed so far."""

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def by(self) -> str:
        """What ratios are of."""
        return "median_seconds" if self.on_gpu else "shortest_seconds"

    def yardsticks(self, dtype: torch.dtype) -> dict[str, Yardstick]:
        if self.dry_run:
            return {"flops_per_second": square_product(dtype, 128, self.device)}
        rulers = {"flops_per_second": product_yardstick(dtype, self.device)}
        return rulers if self.on_gpu else rulers | {"exponentials_per_second": exponential_yardstick()}


@dataclass(frozen=True)
class Turn:
    """Races of some peers in both directions on one problem."""

    threads: int
    dtype: str
    head_dim: int
    pattern: str
    names: tuple[str, ...]

    @property
    def title(self) -> str:
        names = ", ".join(self.names)
        return f"{self.threads} threads, {self.dtype}, D {self.head_dim}, {self.pattern}: {names}"


def race(turn: Turn, peers: dict[str, Peer], settings: Settings) -> Iterator[Race]:
    """Ours, at every level, against these peers, in both directions."""
    torch.set_num_threads(turn.threads)
    dtype = DTYPES[turn.dtype]
    lengths = draw_lengths(turn.pattern, settings.device.type)
    if settings.dry_run:
        lengths = DRY_RUN_LENGTHS.get(turn.pattern, [20, 33, 46])
    problem = Problem.random(lengths, turn.head_dim, dtype, settings.device)
    our_way = ours(problem)
    makers = {name: peers[name].make for name in turn.names if peers[name].missing is None}
    missing = {name: f"{module} is not installed" for name in turn.names if (module := peers[name].missing)}
    pause = SETTLING_SECONDS if any(peers[name].modules for name in makers) and not settings.on_gpu else 0.0
    rulers = settings.yardsticks(dtype)
    rates = settings.rates.setdefault((turn.dtype, turn.threads), dict.fromkeys(rulers, 0.0))
    for direction in DIRECTIONS:
        backward = direction == BOTH
        able, errors = enter(makers, problem, our_way, backward=backward)
        for level, peer in product(settings.levels[:-1], able.values()):
            set_level(level)
            check(peer, our_way, dtype, backward=backward)
        calls: dict[str, Any] = {name: ruler.call for name, ruler in rulers.items()}
        calls |= {name: peer.call(backward=backward) for name, peer in able.items()}
        contexts = {calls[name]: peer.context for name, peer in able.items()}
        our_call = our_way.call(backward=backward)
        calls |= {f"{OURS} {level}": at_level(level, our_call) for level in settings.levels}

        def measure(call: Any, contexts: Mapping[Any, Any] = contexts) -> float:
            with contexts.get(call, contextlib.nullcontext)():
                return clock_of(settings.device)(call)

        laps = laps_of(calls, settings.rounds, measure=measure, patience=settings.patience, pause=pause)
        for name, ruler in rulers.items():
            rates[name] = max(rates[name], ruler.work / min(laps[name]))
        work = useful_work(lengths, NUM_HEADS, turn.head_dim, dtype, backward=backward)
        metadata = time_metadata(able)
        for level in settings.levels:
            ways: dict[str, dict[str, Any]] = compare_laps(
                {OURS: laps[f"{OURS} {level}"]} | {name: laps[name] for name in able}, settings.by
            )
            for name, milliseconds in metadata.items():
                ways[name]["metadata_ms"] = milliseconds
            ways |= {name: {"error": error} for name, error in (errors | missing).items()}
            yield make_race(turn, direction, level, settings, ways, work | {"ceilings": rates}, laps)


def make_race(
    turn: Turn, direction: str, level: str, settings: Settings, ways: dict, extra: dict, laps: dict
) -> Race:
    """As it is saved."""
    params: dict[str, Any] = {} if settings.on_gpu else {"threads": turn.threads}
    params |= {"dtype": turn.dtype, "head_dim": turn.head_dim}
    params |= {"direction": direction, "pattern": turn.pattern}
    case = f"{turn.dtype}, D {turn.head_dim}, {direction}, {turn.pattern}"
    if not settings.on_gpu:
        params["level"] = level
        case = f"{turn.threads} threads, {case}, {level}"
    return Race("attention", case, params, ways, extra, laps.get(f"{OURS} {level}", ()))


def leave_out(turn: Turn, settings: Settings) -> Iterator[Race]:
    """What is saved of races that would take minutes where bfloat16 is not native."""
    for direction, level in product(DIRECTIONS, settings.levels):
        yield make_race(turn, direction, level, settings, {OURS: {"error": NO_BFLOAT16}}, {}, {})


def time_metadata(ways: dict[str, Way]) -> dict[str, float]:
    """Milliseconds on the host's clock, as most of it makes the host wait for the GPU."""
    calls = {name: way.metadata for name, way in ways.items() if way.metadata is not None}
    return {name: 1e3 * statistics.median(times) for name, times in laps_of(calls, METADATA_ROUNDS).items()}


def plan(args: argparse.Namespace, peers: dict[str, Peer]) -> list[Turn]:
    """In the order of their worth: the usual ways, then those that compile long, last what may crash."""
    by_stage = {
        stage: tuple(name for name in peers if peers[name].stage == stage)
        for stage in (USUAL, SLOW_TO_COMPILE, LEAST_TRIED)
    }
    cases = list(product(args.threads, args.dtypes, args.head_dims, args.patterns))
    first = [case for case in cases if case[2] == args.head_dims[0]]
    others = [case for case in cases if case not in first]
    stages = ((cases, USUAL), (first, SLOW_TO_COMPILE), (cases, LEAST_TRIED), (others, SLOW_TO_COMPILE))
    turns = [Turn(*case, by_stage[stage]) for group, stage in stages for case in group]
    return [turn for turn in turns if turn.names] or [Turn(*case, ()) for case in cases]


def headline(races: Sequence[Race], by: str) -> str:
    """The most important numbers in one line."""
    parts = []
    for direction in DIRECTIONS:
        able = [race for race in races if race.params["direction"] == direction and by in race.ways[OURS]]
        for race in able[:1]:
            speed = race.extra["useful_flops"] / race.ways[OURS][by] / 1e12
            best = best_ratio(race)
            parts.append(f"{race.case} {speed:.3g} TFLOP/s" + (f", {best[0]:.2f}x {best[1]}" if best else ""))
    return "; ".join(parts)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: the GPU where torch finds one")
    parser.add_argument("--patterns", nargs="+", choices=SUITE_PATTERNS, help="of lengths; see patterns.py")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, help="default: all, on a GPU bfloat16")
    parser.add_argument("--head-dims", nargs="+", type=int, help="default: 64, on a GPU 64 128 32")
    parser.add_argument("--threads", nargs="+", type=int, default=[2], help="of a CPU")
    parser.add_argument("--levels", nargs="+", help="instruction sets of our CPU kernels")
    parser.add_argument("--peers", nargs="*", metavar="NAME", help=f"`all`, or of: {', '.join(PEERS)}")
    parser.add_argument("--peer", type=Path, help="a Python file with ways of your own")
    parser.add_argument("--rounds", type=int, help="default: 9, on a GPU 12")
    parser.add_argument("--patience", type=float, help="seconds that a way may take in a race")
    add_run_options(parser)
    args = parser.parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU that torch can use; --dry-run shows on a CPU that the program runs")
    on_gpu = torch.cuda.is_available() and args.device != "cpu" and not args.dry_run
    kind = "cuda" if on_gpu or args.dry_run else "cpu"
    args.device = torch.device("cuda" if on_gpu else "cpu")
    args.skip_slow = args.dtypes is None
    args.dtypes = args.dtypes or (["float32"] if args.dry_run else ["bfloat16"] if on_gpu else list(DTYPES))
    args.head_dims = args.head_dims or ([64] if kind == "cpu" or args.dry_run else [64, 128, 32])
    args.patterns = args.patterns or list(PATTERNS[kind])[-1 if args.dry_run else 0 :]
    args.patience = args.patience or (0.4 if on_gpu else 60.0)
    args.rounds = 2 if args.dry_run else args.rounds or (12 if on_gpu else 9)
    named = BASIC[kind] if args.peers is None else args.peers
    if named == ["all"]:
        named = [name for name, peer in PEERS.items() if kind in peer.devices]
    unknown = [name for name in named if name not in PEERS]
    if unknown:
        parser.error(f"--peers: there is no {', '.join(unknown)}; there are {', '.join(PEERS)}")
    args.table = {name: PEERS[name] for name in PEERS if name in named}
    args.table |= load_peers(args.peer) if args.peer is not None else {}
    best = _ops.instruction_set() or REFERENCE
    for level in args.levels or []:
        try:
            set_level(level)
        except (ValueError, RuntimeError, AttributeError):
            known = ", ".join(_ops.INSTRUCTION_SETS)
            parser.error(f"--levels: no kernels for {level!r} on this machine; known are {known}")
    set_level(best)
    args.levels = (REFERENCE,) if on_gpu else tuple(args.levels or [best])
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    settings = Settings(args.device, args.rounds, args.patience, args.levels, args.dry_run)
    best = _ops.instruction_set() or REFERENCE
    without_bfloat16 = args.skip_slow and not bfloat16_is_fast(args.device)

    def take(turn: Turn, earlier: list[Race]) -> Iterator[Race]:
        slow = turn.dtype == "bfloat16" and without_bfloat16
        return leave_out(turn, settings) if slow else race(turn, args.table, settings)

    races = take_turns(plan(args, args.table), take, lambda turn: turn.title, args)
    set_level(best)
    show([*race_tables(races, settings.by), summary_table(races, "pattern", settings.by)])
    print(headline(races, settings.by))
    end(args)


if __name__ == "__main__":
    main()
