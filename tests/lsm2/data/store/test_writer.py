"""Writing a store: whole or not at all, nothing overwritten by accident, what does not fit named."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from lsm2.data import Day, DayStore
from lsm2.data.store import writer
from lsm2.data.store.writer import check_replaceable
from lsm2.errors import InputError

SAMPLES = 24


def contents(folder) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_days_are_written_as_they_come(tmp_path, small_shards, signals, make_days):
    """When a day is asked for, all but the last few before it are in finished shards already."""
    shards_seen = []

    def days():
        for index, day in enumerate(make_days()):
            shards_seen.append((index, len(list(tmp_path.glob(".store.writing-*/shard-*.arrow")))))
            yield day

    DayStore.write(tmp_path / "store", signals, days())
    assert all(shards >= index // 3 for index, shards in shards_seen)


def test_attachments_are_made_after_the_last_day(tmp_path, signals, make_days):
    count = []
    days = (day for day in make_days() if not count.append(1))
    DayStore.write(
        tmp_path / "store", signals, days, attachments={"note.txt": lambda: str(len(count)).encode()}
    )
    assert (tmp_path / "store" / "note.txt").read_text() == "12"


def test_a_store_is_replaced_only_by_a_whole_one(store, signals, make_days):
    before = contents(store.path)
    bad = [*make_days(seed=1)[:5], Day("x", "2024-02-28", np.full((3, SAMPLES), np.inf, np.float32))]
    with pytest.raises(InputError, match=r"'x/2024-02-28'.*'hr'"):
        DayStore.write(store.path, signals, bad, replace=True)
    assert contents(store.path) == before

    def interrupted():
        yield make_days(seed=1)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        DayStore.write(store.path, signals, interrupted(), replace=True)
    assert contents(store.path) == before

    replaced = DayStore.write(store.path, signals, make_days(1, 2, seed=1), replace=True)
    assert len(replaced) == 2 and len(list(store.path.glob("shard-*"))) == 1
    assert [path.name for path in store.path.parent.iterdir()] == ["store"]


def test_an_open_store_outlives_its_replacement(store, signals, make_days):
    expected = make_days()[0].values.tobytes()
    assert store.values(0).tobytes() == expected
    DayStore.write(store.path, signals, make_days(1, 2, seed=1), replace=True)
    assert store.values(0).tobytes() == expected


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_not_a_store_is_not_overwritten(tmp_path, kind, signals):
    target = tmp_path / "target"
    if kind == "file":
        target.write_text("thesis")
    elif kind == "folder":
        target.mkdir()
        (target / "thesis.txt").write_text("thesis")
    else:
        target.symlink_to(tmp_path / "elsewhere")

    def never():
        raise AssertionError("days were asked for")
        yield

    with pytest.raises(InputError, match="is not a DayStore"):
        DayStore.write(target, signals, never())
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_an_empty_folder_and_absent_parents_are_fine(tmp_path, signals, make_days):
    (tmp_path / "empty").mkdir()
    assert len(DayStore.write(tmp_path / "empty", signals, make_days())) == 12
    assert len(DayStore.write(tmp_path / "a" / "b", signals, make_days())) == 12


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"values": np.ones((2, SAMPLES), np.float32)},
            "'x/2024-02-28' has values of shape (2, 24); expected (3, 24)",
        ),
        ({"values": np.ones((3, SAMPLES + 1), np.float32)}, "(3, 25); expected (3, 24)"),
        (
            {"values": np.full((3, SAMPLES), -3, np.float32)},
            "'x/2024-02-28': signal 'steps' has the value -3",
        ),
        ({"values": np.full((3, SAMPLES), 1e300)}, "'x/2024-02-28': signal 'hr' has the value inf"),
        ({"subject": "person 2"}, "'person 2/2024-02-28' occurs twice"),
        ({"date": "28.2.2024"}, "'28.2.2024'; write dates as ISO 8601"),
        ({"subject": ""}, "give every person a name"),
    ],
    ids=["signals", "samples", "log", "overflow", "twice", "date", "subject"],
)
def test_a_bad_day_is_named_and_leaves_nothing_behind(tmp_path, signals, make_days, change, words):
    first = make_days()[0]
    bad = Day(**({"subject": "x", "date": "2024-02-28", "values": first.values} | change))
    with pytest.raises(InputError) as error:
        DayStore.write(tmp_path / "store", signals, [first, bad])
    assert words in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("chosen", "num_people", "arguments", "words"),
    [
        ([0, 1, 2], 0, {}, "no day to write"),
        ([0, 1, 2], 3, {"sample_minutes": 7}, "sample_minutes is 7; it must divide 60"),
        ([0, 1, 2, 0], 3, {}, "signal 'hr' occurs twice"),
        ([], 3, {}, "at least one signal"),
    ],
    ids=["nothing", "sampling", "same-signal", "no-signal"],
)
def test_bad_arguments_leave_nothing_behind(
    tmp_path, signals, make_days, chosen, num_people, arguments, words
):
    described = [signals[index] for index in chosen]
    with pytest.raises(InputError) as error:
        DayStore.write(tmp_path / "store", described, make_days(num_people), **arguments)
    assert words in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_store_is_refused_without_replace(store, signals):
    before = contents(store.path)

    def never():
        raise AssertionError("days were asked for")
        yield

    with pytest.raises(InputError, match=r"holds a store already.*--replace.*replace=True"):
        DayStore.write(store.path, signals, never())
    with pytest.raises(InputError, match="holds a store already"):
        check_replaceable(store.path, False)
    check_replaceable(store.path, True)
    assert contents(store.path) == before


def test_a_store_that_appears_meanwhile_is_refused_too(tmp_path, signals, make_days):
    def days():
        yield from make_days(1, 1)
        DayStore.write(tmp_path / "store", signals, make_days(1, 2))

    with pytest.raises(InputError, match="holds a store already"):
        DayStore.write(tmp_path / "store", signals, days())
    assert len(DayStore.open(tmp_path / "store")) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def leave_behind(folder: Path, days_ago: float) -> None:
    """What a writer that was killed leaves: an unfinished store, last touched some days ago."""
    folder.mkdir()
    (folder / "shard-00000.arrow").write_bytes(b"half a day")
    then = time.time() - days_ago * 86400
    for path in (folder / "shard-00000.arrow", folder):
        os.utime(path, (then, then))


def test_leftovers_of_killed_writers_are_swept_after_a_day(tmp_path, signals, make_days):
    leave_behind(tmp_path / ".[a].writing-old", 1.1)
    leave_behind(tmp_path / ".[a].writing-new", 0.9)
    leave_behind(tmp_path / ".a.writing-of-another-store", 5)
    DayStore.write(tmp_path / "[a]", signals, make_days())
    assert {path.name for path in tmp_path.iterdir()} == {
        ".[a].writing-new",
        ".a.writing-of-another-store",
        "[a]",
    }


def test_a_writer_killed_between_two_renames_leaves_a_store_that_is_named(store, signals, make_days):
    kept = store.path.with_name(".store.replaced-123")
    store.path.rename(kept)
    with pytest.raises(InputError, match=r"does not exist.*\.store\.replaced-123: rename that to store"):
        DayStore.open(store.path)
    kept.rename(store.path)
    shutil.copytree(store.path, kept)
    DayStore.write(store.path, signals, make_days(1, 2), replace=True)
    assert [path.name for path in store.path.parent.iterdir()] == ["store"]


def test_moments_stay_small_while_days_stream_through():
    moments = writer._MomentsByPerson(26)
    for person in range(1000):
        for _ in range(3):
            moments.add(f"P{person}", np.ones((3, 26)))
    assert moments._moments.nbytes == 1024 * 3 * 26 * 8
    table = moments.table()
    assert table.num_rows == 1000 and table["count"][999].as_py() == [3.0] * 26
