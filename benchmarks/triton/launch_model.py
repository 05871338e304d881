"""Is one grid without a list a good schedule? `python -m benchmarks.triton.launch_model [--json]` simulates
launches; it needs no GPU.

The programs of a launch are worked off in launch order, and the next one goes to the slot that is free first,
as the hardware does it. A multiprocessor has room for PROGRAMS_PER_SM programs, each of which runs at its
share of the multiprocessor's rate, always: a neighbour that waits lends it nothing, so what is fixed weighs
more here than on a GPU. Memory bandwidth, caches and the time between launches are not modelled.

Every program costs launch_clocks and, where it must search for its tile, search_clocks for each step of
find_tile. One that owns rows costs edge_clocks more, and the blocks of its loop: 2 P BLOCK_M BLOCK_N D FLOPs
each at flops_per_clock and multiprocessor, where the number P of products is 2 in the forward, 3 for dq, 4
for dk and dv; where the keys of a sequence fit one tile of dkdv, 5 there and none for dq. The constants are
estimates, not measurements; options change them:

room             1: programs that a multiprocessor holds, as a multiple of PROGRAMS_PER_SM.
flops_per_clock  1727 = 400e12 / (132 * 1.755e9): a forward's loop at 400 TFLOP/s. A block of 128 x 64 scores
                 at head dim 64 then takes 1214 clocks: 512 on the tensor cores (4096 FLOPs a clock), 512 for
                 8192 exponentials (16 a clock), 190 for the rest.
launch_clocks    1000, about 0.6 us: to be placed, to read the arguments, to exit, to hand the slot on.
search_clocks    200: a load that hits L1 (35), a dozen instructions that mostly wait for each other (5 each),
                 a sum over a warp in five shuffles (20 each).
edge_clocks      2500: two reads of device memory, one after the other (700 each), and the first block's
                 latency; 500 to store.

The schedules, whose shares of `perfect`, the tiles' costs without search or surplus spread evenly over all
slots, are printed:

ours             as shipped: the heads of the first tile, then those of the next; a search finds it, and
                 programs without one exit;
batch_sorted     the same where the batch itself has its longest sequences first;
listed           the tiles in the shipped order, from a list: no search, no programs without a tile;
longest_first    that list sorted by falling cost;
grid_max         ceil(longest / BLOCK) programs a sequence and head, as FlashAttention-2 launches (tile,
                 sequence, head): no search.

Quantisation is another loss, common to all schedules: scores n^2 as a share of the scores in the tiles that
hold them.
"""

import heapq
import json
import statistics
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import accumulate

import torch

from benchmarks.attention.patterns import PATTERNS, draw_lengths
from benchmarks.measure.options import make_parser
from benchmarks.measure.tables import empty_table, grouped, markdown, show
from lsm2_kernels.triton import tiles
from lsm2_kernels.triton.find_tile import SEARCH_WIDTH, num_tiles

NUM_HEADS, HEAD_DIM = 6, 64
PRODUCTS = {"forward": 2, "dq": 3, "dkdv": 4}
PROGRAMS_PER_SM = {"forward": 2, "forward_short": 3, "dq": 1, "dq_short": 2, "dkdv": 1}
"""As `python -m benchmarks.triton.aot` finds."""
SCHEDULES = ("ours", "batch_sorted", "listed", "longest_first", "grid_max")


@dataclass(frozen=True)
class Machine:
    """What programs run on, and what they cost there."""

    num_sms: int = 132
    room: int = 1
    ghz: float = 1.755
    flops_per_clock: float = 1727.0
    launch_clocks: float = 1000.0
    search_clocks: float = 200.0
    edge_clocks: float = 2500.0


@dataclass(frozen=True)
class Kernel:
    """A program owns `block` rows and takes the others `step` at a time; dkdv ends one_tile keys."""

    name: str
    tile: str
    block: int
    step: int
    programs_per_sm: int
    one_tile: int


@dataclass(frozen=True)
class Line:
    """One launch simulated."""

    pattern: str
    num_sequences: int
    kernel: str
    tile: str
    schedule: str
    makespan_us: float
    share_of_perfect: float
    quantisation: float


def shipped_kernel(name: str, lengths: list[int]) -> Kernel:
    """Kernel "forward", "dq" or "dkdv" with the tile shipped for bfloat16, D 64, sm_90, such lengths."""
    tile_name = tiles.tile_name(name, statistics.fmean(lengths))
    tile = tiles.tile_for(tile_name, HEAD_DIM, torch.bfloat16, "sm_90")
    owned, looped = (tile.block_n, tile.block_m) if name == "dkdv" else (tile.block_m, tile.block_n)
    one_tile = tiles.tile_for("dkdv", HEAD_DIM, torch.bfloat16, "sm_90").block_n
    return Kernel(name, f"{tile.block_m}x{tile.block_n}", owned, looped, PROGRAMS_PER_SM[tile_name], one_tile)


def count_search_steps(num_sequences: int) -> int:
    """Steps of find_tile among so many sequences."""
    steps = 0
    while num_sequences > 0:
        num_sequences = -(-num_sequences // SEARCH_WIDTH.value) - 1
        steps += 1
    return steps


def find_tiles(cu_seqlens: list[int], num_rows: int, block: int) -> list[tuple[int, int, int, int]]:
    """find_tile's answer to each program: sequence, its first row and length, first row in it."""
    first_tiles = [start // block + sequence for sequence, start in enumerate(cu_seqlens)]
    ends = [*cu_seqlens[1:], num_rows]
    result = []
    for tile in range(num_tiles(num_rows, len(cu_seqlens) - 1, block)):
        sequence = bisect_right(first_tiles, tile) - 1
        start = cu_seqlens[sequence]
        result.append((sequence, start, ends[sequence] - start, (tile - first_tiles[sequence]) * block))
    return result


def price_tile(length: int, kernel: Kernel, machine: Machine) -> float:
    """Clocks of a program that owns rows of a sequence of this length."""
    products = PRODUCTS[kernel.name]
    if length <= kernel.one_tile:
        products = {"forward": 2, "dq": 0, "dkdv": 5}[kernel.name]
    if products == 0:
        return machine.launch_clocks
    flops = 2 * products * kernel.block * kernel.step * HEAD_DIM
    block = flops / machine.flops_per_clock * kernel.programs_per_sm * machine.room
    return machine.launch_clocks + machine.edge_clocks + -(-length // kernel.step) * block


def price_programs(schedule: str, lengths: list[int], kernel: Kernel, machine: Machine) -> list[float]:
    """Clocks of every program on its slot, in launch order."""
    surplus = machine.launch_clocks
    clocks = {length: price_tile(length, kernel, machine) for length in set(lengths)}
    if schedule in ("ours", "batch_sorted"):
        lengths = sorted(lengths, reverse=True) if schedule == "batch_sorted" else lengths
        search = count_search_steps(len(lengths)) * machine.search_clocks
        owned = find_tiles([0, *accumulate(lengths)], sum(lengths), kernel.block)
        one_head = [(clocks[length] if row < length else surplus) + search for _, _, length, row in owned]
        return [cost for cost in one_head for _ in range(NUM_HEADS)]
    counts = {length: -(-length // kernel.block) for length in clocks}
    launched = max(counts.values()) if schedule == "grid_max" else 0
    one_head = []
    for length in lengths:
        one_head += [clocks[length]] * counts[length] + [surplus] * (launched - counts[length])
    if schedule == "grid_max":
        return one_head * NUM_HEADS
    all_heads = [cost for cost in one_head for _ in range(NUM_HEADS)]
    return sorted(all_heads, reverse=True) if schedule == "longest_first" else all_heads


def simulate_launch(costs: Iterable[float], num_slots: int) -> float:
    """Clocks until the last program ends."""
    free_at = [0.0] * num_slots
    for cost in costs:
        heapq.heapreplace(free_at, free_at[0] + cost)
    return max(free_at)


def measure_quantisation(lengths: list[int], kernel: Kernel) -> float:
    """Scores n^2 as a share of the scores in whole tiles."""
    in_tiles = sum(-(-n // kernel.block) * kernel.block * -(-n // kernel.step) * kernel.step for n in lengths)
    return sum(n * n for n in lengths) / in_tiles


def compare_schedules(pattern: str, lengths: list[int], machine: Machine) -> list[Line]:
    """A line per kernel and schedule."""
    lines = []
    for kernel in (shipped_kernel(name, lengths) for name in PRODUCTS):
        num_slots = machine.num_sms * kernel.programs_per_sm * machine.room
        perfect = sum(price_programs("listed", lengths, kernel, machine)) / num_slots
        for schedule in SCHEDULES:
            clocks = simulate_launch(price_programs(schedule, lengths, kernel, machine), num_slots)
            results = clocks / machine.ghz / 1e3, perfect / clocks, measure_quantisation(lengths, kernel)
            lines.append(Line(pattern, len(lengths), kernel.name, kernel.tile, schedule, *results))
    return lines


def list_batches() -> list[tuple[str, list[int]]]:
    """Full GPUs, small batches, one long among short sequences, pairs with equal sums n^2."""
    batches = [(pattern, draw_lengths(pattern, "cuda")) for pattern in PATTERNS["cuda"]]
    batches += [("aim", draw_lengths("aim", "cuda", days)) for days in (8, 32, 128)]
    batches += [("short and one of 3744", [*draw_lengths("short", "cuda", 4095), 3744])]
    return batches + [
        (f"{n} tokens", [n] * count) for n, count in ((34, 1000), (340, 10), (34, 20000), (340, 200))
    ]


def print_table(lines: list[Line]) -> None:
    """A row per batch and kernel, with every schedule's share of perfect in percent."""
    numbers = ("% quantisation", "perfect us", *(f"% {schedule}" for schedule in SCHEDULES))
    table = empty_table(("lengths", "N", "kernel", "tile"), numbers)
    for case, group in grouped(
        lines, lambda line: (line.pattern, line.num_sequences, line.kernel, line.tile)
    ):
        shares = [f"{100 * line.share_of_perfect:.1f}" for line in group]
        perfect = group[0].makespan_us * group[0].share_of_perfect
        table.add_row(*map(str, case), f"{100 * group[0].quantisation:.1f}", f"{perfect:.1f}", *shares)
    show([table])


def schedule_table() -> str:
    """Shares of a perfectly even split, simulated."""
    columns = {"ours": "ours", "longest_first": "longest sequence first"}
    columns |= {"grid_max": "grid over the longest sequence"}
    titles = {
        ("aim", 512): "512 days of 150 to 1500 tokens",
        ("short", 4096): "4096 sequences of 20 to 256",
        ("short and one of 3744", 4096): "the same and one of 3744",
        ("aim", 32): "32 days of 150 to 1500",
    }
    batches = {(pattern, len(lengths)): lengths for pattern, lengths in list_batches()}
    rows = []
    for case, title in titles.items():
        lines = compare_schedules(case[0], batches[case], Machine())
        shares = {name: [line for line in lines if line.schedule == name] for name in columns}
        cells = (
            ", ".join(f"{100 * line.share_of_perfect:.0f} %" for line in found) for found in shares.values()
        )
        rows.append((title, *cells))
    return markdown(("", *columns.values()), rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    for field in fields(Machine):
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=type(field.default), default=field.default, help=f"{field.default}")
    args = vars(parser.parse_args(arguments))
    as_json = args.pop("json")
    machine = Machine(**args)
    lines = [line for batch in list_batches() for line in compare_schedules(*batch, machine)]
    if as_json:
        print(*(json.dumps(asdict(line)) for line in lines), sep="\n")
    else:
        print_table(lines)


if __name__ == "__main__":
    main()
