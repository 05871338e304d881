"""Days as tokens and back. Token id = signal * num_slots + slot: channel-major, so patching a contiguous day is a view."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from einops import rearrange

from lsm2.errors import InputError

Array = TypeVar("Array", np.ndarray, torch.Tensor)


def patchify(values: Array, patch: int) -> Array:
    """Cut days `values` (B, C, L) into tokens (B, N, P) of P = `patch` samples of one signal.

    numpy or torch in and out, here and in `unpatchify`. Raises InputError if P does not divide L.
    """
    if values.shape[-1] % patch:
        raise InputError(
            f"a window of {values.shape[-1]} samples cannot be cut into patches of {patch}; "
            "choose a patch that divides it"
        )
    return rearrange(values, "days signals (slots patch) -> days (signals slots) patch", patch=patch)


def unpatchify(patches: Array, num_signals: int) -> Array:
    """The inverse of `patchify`: tokens (B, N, P) to days (B, C, L) with C = `num_signals`.

    Raises InputError if C does not divide N.
    """
    if patches.shape[1] % num_signals:
        raise InputError(
            f"{patches.shape[1]} tokens cannot belong to {num_signals} signals with equally many tokens each"
        )
    return rearrange(patches, "days (signals slots) patch -> days signals (slots patch)", signals=num_signals)
