"""benchmarks/gpu.sh as a dry run on the CPU: every section runs, a failure stops nothing, the table comes
last, sections can be repeated.

Its Python is one that lacks what a GPU machine may lack (tyro, polars, plotting, build tools, the installed
package), and whose `environment` section fails until the second run. Two minutes, most of it for compiling
FlexAttention, interpreting Triton and counting memory.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measure.results import find_results

ROOT = Path(__file__).parents[2]
SECTIONS = [
    "environment",
    "kernel_tests",
    "attention",
    "train_step",
    "training_run",
    "memory",
    "shapes",
    "packing",
    "tile_sweep",
]
LACKED = {"tyro", "polars", "pandas", "matplotlib", "sklearn", "cmake", "ninja", "scikit_build_core"}
POORER = f"""
import importlib.metadata as metadata
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {LACKED} else super().find_spec(name, path, target)

def from_name(name):
    found = find(name)
    if name == "lsm2-kernels" and not found.version.startswith("0+"):
        raise metadata.PackageNotFoundError(name)
    return found

sys.meta_path[:] = [Finder if finder is PathFinder else finder for finder in sys.meta_path]
find, metadata.Distribution.from_name = metadata.Distribution.from_name, from_name
"""
FAILING = """#!/bin/sh
case "$*" in *benchmarks.measure.environment*) echo "a planted failure"; exit 3;; esac
exec {python} "$@"
"""


def run_script(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=3600)


def read_summary(folder: Path) -> dict[str, str]:
    """Of each section whether it passed."""
    return {line.split()[0]: line.split()[1] for line in (folder / "summary.txt").read_text().splitlines()}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_dry_run_goes_on_past_a_failure_and_can_be_completed(tmp_path):
    pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(POORER)
    python = tmp_path / "python"
    python.write_text(FAILING.format(python=sys.executable))
    python.chmod(0o755)
    out = tmp_path / "results"

    first = run_script("--dry-run", str(out), PYTHON=str(python), PYTHONPATH=str(tmp_path / "site"))
    log = (out / "log.txt").read_text()
    assert read_summary(out) == {
        name: "failed" if name == "environment" else "passed" for name in SECTIONS
    }, log
    assert first.returncode == 1, first.stderr
    assert first.stdout.endswith((out / "summary.txt").read_text())
    assert "environment   failed      0 s  a planted failure" in first.stdout
    saved = {f"{name}.json" for name in SECTIONS[2:]}
    assert {path.name for path in out.iterdir()} == {"log.txt", "summary.txt", "kernel_tests.xml"} | saved
    assert not [name for name in LACKED if f"No module named '{name}" in log]
    timed = {
        name
        for race in find_results([out / "attention.json"])[0].races
        for name, way in race.ways.items()
        if "error" not in way
    }
    assert {"ours", "sdpa_padded", "torch_nested", "torch_flex"} <= timed

    attention = (out / "attention.json").stat().st_mtime_ns
    second = run_script("--dry-run", "--resume", str(out), PYTHON=sys.executable)
    assert second.returncode == 0, second.stdout + second.stderr
    assert read_summary(out) == dict.fromkeys(SECTIONS, "passed")
    assert (out / "environment.json").exists() and (out / "attention.json").stat().st_mtime_ns == attention


@pytest.mark.parametrize("arguments", [["--only", "atention"], ["--only"], ["--dryrun"]], ids=" ".join)
def test_wrong_arguments_are_refused(tmp_path, arguments):
    result = run_script(*arguments, PYTHON=sys.executable)
    assert result.returncode == 2 and (
        "there is no section" in result.stderr or "unknown option" in result.stderr
    )
