"""Labels of people, days and intervals, read from a table and matched with the days of a store."""

from lsm2.data.labels.reader import read_intervals, read_labels
from lsm2.data.labels.values import Kind
from lsm2.data.labels.whose import Labels, Level

__all__ = ["Kind", "Labels", "Level", "read_intervals", "read_labels"]
