"""The machine code of a compiled kernel: instructions, which may follow which, the loops of attention,
registers and spilled bytes.

What a warp issues in an iteration of a loop is counted along the shortest way round it: past the mask of a
ragged last block, waits for what is there already, and on Blackwell the branch in which one thread issues the
matrix instructions.
"""

import re
import subprocess
import tempfile
from pathlib import Path

import triton

MATRIX_INSTRUCTION = re.compile(r"(?:@\S+ )?(?:HGMMA|HMMA|UTC\w*MMA|v_mfma_)")
WGMMA_GROUP = re.compile(r"(?:@\S+ )?WARPGROUP\.ARRIVE")
"""Before the matrix instructions that Hopper runs without waiting in between."""
EXP2_INSTRUCTION = re.compile(r"(?:@\S+ )?(?:MUFU\.EX2|v_exp_f32)")

Code = list[tuple[str, list[int]]]  # instructions, and the indices of those that may be next


def read_code(binary: dict) -> Code:
    """Instructions of a kernel that Triton compiled for an NVIDIA or AMD GPU."""
    if "cubin" in binary:
        return _read_sass(_cuobjdump("-sass", binary["cubin"]))
    return _read_amdgcn(binary["amdgcn"])


def read_resources(binary: dict) -> tuple[int, int]:
    """Registers of a thread, and bytes that did not fit them."""
    if "cubin" not in binary:
        pattern = r"\.(vgpr_count|private_segment_fixed_size):\s+(\d+)"
        numbers = dict(re.findall(pattern, binary["amdgcn"]))
        return int(numbers["vgpr_count"]), int(numbers["private_segment_fixed_size"])
    # Triton's own count of spills needs a driver. What does not fit a kernel's registers is its stack.
    numbers = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", _cuobjdump("-res-usage", binary["cubin"])))
    return int(numbers["REG"]), int(numbers["STACK"]) + int(numbers["LOCAL"])


def count_matching(pattern: re.Pattern[str], code: Code) -> int:
    """How many instructions begin as the pattern says."""
    return sum(pattern.match(instruction) is not None for instruction, _ in code)


def find_loops(code: Code) -> list[Code]:
    """Instructions along the shortest way round each loop that computes exp2, shortest first."""
    loops: list[list[int]] = []
    for index, (instruction, _) in enumerate(code):
        if EXP2_INSTRUCTION.match(instruction) and not any(index in loop for loop in loops):
            loops.append(_shortest_way_back(code, index))
    return sorted(([code[index] for index in loop] for loop in loops if loop), key=len)


def _shortest_way_back(code: Code, start: int) -> list[int]:
    came_from: dict[int, int] = {}
    frontier = [start]
    while frontier and start not in came_from:
        reached = {after: index for index in frontier for after in code[index][1] if after not in came_from}
        came_from |= reached
        frontier = list(reached)
    if start not in came_from:
        return []
    way = [came_from[start]]
    while way[-1] != start:
        way.append(came_from[way[-1]])
    return way[::-1]


def _read_sass(listing: str) -> Code:
    lines = re.findall(r"^\s*/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;", listing, re.M)
    places = {int(address, 16): index for index, (address, _) in enumerate(lines)}
    code = []
    for index, (_, instruction) in enumerate(lines):
        after = [index + 1] if index + 1 < len(lines) else []
        if jump := re.match(r"(@\S+\s+)?BRA\S*\s+(.*?)(0x[0-9a-f]+)$", instruction):
            after = [places[int(jump[3], 16)], *(after if jump[1] or jump[2] else [])]
        elif re.match(r"(EXIT|RET)\b", instruction):
            after = []
        code.append((instruction, after))
    return code


def _read_amdgcn(assembly: str) -> Code:
    lines = re.findall(r"^(\S+(?=:)|\s+[a-z]\w+(?: [^;\n]*)?)", assembly, re.M)
    instructions: list[str] = []
    places: dict[str, int] = {}
    for line in lines:
        if line[0].isspace():
            instructions.append(line.strip())
        else:
            places[line] = len(instructions)
    code = []
    for index, instruction in enumerate(instructions):
        after = [index + 1] if index + 1 < len(instructions) else []
        jump = re.match(r"s_(c?branch)\w* (\.\w+)$", instruction)
        # s_cbranch_execz is taken only where no lane has anything to do.
        if jump and not instruction.startswith("s_cbranch_execz"):
            after = [places[jump[2]], *(after if jump[1] == "cbranch" else [])]
        elif instruction == "s_endpgm":
            after = []
        code.append((instruction, after))
    return code


def _cuobjdump(what: str, cubin: bytes) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        return subprocess.run([tool, what, file.name], capture_output=True, text=True, check=True).stdout
