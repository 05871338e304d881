"""Checks of arguments that attention and packing share."""

import torch
from torch import Tensor


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
