"""From files to packed batches: signals, stores, masks, collation."""

from typing import TYPE_CHECKING

from lsm2.data.normalize import Normalization
from lsm2.data.signals import LSM2_SIGNALS, Signal
from lsm2.data.store import DayStore
from lsm2.data.store.layout import Day

if TYPE_CHECKING:
    from lsm2.data.batch import PackedBatch, collate

__all__ = ["LSM2_SIGNALS", "Day", "DayStore", "Normalization", "PackedBatch", "Signal", "collate"]


def __getattr__(name: str) -> object:
    # Batches bring PyTorch; stores, importers and `lsm2 import --help` do not wait for it.
    if name in ("PackedBatch", "collate"):
        from lsm2.data import batch

        return getattr(batch, name)
    raise AttributeError(f"module 'lsm2.data' has no attribute {name!r}")
