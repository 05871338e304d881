"""What every suite shares: device, sizes, a limit in time, and the machine's description in saved results."""

import time

import pytest
import torch

from benchmarks.measure.environment import describe_machine
from lsm2_kernels import _ops

STARTED = time.monotonic()


def pytest_addoption(parser) -> None:
    parser.addoption("--dry-run", action="store_true", help="smallest sizes: shows that suites run")
    parser.addoption("--seconds", type=float, default=float("inf"), help="none is begun after so long")
    parser.addoption("--level", choices=_ops.INSTRUCTION_SETS, help="instruction set of our CPU kernels")


def pytest_configure(config) -> None:
    if level := config.getoption("--level"):
        torch.ops.lsm2_kernels._cpu_instruction_set(_ops.INSTRUCTION_SETS.index(level))


def pytest_runtest_setup(item) -> None:
    if time.monotonic() - STARTED > item.config.getoption("--seconds"):
        pytest.skip("left out for want of time")


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def dry_run(request) -> bool:
    """Whether sizes are the smallest."""
    return request.config.getoption("--dry-run")


def pytest_benchmark_update_machine_info(config, machine_info) -> None:
    """Adds what a reader needs to judge the numbers."""
    machine_info |= describe_machine()
