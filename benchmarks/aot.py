"""What the compiler makes of every Triton kernel, without a GPU: `python -m benchmarks.aot [--json] [--target sm_90 ...]`.

Each kernel is compiled at every tile that ships, for every architecture, and measured: registers, spilled bytes, shared memory,
matrix instructions, programs that fit a multiprocessor. Works with whichever Triton is importable.
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lsm2_kernels.triton import attention_backward, attention_forward, packing, tiles

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
ELEMENTS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}  # Triton's names
HEAD_DIMS = (8, 16, 24, 32, 40, 64, 72, 80, 96, 128, 192, 256)
GROUPS = (1, 4)  # query heads a key head
ATTENTION_KERNELS = {
    "forward": attention_forward.attention_forward,
    "delta": attention_backward.attention_backward_delta,
    "dkdv": attention_backward.attention_backward_dkdv,
    "dq": attention_backward.attention_backward_dq,
}

# Types of the kernels' arguments by name; names that end in _stride are int32, and all others point at the inputs' dtype.
ARGUMENT_TYPES = {
    **dict.fromkeys(("lse", "delta", "grad_lse"), "*fp32"),
    **dict.fromkeys(("cu_seqlens_q", "cu_seqlens_k", "inverse"), "*i32"),
    **dict.fromkeys(("num_queries", "num_keys", "num_sequences", "num_rows", "num_indices", "width"), "i32"),
    "indices": "*i64",
    "scale": "fp32",
}

TENSOR_MEMORY_COLUMNS = 512  # of a Blackwell multiprocessor
MATRIX_INSTRUCTION = re.compile(r"^\s*(?:@\S+\s+)?(?:wgmma\.mma_async|mma\.sync|tcgen05\.mma|v_mfma_)", re.M)


@dataclass(frozen=True)
class Processor:
    """What a multiprocessor (a compute unit) offers: bytes of shared memory to a program and to all, 32-bit registers, and warps."""

    shared_per_program: int
    shared_in_all: int
    shared_reserved: int
    registers: int
    warps: int


PROCESSORS = {
    "sm_80": Processor(163 << 10, 164 << 10, 1 << 10, 65536, 64),
    "sm_90": Processor(227 << 10, 228 << 10, 1 << 10, 65536, 64),
    "sm_100": Processor(227 << 10, 228 << 10, 1 << 10, 65536, 64),
    "gfx942": Processor(64 << 10, 64 << 10, 0, 4 * 512 * 64, 32),
}


@dataclass(frozen=True)
class Case:
    """One kernel to compile; to the gather head_dim is the width of a row, and `group` is how many query heads share a key head."""

    kernel: str
    target: str
    dtype: str
    head_dim: int
    group: int = 1


@dataclass(frozen=True)
class Report(Case):
    """What the compiler made of a case; programs_per_sm fit a multiprocessor at once by registers, shared and tensor memory, and warps."""

    tile: str = ""
    num_warps: int = 0
    num_stages: int = 0
    registers: int = 0
    spill_bytes: int = 0
    shared_bytes: int = 0
    has_dot: bool = False
    matrix_instructions: int = 0
    programs_per_sm: int = 0


def all_cases(targets: Iterable[str], dtypes: Iterable[str], head_dims: Sequence[int], groups: Sequence[int]) -> Iterator[Case]:
    """Every kernel for these architectures, dtypes, head dims and numbers of query heads a key head."""
    for target in targets:
        for dtype in dtypes:
            for head_dim in head_dims:
                yield Case("delta", target, dtype, head_dim)
                yield from (Case(kernel, target, dtype, head_dim, group) for kernel in ("forward", "dkdv", "dq") for group in groups)
            yield Case("gather", target, dtype, 384)
        yield Case("invert", target, "int64", 1)


def compile_case(case: Case) -> Report:
    """Compile one kernel with the constants and options that its launcher would use, and read the machine code."""
    if case.kernel == "invert":
        kernel, element = packing.invert_indices, "i64"
        constants, options = tiles.invert_settings()
    elif case.kernel == "gather":
        kernel, element = packing.gather_rows, f"i{8 * getattr(torch, case.dtype).itemsize}"
        constants, options = tiles.gather_settings(case.head_dim)
    else:
        kernel, element = ATTENTION_KERNELS[case.kernel], ELEMENTS[case.dtype]
        constants, options = tiles.attention_settings(case.kernel, case.head_dim, getattr(torch, case.dtype), case.target, case.group)
    signature, attributes = _specialise(kernel, element, constants)
    compiled = triton.compile(ASTSource(kernel, signature, constants, attributes), target=TARGETS[case.target], options=options)

    assembly = compiled.asm["ptx" if "ptx" in compiled.asm else "amdgcn"]
    registers, spill_bytes = _resources_nvidia(compiled.asm["cubin"]) if "cubin" in compiled.asm else _resources_amd(assembly)
    metadata = compiled.metadata
    processor = PROCESSORS[case.target]
    limits = [
        processor.registers // (registers * TARGETS[case.target].warp_size * metadata.num_warps),
        processor.shared_in_all // max(metadata.shared + processor.shared_reserved, 1),
        processor.warps // metadata.num_warps,
    ]
    if tensor_memory := getattr(metadata, "tmem_size", 0):
        limits.append(TENSOR_MEMORY_COLUMNS // tensor_memory)
    return Report(
        **asdict(case),
        tile="x".join(str(size) for name, size in constants.items() if name.startswith("BLOCK") and name != "BLOCK_D"),
        num_warps=metadata.num_warps,
        num_stages=metadata.num_stages,
        registers=registers,
        spill_bytes=spill_bytes,
        shared_bytes=metadata.shared,
        has_dot="tt.dot" in compiled.asm["ttir"],
        matrix_instructions=len(MATRIX_INSTRUCTION.findall(assembly)),
        programs_per_sm=min(limits),
    )


def compile_all(cases: Iterable[Case], jobs: int) -> Iterator[Report]:
    """Reports in the order of the cases, compiled in `jobs` processes."""
    with concurrent.futures.ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(compile_case, cases)


def _specialise(kernel: Any, element: str, constants: dict[str, Any]) -> tuple[dict[str, str], dict[tuple[int], list]]:
    # As the launcher would find them: pointers divisible by 16.
    signature, attributes = {}, {}
    for position, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
            continue
        signature[name] = ARGUMENT_TYPES.get(name) or ("i32" if name.endswith("_stride") else f"*{element}")
        if signature[name].startswith("*") or name in ("x_row_stride", "width"):
            attributes[(position,)] = [["tt.divisibility", 16]]
    return signature, attributes


def _resources_nvidia(cubin: bytes) -> tuple[int, int]:
    # Triton's own count of spills needs a driver. A kernel has no stack but for what does not fit its registers.
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        usage = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    numbers = {name: int(number) for name, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    return numbers["REG"], numbers["STACK"] + numbers["LOCAL"]


def _resources_amd(assembly: str) -> tuple[int, int]:
    numbers = {name: int(number) for name, number in re.findall(r"\.(vgpr_count|private_segment_fixed_size):\s+(\d+)", assembly)}
    return numbers["vgpr_count"], numbers["private_segment_fixed_size"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    parser.add_argument("--target", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--dtype", nargs="+", choices=ELEMENTS, default=list(ELEMENTS))
    parser.add_argument("--head-dim", nargs="+", type=int, default=HEAD_DIMS)
    parser.add_argument("--group", nargs="+", type=int, default=GROUPS, help="query heads a key head")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes that compile")
    args = parser.parse_args()
    names = [field.name for field in fields(Report)]
    if not args.json:
        print(*(f"{name:>{max(len(name), 8)}}" for name in names))
    for report in compile_all(all_cases(args.target, args.dtype, args.head_dim, args.group), args.jobs):
        values = asdict(report)
        print(json.dumps(values) if args.json else " ".join(f"{values[name]!s:>{max(len(name), 8)}}" for name in names), flush=True)


if __name__ == "__main__":
    main()
