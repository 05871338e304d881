"""What `lsm2 info` and the report say about a store."""

import numpy as np
import pytest

from lsm2.data.quality import describe
from lsm2.data.signals import LSM2_SIGNALS
from lsm2.data.store import DayStore
from lsm2.data.store.layout import Day


def test_cohort_counts_each_missing_minute_once(tmp_path):
    signals = LSM2_SIGNALS[:3] + LSM2_SIGNALS[23:25]
    values = np.ones((5, 1440), dtype=np.float32)
    values[:, :144] = np.nan
    values[0] = np.nan
    values[3:, 144:288] = np.nan
    values[2, 288:300] = np.nan
    store = DayStore.write(tmp_path / "store", signals, [Day("ann", "2026-01-01", values)])
    cohort = describe(store)
    cells = 5 * 1440
    assert cohort.missing_kinds == pytest.approx(
        {"device": 720 / cells, "day": 1296 / cells, "sensor": 288 / cells, "signal": 12 / cells}
    )
    assert cohort.missing == pytest.approx(float(np.isnan(values).mean()))
    assert cohort.per_signal[0].quantiles is None
    assert cohort.per_signal[2].median_gap_minutes == (144 + 12) / 2
