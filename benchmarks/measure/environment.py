"""What machine is this, and how fast is it now? `python -m benchmarks.measure.environment [--json FILE]
[--dry-run]`

Prints what torch.utils.collect_env finds, the GPU's clocks and temperature before and after work, and the
rates that every other number is judged by: large matrix products by dtype, and a large copy, bytes read plus
bytes written.
"""

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch.utils import collect_env

from benchmarks.measure.options import make_parser
from benchmarks.measure.timing import clock_of, laps_of
from benchmarks.measure.yardsticks import large_copy, square_product
from lsm2_kernels import _ops

PACKAGES = ("torch", "triton", "numpy", "lsm2-kernels", "flash-attn", "xformers")
_X86 = {"amx_bf16": "amx", "avx512_bf16": "avx512_bf16", "avx512f": "avx512", "avx2": "avx2"}
INSTRUCTION_SETS = _X86 | {"asimd": "neon"}
"""Names here by flags of /proc/cpuinfo, best first."""
TORCH_USES = {"amx": "AVX512", "avx512_bf16": "AVX512", "avx512": "AVX512", "avx2": "AVX2"}
"""What torch calls the best that it uses on such a processor, unless it is held to less."""
_CLOCKS, _USE = "clocks.sm,clocks.mem,clocks.max.sm", "utilization.gpu,memory.used"
GPU_STATE = f"{_CLOCKS},temperature.gpu,power.draw,power.limit,{_USE}"
PRODUCT_SIZE, COPY_BYTES, ROUNDS = 8192, 4 << 30, 20


def read_output(command: str) -> str:
    """What a program prints, nothing where it fails."""
    return collect_env.run_and_read_all(collect_env.run, command) or ""


def name_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Model, family, best instruction set and cores: what tells two processors of one name apart."""
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    first = [line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line]
    facts = {name.strip(): fact.strip() for name, fact in first}
    names = [facts.get("model name") or platform.processor() or platform.machine()]
    numbers = [f"{what} {facts[key]}" for what, key in FAMILY.items() if key in facts]
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    best = next((name for flag, name in INSTRUCTION_SETS.items() if flag in flags), "")
    used = torch.backends.cpu.get_cpu_capability()
    held = f"torch held to {used}" if TORCH_USES.get(best, used) != used else ""
    return ", ".join(
        part for part in (*names, " ".join(numbers), best, held, f"{os.cpu_count()} cores") if part
    )


FAMILY = {"family": "cpu family", "model": "model", "stepping": "stepping"}


def describe_machine() -> dict[str, Any]:
    """What is saved with numbers: machine, driver, versions, commit, threads, kernels, load or clocks."""
    on_gpu = torch.cuda.is_available()
    machine, state = name_cpu(), f"load average {os.getloadavg()}" if hasattr(os, "getloadavg") else ""
    if on_gpu:
        properties = torch.cuda.get_device_properties(0)
        machine = f"{properties.name}, {properties.major}.{properties.minor}"
        state = f"{GPU_STATE}: {read_gpu_state()}"
    driver = collect_env.get_nvidia_driver_version(collect_env.run) if on_gpu else ""
    changed = read_output("git status --porcelain --untracked-files=no").splitlines()
    return {
        "machine": machine,
        "driver": driver or "",
        "versions": ", ".join(f"{name} {found}" for name in PACKAGES if (found := installed_version(name))),
        "commit": read_output("git rev-parse HEAD")[:12],
        "files changed since": len(changed),
        "torch_threads": torch.get_num_threads(),
        "cpu kernels": _ops.instruction_set() or f"none: {_ops.why_no_cpu_library}",
        "state": state,
    }


def installed_version(package: str) -> str | None:
    """Its version, or None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def name_machine(machine: Mapping[str, Any]) -> str:
    """In a few words, for headings: the machine and its torch."""
    torch_version = str(machine.get("versions", "")).split(",")[0]
    return f"{machine.get('machine', 'unknown machine')}, {torch_version or 'unknown torch'}"


def read_gpu_state() -> str:
    """Clocks, temperature, power and who else uses the GPU, as nvidia-smi says now."""
    if not torch.cuda.is_available():
        return "no GPU"
    return read_output(f"nvidia-smi --query-gpu={GPU_STATE} --format=csv,noheader")


def measure_rates(device: torch.device, *, dry_run: bool) -> dict[str, float]:
    """TFLOP/s of products by dtype and TB/s of a copy, all taking turns."""
    size, num_bytes, rounds = (256, 1 << 20, 2) if dry_run else (PRODUCT_SIZE, COPY_BYTES, ROUNDS)
    dtypes = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    rulers = {
        f"{name} product TFLOP/s": square_product(dtype, size, device) for name, dtype in dtypes.items()
    }
    rulers["copy TB/s"] = large_copy(num_bytes, device)
    calls = {name: ruler.call for name, ruler in rulers.items()}
    laps = laps_of(calls, rounds, measure=clock_of(device))
    return {name: ruler.work / statistics.median(laps[name]) / 1e12 for name, ruler in rulers.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--json", type=Path, help="file for all facts")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU: shows that it runs")
    args = parser.parse_args(arguments)
    device = torch.device("cpu" if args.dry_run else "cuda")
    machine, environment = describe_machine(), collect_env.get_pretty_env_info()
    properties = str(torch.cuda.get_device_properties(device)) if device.type == "cuda" else "cpu"
    before = read_gpu_state()
    rates = measure_rates(device, dry_run=args.dry_run)
    state = {"before": before, "right after": read_gpu_state(), "columns": GPU_STATE}
    report = {"dry_run": args.dry_run, "machine": machine, "device": properties}
    report |= {"state": state, "rates": rates}
    if args.json is not None:
        args.json.write_text(json.dumps(report | {"environment": environment.splitlines()}, indent=1))
    print(environment)
    for name, fact in [*machine.items(), ("device", properties), *state.items()]:
        print(f"{name:22}{fact}")
    print(f"{name_machine(machine)}: " + ", ".join(f"{name} {rate:.3g}" for name, rate in rates.items()))


if __name__ == "__main__":
    main()
