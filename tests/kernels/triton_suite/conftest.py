"""The suite runs on a GPU, or on the CPU under Triton's interpreter, repaired and with fenced tensors."""

from collections.abc import Iterator

import pytest
import torch
from triton import knobs

if knobs.runtime.interpret:
    from . import interpreter


@pytest.fixture
def device() -> torch.device:
    assert torch.cuda.is_available() or knobs.runtime.interpret, (
        "this suite is run by tests/kernels/test_triton.py"
    )
    return torch.device("cpu" if knobs.runtime.interpret else "cuda")


@pytest.fixture(autouse=True, scope="session")
def repaired_and_fenced_interpreter() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if knobs.runtime.interpret:
            interpreter.repair_products(patch)
            interpreter.fence_tensors(patch)
        yield
