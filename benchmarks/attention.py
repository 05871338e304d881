"""How fast is packed attention against what people use now?

`python -m pytest benchmarks/attention.py` compares `ours` with torch's ways (attention_ways.py) on the GPU where there is one, else on
the CPU. `python -m benchmarks.attention` compares on a CPU in more depth: dtypes, head dims, instruction sets, numbers of threads, with
`--all-peers` the other libraries (attention_peers.py). Every way is first checked against ours, and all take turns in one process. A
ratio is the better peer's shortest time over ours: above 1, ours is faster. The floor is what the machine needs at the least,

    useful FLOPs / rate of products + exponentials / rate of exponentials,

without overlap of the two. Useful are 4 n^2 D FLOPs per sequence and head forward, 2.5 times as many more backward; exponentials are
n^2 forward, as many more backward. Both rates are the best that torch.mm on large square matrices in that dtype, and torch.exp2 in
float32 within the cache, reached on the same threads; they run once a round beside the ways.
"""

from __future__ import annotations

import contextlib
import functools
import json as json_format
import statistics
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pytest
import torch

from benchmarks.attention_peers import installed_peers
from benchmarks.attention_ways import NUM_HEADS, REFERENCE, Call, Problem, Way, at_level, check, ours, sdpa_padded, sdpa_split, torch_varlen
from benchmarks.environment import describe_machine
from benchmarks.lengths import PATTERNS, exponentials, lengths, useful_flops
from benchmarks.own_peers import load_peers
from benchmarks.tables import empty_table, grouped, show
from benchmarks.timing import best_of, exponential_yardstick, product_yardstick, race
from lsm2_kernels import _ops

if TYPE_CHECKING:  # the suite needs neither rich nor tyro, and a GPU machine may lack them
    from rich.table import Table

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DIRECTIONS = ("forward", "forward+backward")
SETTLING_SECONDS = 0.2
LONGEST_NOTE = 300


@pytest.mark.parametrize("backward", [False, True], ids=DIRECTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("head_dim", [64, 32])
@pytest.mark.parametrize("pattern", PATTERNS)
def bench_attention(benchmark, device, pattern, head_dim, dtype, backward):
    on_gpu = device.type == "cuda"
    problem = Problem.random(lengths(pattern, batches=32 if on_gpu else 1), head_dim, dtype, device)
    peers = {"sdpa_split": sdpa_split(problem)}
    if on_gpu and dtype == torch.bfloat16:
        peers["torch_varlen"] = torch_varlen(problem)
    peers["sdpa_padded"] = sdpa_padded(problem)
    our_way = ours(problem)
    for peer in peers.values():
        check(peer, our_way, dtype, backward=False)

    calls = {name: peer.call(backward=backward) for name, peer in peers.items()}
    flops = useful_flops(problem.lengths, NUM_HEADS, head_dim, backward=backward)
    race(benchmark, our_way.call(backward=backward), calls, rounds=20 if on_gpu else 9, useful_flops=flops)


class Timed(Protocol):
    """`best_of`, with the number of rounds and so on settled."""

    def __call__(self, ways: dict[str, Call], /, *, pause: float = 0.0) -> dict[str, float]: ...


@dataclass(frozen=True)
class Case:
    """What is computed, and on how many threads."""

    threads: int
    dtype: str
    head_dim: int
    direction: str
    pattern: str

    @property
    def backward(self) -> bool:
        return self.direction == DIRECTIONS[1]

    @property
    def machine(self) -> str:
        """What the machine's rates depend on."""
        return f"{self.dtype}, {self.threads} threads"

    def problem(self) -> Problem:
        return Problem.random(lengths(self.pattern), self.head_dim, DTYPES[self.dtype])


@dataclass
class Rates:
    """The best that this machine showed so far: FLOP/s of matrix products, exponentials a second."""

    products: float = 0.0
    exponentials: float = 0.0


@dataclass(frozen=True)
class Line:
    """One case at one instruction set: seconds of ours and of torch's ways, and the useful work."""

    case: Case
    level: str
    seconds: float
    peers: dict[str, float]
    flops: float
    exponentials: float

    def summary(self, rates: Rates) -> dict[str, float]:
        """What the seconds mean."""
        floor = self.flops / rates.products + self.exponentials / rates.exponentials
        return {
            "ratio": min(self.peers.values()) / self.seconds,
            "useful_gflops": self.flops / self.seconds / 1e9,
            "share_of_product_rate": self.flops / self.seconds / rates.products,
            "share_of_floor": floor / self.seconds,
        }


@dataclass(frozen=True)
class PeerLine:
    """One way in one case: its seconds and their ratio to those of ours, or why there are none."""

    case: Case
    peer: str
    seconds: float | None
    ratio: float | None
    note: str


def compare(case: Case, levels: list[str], rates: Rates, timed: Timed) -> list[Line]:
    """Race ours at every level against torch's two ways, and improve `rates`."""
    problem = case.problem()
    peers = {"sdpa_split": sdpa_split(problem), "sdpa_padded": sdpa_padded(problem)}
    our_way = ours(problem)
    for level, peer in product(levels, peers.values()):
        at_level(level, lambda peer=peer: check(peer, our_way, DTYPES[case.dtype], backward=case.backward))()
    products, exponents = product_yardstick(DTYPES[case.dtype]), exponential_yardstick()
    calls: dict[str, Call] = {"products": products.call, "exponentials": exponents.call}
    calls |= {name: peer.call(backward=case.backward) for name, peer in peers.items()}
    calls |= {level: at_level(level, our_way.call(backward=case.backward)) for level in levels}
    best = timed(calls)

    rates.products = max(rates.products, products.work / best["products"])
    rates.exponentials = max(rates.exponentials, exponents.work / best["exponentials"])
    flops = useful_flops(problem.lengths, NUM_HEADS, case.head_dim, backward=case.backward)
    num_exponentials = exponentials(problem.lengths, NUM_HEADS, backward=case.backward)
    return [Line(case, level, best[level], {name: best[name] for name in peers}, flops, num_exponentials) for level in levels]


def compare_peers(case: Case, level: str, makers: Mapping[str, Callable[[Problem], Way]], timed: Timed) -> list[PeerLine]:
    """Race ours against other ways; one that fails is reported."""
    problem = case.problem()
    our_way = ours(problem)
    calls: dict[str, Call] = {"ours": at_level(level, our_way.call(backward=case.backward))}
    notes = {"ours": level}
    for name, make in makers.items():
        try:
            peer = make(problem)
            calls[name] = peer.call(backward=case.backward)
            check(peer, our_way, DTYPES[case.dtype], backward=case.backward)
            notes[name] = peer.preparation
        except Exception as error:
            calls.pop(name, None)
            notes[name] = f"{type(error).__name__}: {error}"
    best = timed(calls, pause=SETTLING_SECONDS)
    return [PeerLine(case, name, best.get(name), best[name] / best["ours"] if name in best else None, note) for name, note in notes.items()]


def table_of(lines: list[Line], rates: dict[str, Rates]) -> Table:
    """A row per line, and after the patterns of each group the geometric mean and the smallest of their ratios."""
    numbers = "ours ms", "split ms", "padded ms", "ratio", "GFLOP/s", "% products", "% floor"
    table = empty_table(("threads", "dtype", "D", "level", "direction", "lengths"), numbers)
    for (case, level), group in grouped(lines, lambda line: (replace(line.case, pattern=""), line.level)):
        names = str(case.threads), case.dtype, str(case.head_dim), level, case.direction
        summaries = [line.summary(rates[case.machine]) for line in group]
        for line, summary in zip(group, summaries, strict=True):
            times = [f"{time * 1e3:.2f}" for time in (line.seconds, line.peers["sdpa_split"], line.peers["sdpa_padded"])]
            shares = [f"{summary[share] * 100:.0f}" for share in ("share_of_product_rate", "share_of_floor")]
            table.add_row(*names, line.case.pattern, *times, f"{summary['ratio']:.2f}x", f"{summary['useful_gflops']:.0f}", *shares)
        ratios = [summary["ratio"] for summary in summaries]
        mean_and_least = f"{statistics.geometric_mean(ratios):.2f}x, {min(ratios):.2f}x"
        table.add_row(*names, "mean, least", "", "", "", mean_and_least, style="bold", end_section=True)
    return table


def table_of_peers(lines: list[PeerLine]) -> Table:
    """A row per way, with milliseconds and ratio to ours for every pattern, and what the way needs or why it failed."""
    from rich.markup import escape

    patterns = list(dict.fromkeys(line.case.pattern for line in lines))
    table = empty_table(("threads", "dtype", "D", "direction", "way"), [*(f"{pattern} ms" for pattern in patterns), "mean ratio"])
    table.add_column("notes", overflow="fold")
    for _, of_case in grouped(lines, lambda line: replace(line.case, pattern="")):
        for way, group in grouped(of_case, lambda line: line.peer):
            case = group[0].case
            cells = ["-" if line.seconds is None else f"{line.seconds * 1e3:.1f} ({line.ratio:.2f}x)" for line in group]
            cells += [""] * (len(patterns) - len(cells))
            ratios = [line.ratio for line in group if line.ratio is not None]
            mean = f"{statistics.geometric_mean(ratios):.2f}x" if len(ratios) == len(patterns) else "-"
            notes = {line.note: line.case.pattern for line in group if line.note}
            note = next(iter(notes)) if len(notes) == 1 else "; ".join(f"{pattern}: {note}" for note, pattern in notes.items())
            names = str(case.threads), case.dtype, str(case.head_dim), case.direction, way
            table.add_row(*names, *cells, mean, escape(textwrap.shorten(note, LONGEST_NOTE)))
        table.add_section()
    return table


def main(
    threads: tuple[int, ...] = (2,),
    head_dims: tuple[int, ...] = (64,),
    dtypes: tuple[Literal["float32", "bfloat16", "float16"], ...] = ("float32", "bfloat16", "float16"),
    patterns: tuple[Literal["aim", "short", "long", "one"], ...] = PATTERNS,
    levels: tuple[str, ...] = (),
    rounds: int = 9,
    all_peers: bool = False,
    peer: Path | None = None,
    peer_rounds: int = 3,
    patience: float = 60.0,
    json: Path | None = None,
) -> None:
    """Packed attention on a CPU against torch's scaled_dot_product_attention, once per sequence and padded with a key mask.

    A ratio is the better of the two over ours, shortest times of rounds in which all take turns: above 1, ours is faster.

    Args:
        threads: Numbers of threads.
        head_dims: Head dims; there are 6 heads.
        dtypes: Dtypes.
        patterns: Patterns of lengths: 8 days of 150 to 1200 tokens, 32 of 20 to 300, 3744 + 1900, 1024.
        levels: Instruction sets of our kernels; the best that this machine has if none is named.
        rounds: Rounds of the comparison with torch.
        all_peers: Compare with other libraries too, as far as they are installed, in a second table.
        peer: A Python file with ways of your own to compare with, too; see benchmarks/README.md.
        peer_rounds: Rounds of that.
        patience: Seconds after which a way takes no further turn in a comparison, so that one a hundred times slower does not hold up all.
        json: File for all numbers.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    for level in levels:
        try:
            at_level(level, lambda: None)()
        except (ValueError, RuntimeError, AttributeError) as error:
            known = ", ".join(_ops.INSTRUCTION_SETS)
            raise SystemExit(f"--levels: no kernels for {level!r} on this machine or in this build; known are {known}") from error
    used_levels = list(levels) or [_ops.instruction_set() or REFERENCE]
    makers, missing = installed_peers() if all_peers else ({}, {})
    makers |= load_peers(peer) if peer is not None else {}
    lines: list[Line] = []
    peer_lines: list[PeerLine] = []
    rates: dict[str, Rates] = {}
    cases = [Case(*case) for case in product(threads, dtypes, head_dims, DIRECTIONS, patterns)]
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    # Ctrl-C ends the measurement, not the report.
    with Progress(*columns, console=Console(stderr=True)) as bar, contextlib.suppress(KeyboardInterrupt):
        task = bar.add_task("", total=len(cases) * (rounds + peer_rounds * bool(makers)))
        timed = functools.partial(best_of, patience=patience, after_round=lambda: bar.advance(task))
        for case in cases:
            torch.set_num_threads(case.threads)
            bar.update(task, description=f"{case.machine}, D {case.head_dim}, {case.direction}, {case.pattern}")
            lines += compare(case, used_levels, rates.setdefault(case.machine, Rates()), functools.partial(timed, rounds=rounds))
            if makers:
                peer_lines += compare_peers(case, used_levels[-1], makers, functools.partial(timed, rounds=peer_rounds))
                peer_lines += [PeerLine(case, name, None, None, f"{module} is not installed") for name, module in missing.items()]

    show(
        f"{machine}: {rate.products / 1e9:.0f} GFLOP/s in products, {rate.exponentials / 1e9:.2f} G exponentials/s"
        for machine, rate in rates.items()
    )
    show([table_of(lines, rates), *([table_of_peers(peer_lines)] if peer_lines else [])])
    if json is not None:
        report: dict[str, Any] = {"machine": describe_machine(), "rates": {machine: asdict(rate) for machine, rate in rates.items()}}
        report["lines"] = [asdict(line) | line.summary(rates[line.case.machine]) for line in lines]
        report["peers"] = [asdict(line) for line in peer_lines]
        json.write_text(json_format.dumps(report, indent=1))


if __name__ == "__main__":
    import tyro

    tyro.cli(main)
