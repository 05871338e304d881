"""Label files beside a store of four people and two days."""

from collections.abc import Callable

import numpy as np
import pytest

from lsm2.data import Day, DayStore, Signal
from lsm2.data.labels import Labels, read_labels


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> DayStore:
    days = (
        Day(f"p{person}", date, np.ones((1, 1440), np.float32))
        for person in range(4)
        for date in ("2024-01-01", "2024-01-02")
    )
    return DayStore.write(tmp_path_factory.mktemp("labels") / "store", [Signal("a", "bpm")], days)


@pytest.fixture
def read(tmp_path, store) -> Callable[..., Labels]:
    """Labels of the column y, or another, of a CSV with this text."""

    def read_text(text: str, target: str = "y", **options) -> Labels:
        file = tmp_path / "labels.csv"
        file.write_text(text)
        return read_labels(file, target, store, **options)

    return read_text
