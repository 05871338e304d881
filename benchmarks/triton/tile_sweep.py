"""Which tiles are fastest on this GPU? `python -m benchmarks.triton.tile_sweep [--json FILE] [--head-dims 64]
[--kernels forward dq dkdv]`

Every candidate is compiled by a pool of processes, which leave the results in Triton's cache; then the
candidates for a kernel take turns, launched as lsm2_kernels launches them. `pass` is the time of the whole
forward or backward pass, by which they are ranked: the tile of dkdv also decides how many sequences dq has
left to do. `alone` is that of the one kernel. A candidate that does not compile, does not fit, or does not
give what today's tile gives, is named. Last come rows for lsm2_kernels/triton/tiles.py. Where sequences are
short, a tile must take as many keys at a time as elsewhere, so that no bit of a result depends on a
sequence's neighbours.
"""

import contextlib
import math
import multiprocessing
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.attention.patterns import PATTERNS, draw_lengths
from benchmarks.attention.problem import Problem
from benchmarks.measure.agreement import assert_same, describe_error
from benchmarks.measure.options import add_run_options, make_parser
from benchmarks.measure.results import Race
from benchmarks.measure.tables import race_tables, show
from benchmarks.measure.timing import gpu_seconds, laps_of, seconds
from benchmarks.measure.turns import end, take_turns
from benchmarks.triton.tile_report import CANDIDATES, SHORT, Candidate, races_of, rows_for_tiles, title
from lsm2_kernels.triton import launch, tiles
from lsm2_kernels.triton.tiles import Tile

LAUNCHED = {"forward": "attention_forward", "dq": "attention_backward_dq", "dkdv": "attention_backward_dkdv"}
"""Names of the kernels in lsm2_kernels.triton.launch."""
TOLERANCE = 1e-2
"""Of the norm of a difference over that of the result with today's tile."""
LARGEST_HEAD_DIM = 256


@dataclass(frozen=True)
class Settings:
    """How often each candidate takes its turn, and for how many seconds at most."""

    rounds: int
    patience: float
    dry_run: bool

    def problem(self, pattern: str, head_dim: int, num_sequences: int | None = None) -> Problem:
        """In bfloat16, which Triton's interpreter cannot multiply."""
        if self.dry_run:
            return Problem.random([9, 40], head_dim, torch.float16)
        return Problem.random(draw_lengths(pattern, "cuda", num_sequences), head_dim, torch.bfloat16, "cuda")


class WatchedKernel:
    """Stands for a kernel in `launch`: times its last launch, or only compiles it."""

    def __init__(self, kernel: Any, *, only_compile: bool = False) -> None:
        self.kernel, self.only_compile = kernel, only_compile
        self.events = (
            [torch.cuda.Event(enable_timing=True) for _ in range(2)] if torch.cuda.is_available() else []
        )
        self.compiled: Any = None

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        def run(*arguments: Any, **options: Any) -> None:
            if self.only_compile:
                self.kernel.warmup(*arguments, grid=grid, **options)
                return
            for event in self.events[:1]:
                event.record()
            self.compiled = self.kernel[grid](*arguments, **options)
            for event in self.events[1:]:
                event.record()

        return run

    def seconds(self) -> float:
        """Of the last launch, which must be over; not a number where there is no GPU."""
        return self.events[0].elapsed_time(self.events[1]) / 1e3 if self.events else math.nan


@dataclass
class Trial:
    """The pass that a kernel is part of, and the times of the kernel within it."""

    problem: Problem
    kernel: str
    forward: Sequence[Tensor]
    tile: Tile | None = None
    alone: list[float] = field(default_factory=list)

    def __call__(self) -> Sequence[Tensor]:
        """out and lse, or the gradients of q, k and v."""
        problem, scale = self.problem, self.problem.qkv.shape[-1] ** -0.5
        if self.kernel == "forward":
            return launch.varlen_attention_qkvpacked(problem.qkv, problem.cu_seqlens, scale)
        out, lse = self.forward
        return launch.varlen_attention_qkvpacked_backward(
            problem.grad, None, problem.qkv, out, lse, problem.cu_seqlens, scale
        ).unbind(1)

    @contextlib.contextmanager
    def tile_in_use(self) -> Iterator[None]:
        """The tile serves the kernel, be sequences short or not; without one, what is in the table does."""
        table = tiles.TILES[launch._architecture(self.problem.qkv.device), self.problem.qkv.itemsize]
        names = (self.kernel,) if self.kernel == "dkdv" else (self.kernel, f"{self.kernel}_short")
        changes = {} if self.tile is None else {name: {LARGEST_HEAD_DIM: self.tile} for name in names}
        with mock.patch.dict(table, changes):
            yield


def compile_tile(head_dim: int, kernel: str, tile: Tile, patterns: Sequence[str], settings: Settings) -> str:
    """Compile what a pass with this tile launches, into Triton's cache; gives what is wrong."""
    try:
        for pattern in patterns:
            problem = settings.problem(pattern, head_dim, num_sequences=8)
            lse = torch.zeros(problem.grad.shape[1::-1], device=problem.grad.device)
            trial = Trial(problem, kernel, (problem.grad, lse), tile)
            kernels = {name: value for name, value in vars(launch).items() if hasattr(value, "warmup")}
            watched = {name: WatchedKernel(each, only_compile=True) for name, each in kernels.items()}
            with trial.tile_in_use(), mock.patch.dict(vars(launch), watched):
                trial()
    except Exception as error:
        return describe_error(error)
    return ""


def race(candidates: Sequence[Candidate], settings: Settings) -> None:
    """Fill in what each candidate for one kernel, head dim and pattern takes, or its fault."""
    first = candidates[0]
    problem = settings.problem(first.pattern, first.head_dim)
    forward = Trial(problem, "forward", ())()
    expected = Trial(problem, first.kernel, forward)()
    watched = WatchedKernel(getattr(launch, LAUNCHED[first.kernel]))

    def measure(trial: Trial) -> float:
        with trial.tile_in_use():
            elapsed = (seconds if settings.dry_run else gpu_seconds)(trial)
        trial.alone.append(watched.seconds())
        return elapsed

    trials: dict[int, Trial] = {}
    with mock.patch.object(launch, LAUNCHED[first.kernel], watched):
        for i, candidate in enumerate(candidates):
            if candidate.fault:
                continue
            trial = Trial(problem, first.kernel, forward, candidate.tile)
            try:
                with trial.tile_in_use(), unwritten_memory_is_nan():
                    for actual, wanted in zip(trial(), expected, strict=True):
                        assert_same(actual, wanted, TOLERANCE, "result")
            except Exception as error:
                candidate.fault = describe_error(error)
                continue
            trials[i] = trial
            candidate.registers = getattr(watched.compiled, "n_regs", None)
            candidate.spills = getattr(watched.compiled, "n_spills", None)
            candidate.shared_bytes = getattr(getattr(watched.compiled, "metadata", None), "shared", None)
        laps = laps_of(trials, settings.rounds, measure=measure, patience=settings.patience)
    for i, trial in trials.items():
        candidates[i].pass_ms = statistics.median(laps[i]) * 1e3
        candidates[i].alone_ms = (
            None if math.isnan(trial.alone[-1]) else statistics.median(trial.alone[-len(laps[i]) :]) * 1e3
        )


@contextlib.contextmanager
def unwritten_memory_is_nan() -> Iterator[None]:
    """Lest a kernel that leaves rows out finds in their place what the last one wrote."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def candidates_for(head_dim: int, kernel: str, pattern: str, settings: Settings) -> list[Candidate]:
    """Today's tile, then the others."""
    name = f"{kernel}_short" if pattern == SHORT and kernel != "dkdv" else kernel
    problem = settings.problem(pattern, head_dim, num_sequences=1)
    current = tiles.tile_for(name, head_dim, problem.qkv.dtype, launch._architecture(problem.qkv.device))
    listed = CANDIDATES[kernel][: 1 if settings.dry_run else None]
    others = [Tile(m, n, warps, stages) for m, n, warps, stages in listed]
    return [Candidate(head_dim, pattern, kernel, tile) for tile in dict.fromkeys([current, *others])]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    add_run_options(parser, seconds=70.0)
    parser.add_argument("--head-dims", nargs="+", type=int, default=[64, 128])
    parser.add_argument("--kernels", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--patterns", nargs="+", choices=PATTERNS["cuda"], default=["aim", SHORT])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--patience", type=float, default=0.15, help="a candidate's seconds in a race")
    jobs = max(1, (os.cpu_count() or 2) - 2)
    parser.add_argument("--jobs", type=int, default=jobs, help="processes that compile")
    args = parser.parse_args(arguments)
    # Triton reads the variable when it is first imported.
    if args.dry_run and os.environ.get("TRITON_INTERPRET") != "1":
        command = [sys.executable, "-m", "benchmarks.triton.tile_sweep", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | {"TRITON_INTERPRET": "1"})
    if not args.dry_run and not torch.cuda.is_available():
        raise SystemExit("there is no GPU that torch can use; --dry-run shows on a CPU that the program runs")
    settings = Settings(1 if args.dry_run else args.rounds, args.patience, args.dry_run)
    if args.dry_run:
        args.head_dims, args.patterns = args.head_dims[:1], args.patterns[-1:]
    turns = [candidates_for(*case, settings) for case in product(args.head_dims, args.kernels, args.patterns)]
    done: list[Candidate] = []
    pool = ProcessPoolExecutor(1 if args.dry_run else args.jobs, multiprocessing.get_context("spawn"))
    keys = dict.fromkeys((one.head_dim, one.kernel, one.tile) for candidates in turns for one in candidates)
    compiling = {key: pool.submit(compile_tile, *key, args.patterns, settings) for key in keys}

    def take(candidates: list[Candidate], earlier: list[Race]) -> Iterator[Race]:
        for candidate in candidates:
            compiled = compiling[candidate.head_dim, candidate.kernel, candidate.tile]
            died = compiled.exception()
            candidate.fault = describe_error(died) if died else compiled.result()
        done.extend(candidates)
        race(candidates, settings)
        races = list(races_of(candidates))
        show(race_tables(races))
        yield from races

    take_turns(turns, take, lambda candidates: title(candidates[0]), args)
    pool.shutdown(cancel_futures=True)
    print("for lsm2_kernels/triton/tiles.py, if then tests/kernels/test_gpu.py -k neighbours passes:")
    print(*rows_for_tiles(done), sep="\n")
    measured = sum(one.pass_ms is not None for one in done)
    print(f"{measured} of {len(done)} candidates measured in {len(turns)} races")
    if not measured:
        raise SystemExit(1)
    end(args)


if __name__ == "__main__":
    main()
