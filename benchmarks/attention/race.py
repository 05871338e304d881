"""How fast is packed attention against what people use now?

`python -m pytest benchmarks/attention/race.py` compares `ours` with torch's ways (attention_ways.py) on the GPU where there is one, else on
the CPU. `python -m benchmarks.attention.race` compares on a CPU in more depth: dtypes, head dims, instruction sets, numbers of threads, with
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
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Literal, Protocol

import pytest
import torch

from benchmarks.attention.own_peers import load_peers
from benchmarks.attention.patterns import PATTERNS, SUITE_PATTERNS, exponentials, lengths, useful_flops, useful_work
from benchmarks.attention.peers_cpu import installed_peers
from benchmarks.attention.problem import (
    BOTH,
    DIRECTIONS,
    NUM_HEADS,
    OURS,
    REFERENCE,
    Call,
    Problem,
    Way,
    at_level,
    check,
    enter,
    ours,
    sdpa_padded,
    sdpa_split,
    torch_varlen,
)
from benchmarks.attention.tables import Case, Line, PeerLine, Rates, table_of, table_of_peers
from benchmarks.measure.results import write_results
from benchmarks.measure.tables import show
from benchmarks.measure.timing import exponential_yardstick, laps_of, product_yardstick, race, yardsticks
from lsm2_kernels import _ops

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SUITE_HEAD_DIM = 64
SETTLING_SECONDS = 0.2


@pytest.mark.benchmark(group="attention")
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("pattern", SUITE_PATTERNS)
def bench_attention(benchmark, device, pattern, dtype, direction):
    on_gpu = device.type == "cuda"
    problem = Problem.random(lengths(pattern, batches=32 if on_gpu else 1), SUITE_HEAD_DIM, DTYPES[dtype], device)
    race_attention(benchmark, problem, backward=direction == BOTH)


def race_attention(benchmark, problem: Problem, *, backward: bool) -> None:
    """Ours against torch's ways on this problem's device, in a suite of pytest-benchmark."""
    (_, _, num_heads, head_dim), dtype, device = problem.qkv.shape, problem.qkv.dtype, problem.qkv.device
    on_gpu = device.type == "cuda"
    packed = {"torch_varlen": torch_varlen} if on_gpu and dtype != torch.float32 else {"sdpa_split": sdpa_split}
    makers = packed | {"sdpa_padded": sdpa_padded}
    our_way = ours(problem)
    peers, errors = enter(makers, problem, our_way, backward=backward)
    calls = {name: peer.call(backward=backward) for name, peer in peers.items()}
    work = useful_work(problem.lengths, num_heads, head_dim, dtype, backward=backward)
    rounds, rates = 20 if on_gpu else 5, yardsticks(dtype, device)
    race(benchmark, our_way.call(backward=backward), calls, rounds=rounds, errors=errors, ceilings=rates, **work)


class Timed(Protocol):
    """`laps_of`, with the number of rounds and so on settled."""

    def __call__(self, ways: dict[str, Call], /, *, pause: float = 0.0) -> dict[str, list[float]]: ...


def compare(case: Case, levels: list[str], rates: Rates, timed: Timed) -> list[Line]:
    """Race ours at every level against torch's two ways, and improve `rates`."""
    problem = Problem.random(lengths(case.pattern), case.head_dim, DTYPES[case.dtype])
    peers = {"sdpa_split": sdpa_split(problem), "sdpa_padded": sdpa_padded(problem)}
    our_way = ours(problem)
    for level, peer in product(levels, peers.values()):
        at_level(level, lambda peer=peer: check(peer, our_way, DTYPES[case.dtype], backward=case.backward))()
    products, exponents = product_yardstick(DTYPES[case.dtype]), exponential_yardstick()
    calls: dict[str, Call] = {"products": products.call, "exponentials": exponents.call}
    calls |= {name: peer.call(backward=case.backward) for name, peer in peers.items()}
    calls |= {level: at_level(level, our_way.call(backward=case.backward)) for level in levels}
    laps = timed(calls)

    rates.products = max(rates.products, products.work / min(laps["products"]))
    rates.exponentials = max(rates.exponentials, exponents.work / min(laps["exponentials"]))
    flops = useful_flops(problem.lengths, NUM_HEADS, case.head_dim, backward=case.backward)
    num_exponentials = exponentials(problem.lengths, NUM_HEADS, backward=case.backward)
    of_peers = {name: laps[name] for name in peers}
    return [Line(case, level, {OURS: laps[level]} | of_peers, flops, num_exponentials) for level in levels]


def compare_peers(
    case: Case, level: str, makers: Mapping[str, Callable[[Problem], Way]], missing: Mapping[str, str], timed: Timed
) -> PeerLine:
    """Race ours against other ways; those that fail or are missing are reported."""
    problem = Problem.random(lengths(case.pattern), case.head_dim, DTYPES[case.dtype])
    our_way = ours(problem)
    peers, errors = enter(makers, problem, our_way, backward=case.backward)
    calls: dict[str, Call] = {OURS: at_level(level, our_way.call(backward=case.backward))}
    laps = timed(calls | {name: peer.call(backward=case.backward) for name, peer in peers.items()}, pause=SETTLING_SECONDS)
    notes = {OURS: level} | {name: peer.preparation for name, peer in peers.items()} | errors
    return PeerLine(case, laps, notes | {name: f"{module} is not installed" for name, module in missing.items()})


def main(
    threads: tuple[int, ...] = (2,),
    head_dims: tuple[int, ...] = (64,),
    dtypes: tuple[Literal["float32", "bfloat16", "float16"], ...] = ("float32", "bfloat16", "float16"),
    patterns: tuple[Literal["aim", "short", "long", "one", "simulated", "uniform"], ...] = PATTERNS,
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
        patterns: Patterns of lengths: 8 days of 150 to 1200 tokens, 32 of 20 to 300, 3744 + 1900, 1024, 8 simulated days, 8 of 512.
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
        timed = functools.partial(laps_of, patience=patience, after_round=lambda: bar.advance(task))
        for case in cases:
            torch.set_num_threads(case.threads)
            bar.update(task, description=f"{case.machine}, D {case.head_dim}, {case.direction}, {case.pattern}")
            lines += compare(case, used_levels, rates.setdefault(case.machine, Rates()), functools.partial(timed, rounds=rounds))
            if makers:
                peer_lines.append(compare_peers(case, used_levels[-1], makers, missing, functools.partial(timed, rounds=peer_rounds)))

    show(
        f"{machine}: {rate.products / 1e9:.0f} GFLOP/s in products, {rate.exponentials / 1e9:.2f} G exponentials/s"
        for machine, rate in rates.items()
    )
    show([table_of(lines, rates), *([table_of_peers(peer_lines)] if peer_lines else [])])
    if json is not None:
        write_results(json, [*(line.to_race(rates[line.case.machine]) for line in lines), *(line.to_race() for line in peer_lines)])


if __name__ == "__main__":
    import tyro

    tyro.cli(main)
