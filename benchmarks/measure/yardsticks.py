"""Calls that do a known amount of work as fast as a machine can: in a race they show its rates."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.measure.timing import laps_of


@dataclass(frozen=True)
class Yardstick:
    """A call, and how many FLOPs, exponentials or bytes it is."""

    work: float
    call: Callable[[], object]


def product_yardstick(dtype: torch.dtype, device: torch.device, cpu_size: int = 2048) -> Yardstick:
    """FLOPs of torch.mm on large square matrices, on a CPU in the faster of this dtype and float32, which
    holds its values.

    On a machine without float16 arithmetic torch.mm in float16 reaches a hundredth of the float32 rate: it
    says nothing of the machine.
    """
    if device.type == "cuda":
        return square_product(dtype, 8192, device)
    small = {candidate: square_product(candidate, 192).call for candidate in {dtype, torch.float32}}
    laps = laps_of(small, rounds=5)
    return square_product(min(laps, key=lambda candidate: min(laps[candidate])), cpu_size)


def exponential_yardstick() -> Yardstick:
    """Exponentials by torch.exp2 in float32; a thread's share of input and result is 1 MiB, its own cache."""
    repeats = 20
    x = torch.linspace(-8, 0, 131072 * torch.get_num_threads())
    out = torch.empty_like(x)

    def exponentiate() -> None:
        for _ in range(repeats):
            torch.exp2(x, out=out)

    return Yardstick(repeats * x.numel(), exponentiate)


def square_product(dtype: torch.dtype, size: int, device: torch.device | str = "cpu") -> Yardstick:
    """FLOPs of torch.mm on square matrices of random numbers."""
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return Yardstick(2.0 * size**3, lambda: torch.mm(a, b, out=out))


def large_copy(num_bytes: int, device: torch.device | str) -> Yardstick:
    """Bytes read plus bytes written by a copy within the device's memory."""
    source = torch.randn(num_bytes // 4, device=device)
    target = torch.empty_like(source)
    return Yardstick(2.0 * num_bytes, lambda: target.copy_(source))


@functools.cache
def attention_yardsticks(dtype: torch.dtype, device: torch.device) -> dict[str, Yardstick]:
    """The ceilings over attention in a race: large matrix products in this dtype, and large copies."""
    copy = large_copy(4 << 30 if device.type == "cuda" else 128 << 20, device)
    return {"flops_per_second": product_yardstick(dtype, device, 1536), "bytes_per_second": copy}
