"""Days of wearable data on disk: how a store is laid out, read and written."""

from lsm2.data.store.layout import Day
from lsm2.data.store.reader import DayStore

__all__ = ["Day", "DayStore"]
