"""How processes train one model together: which of a `torchrun` start this is, and how gradients of all ranks
become one.

A plain start is rank 0 of 1. Only this file knows that there are other ranks; model and step do not.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lsm2.errors import InputError

COLLECTIVE_TIMEOUT = datetime.timedelta(minutes=10)
"""How long a rank waits for the others before it gives up; PyTorch's own limit on a CPU is half an hour."""
Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def writes(self) -> bool:
        """Whether this process writes the run folder and reports progress."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> None:
        """Replace `tensor` by its sum over all ranks."""
        if self.world_size > 1:
            dist.all_reduce(tensor)

    def from_first(self, value: Value) -> Value:
        """The value that rank 0 has, on every rank."""
        values = [value]
        if self.world_size > 1:
            dist.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            dist.barrier()


class ReplicatedGradient:
    """The gradient of a model that every rank holds whole, with a few totals that are added over ranks in the
    same sum.

    Ranks add their sums and divide once, by the count over all of them, so that the gradient is the one of a
    single rank that computes all days.
    """

    def __init__(self, model: nn.Module, num_totals: int, ranks: Ranks) -> None:
        weights = list(model.parameters())
        lengths = [weight.numel() for weight in weights]
        self._ranks = ranks
        # One buffer for all gradients and, behind them, the totals: one sum over ranks, one norm, one
        # scaling.
        self._sums = torch.zeros(sum(lengths) + num_totals, device=ranks.device)
        self._gradient = self._sums[: sum(lengths)]
        self.totals = self._sums[sum(lengths) :]
        """(num_totals,) float32: whatever the caller adds up."""
        for weight, part in zip(weights, self._gradient.split(lengths), strict=True):
            weight.grad = part.view_as(weight)

    def zero(self) -> None:
        """Begin a step: gradient and totals are 0."""
        self._sums.zero_()

    def sum_over_ranks(self) -> None:
        """Replace gradient and totals by their sums over all ranks."""
        self._ranks.sum(self._sums)

    def divide(self, count: Tensor) -> None:
        """Divide the gradient by a number, ()."""
        self._gradient.div_(count)

    def norm(self) -> Tensor:
        """The L2 norm of the gradient, ()."""
        return torch.linalg.vector_norm(self._gradient)

    def scale(self, factor: Tensor) -> None:
        """Multiply the gradient by a number, ()."""
        self._gradient.mul_(factor)


@contextlib.contextmanager
def join_ranks(device: str) -> Iterator[Ranks]:
    """The ranks of a torchrun start, or of a process group that is there already, for as long as the context
    lasts.
    """
    chosen = _device(device)
    starts_group = dist.is_available() and dist.is_torchelastic_launched() and not dist.is_initialized()
    if starts_group:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=COLLECTIVE_TIMEOUT)
    try:
        if not (dist.is_available() and dist.is_initialized()):
            yield Ranks(0, 1, chosen)
            return
        if chosen.type == "cuda":
            chosen = torch.device("cuda", dist.get_node_local_rank(fallback_rank=0))  # pyright: ignore[reportPrivateImportUsage]
            torch.cuda.set_device(chosen)
        yield Ranks(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        if starts_group:
            dist.destroy_process_group()


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device is 'cuda', but PyTorch sees no GPU; use 'cpu' or 'auto', or install a PyTorch built for "
            "this GPU"
        )
    return torch.device(name)
