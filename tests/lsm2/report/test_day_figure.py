"""Pictures of a day are drawn for few and many signals, whatever they are called."""

import dataclasses
import struct

import numpy as np
import pytest

from lsm2.data.signals import LSM2_SIGNALS, Signal
from lsm2.evaluate.one_day import ReconstructedDay
from lsm2.evaluate.tasks import TASKS
from lsm2.report.day_figure import plot_curves, plot_day

NAMES = (r"$\frac{$", "hr [bpm]", "a[/b]", "\x1b[31mred", "心拍数 <b>")


def made_up_day(num_signals: int) -> ReconstructedDay:
    rng = np.random.default_rng(0)
    measured = rng.normal(size=(num_signals, 288)).astype(np.float32)
    measured[:, :40] = np.nan
    hidden = np.zeros(measured.shape, dtype=bool)
    hidden[:, 100:160] = True
    predicted = np.where(hidden, np.float32(0.5), np.float32(np.nan))
    return ReconstructedDay(
        day_id="a day",
        task=TASKS["random_80"],
        signals=LSM2_SIGNALS[:num_signals],
        sample_minutes=5,
        measured=measured,
        measured_in_unit=60 + 10 * measured,
        hidden=hidden,
        visible=~hidden & ~np.isnan(measured),
        predicted=predicted,
        predicted_in_unit=60 + 10 * predicted,
    )


def is_picture(path) -> bool:
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    return width > 1000 and height > 300


@pytest.mark.parametrize("num_signals", [2, 26])
def test_day_picture_is_drawn_with_every_look(tmp_path, num_signals):
    plot_day(tmp_path / "day.png", made_up_day(num_signals))
    assert is_picture(tmp_path / "day.png")


def test_curves_of_a_signal_are_drawn_also_where_nothing_of_it_was_measured(tmp_path):
    day = made_up_day(2)
    day.measured_in_unit[1] = np.nan
    for signal in (0, 1):
        plot_curves(tmp_path / "curve.png", [day, day], signal)
        assert is_picture(tmp_path / "curve.png")


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", NAMES)
def test_names_are_no_formulas(tmp_path, name):
    day = dataclasses.replace(made_up_day(2), day_id=name, signals=(Signal(name, name), Signal("b", "ms")))
    plot_day(tmp_path / "day.png", day)
    plot_curves(tmp_path / "curve.png", [day], 0)
    assert is_picture(tmp_path / "day.png") and is_picture(tmp_path / "curve.png")
