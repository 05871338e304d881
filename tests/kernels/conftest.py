"""Fixtures of the kernel tests: devices, instruction sets, one thread, and NaN in uninitialised memory."""

from collections.abc import Iterator

import pytest
import torch

from lsm2_kernels import _ops


def supported_instruction_sets() -> list[str]:
    """Names of those that the compiled library and this machine have; none where the library is absent."""
    if _ops.cpu_library is None:
        return []
    before = torch.ops.lsm2_kernels._cpu_instruction_set(-1)
    supported = []
    for number, name in enumerate(_ops.INSTRUCTION_SETS):
        try:
            torch.ops.lsm2_kernels._cpu_instruction_set(number)
        except RuntimeError:
            continue
        supported.append(name)
    torch.ops.lsm2_kernels._cpu_instruction_set(before)
    return supported


@pytest.fixture(params=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """torch.empty gives NaN (the largest integer for integers) in deterministic mode."""
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@pytest.fixture(params=supported_instruction_sets() or ["reference"])
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """The compiled kernels use each instruction set in turn; the reference serves where they are absent."""
    if request.param == "reference":
        yield request.param
        return
    before = torch.ops.lsm2_kernels._cpu_instruction_set(-1)
    torch.ops.lsm2_kernels._cpu_instruction_set(_ops.INSTRUCTION_SETS.index(request.param))
    yield request.param
    torch.ops.lsm2_kernels._cpu_instruction_set(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """On a busy machine one thread finishes thousands of tiny operations sooner than several that wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
