"""`python -m lsm2_kernels`: versions, devices, instruction set, and which kernel serves what."""

import importlib.metadata
import platform

import torch

from . import _ops


def main() -> None:
    """Print one fact a line."""
    facts = [
        ("lsm2-kernels", _version("lsm2-kernels") or "not installed: Python reads it from this folder"),
        ("python", f"{platform.python_version()} on {platform.platform()}"),
        ("torch", torch.__version__),
        ("triton", _version("triton") or "not installed"),
    ]
    if _ops.cpu_library is None:
        facts.append(("cpu", f"plain-PyTorch reference, slow: {_ops.why_no_cpu_library}"))
    else:
        facts.append(("cpu", f"compiled kernels, {_ops.instruction_set()}, {torch.get_num_threads()} threads: {_ops.cpu_library}"))
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        architecture = properties.gcnArchName if torch.version.hip else f"sm_{properties.major}{properties.minor}"
        facts.append((f"cuda:{i}", f"Triton kernels: {properties.name}, {architecture}, {properties.total_memory / 2**30:.0f} GiB"))
    facts.append(("other devices", "plain-PyTorch reference"))
    for name, fact in facts:
        print(f"{name:14}{fact}")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
