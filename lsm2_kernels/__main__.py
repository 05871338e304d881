"""`python -m lsm2_kernels`: versions, devices, and which kernels serve each device, or why none do."""

import importlib.metadata
import platform
from pathlib import Path

import torch

from . import _ops


def main() -> None:
    """Print one fact per line."""
    facts = {
        "lsm2-kernels": _version("lsm2-kernels") or "not installed",
        "imported from": str(Path(__file__).parent),
        "python": f"{platform.python_version()} on {platform.platform()}",
        "torch": torch.__version__,
        "triton": _version("triton") or "not installed",
        "cpu": _describe_cpu(),
        **{f"cuda:{i}": _describe_gpu(i) for i in range(torch.cuda.device_count())},
        "other devices": "plain-PyTorch reference, slow",
    }
    for name, fact in facts.items():
        print(f"{name:14}{fact}")


def _describe_cpu() -> str:
    if _ops.cpu_library is None:
        return f"plain-PyTorch reference, slow: {_ops.why_no_cpu_library}; {_ops.HOW_TO_BUILD}"
    speed = f"instruction set {_ops.instruction_set()}, {torch.get_num_threads()} threads"
    return f"compiled kernels, {speed}: {_ops.cpu_library}"


def _describe_gpu(index: int) -> str:
    properties = torch.cuda.get_device_properties(index)
    architecture = properties.gcnArchName if torch.version.hip else f"sm_{properties.major}{properties.minor}"
    kernels = "Triton kernels" if _version("triton") else "no kernels, as Triton is not installed"
    return f"{kernels}: {properties.name}, {architecture}, {properties.total_memory / 2**30:.0f} GiB"


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
