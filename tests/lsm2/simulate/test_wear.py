"""Real wear patterns: read from a file, given to simulated people; bad files are told what is wrong."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from lsm2.cli import main
from lsm2.errors import InputError
from lsm2.simulate.cohort import simulate
from lsm2.simulate.schedule import date_of
from lsm2.simulate.wear import WearPatterns


def wear_file(path, subjects=(1, 1, 2), weekdays=(1, 6, 3), bits=None):
    if bits is None:
        bits = [np.packbits(np.arange(1440) // 60 >= 8 - i).tobytes() for i in range(len(subjects))]
    table = pa.table({"subject": list(subjects), "weekday": list(weekdays), "wear_bits": bits})
    pyarrow.parquet.write_table(table, path)
    return path


def test_people_take_the_days_of_one_person_by_weekday(tmp_path):
    wear = WearPatterns.read(
        wear_file(
            tmp_path / "wear.parquet",
            [7] * 7,
            range(1, 8),
            [np.packbits(np.arange(1440) >= 100 * day).tobytes() for day in range(7)],
        )
    )
    for day in range(14):
        weekday = date_of(day).isoweekday() % 7
        np.testing.assert_array_equal(wear.of_day(0, 3, day), np.arange(1440) >= 100 * weekday)


def test_a_day_is_missing_where_it_was_not_worn(tmp_path):
    wear = WearPatterns.read(wear_file(tmp_path / "wear.parquet"))
    people = {int(wear.of_day(0, person, day).sum()) for person in range(20) for day in range(7)}
    assert people == {960, 1020, 1080}
    plain = list(simulate(4, 3, seed=0, complete=True))
    for index, day in enumerate(simulate(4, 3, seed=0, wear=wear)):
        worn = wear.of_day(0, index // 3, index % 3)
        assert np.isnan(day.values[:, ~worn]).all() and not np.isnan(day.values[:, worn]).all()
        seen = ~np.isnan(day.values)
        assert (day.values[seen] == plain[index].values[seen]).all()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"weekdays": (1, 8, 3)}, "row 2: weekday is 8"),
        ({"subjects": (1, None, 2)}, "row 2: subject is empty"),
        ({"bits": [b"1" * 180, b"1" * 180, b"1" * 9]}, "row 3: wear_bits is 9 bytes"),
        ({"bits": [b"1" * 180, None, b"1" * 180]}, "row 2: wear_bits is None"),
        ({"bits": [bytes(180)] * 3}, "no day that was worn"),
        ({"subjects": (), "weekdays": (), "bits": []}, "no day that was worn"),
    ],
    ids=["weekday", "subject", "short", "empty-bits", "never-worn", "no-rows"],
)
def test_bad_rows_are_named(tmp_path, rows, words):
    path = wear_file(tmp_path / "wear.parquet", **rows)
    with pytest.raises(InputError, match=words) as error:
        WearPatterns.read(path)
    assert str(path) in str(error.value)


def test_bad_files_are_named_and_nothing_is_written(tmp_path, capsys):
    text, other = tmp_path / "wear.csv", tmp_path / "other.parquet"
    text.write_text("subject,weekday\n")
    pyarrow.parquet.write_table(pa.table({"subject": [1]}), other)
    for path, words in (
        (text, "as Parquet"),
        (other, "no column 'weekday'"),
        (tmp_path / "no", "is no file"),
    ):
        out = tmp_path / "cohort"
        assert main(["simulate", str(out), "--people", "1", "--wear", str(path)]) == 2
        assert words in capsys.readouterr().err.replace("\n", " ") and not out.exists()
