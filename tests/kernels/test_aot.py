"""Every Triton kernel compiles for every architecture, without spills, on matrix units, within shared memory: no GPU needed.

A covering subset of what `python -m benchmarks.aot` compiles; on the installed Triton, and on the oldest supported one if it lies in
.triton-3.6 (`make test` puts it there). In processes of their own, as one process has room for one Triton.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
OLDEST = ROOT / ".triton-3.6"
SHARED_LIMIT = {"sm_80": 163 << 10, "sm_90": 227 << 10, "sm_100": 227 << 10, "gfx942": 64 << 10}  # bytes a program may use
SUBSETS = {
    "bfloat16": ["--dtype", "bfloat16", "--head-dim", "32", "64", "80", "128", "--group", "1"],
    "other_dtypes": ["--dtype", "float16", "float32", "--head-dim", "64", "--group", "4"],
}
NUM_CASES = {"bfloat16": 4 * 4 + 2, "other_dtypes": 2 * 4 + 3}  # of a target: attention kernels, gathers, inversion of indices


@pytest.fixture(params=["installed", "3.6"])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """Environment of a process that imports this Triton, not interpreted."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    if request.param == "installed":
        if importlib.util.find_spec("triton") is None:
            pytest.skip("Triton is not installed: pip install triton")
        return environment
    if not (OLDEST / "triton").exists():
        pytest.skip(f"Triton 3.6 is not there: pip install --no-deps --target {OLDEST} triton==3.6.0")
    environment["PYTHONPATH"] = os.pathsep.join([str(OLDEST), environment.get("PYTHONPATH", "")])
    version = run(["-c", "import triton; print(triton.__version__)"], environment)
    assert version.startswith("3.6."), version
    return environment


def run(arguments: list[str], environment: dict[str, str]) -> str:
    result = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("subset", SUBSETS)
def test_compiled_kernels(environment, subset):
    reports = [
        json.loads(line) for line in run(["-m", "benchmarks.aot", "--json", "--jobs", "2", *SUBSETS[subset]], environment).splitlines()
    ]
    faults = {name: [report for report in reports if at_fault(report)] for name, at_fault in FAULTS.items()}
    assert not any(faults.values()), json.dumps(faults, indent=1)
    assert {report["target"] for report in reports} == set(SHARED_LIMIT)
    assert len(reports) == NUM_CASES[subset] * len(SHARED_LIMIT)


def has_product(report: dict[str, Any]) -> bool:
    return report["kernel"] in ("forward", "dkdv", "dq")


FAULTS = {
    "spills": lambda report: report["spill_bytes"] > 0,
    "a product not seen": lambda report: report["has_dot"] != has_product(report),
    "a product without matrix instructions": lambda report: has_product(report) and report["matrix_instructions"] == 0,
    "more shared memory than there is": lambda report: report["shared_bytes"] > SHARED_LIMIT[report["target"]],
    "no program fits": lambda report: report["programs_per_sm"] < 1,
}
