"""Triton's interpreter made right for bfloat16, and strict: any access outside a launch's tensors fails."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder, TensorHandle


def repair_products(patch: pytest.MonkeyPatch) -> None:
    """Let tl.dot sum exactly and multiply bfloat16 values, not their bits; round to bfloat16 as GPUs do."""
    convert_float = interpreter._convert_float

    def convert(x: np.ndarray, source: Any, target: Any, rounding_mode: Any) -> np.ndarray:
        if (source, target) == (tl.float32, tl.bfloat16):
            rounded = torch.from_numpy(np.ascontiguousarray(x)).view(torch.float32).bfloat16()
            return rounded.view(torch.int16).numpy().view(np.uint16).reshape(x.shape)
        return convert_float(x, source, target, rounding_mode)

    def dot(
        self: Any, a: Any, b: Any, c: Any, input_precision: Any, max_num_imprecise_acc: Any
    ) -> TensorHandle:
        # One rounding at the end: numpy's sums differ with the shapes, and a product would not be its
        # transpose's.
        product = np.matmul(_as_numbers(a), _as_numbers(b), dtype=np.float64)
        return TensorHandle((product + c.data).astype(np.float32), c.dtype.scalar)

    patch.setattr(interpreter, "_convert_float", convert)
    patch.setattr(InterpreterBuilder, "create_dot", dot)


def _as_numbers(x: Any) -> np.ndarray:
    return (x.data.astype(np.uint32) << 16).view(np.float32) if x.dtype.scalar == tl.bfloat16 else x.data


def fence_tensors(patch: pytest.MonkeyPatch) -> None:
    """Let a load, store or atomic fail if an unmasked address is outside the launch's tensors."""
    starts, stops = np.zeros(0, np.uint64), np.zeros(0, np.uint64)

    def note_tensors(self: GridExecutor, *args: Any, **kwargs: Any) -> Any:
        nonlocal starts, stops
        storages = [x.untyped_storage() for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)]
        ranges = sorted({(storage.data_ptr(), storage.data_ptr() + storage.nbytes()) for storage in storages})
        starts, stops = (np.array(side, np.uint64) for side in zip(*ranges, strict=True))
        return run(self, *args, **kwargs)

    def check(pointers: Any, mask: Any) -> None:
        addresses = np.broadcast_to(pointers.data, np.broadcast_shapes(pointers.data.shape, mask.data.shape))[
            mask.data.astype(bool)
        ]
        width = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        block = np.searchsorted(starts, addresses, side="right").astype(np.int64) - 1
        inside = (block >= 0) & (addresses + np.uint64(width) <= stops[block])
        assert inside.all(), f"{int((~inside).sum())} of {inside.size} addresses are outside every tensor"

    def fenced(access: Callable[..., Any], pointers_at: int, mask_at: int) -> Callable[..., Any]:
        def checked(self: InterpreterBuilder, *args: Any) -> Any:
            check(args[pointers_at], args[mask_at])
            return access(self, *args)

        return checked

    run = GridExecutor.__call__
    patch.setattr(GridExecutor, "__call__", note_tensors)
    for name, pointers_at, mask_at in (
        ("create_masked_load", 0, 1),
        ("create_masked_store", 0, 2),
        ("create_atomic_rmw", 1, 3),
    ):
        patch.setattr(
            InterpreterBuilder, name, fenced(getattr(InterpreterBuilder, name), pointers_at, mask_at)
        )
