"""What every suite shares: the device, and the machine's description in the saved results."""

from __future__ import annotations

import pytest
import torch

from benchmarks.environment import describe_machine


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pytest_benchmark_update_machine_info(config, machine_info) -> None:
    """Adds what a reader needs to judge the numbers."""
    machine_info |= describe_machine()
