"""The grid: finer rows in longer samples, what is in the way of a value, and a disk that is full."""

import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from lsm2.data.day_grid import Advice, Coded, DayGrid, PlausibleRanges, Rows
from lsm2.data.signals import Signal
from lsm2.errors import InputError

ADVICE = Advice("AVERAGE", "FINER {minutes}", "UNIT {signal}", "ZONE", "CHOICE")
CLONE = Path(__file__).parents[3]


def rows(seconds: np.ndarray, values: np.ndarray, subject: str = "ann") -> Rows:
    zeros = np.zeros(len(seconds), dtype=np.int64)
    return Rows(
        lambda row: f"row {row}",
        Coded(zeros, [subject]),
        seconds.astype(np.int64),
        [(Coded(zeros, ["x"]), values)],
    )


def only_day(grid: DayGrid, sample_minutes: int) -> np.ndarray:
    ((_, _, values),) = grid.days(PlausibleRanges([Signal("x")]), ["x"], sample_minutes)
    return values[0]


def test_one_value_a_sample_moves_into_longer_samples_bit_for_bit() -> None:
    values = np.random.default_rng(0).normal(size=288)
    values[3] = -0.0
    grid, coarse = DayGrid(1, ADVICE), DayGrid(5, ADVICE)
    for each in (grid, coarse):
        each.add(rows(np.arange(288) * 300 + 120, values))
    assert only_day(grid, 5).tobytes() == only_day(coarse, 5).tobytes() == values.astype(np.float32).tobytes()


def test_averages_of_longer_samples_weigh_every_value() -> None:
    grid = DayGrid(1, ADVICE, average=True)
    grid.add(rows(np.array([0, 10, 20, 60, 600]), np.array([1.0, 2, 3, 10, 7])))
    assert only_day(grid, 5)[[0, 2]].tolist() == [4, 7] and np.isnan(only_day(grid, 5)[1])


def test_two_values_in_one_longer_sample_are_named() -> None:
    grid = DayGrid(1, ADVICE)
    grid.add(rows(np.array([0, 300, 420]), np.ones(3)))
    with pytest.raises(
        InputError, match=r"'ann' .* at 1970-01-01 00:05 and at 1970-01-01 00:07.* 5 minutes; AVERAGE"
    ):
        only_day(grid, 5)


@pytest.mark.parametrize(
    ("step", "sample", "words"),
    [
        (15, 1, "every 15 s, but a sample lasts 1 min; FINER 1"),
        (60, 5, "every 1 min, but a sample lasts 5 min; FINER 5"),
    ],
)
def test_values_that_come_more_often_than_samples_are_told(step: int, sample: int, words: str) -> None:
    with pytest.raises(InputError, match="row 1: .* has a value of 'x' " + words):
        DayGrid(sample, ADVICE).add(rows(np.arange(100) * step, np.ones(100)))


def test_the_same_time_twice_is_a_duplicate() -> None:
    seconds = np.append(np.arange(100), 7) * 60
    with pytest.raises(
        InputError,
        match=r"row 100: .* already has a value of 'x' in the 1 min from .* 00:07; AVERAGE",
    ):
        DayGrid(1, ADVICE).add(rows(seconds, np.ones(101)))


def test_most_values_out_of_range_are_an_error_and_few_are_missing() -> None:
    ranges = PlausibleRanges([Signal("x", "bpm", 0, 10)])
    values = np.array([[1, 11, 5, np.nan, -1, 3]], dtype=np.float32)
    ranges.clear(values)
    ranges.check("a.csv", ADVICE)
    np.testing.assert_array_equal(values, [[1, np.nan, 5, np.nan, np.nan, 3]])
    assert ranges.outside.tolist() == [2]
    ranges.clear(np.full((1, 2), 99, dtype=np.float32))
    with pytest.raises(InputError, match=r"a\.csv: 4 of 7 values of 'x' are outside 0 to 10 bpm.*UNIT x"):
        ranges.check("a.csv", ADVICE)


def test_scratch_file_grows_where_memory_does(tmp_path) -> None:
    on_disk, in_memory = (DayGrid(1, ADVICE, folder=folder) for folder in (tmp_path, None))
    for grid in (on_disk, in_memory):
        for person in range(200):
            grid.add(rows(np.arange(1440) * 60, np.full(1440, float(person)), f"p{person:03}"))
    for grid in (on_disk, in_memory):
        days = grid.days(PlausibleRanges([Signal("x")]), ["x"], 1)
        assert [values[0, 0] for _, _, values in days] == list(range(200))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_a_full_disk_is_an_error_in_words(tmp_path) -> None:
    """A sparse mapped file would end the process with SIGBUS."""
    code = f"""
        import numpy as np
        from lsm2.data.day_grid import DayGrid
        from lsm2.errors import InputError
        from tests.lsm2.data.test_day_grid import ADVICE, rows
        try:
            grid = DayGrid(1, ADVICE, folder={str(tmp_path)!r})
            for person in range(2000):
                grid.add(rows(np.arange(1440) * 60, np.ones(1440), str(person)))
        except InputError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=CLONE,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20)),
        check=True,
    )
    assert str(tmp_path) in done.stdout and "no room" in done.stdout and "make room" in done.stdout
