"""What the build leaves: a library, loaded wherever it can be compiled, bound to no Python and no folder."""

import importlib.metadata
import re
import shutil
from pathlib import Path

import pytest

from lsm2_kernels import _ops

COMPILERS = [path for path in map(shutil.which, ("c++", "g++", "clang++")) if path]

needs_library = pytest.mark.skipif(_ops.cpu_library is None, reason=_ops.why_no_cpu_library)


def requirements(extra: str = "") -> set[str]:
    wanted = set()
    for line in importlib.metadata.requires("lsm2-kernels") or []:
        requirement, _, marker = line.partition(";")
        named = re.search(r"extra == ['\"](\w+)['\"]", marker)
        if (named[1] if named else "") == extra:
            wanted.add(requirement.strip())
    return wanted


@pytest.mark.skipif(not COMPILERS, reason="no C++ compiler on this machine: the reference serves the CPU")
def test_the_library_is_loaded_where_a_compiler_is_present() -> None:
    assert _ops.cpu_library is not None, (
        f"{COMPILERS[0]} is here, but {_ops.why_no_cpu_library}: see what `pip install -v .` prints"
    )
    assert _ops.instruction_set() in _ops.INSTRUCTION_SETS


@needs_library
def test_the_library_is_bound_to_no_python_and_no_place() -> None:
    library = Path(str(_ops.cpu_library)).read_bytes()
    assert b"libpython" not in library
    assert b"PyInit" not in library
    assert b"site-packages" not in library  # neither a run path nor the names of source files


def test_kernel_sources_include_no_code_of_others() -> None:
    """An inline function of a library, compiled for AVX-512, could be linked for all instruction sets.

    It would crash a machine without AVX-512. The compiler's intrinsics are no such functions: they are always
    inlined.
    """
    csrc = Path(__file__).parents[2] / "csrc"
    kernels = [path for path in csrc.glob("*.[ch]*") if "INSTRUCTION_SET" in path.read_text()]
    assert {path.name for path in kernels} >= {"attention_forward.cpp", "attention_backward.cpp", "simd.h"}
    for path in [*kernels, csrc / "kernels.h"]:
        assert set(re.findall(r"#include <(.*)>", path.read_text())) <= {"cstdint", "immintrin.h"}, path.name


@needs_library
def test_one_wheel_serves_every_python() -> None:
    wheel = importlib.metadata.distribution("lsm2-kernels").read_text("WHEEL") or ""
    tags = re.findall(r"^Tag: (.*)$", wheel, re.MULTILINE)
    assert tags
    assert all(tag.startswith("py3-none-") and not tag.endswith("-any") for tag in tags), tags


@needs_library
def test_the_core_asks_for_little() -> None:
    assert requirements() == {"torch>=2.10", "numpy", "einops", "safetensors", "pyarrow", "tyro>=1.0", "rich"}
    assert requirements("data") == {"pandas", "polars"}
    assert requirements("eval") == {"scikit-learn"}
    assert requirements("plot") == {"matplotlib"}
