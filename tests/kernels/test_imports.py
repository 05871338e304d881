"""What `import lsm2_kernels` brings along, and what `python -m lsm2_kernels` says; in fresh interpreters."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lsm2_kernels import _ops

REPOSITORY = Path(__file__).parents[2]
HEAVY = {"triton", "matplotlib", "sklearn", "polars", "pandas", "scipy", "pyarrow"}


def installed() -> bool:
    try:
        return bool(importlib.metadata.version("lsm2-kernels"))
    except importlib.metadata.PackageNotFoundError:
        return False


def run_python(*arguments: str, cwd: Path = REPOSITORY, path: Path | None = None) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path)} if path else None
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, check=True, capture_output=True, text=True
    ).stdout


def modules_after(statement: str) -> tuple[set[str], float]:
    """Top-level modules loaded, and seconds that the statement took after torch was there."""
    program = (
        f"import json, sys, time, torch; start = time.perf_counter(); {statement};"
        " seconds = time.perf_counter() - start"
    )
    names, seconds = json.loads(
        run_python("-c", f"{program}; print(json.dumps([[n.split('.')[0] for n in sys.modules], seconds]))")
    )
    return set(names), seconds


@pytest.mark.subprocess
def test_import_is_quick_and_light():
    with_torch, _ = modules_after("pass")
    with_kernels, seconds = modules_after("import lsm2_kernels")
    assert "lsm2_kernels" in with_kernels
    assert not (with_kernels - with_torch) & HEAVY
    assert seconds < 1


@pytest.mark.subprocess
def test_triton_is_not_loaded_by_cpu_tensors():
    before, _ = modules_after("pass")
    after, _ = modules_after(
        "import lsm2_kernels as l; x = torch.zeros(3, 1, 8);"
        " l.varlen_attention(x, x, x, torch.tensor([0, 3]))"
    )
    assert not (after - before) & HEAVY


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")
@pytest.mark.skipif(not installed(), reason="lsm2-kernels is not installed: `make test` installs it")
def test_compiled_kernels_serve_the_cpu_where_there_is_a_compiler():
    assert _ops.cpu_library is not None, _ops.why_no_cpu_library
    assert _ops.instruction_set() in _ops.INSTRUCTION_SETS


@pytest.mark.subprocess
def test_main_says_who_serves_what():
    said = run_python("-m", "lsm2_kernels")
    for name in ("lsm2-kernels", "imported from", "python", "torch", "triton", "cpu", "other devices"):
        assert f"\n{name}" in f"\n{said}"


def clone_of_the_package(folder: Path) -> Path:
    shutil.copytree(
        REPOSITORY / "lsm2_kernels",
        folder / "lsm2_kernels",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )
    return folder


USE_TWICE_ON_CPU = """
import warnings, torch
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import lsm2_kernels
    x = torch.ones(3, 1, 8)
    for _ in range(2):
        out = lsm2_kernels.varlen_attention(x, x, x, torch.tensor([0, 3]))
assert out.equal(x)
print(*(warning.message for warning in caught if issubclass(warning.category, RuntimeWarning)), sep="\\n")
"""


@pytest.mark.subprocess
def test_library_that_does_not_load_is_reported_once_and_replaced(tmp_path):
    clone = clone_of_the_package(tmp_path)
    library = clone / "lsm2_kernels" / "lsm2_kernels_cpu.so"
    library.write_bytes(b"not a library")
    said = run_python("-c", USE_TWICE_ON_CPU, cwd=clone)
    assert said.count("plain-PyTorch reference serves cpu tensors") == 1
    assert f"{library} does not load" in said
    assert "pip install --force-reinstall --no-deps ." in said
    assert f"reference, slow: {library} does not load" in run_python("-m", "lsm2_kernels", cwd=clone)


@pytest.mark.subprocess
def test_library_of_the_installed_distribution_is_found_from_a_clone(tmp_path):
    clone = clone_of_the_package(tmp_path / "clone")
    installed = tmp_path / "site-packages"
    (installed / "lsm2_kernels").mkdir(parents=True)
    library = installed / "lsm2_kernels" / "lsm2_kernels_cpu.so"
    library.write_bytes(b"not a library")  # enough to see from the message which file was tried
    metadata = installed / "lsm2_kernels-0.0.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: lsm2-kernels\nVersion: 0.0.0\n")
    (metadata / "RECORD").write_text("lsm2_kernels/lsm2_kernels_cpu.so,,\n")
    said = run_python("-m", "lsm2_kernels", cwd=clone, path=installed)
    assert f"reference, slow: {library} does not load" in said
