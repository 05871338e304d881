"""From files to packed batches: signals, stores, masks, collation."""

from lsm2.data.batch import PackedBatch, collate
from lsm2.data.normalize import Normalization
from lsm2.data.signals import LSM2_SIGNALS, Signal
from lsm2.data.store import DayStore
from lsm2.data.store.layout import Day

__all__ = ["LSM2_SIGNALS", "Day", "DayStore", "Normalization", "PackedBatch", "Signal", "collate"]
