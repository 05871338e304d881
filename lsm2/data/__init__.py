"""From files to packed batches: signals, stores, masks, collation."""

from lsm2.data.batch import PackedBatch, collate
from lsm2.data.normalize import Normalization
from lsm2.data.signals import LSM2_SIGNALS, Signal

__all__ = ["LSM2_SIGNALS", "Normalization", "PackedBatch", "Signal", "collate"]
