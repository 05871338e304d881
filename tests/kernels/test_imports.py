"""What `import lsm2_kernels` brings along, and what `python -m lsm2_kernels` says; in fresh interpreters."""

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
HEAVY = {"triton", "matplotlib", "sklearn", "polars", "pandas", "scipy", "pyarrow"}


def run_python(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout


def modules_after(statement: str) -> tuple[set[str], float]:
    """Top-level modules loaded, and seconds that the statement took after torch was there."""
    program = f"import json, sys, time, torch; start = time.perf_counter(); {statement}; seconds = time.perf_counter() - start"
    names, seconds = json.loads(run_python("-c", f"{program}; print(json.dumps([[n.split('.')[0] for n in sys.modules], seconds]))"))
    return set(names), seconds


def test_import_is_quick_and_light():
    with_torch, _ = modules_after("pass")
    with_kernels, seconds = modules_after("import lsm2_kernels")
    assert "lsm2_kernels" in with_kernels
    assert not (with_kernels - with_torch) & HEAVY
    assert seconds < 1


def test_triton_is_not_loaded_by_cpu_tensors():
    before, _ = modules_after("pass")
    after, _ = modules_after("import lsm2_kernels as l; x = torch.zeros(3, 1, 8); l.varlen_attention(x, x, x, torch.tensor([0, 3]))")
    assert not (after - before) & HEAVY


def test_main_says_who_serves_what():
    said = run_python("-m", "lsm2_kernels")
    for name in ("lsm2-kernels", "python", "torch", "triton", "cpu", "other devices"):
        assert f"\n{name}" in f"\n{said}"
