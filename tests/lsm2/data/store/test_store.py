"""DayStore: what was written comes back, damage is named before wrong values are used, nothing is overwritten by accident."""

import json
import multiprocessing
import pickle

import numpy as np
import pytest

from lsm2.data import Day, DayStore, Normalization, Signal
from lsm2.data.store import reader as store_module
from lsm2.data.store import writer as store_writer
from lsm2.data.store.layout import manifest_sha256
from lsm2.errors import InputError

SIGNALS = (
    Signal("hr", "bpm", 25, 240, sensor="ppg"),
    Signal("steps", "steps", 0, 300, "log1p", "accelerometer"),
    Signal("mood"),
)
SAMPLES = 24


def make_days(people: int = 3, number: int = 4, seed: int = 0) -> list[Day]:
    rng = np.random.default_rng(seed)
    days = []
    for person in range(people):
        for day in range(number):
            values = np.exp(rng.standard_normal((3, SAMPLES), dtype=np.float32))
            values[rng.random(values.shape) < 0.4] = np.nan
            days.append(Day(f"person {2 - person}", f"2024-02-{28 - day}", values))
    return days


@pytest.fixture
def small_shards(monkeypatch):
    """Three days fill a shard."""
    monkeypatch.setattr(store_writer, "SHARD_BYTES", 3 * 3 * SAMPLES * 4)


@pytest.fixture
def store(tmp_path, small_shards) -> DayStore:
    return DayStore.write(tmp_path / "store", SIGNALS, make_days(), sample_minutes=60)


def contents(folder) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_what_was_written_comes_back(store):
    days = make_days()
    assert (
        len(store) == 12
        and store.signals == SIGNALS
        and store.num_samples == SAMPLES
        and store.sample_minutes == 60
    )
    assert len(list(store.path.glob("shard-*.arrow"))) == 4
    assert store.days.column_names == ["day_id", "subject", "date"]
    assert store.days["day_id"].to_pylist() == [f"{day.subject}/{day.date}" for day in days]
    assert store.subjects == ("person 0", "person 1", "person 2")
    for index, day in enumerate(days):
        values = store.values(index)
        assert values.dtype == np.float32 and values.shape == (3, SAMPLES)
        assert values.tobytes() == day.values.tobytes()


def test_values_are_a_copy(store):
    store.values(0)[:] = 7
    assert store.values(0).tobytes() == make_days()[0].values.tobytes()


@pytest.mark.parametrize("index", [-1, 12])
def test_index_out_of_range(store, index):
    with pytest.raises(IndexError, match="12 days"):
        store.values(index)


def test_rows_by_name(store):
    assert store.index("person 1/2024-02-27") == 5
    assert store.indices_of({"person 0", "person 2"}) == [0, 1, 2, 3, 8, 9, 10, 11]
    with pytest.raises(InputError, match=r"'person 9/2024-02-27'.*named like 'person 2/2024-02-28'"):
        store.index("person 9/2024-02-27")


def test_manifest_normalisation_is_that_of_all_days(store):
    fitted = Normalization.fit(store)
    assert (
        store.normalization.mean.tobytes() == fitted.mean.tobytes()
        and store.normalization.std.tobytes() == fitted.std.tobytes()
    )


def _first_value(store):
    return store.values(0).tobytes()


def test_travels_to_another_process(store):
    copy = pickle.loads(pickle.dumps(store))
    assert copy.values(3).tobytes() == store.values(3).tobytes()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_first_value, (store,)) == store.values(0).tobytes()


def test_days_are_written_as_they_come(tmp_path, small_shards):
    """When a day is asked for, all but the last few before it are in finished shards already."""
    shards_seen = []

    def days():
        for index, day in enumerate(make_days()):
            shards_seen.append((index, len(list(tmp_path.glob(".store.writing-*/shard-*.arrow")))))
            yield day

    DayStore.write(tmp_path / "store", SIGNALS, days())
    assert all(shards >= index // 3 for index, shards in shards_seen)


def test_attachments_are_made_after_the_last_day(tmp_path):
    count = []
    days = (day for day in make_days() if not count.append(1))
    DayStore.write(
        tmp_path / "store", SIGNALS, days, attachments={"note.txt": lambda: str(len(count)).encode()}
    )
    assert (tmp_path / "store" / "note.txt").read_text() == "12"


def flip_bit(file, offset):
    content = bytearray(file.read_bytes())
    content[offset] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize("file", ["shard-00000.arrow", "shard-00003.arrow", "days.arrow"])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.999])
def test_flipped_bit_is_found_at_open(store, file, place):
    flip_bit(store.path / file, int(place * (store.path / file).stat().st_size))
    with pytest.raises(InputError, match=f"{file} is damaged.*restore it"):
        DayStore.open(store.path)


def test_flipped_bit_in_a_large_store_is_found_before_its_values_are_used(store, monkeypatch):
    monkeypatch.setattr(store_module, "VERIFY_AT_OPEN_BYTES", 0)
    flip_bit(store.path / "shard-00001.arrow", 700)
    opened = DayStore.open(store.path)
    assert opened.values(0).tobytes() == store.values(0).tobytes()
    for _ in range(2):
        with pytest.raises(InputError, match=r"shard-00001\.arrow is damaged"):
            opened.values(3)
    with pytest.raises(InputError, match=r"shard-00001\.arrow"):
        opened.verify()


def test_missing_shard(store):
    (store.path / "shard-00002.arrow").unlink()
    with pytest.raises(InputError, match=r"shard-00002\.arrow is missing"):
        DayStore.open(store.path)


def test_truncated_shard(store):
    file = store.path / "shard-00002.arrow"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"shard-00002\.arrow has \d+ bytes instead of"):
        DayStore.open(store.path)


def rewrite(manifest, **changes):
    changed = json.loads(manifest.read_text()) | changes
    changed["sha256"] = manifest_sha256(changed)
    manifest.write_text(json.dumps(changed))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.write_text("{"), "manifest.json cannot be read"),
        (lambda file: file.write_bytes(b"\xff\xfe"), "manifest.json cannot be read"),
        (lambda file: file.write_text("[]"), "does not describe a DayStore"),
        (lambda file: file.unlink(), "is not a DayStore: it has no manifest.json"),
        (lambda file: rewrite(file, format_version=99), "format_version 99, this lsm2 reads 1"),
        (
            lambda file: rewrite(file, shards=[{"file": "../x", "rows": 1, "bytes": 1, "sha256": ""}]),
            "'../x', which is not a file of this folder",
        ),
        (
            lambda file: file.write_text(
                file.read_text().replace('"sample_minutes": 60', '"sample_minutes": 30')
            ),
            "was changed after it was written",
        ),
    ],
    ids=["cut", "not-text", "not-a-manifest", "absent", "future", "other-folder", "changed"],
)
def test_bad_manifest(store, damage, words):
    damage(store.path / "manifest.json")
    with pytest.raises(InputError) as error:
        DayStore.open(store.path)
    assert words in str(error.value)


def test_no_store_there(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        DayStore.open(tmp_path / "nothing")


def test_a_store_is_replaced_only_by_a_whole_one(store):
    before = contents(store.path)
    bad = [*make_days(seed=1)[:5], Day("x", "2024-02-28", np.full((3, SAMPLES), np.inf, np.float32))]
    with pytest.raises(InputError, match=r"'x/2024-02-28'.*'hr'"):
        DayStore.write(store.path, SIGNALS, bad)
    assert contents(store.path) == before

    def interrupted():
        yield make_days(seed=1)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        DayStore.write(store.path, SIGNALS, interrupted())
    assert contents(store.path) == before

    replaced = DayStore.write(store.path, SIGNALS, make_days(1, 2, seed=1))
    assert len(replaced) == 2 and len(list(store.path.glob("shard-*"))) == 1
    assert [path.name for path in store.path.parent.iterdir()] == ["store"]


def test_an_open_store_outlives_its_replacement(store):
    expected = make_days()[0].values.tobytes()
    assert store.values(0).tobytes() == expected
    DayStore.write(store.path, SIGNALS, make_days(1, 2, seed=1))
    assert store.values(0).tobytes() == expected


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_not_a_store_is_not_overwritten(tmp_path, kind):
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
        DayStore.write(target, SIGNALS, never())
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_an_empty_folder_and_absent_parents_are_fine(tmp_path):
    (tmp_path / "empty").mkdir()
    assert len(DayStore.write(tmp_path / "empty", SIGNALS, make_days())) == 12
    assert len(DayStore.write(tmp_path / "a" / "b", SIGNALS, make_days())) == 12


def changed(**changes) -> list[Day]:
    first = make_days()[0]
    return [first, Day(**({"subject": "x", "date": "2024-02-28", "values": first.values} | changes))]


@pytest.mark.parametrize(
    ("signals", "days", "arguments", "words"),
    [
        (SIGNALS, [], {}, "no day to write"),
        (
            SIGNALS,
            changed(values=np.ones((2, SAMPLES), np.float32)),
            {},
            "'x/2024-02-28' has values of shape (2, 24); expected (3, 24)",
        ),
        (SIGNALS, changed(values=np.ones((3, SAMPLES + 1), np.float32)), {}, "(3, 25); expected (3, 24)"),
        (
            SIGNALS,
            changed(values=np.full((3, SAMPLES), -3, np.float32)),
            {},
            "'x/2024-02-28': signal 'steps' has the value -3",
        ),
        (
            SIGNALS,
            changed(values=np.full((3, SAMPLES), 1e300)),
            {},
            "'x/2024-02-28': signal 'hr' has the value inf",
        ),
        (SIGNALS, changed(subject="person 2"), {}, "'person 2/2024-02-28' occurs twice"),
        (SIGNALS, changed(date="28.2.2024"), {}, "'28.2.2024'; write dates as ISO 8601"),
        (SIGNALS, changed(subject=""), {}, "give every person a name"),
        (SIGNALS, make_days(), {"sample_minutes": 7}, "sample_minutes is 7; it must divide 60"),
        ((*SIGNALS, SIGNALS[0]), make_days(), {}, "signal 'hr' occurs twice"),
        ((), make_days(), {}, "at least one signal"),
    ],
    ids=[
        "nothing",
        "signals",
        "samples",
        "log",
        "overflow",
        "twice",
        "date",
        "subject",
        "epoch",
        "same-signal",
        "no-signal",
    ],
)
def test_bad_days_are_named_and_leave_nothing_behind(tmp_path, signals, days, arguments, words):
    with pytest.raises(InputError) as error:
        DayStore.write(tmp_path / "store", signals, days, **arguments)
    assert words in str(error.value)
    assert list(tmp_path.iterdir()) == []
