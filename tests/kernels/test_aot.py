"""Every Triton kernel compiles for every architecture, without spills, on matrix units, within shared memory.

No GPU is needed. The installed Triton compiles every tile that ships, and those for 16 bits twice; the oldest
supported Triton compiles every tile once, if it lies in .triton-3.6, where `make test` puts it. `python -m
benchmarks.triton.aot` compiles all combinations. Each Triton runs in its own process, as a process can
import only one.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lsm2_kernels.triton import tiles

ROOT = Path(__file__).parents[2]
OLDEST = ROOT / ".triton-3.6"
SHARED_LIMIT = {
    "sm_80": 163 << 10,
    "sm_86": 99 << 10,
    "sm_90": 227 << 10,
    "sm_100": 227 << 10,
    "gfx942": 64 << 10,
}  # bytes a program may use
PRODUCTS = {"forward": 2, "dq": 3, "dkdv": 4}  # in an iteration of the loop
TIMES = {"installed": 2, "3.6": 1}


@pytest.fixture(scope="module", params=TIMES)
def reports(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """What that Triton makes of the kernels."""
    output = run(
        ["-m", "benchmarks.triton.aot", "--json", "--jobs", "2", "--cover", str(TIMES[request.param])],
        environment(request.param),
    )
    return [json.loads(line) for line in output.splitlines()]


def environment(version: str) -> dict[str, str]:
    """Environment of a process that imports this Triton, not interpreted."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    if version == "installed":
        if importlib.util.find_spec("triton") is None:
            pytest.skip("Triton is not installed: pip install triton")
        return environment
    if not (OLDEST / "triton").exists():
        pytest.skip(f"Triton 3.6 is not there: pip install --no-deps --target {OLDEST} triton==3.6.0")
    environment["PYTHONPATH"] = os.pathsep.join([str(OLDEST), environment.get("PYTHONPATH", "")])
    imported = run(["-c", "import triton; print(triton.__version__)"], environment)
    assert imported.startswith("3.6."), imported
    return environment


def run(arguments: list[str], environment: dict[str, str]) -> str:
    result = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.slow
@pytest.mark.subprocess
def test_kernels_have_no_fault(reports):
    faults = {name: [report for report in reports if at_fault(report)] for name, at_fault in FAULTS.items()}
    assert not any(faults.values()), json.dumps(
        {name: found for name, found in faults.items() if found}, indent=1
    )


@pytest.mark.slow
@pytest.mark.subprocess
def test_every_tile_that_ships_is_compiled(reports):
    shipped = {
        (target, kernel, f"{tile.block_m}x{tile.block_n}", tile.num_warps, tile.num_stages)
        for (target, _), kernels in tiles.TILES.items()
        for kernel, by_size in kernels.items()
        for tile in by_size.values()
    }
    assert shipped == {key_of(report) for report in reports if has_product(report)}
    assert {(report["target"], report["kernel"]) for report in reports if not has_product(report)} == {
        (target, kernel) for target in SHARED_LIMIT for kernel in ("delta", "gather", "invert", "locate")
    }


@pytest.mark.slow
@pytest.mark.subprocess
def test_tiles_for_short_sequences_give_the_same_bits(reports):
    by_case = {
        tuple(report[name] for name in ("target", "dtype", "head_dim", "kernel")): report
        for report in reports
    }
    pairs = [
        (by_case[*case, kernel.removesuffix("_short")], short)
        for (*case, kernel), short in by_case.items()
        if kernel.endswith("_short")
    ]
    assert pairs
    assert [order_of_sums(short) for _, short in pairs] == [order_of_sums(usual) for usual, _ in pairs]
    assert all(report["rows_stay_in_one_warp"] for pair in pairs for report in pair)


def test_loop_is_counted_along_the_shortest_way():
    machine_code = pytest.importorskip(
        "benchmarks.triton.machine_code", reason="Triton is not installed: pip install triton"
    )
    code = [
        ("MUFU.EX2 R1, R1", [1]),
        ("ISETP", [2]),  # the loop
        ("@P0 BRA past the mask", [4, 3]),
        ("FSEL", [4]),
        ("HMMA.16816.F32.BF16 R0, R2, R4, R0", [5]),
        ("@P1 MUFU.EX2 R0, R0", [6]),
        ("@!P2 BRA to a wait out of line", [9, 7]),
        ("@P3 BRA back", [1, 8]),
        ("EXIT", []),
        ("BRA from the wait", [7]),
    ]
    (loop,) = machine_code.find_loops(code)
    assert loop == [code[index] for index in (5, 6, 7, 1, 2, 4)]
    assert machine_code.count_matching(machine_code.EXP2_INSTRUCTION, loop) == 1
    assert machine_code.count_matching(machine_code.MATRIX_INSTRUCTION, loop) == 1


def key_of(report: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(report[name] for name in ("target", "kernel", "tile", "num_warps", "num_stages"))


def order_of_sums(report: dict[str, Any]) -> tuple[Any, ...]:
    _, keys_at_a_time = report["tile"].split("x")
    return report["lanes_per_row"], report["warps_per_row"], keys_at_a_time


def has_product(report: dict[str, Any]) -> bool:
    return report["kernel"].removesuffix("_short") in PRODUCTS


def in_16_bits(report: dict[str, Any]) -> bool:
    return has_product(report) and report["dtype"] != "float32"


def scores_per_lane(report: dict[str, Any]) -> float:
    block_m, block_n = map(int, report["tile"].split("x"))
    return block_m * block_n / report["num_warps"] / (64 if report["target"] == "gfx942" else 32)


FAULTS = {
    "spills": lambda report: report["spill_bytes"] > 0,
    "a product not seen": lambda report: report["has_dot"] != has_product(report),
    "a product without matrix instructions": lambda report: (
        in_16_bits(report) and report["matrix_instructions"] == 0
    ),
    "matrix instructions that wait for one another": lambda report: (
        in_16_bits(report) and report["wgmma_groups"] > PRODUCTS[report["kernel"].removesuffix("_short")]
    ),
    "the loop not seen": lambda report: (
        has_product(report) and report["exp2_instructions"] < scores_per_lane(report)
    ),
    "more shared memory than there is": lambda report: (
        report["shared_bytes"] > SHARED_LIMIT[report["target"]]
    ),
    "no program fits": lambda report: report["programs_per_sm"] < 1,
}
