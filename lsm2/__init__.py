"""A lean AIM masked autoencoder for day-long wearable-sensor data, after LSM-2 (arXiv 2506.05321)."""

from typing import TYPE_CHECKING

from lsm2 import presets
from lsm2.config import LSM2Config

if TYPE_CHECKING:
    from lsm2.model.lsm2 import LSM2

__all__ = ["LSM2", "LSM2Config", "presets"]


def __getattr__(name: str) -> object:
    # The model brings PyTorch; settings and `lsm2 --help` do not wait for it.
    if name == "LSM2":
        from lsm2.model.lsm2 import LSM2

        return LSM2
    raise AttributeError(f"module 'lsm2' has no attribute {name!r}")
