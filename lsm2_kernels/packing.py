"""Which tokens of a padded batch are present, and moves between padded (B, N, ...) and packed (T, ...)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils import _pytree

from . import _ops


@dataclass(frozen=True, eq=False)
class Packing:
    """Where the kept tokens of a (B, N) batch lie; `Packing.from_mask` makes it, once per batch.

    indices: (T,) int64 into the B * N tokens, ascending; B * N where unused.
    cu_seqlens: (B + 1,) int32, first row of each sequence among the T, and their end.
    num_kept: () int64, how many tokens were to be kept; above T if a GPU dropped the surplus over `capacity`.
    batch_size, seq_len: B and N.
    """

    indices: Tensor
    cu_seqlens: Tensor
    num_kept: Tensor
    batch_size: int
    seq_len: int

    @classmethod
    def from_mask(cls, keep: Tensor, *, capacity: int | None = None) -> "Packing":
        """Pack the tokens where keep (B, N) bool is True.

        Without `capacity`, T is the number of kept tokens, and a GPU synchronises with the host once. With
        `capacity`, T is `capacity`, nothing synchronises, and shapes do not depend on values, as CUDA graphs
        need.

        Raises TypeError where keep is not bool, and ValueError where it is not (B, N). More tokens than
        `capacity` raise ValueError on the CPU (RuntimeError when compiled). A GPU drops the surplus, the last
        tokens of the batch first: num_kept then exceeds `capacity`.
        """
        check_tensors(keep=keep)
        if keep.dtype != torch.bool:
            raise TypeError(f"keep is {keep.dtype}; it must be torch.bool, True where a token is kept")
        if keep.ndim != 2:
            raise ValueError(f"keep has shape {tuple(keep.shape)}; it must be (B, N)")
        if keep.numel() >= 2**31:
            raise ValueError(
                f"keep has {keep.numel()} tokens; cu_seqlens is int32, so there must be fewer than 2**31"
            )
        counts = keep.sum(1)
        num_kept = counts.sum()
        if capacity is None:
            indices = keep.flatten().nonzero().squeeze(1)
        else:
            _check_capacity(capacity, num_kept)
            # Kept token t is where the running count reaches t + 1; past the end, at B * N, if it never does.
            running_count = keep.flatten().cumsum(0)
            indices = torch.searchsorted(running_count, torch.arange(1, capacity + 1, device=keep.device))
        ends = counts.cumsum(0).clamp(max=indices.shape[0]).to(torch.int32)
        cu_seqlens = torch.nn.functional.pad(ends, (1, 0))
        return cls(indices, cu_seqlens, num_kept, keep.shape[0], keep.shape[1])

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Packing":
        """The same packing on another device."""
        indices, cu_seqlens, num_kept = (
            x.to(device, non_blocking=non_blocking) for x in (self.indices, self.cu_seqlens, self.num_kept)
        )
        return replace(self, indices=indices, cu_seqlens=cu_seqlens, num_kept=num_kept)

    def pin_memory(self) -> "Packing":
        """The same packing in page-locked memory, for copies to a GPU that do not block."""
        return replace(
            self,
            indices=self.indices.pin_memory(),
            cu_seqlens=self.cu_seqlens.pin_memory(),
            num_kept=self.num_kept.pin_memory(),
        )


_pytree.register_pytree_node(
    Packing,
    lambda packing: (
        [packing.indices, packing.cu_seqlens, packing.num_kept],
        (packing.batch_size, packing.seq_len),
    ),
    lambda tensors, sizes: Packing(*tensors, *sizes),
    serialized_type_name="lsm2_kernels.Packing",
)


def pack(x: Tensor, packing: Packing) -> Tensor:
    """Kept rows of x (B, N, ...), of any dtype -> (T, ...); rows of unused capacity are 0.

    Differentiable any number of times. Raises ValueError where x does not match the packing's shape or
    device, and TypeError where x is not a dense tensor or packing is not a Packing.
    """
    _check_types(x, packing)
    if x.shape[:2] != (packing.batch_size, packing.seq_len):
        raise ValueError(
            f"x has shape {tuple(x.shape)}; it must be (B, N, ...)"
            f" = ({packing.batch_size}, {packing.seq_len}, ...)"
        )
    check_device("x", x, "the packing", packing.indices.device)
    return _ops.pack(x.flatten(0, 1), packing.indices)


def unpack(x: Tensor, packing: Packing, *, fill: Tensor | None = None) -> Tensor:
    """Put rows of x (T, ...) back in their places -> (B, N, ...); other tokens become 0 or `fill` (...).

    `fill`, such as a mask token, is cast to x's dtype. Differentiable any number of times, for x and for
    `fill`. Raises ValueError where the shape or device of x or fill does not match, and TypeError where they
    are not dense tensors.
    """
    _check_types(x, packing)
    num_rows = packing.indices.shape[0]
    if x.ndim == 0 or x.shape[0] != num_rows:
        raise ValueError(
            f"x has shape {tuple(x.shape)}; it must be (T, ...) with the packing's T = {num_rows}"
        )
    check_device("x", x, "the packing", packing.indices.device)
    if fill is not None:
        check_tensors(fill=fill)
        if fill.shape != x.shape[1:]:
            raise ValueError(
                f"fill has shape {tuple(fill.shape)}; it must be that of one row of x, {tuple(x.shape[1:])}"
            )
        check_device("fill", fill, "x", x.device)
        fill = fill.to(x.dtype)
    rows = _ops.unpack(x, packing.indices, fill, packing.batch_size * packing.seq_len)
    return rows.unflatten(0, (packing.batch_size, packing.seq_len))


def _check_capacity(capacity: int, num_kept: Tensor) -> None:
    if not isinstance(capacity, int | torch.SymInt):
        raise TypeError(f"capacity is a {type(capacity).__name__}; it must be an int, a number of tokens")
    if capacity < 0:
        raise ValueError(f"capacity is {capacity}; it must not be negative")
    if num_kept.device.type != "cpu":
        return
    if torch.compiler.is_compiling():
        torch.ops.aten._assert_async.msg(
            num_kept <= capacity, "capacity is smaller than the number of tokens to keep"
        )
    elif num_kept > capacity:
        raise ValueError(
            f"capacity is {capacity}; {int(num_kept)} tokens are to be kept, so it must be at least that"
        )


def _check_types(x: Tensor, packing: Packing) -> None:
    check_tensors(x=x)
    if not isinstance(packing, Packing):
        raise TypeError(f"packing is a {type(packing).__name__}; it must be a Packing: see Packing.from_mask")


def check_tensors(**arguments: object) -> None:
    """Raise TypeError for the first argument that is not a dense tensor."""
    for name, value in arguments.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} is a {type(value).__name__}; it must be a torch.Tensor")
        if value.layout != torch.strided:
            raise TypeError(f"{name} has layout {value.layout}; it must be a dense tensor, torch.strided")


def check_device(name: str, x: Tensor, owner: str, device: torch.device) -> None:
    """Raise ValueError where x is not on the owner's device."""
    if x.device != device:
        raise ValueError(f"{name} is on {x.device}; it must be on {owner}'s device, {device}")
