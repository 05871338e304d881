"""How much memory a training step takes, counted exactly, and how much this machine has left."""

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from lsm2.data import PackedBatch


def measure_peak_bytes(step: Callable[[], object], device: torch.device) -> int:
    """The most bytes of torch's memory that one call holds at a time, beyond what was there before.

    Activations, temporary tensors, bf16 copies of the weights and gradients of the weights; not the weights,
    nor the batch. On a CPU every allocation and release is read from torch's profiler; what kernels allocate
    without torch's knowledge is not in it.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler prints that it starts and stops
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = sorted(
        (event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]"
    )
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def count_bytes(batch: PackedBatch) -> int:
    """Of all tensors of a batch, as they are copied to the device."""
    parts = [getattr(batch, field.name) for field in dataclasses.fields(batch)]
    return sum(part.nbytes for part in parts if isinstance(part, torch.Tensor))


def find_free_bytes(device: torch.device) -> float:
    """What could still be allocated; on a CPU without /proc/meminfo all memory."""
    if device.type == "cuda":
        return (
            torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        )
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        return next(
            1024.0 * int(line.split()[1])
            for line in meminfo.read_text().splitlines()
            if line.startswith("MemAvailable")
        )
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
