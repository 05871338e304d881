"""What machine is this, and how fast is it right now? `python -m benchmarks.measure.environment [--json FILE] [--dry-run]`

Prints versions, the GPU with its clocks and temperature before and after work, and the two rates that every other number is judged by:
a large matrix product in each dtype, and a large copy on the device, counting bytes read and bytes written. Random data, medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure.timing import gpu_seconds, laps_of, large_copy, seconds, square_product
from lsm2_kernels import _ops

PACKAGES = ("lsm2-kernels", "torch", "triton", "numpy", "pytest-benchmark", "pytest-xdist", "flash-attn", "xformers", "nvidia-cudnn-cu13")
GPU_STATE = "clocks.sm,clocks.mem,clocks.max.sm,temperature.gpu,power.draw,power.limit,utilization.gpu,memory.used"
PRODUCT_SIZE = 8192
COPY_BYTES = 4 << 30
ROUNDS = 20


def installed_version(package: str) -> str | None:
    """Its version, or None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def read_output(*command: str) -> str:
    """What a program prints, or why it does not run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return f"{type(error).__name__}: {error}"


def describe_software() -> dict[str, str | None]:
    """Versions and the commit, as far as they can be found out."""
    facts: dict[str, str | None] = {"python": platform.python_version(), "platform": platform.platform()}
    facts |= {package: installed_version(package) for package in PACKAGES}
    facts |= {"torch.version.cuda": torch.version.cuda, "torch.version.hip": torch.version.hip}
    facts["cpu kernels"] = _ops.instruction_set() or f"none: {_ops.why_no_cpu_library}"
    facts["commit"] = read_output("git", "rev-parse", "HEAD")
    facts["files changed since"] = str(len(read_output("git", "status", "--porcelain", "--untracked-files=no").splitlines()))
    return facts


def describe_hardware(device: torch.device) -> dict[str, str]:
    """The GPU, or the CPU in a dry run."""
    facts = {"cpu cores": str(os.cpu_count()), "device": "cpu"}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts["device"] = properties.name
        facts["capability"] = f"{properties.major}.{properties.minor}"
        facts["multiprocessors"] = str(properties.multi_processor_count)
        facts["memory GiB"] = f"{properties.total_memory / 2**30:.1f}, free {torch.cuda.mem_get_info(device)[0] / 2**30:.1f}"
        facts["L2 MiB"] = f"{getattr(properties, 'L2_cache_size', 0) / 2**20:.0f}"
        facts["cuDNN"] = str(torch.backends.cudnn.version())
        facts["driver"] = read_output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return facts


def read_gpu_state(device: torch.device) -> str:
    """Clocks, temperature, power and who else uses the GPU, as nvidia-smi says now."""
    return read_output("nvidia-smi", f"--query-gpu={GPU_STATE}", "--format=csv,noheader") if device.type == "cuda" else "no GPU"


def describe_machine() -> dict[str, Any]:
    """What a reader needs to judge numbers that are saved: processor, GPU and driver, threads, load or clocks, versions, commit."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    hardware = describe_hardware(device)
    gpu = {"gpu": hardware["device"], "driver": hardware["driver"]} if device.type == "cuda" else {"gpu": None}
    state = {"load average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None}
    state |= {GPU_STATE: read_gpu_state(device)} if device.type == "cuda" else {}
    return {"cpu_model": cpu_model(), "torch_threads": torch.get_num_threads(), **gpu, **describe_software(), "state": state}


def name_machine(device: torch.device) -> str:
    """In a few words, for headings."""
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{cpu_model()}, {torch.get_num_threads()} threads"
    return f"{processor}, torch {torch.__version__}"


def cpu_model() -> str:
    """As the operating system calls it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    if platform.system() == "Darwin":
        return subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False).stdout.strip()
    return platform.processor()


def measure_rates(device: torch.device, *, dry_run: bool) -> dict[str, float]:
    """TFLOP/s of products by dtype and TB/s of a copy, all taking turns."""
    size, num_bytes, rounds = (256, 1 << 20, 2) if dry_run else (PRODUCT_SIZE, COPY_BYTES, ROUNDS)
    measure = gpu_seconds if device.type == "cuda" else seconds
    dtypes = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    yardsticks = {f"{name} product TFLOP/s": square_product(dtype, size, device) for name, dtype in dtypes.items()}
    yardsticks["copy TB/s"] = large_copy(num_bytes, device)
    laps = laps_of({name: yardstick.call for name, yardstick in yardsticks.items()}, rounds, measure=measure)
    return {name: yardstick.work / statistics.median(laps[name]) / 1e12 for name, yardstick in yardsticks.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for all facts")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU: shows that the program runs, and nothing else")
    args = parser.parse_args()
    device = torch.device("cpu" if args.dry_run else "cuda")
    software, hardware = describe_software(), describe_hardware(device)
    before = read_gpu_state(device)
    rates = measure_rates(device, dry_run=args.dry_run)
    state = {"before": before, "right after": read_gpu_state(device), "columns": GPU_STATE}
    report = {"dry_run": args.dry_run, "software": software, "hardware": hardware, "state": state, "rates": rates}
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1))
    for name, fact in [*software.items(), *hardware.items(), *state.items()]:
        print(f"{name:22}{fact}")
    summary = ", ".join(f"{what} {rate:.3g} {unit}" for (what, unit), rate in ((name.rsplit(" ", 1), rate) for name, rate in rates.items()))
    print(f"{hardware['device']}, torch {torch.__version__}: {summary}")


if __name__ == "__main__":
    main()
