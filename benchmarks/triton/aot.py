"""What the compiler makes of every Triton kernel, without a GPU: `python -m benchmarks.triton.aot [--json]`.

Each kernel is compiled at every tile that ships, for every architecture, and its machine code is read. Works
with whichever Triton is importable.
"""

import concurrent.futures
import json
import math
import multiprocessing
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from benchmarks.measure.options import make_parser
from benchmarks.triton import machine_code
from lsm2_kernels.triton import attention_backward, attention_forward, packing, tiles

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_86": GPUTarget("cuda", 86, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
ELEMENTS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}  # Triton's names
HEAD_DIMS = (8, 16, 32, 40, 64, 80, 120, 128, 200, 256)
GROUPS = (1, 4)  # query heads a key head
ATTENTION_KERNELS = {
    "forward": attention_forward.attention_forward,
    "delta": attention_backward.attention_backward_delta,
    "dkdv": attention_backward.attention_backward_dkdv,
    "dq": attention_backward.attention_backward_dq,
}
INDEX_KERNELS = {"invert": packing.invert_indices, "locate": packing.locate_tokens}
# By the pattern that is all of an argument's name; others but cu_seqlens point at the inputs' dtype.
ARGUMENT_TYPES = {
    r"lse|delta|grad_lse": "*fp32",
    r"indices|positions": "*i64",
    r"inverse": "*i32",
    r"keep": "*u8",
    r"num_\w+|\w+_stride|seq_len|width": "i32",
    r"scale": "fp32",
}

TENSOR_MEMORY_COLUMNS = 512  # of a Blackwell multiprocessor
REGISTERS_GRANULARITY = 8  # a thread's registers are allocated by so many


@dataclass(frozen=True)
class Processor:
    """Of a multiprocessor: bytes of shared memory for a program and for all, registers, warps."""

    shared_per_program: int
    shared_in_all: int
    shared_reserved: int
    registers: int
    warps: int


PROCESSORS = {
    "sm_80": Processor(163 << 10, 164 << 10, 1 << 10, 65536, 64),
    "sm_86": Processor(99 << 10, 100 << 10, 1 << 10, 65536, 48),
    "sm_90": Processor(227 << 10, 228 << 10, 1 << 10, 65536, 64),
    "sm_100": Processor(227 << 10, 228 << 10, 1 << 10, 65536, 64),
    "gfx942": Processor(64 << 10, 64 << 10, 0, 4 * 512 * 64, 32),
}


@dataclass(frozen=True)
class Case:
    """One kernel to compile; to the gather head_dim is the width of a row.

    `group` is how many query heads share a key head, and `padded` whether rows are tokens of a padded batch.
    """

    kernel: str
    target: str
    dtype: str
    head_dim: int
    group: int = 1
    padded: bool = False


@dataclass(frozen=True)
class Report(Case):
    """What the compiler made of a case; programs_per_sm fit a multiprocessor at once by registers, shared and
    tensor memory, and warps.

    matrix_instructions are all of the code, exp2_instructions and inner_loop_issue_slots those that a warp
    issues in an iteration of the loop over keys (queries in dkdv), and issue_slots_per_64_scores what that
    makes for 64 scores a lane. wgmma_groups are as many as the products in the loop, unless each matrix
    instruction waits for the one before. one_tile_issue_slots are those of dkdv's other loop, which computes
    dq too. A row is one of the scores', a query's (a key's in dkdv), None where there are no scores: two
    tiles that take the same keys at a time give the same bits only if as many lanes and warps share a row.
    """

    tile: str = ""
    num_warps: int = 0
    num_stages: int = 0
    registers: int = 0
    spill_bytes: int = 0
    shared_bytes: int = 0
    has_dot: bool = False
    matrix_instructions: int = 0
    exp2_instructions: int = 0
    inner_loop_issue_slots: int = 0
    issue_slots_per_64_scores: float = 0.0
    wgmma_groups: int = 0
    one_tile_issue_slots: int = 0
    lanes_per_row: int | None = None
    warps_per_row: int | None = None
    rows_stay_in_one_warp: bool | None = None
    programs_per_sm: int = 0


def all_cases(targets: Iterable[str]) -> Iterator[Case]:
    """Every kernel for these; only dkdv's loop depends on the number of query heads a key head."""
    for target in targets:
        for dtype, head_dim, padded in product(ELEMENTS, HEAD_DIMS, (False, True)):
            for kernel in ("delta", *_attention_kernels(target, dtype, head_dim)):
                for group in GROUPS if kernel == "dkdv" else (1,):
                    yield Case(kernel, target, dtype, head_dim, group, padded)
        yield from _row_cases(target, ELEMENTS)


def covering_cases(targets: Iterable[str], times: int) -> Iterator[Case]:
    """Every tile that ships: padded, with a column mask, for 16 bits also without either."""
    for target in targets:
        for dtype in ("bfloat16", "float32"):
            for size in (64, 128, 256):
                for kernel in (*_attention_kernels(target, dtype, size), *(["delta"] if size == 64 else [])):
                    group = GROUPS[-1] if kernel == "dkdv" else 1
                    yield Case(kernel, target, dtype, size - 8, group, padded=True)
                    if times > 1 and dtype == "bfloat16":
                        yield Case(kernel, target, "float16", size)
        yield from _row_cases(target, ("float32", "bfloat16"))


def compile_case(case: Case) -> Report:
    """Compile one kernel with the constants and options of its launcher, and read the machine code."""
    kernel, element, constants, options = _configure(case)
    signature, attributes = _specialise(kernel, element, constants, "*i64" if case.padded else "*i32")
    source, target = ASTSource(kernel, signature, constants, attributes), TARGETS[case.target]
    compiled = triton.compile(source, target=target, options=options)
    registers, spill_bytes = machine_code.read_resources(compiled.asm)
    code = machine_code.read_code(compiled.asm)
    has_dot = "tt.dot" in compiled.asm["ttir"]
    loops = machine_code.find_loops(code) if has_dot else []
    scores = constants["BLOCK_M"] * constants["BLOCK_N"] if has_dot else 0
    scores_per_lane = scores / options["num_warps"] / target.warp_size or 1
    first = loops[0] if loops else []
    lanes_per_row, warps_per_row = _spread_of_row(compiled.asm["ttgir"]) if has_dot else (None, None)
    metadata, count = compiled.metadata, machine_code.count_matching
    return Report(
        **asdict(case),
        tile="x".join(str(size) for name, size in constants.items() if re.match("BLOCK(?!_D$)", name)),
        num_warps=metadata.num_warps,
        num_stages=metadata.num_stages,
        registers=registers,
        spill_bytes=spill_bytes,
        shared_bytes=metadata.shared,
        has_dot=has_dot,
        matrix_instructions=count(machine_code.MATRIX_INSTRUCTION, code),
        exp2_instructions=count(machine_code.EXP2_INSTRUCTION, first),
        inner_loop_issue_slots=len(first),
        issue_slots_per_64_scores=round(64 * len(first) / scores_per_lane, 1),
        wgmma_groups=count(machine_code.WGMMA_GROUP, first),
        one_tile_issue_slots=len(loops[1]) if len(loops) > 1 else 0,
        lanes_per_row=lanes_per_row,
        warps_per_row=warps_per_row,
        rows_stay_in_one_warp=None if warps_per_row is None else warps_per_row == 1,
        programs_per_sm=_programs_that_fit(case.target, registers, metadata),
    )


def compile_all(cases: Iterable[Case], jobs: int) -> Iterator[Report]:
    """Reports in the order of the cases, compiled in `jobs` processes."""
    with concurrent.futures.ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(compile_case, cases)


def _spread_of_row(ttgir: str) -> tuple[int, int]:
    """Lanes of a warp, and warps, that hold a row of scores between them."""
    scores = re.search(r"math\.exp2 .*: tensor<\d+x(\d+)xf32, #(\w+)>", ttgir)
    assert scores is not None, "no exp2 of scores"
    layout = re.search(rf"^#{scores[2]} = #\w+\.(\w+)<\{{(.*)\}}>", ttgir, re.M)
    assert layout is not None, f"no layout {scores[2]}"
    width, kind, parameters = int(scores[1]), layout[1], layout[2]
    found = re.findall(r"(\w+) = (\[[^a-zA-Z]*\])(?:,|$)", parameters)
    given = {name: json.loads(value) for name, value in found}
    if kind == "linear":
        lanes, warps = (2 ** sum(base[1] > 0 for base in given[name]) for name in ("lane", "warp"))
        return lanes, warps
    if kind == "blocked":
        lanes = min(given["threadsPerWarp"][1], -(-width // given["sizePerThread"][1]))
        covered = lanes * given["sizePerThread"][1]
    elif kind == "amd_mfma":
        rows, covered = given["instrShape"][:2]
        lanes = 64 // rows if "isTransposed = true" in parameters else covered
    else:
        lanes, covered = 4, given["instrShape"][1]
    return lanes, min(given["warpsPerCTA"][1], -(-width // covered))


def _programs_that_fit(target: str, registers: int, metadata: Any) -> int:
    processor = PROCESSORS[target]
    allocated = -(-registers // REGISTERS_GRANULARITY) * REGISTERS_GRANULARITY
    limits = [
        processor.registers // (allocated * TARGETS[target].warp_size * metadata.num_warps),
        processor.shared_in_all // max(metadata.shared + processor.shared_reserved, 1),
        processor.warps // metadata.num_warps,
    ]
    if tensor_memory := getattr(metadata, "tmem_size", 0):
        limits.append(TENSOR_MEMORY_COLUMNS // tensor_memory)
    return min(limits)


def _configure(case: Case) -> tuple[Any, str, dict[str, Any], dict[str, Any]]:
    """Kernel, Triton's name of its elements, constants and options."""
    if case.kernel in INDEX_KERNELS:
        return INDEX_KERNELS[case.kernel], "i64", *packing.index_settings()
    dtype = getattr(torch, case.dtype)
    if case.kernel == "gather":
        return packing.gather_rows, f"i{8 * dtype.itemsize}", *packing.gather_settings(case.head_dim)
    kernel = case.kernel.removesuffix("_short")
    mean_length = math.inf if case.kernel == kernel else 0.0
    problem = case.head_dim, dtype, case.target, case.group, mean_length
    constants, options = tiles.attention_settings(kernel, *problem)
    constants |= {} if case.padded else {"positions": None}
    return ATTENTION_KERNELS[kernel], ELEMENTS[case.dtype], constants, options


def _attention_kernels(target: str, dtype: str, head_dim: int) -> Iterator[str]:
    for kernel in ("forward", "dkdv", "dq"):
        yield kernel
        names = kernel, f"{kernel}_short"
        tile, short = (tiles.tile_for(name, head_dim, getattr(torch, dtype), target) for name in names)
        if kernel != "dkdv" and short != tile:
            yield f"{kernel}_short"


def _row_cases(target: str, dtypes: Iterable[str]) -> Iterator[Case]:
    yield from (Case("gather", target, dtype, 384) for dtype in dtypes)
    yield Case("invert", target, "int64", 1)
    yield Case("locate", target, "int64", 1, padded=True)


def _specialise(
    kernel: Any, element: str, constants: dict[str, Any], offsets: str
) -> tuple[dict[str, str], dict[tuple[int], list]]:
    # As the launcher would find them: pointers divisible by 16.
    signature, attributes = {}, {}
    for position, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
            continue
        known = (kind for pattern, kind in ARGUMENT_TYPES.items() if re.fullmatch(pattern, name))
        signature[name] = offsets if name.startswith("cu_seqlens") else next(known, f"*{element}")
        if signature[name].startswith("*") or name in ("x_row_stride", "width"):
            attributes[(position,)] = [["tt.divisibility", 16]]
    return signature, attributes


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--target", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--cover", type=int, choices=(1, 2), help="shipped tiles once, or 16-bit ones twice")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes that compile")
    args = parser.parse_args(arguments)
    cases = covering_cases(args.target, args.cover) if args.cover else all_cases(args.target)
    for report in compile_all(cases, args.jobs):
        values = asdict(report)
        shown = ", ".join(f"{name} {value}" for name, value in values.items())
        print(json.dumps(values) if args.json else shown, flush=True)


if __name__ == "__main__":
    main()
