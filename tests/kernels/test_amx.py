"""The AMX kernels as they ship, by a processor with AMX, elsewhere with its tile instructions emulated."""

import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CPUINFO = Path("/proc/cpuinfo")
PROCESSOR_FLAGS = set(CPUINFO.read_text().split()) if CPUINFO.exists() else set()
HAS_AMX = "amx_bf16" in PROCESSOR_FLAGS
LIBRARY_NAME = "lsm2_kernels_cpu.so"

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.skipif(
        (sys.platform, platform.machine()) != ("linux", "x86_64") or "avx512_bf16" not in PROCESSOR_FLAGS,
        reason="only tile instructions are emulated: AMX kernels also need Linux and avx512_bf16",
    ),
]


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    # Python's own handler of faults would take the emulator's place.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONFAULTHANDLER"}
    return subprocess.run(
        [str(part) for part in command], env=inherited | environment, cwd=ROOT, capture_output=True, text=True
    )


def checked(*command: str | Path, **environment: str) -> str:
    done = run(*command, **environment)
    assert done.returncode == 0, (
        f"{' '.join(map(str, command))} gave {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    )
    return done.stdout


@pytest.fixture(scope="module")
def compiler() -> str:
    found = next((path for path in map(shutil.which, ("c++", "g++", "clang++")) if path), None)
    if found is None:
        pytest.skip("no C++ compiler on this machine")
    if run(found, "-mamx-tile", "-mamx-bf16", "-x", "c++", "-fsyntax-only", "/dev/null").returncode != 0:
        pytest.skip(f"{found} is too old for AMX: it refuses -mamx-bf16")
    return found


@pytest.fixture(scope="module")
def preload(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a process that is to execute tile instructions."""
    if HAS_AMX:
        return {}
    emulator = tmp_path_factory.mktemp("emulator") / "amx_emulator.so"
    checked(
        compiler,
        "-std=c++17",
        "-O3",
        "-march=x86-64-v3",
        "-fPIC",
        "-shared",
        "-o",
        emulator,
        HERE / "amx_emulator.cpp",
    )
    return {"LD_PRELOAD": str(emulator)}


@pytest.fixture(scope="module")
def self_test(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("self_test") / "amx_self_test"
    options = ["-std=c++17", "-O2", "-mamx-tile", "-mamx-bf16", "-pthread"]
    checked(compiler, *options, "-o", program, HERE / "amx_self_test.cpp", "-ldl")
    return program


def test_tile_instructions(self_test: Path, preload: dict[str, str]) -> None:
    num_emulated = int(checked(self_test, **preload))
    assert HAS_AMX or num_emulated > 100


@pytest.mark.skipif(HAS_AMX, reason="the processor executes tile instructions itself")
@pytest.mark.parametrize(
    ("wrong", "ending", "complaint"),
    [
        ("mismatch", signal.SIGABRT, "as many pairs in a row as the second has rows"),
        ("unconfigured", signal.SIGABRT, "not configured"),
        ("illegal", signal.SIGILL, ""),
    ],
)
def test_the_emulator_ends_what_a_processor_would_refuse(
    self_test: Path, preload: dict[str, str], wrong: str, ending: int, complaint: str
) -> None:
    done = run(self_test, wrong, **preload)
    assert done.returncode == -ending
    assert complaint in done.stderr


@pytest.fixture(scope="module")
def package(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of lsm2_kernels; where AMX is emulated, its library does not ask the processor for AMX."""
    cmake = shutil.which(
        "cmake", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    )
    if cmake is None:
        pytest.skip("no cmake on this machine: pip install cmake")
    folder = tmp_path_factory.mktemp("package")
    build = folder / "build"
    options = [
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-DCMAKE_CXX_COMPILER={compiler}",
        f"-DLSM2_ASSUME_AMX={'OFF' if HAS_AMX else 'ON'}",
    ]
    checked(cmake, "-S", ROOT / "csrc", "-B", build, *options)
    checked(cmake, "--build", build, "--parallel", "2")
    shutil.copytree(
        ROOT / "lsm2_kernels", folder / "lsm2_kernels", ignore=shutil.ignore_patterns("__pycache__", "*.so")
    )
    shutil.copy(build / LIBRARY_NAME, folder / "lsm2_kernels")
    return folder


@pytest.mark.slow
def test_attention(package: Path, preload: dict[str, str]) -> None:
    script = [sys.executable, HERE / "amx_cases.py", package / "lsm2_kernels"]
    num_emulated = int(checked(*script, PYTHONPATH=str(package), **preload).split()[-1])
    assert HAS_AMX or num_emulated > 1000, "the AMX kernels were not used"
