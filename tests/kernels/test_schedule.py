"""The simulator of launches, and the tiles that it gives programs beside those that the kernels find.

Run as a program, in Triton's interpreter, this file prints what find_tile gives for the cases on standard
input.
"""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed: pip install triton")

import triton
import triton.language as tl

from benchmarks.attention.patterns import draw_lengths
from benchmarks.triton.launch_model import (
    PRODUCTS,
    SCHEDULES,
    Kernel,
    Line,
    Machine,
    compare_schedules,
    count_search_steps,
    find_tiles,
    price_programs,
    price_tile,
    simulate_launch,
)
from lsm2_kernels.triton.find_tile import find_tile, num_tiles

ROOT = Path(__file__).parents[2]


@triton.jit
def write_tiles(cu_seqlens, found, num_sequences, num_rows, BLOCK: tl.constexpr):
    tile = tl.program_id(0)
    sequence, start, length, row = find_tile(cu_seqlens, tile, num_sequences, num_rows, BLOCK)
    tl.store(found + 4 * tile, sequence)
    tl.store(found + 4 * tile + 1, start)
    tl.store(found + 4 * tile + 2, length)
    tl.store(found + 4 * tile + 3, row)


def find_tiles_by_kernel(cu_seqlens: list[int], num_rows: int, block: int) -> list[list[int]]:
    num_sequences = len(cu_seqlens) - 1
    found = torch.full((num_tiles(num_rows, num_sequences, block), 4), -1, dtype=torch.int64)
    write_tiles[(len(found),)](
        torch.tensor(cu_seqlens, dtype=torch.int32), found, num_sequences, num_rows, BLOCK=block
    )
    return found.tolist()


def draw_case(seed: int) -> tuple[list[int], int, int]:
    """cu_seqlens with empty sequences, a number of rows with or without a tail, and a block."""
    draw = random.Random(seed)
    block = draw.choice([16, 64, 128])
    lengths = [
        draw.choice([0, 1, block - 1, block, block + 1, draw.randint(0, 3 * block)])
        for _ in range(draw.randint(0, 12))
    ]
    return (
        [0, *accumulate(lengths)],
        sum(lengths) + draw.choice([0, 0, 1, block, draw.randint(1, 3 * block)]),
        block,
    )


def of_schedule(lines: list[Line], schedule: str) -> list[Line]:
    """The lines of the forward, dq and dkdv."""
    return [line for line in lines if line.schedule == schedule]


@pytest.mark.parametrize(
    ("costs", "num_slots", "expected"),
    [
        ([], 2, 0),
        ([3, 2, 2], 1, 7),
        ([3, 2, 2], 2, 4),  # the third waits for the second
        ([3, 2, 2], 4, 3),
        ([1, 1, 1, 1, 4], 2, 6),  # the longest last; sorted by falling cost it is 4
        ([4, 1, 1, 1, 1], 2, 4),
        ([5, 4, 3, 3, 3], 2, 10),  # longest first is no optimum: 5 + 4 and 3 + 3 + 3 take 9
    ],
)
def test_simulate_launch(costs, num_slots, expected):
    assert simulate_launch(costs, num_slots) == expected


def test_price_of_every_program():
    """Lengths 5, 0, 2 in tiles of 4 rows: sequences own tiles from 0, 2, 3; the grid has 7 // 4 + 3 + 1."""
    kernel = Kernel("forward", "", block=4, step=2, programs_per_sm=2, one_tile=0)
    machine = Machine(flops_per_clock=2 * 2 * 4 * 2 * 64, launch_clocks=10, search_clocks=1, edge_clocks=100)
    five, two = 110 + 2 * 3, 110 + 2 * 1
    ours = [five + 1, five + 1, 11, two + 1, 11]

    def price(schedule: str, lengths: list[int]) -> list[float]:
        return price_programs(schedule, lengths, kernel, machine)

    assert price("ours", [5, 0, 2]) == [cost for cost in ours for _ in range(6)]
    assert price("batch_sorted", [2, 0, 5]) == price("ours", [5, 2, 0])
    assert price("listed", [2, 0, 5]) == [two] * 6 + [five] * 12
    assert price("longest_first", [2, 0, 5]) == [five] * 12 + [two] * 6
    assert price("grid_max", [5, 0, 2]) == [five, five, 10, 10, two, 10] * 6


def test_price_of_a_sequence_of_one_tile():
    machine = Machine(flops_per_clock=2 * 4 * 2 * 64, launch_clocks=10, edge_clocks=100)
    kernels = {name: Kernel(name, "", block=4, step=2, programs_per_sm=1, one_tile=6) for name in PRODUCTS}
    assert {name: price_tile(6, kernel, machine) for name, kernel in kernels.items()} == {
        "forward": 116,
        "dq": 10,
        "dkdv": 125,
    }
    assert {name: price_tile(7, kernel, machine) for name, kernel in kernels.items()} == {
        "forward": 118,
        "dq": 122,
        "dkdv": 126,
    }


@pytest.mark.parametrize(
    ("num_sequences", "expected"),
    [(0, 0), (1, 1), (32, 1), (33, 2), (1023, 2), (1056, 2), (1057, 3), (4096, 3)],
)
def test_steps_of_the_search(num_sequences, expected):
    assert count_search_steps(num_sequences) == expected


@pytest.mark.parametrize("seed", range(60))
def test_every_row_has_one_owner(seed):
    cu_seqlens, num_rows, block = draw_case(seed)
    owners = [0] * num_rows
    for sequence, start, length, row in find_tiles(cu_seqlens, num_rows, block):
        end = [*cu_seqlens[1:], num_rows][sequence]
        assert (start, length) == (cu_seqlens[sequence], end - cu_seqlens[sequence])
        for owned in range(start + row, min(start + row + block, end)):
            owners[owned] += 1
    assert owners == [1] * num_rows


@pytest.mark.subprocess
def test_kernels_find_the_same_tiles():
    cases = [draw_case(seed) for seed in range(12)]
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__]
    result = subprocess.run(
        command, input=json.dumps(cases), cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found == [[list(tile) for tile in find_tiles(*case)] for case in cases]
    assert sum(map(len, found)) > 100


def test_days_that_fill_a_gpu_lose_little():
    shares = [
        line.share_of_perfect
        for line in of_schedule(compare_schedules("aim", draw_lengths("aim", "cuda"), Machine()), "ours")
    ]
    assert len(shares) == len(PRODUCTS)
    assert min(shares) >= 0.95


@pytest.mark.parametrize("times", [1, 20])
def test_short_sequences_cost_what_tiles_explain_and_little_for_the_schedule(times):
    """34 tokens against 340, equal sums n^2: tiles, launches and edges explain all but search and surplus.

    Of dq nothing is left: dkdv finishes sequences of 34 tokens.
    """
    lines = [
        compare_schedules("", [length] * count, Machine())
        for length, count in ((34, 1000 * times), (340, 10 * times))
    ]
    for short, long in zip(*(of_schedule(each, "ours") for each in lines), strict=True):
        if short.kernel != "dq":
            assert long.share_of_perfect / short.share_of_perfect < 1.3
        assert short.makespan_us / long.makespan_us < (3 if short.kernel == "dq" else 15)


@pytest.mark.parametrize("days", [8, 32, 128, 512])
def test_surplus_programs_cost_no_more_than_those_of_a_grid_for_the_longest(days):
    """It is the search that makes ours slower than grid_max on days."""
    lines = compare_schedules("aim", draw_lengths("aim", "cuda", days), replace(Machine(), search_clocks=0.0))
    for ours, grid_max in zip(of_schedule(lines, "ours"), of_schedule(lines, "grid_max"), strict=True):
        assert ours.makespan_us < 1.002 * grid_max.makespan_us


def test_one_long_sequence_does_not_slow_the_short_ones():
    """A grid for the longest has 30 programs for each short sequence, of which 1 or 2 own rows."""
    lines = compare_schedules("", [*draw_lengths("short", "cuda", 4095), 3744], Machine())
    for ours, grid_max in zip(of_schedule(lines, "ours"), of_schedule(lines, "grid_max"), strict=True):
        assert ours.makespan_us < 0.7 * grid_max.makespan_us


@pytest.mark.subprocess
def test_json():
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.triton.launch_model", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    lines = [Line(**json.loads(line)) for line in result.stdout.splitlines()]
    assert {line.schedule for line in lines} == set(SCHEDULES)
    assert {line.kernel for line in lines} == set(PRODUCTS)
    batches = {(line.pattern, line.num_sequences) for line in lines}
    assert {
        ("aim", 8),
        ("aim", 32),
        ("aim", 128),
        ("aim", 512),
        ("short", 4096),
        ("long", 64),
        ("uniform", 512),
    } <= batches
    assert len(lines) == len(batches) * len(SCHEDULES) * len(PRODUCTS)
    assert all(
        0 < line.share_of_perfect <= 1 and 0 < line.quantisation <= 1 and line.makespan_us > 0
        for line in lines
    )


if __name__ == "__main__":
    print(json.dumps([find_tiles_by_kernel(*case) for case in json.load(sys.stdin)]))
