"""Reading a store: what was written comes back, and damage is named before wrong values are used."""

import json
import multiprocessing
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from lsm2.data import Day, DayStore, Normalization, Signal
from lsm2.data.store import reader
from lsm2.data.store.layout import manifest_sha256
from lsm2.errors import InputError

SAMPLES = 24


def test_what_was_written_comes_back(store, signals, make_days):
    days = make_days()
    assert (
        len(store) == 12
        and store.signals == signals
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


def test_values_are_a_copy(store, make_days):
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


def _first_value(store):
    return store.values(0).tobytes()


def test_travels_to_another_process(store):
    copy = pickle.loads(pickle.dumps(store))
    assert copy.values(3).tobytes() == store.values(3).tobytes()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_first_value, (store,)) == store.values(0).tobytes()


def flip_bit(file, offset):
    content = bytearray(file.read_bytes())
    content[offset] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize(
    "file", ["shard-00000.arrow", "shard-00003.arrow", "days.arrow", "moments.arrow", "observed.bits"]
)
@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.999])
def test_flipped_bit_is_found_at_open(store, file, place):
    flip_bit(store.path / file, int(place * (store.path / file).stat().st_size))
    with pytest.raises(InputError, match=f"{file} is damaged.*restore it"):
        DayStore.open(store.path)


def test_flipped_bit_in_a_large_store_is_found_before_its_values_are_used(store, monkeypatch):
    monkeypatch.setattr(reader, "VERIFY_AT_OPEN_BYTES", 0)
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
        (
            lambda file: rewrite(file, format_version=1),
            "format_version 1, this lsm2 reads 2; write the store again with `lsm2 import` or `lsm2 simulate`",
        ),
        (lambda file: rewrite(file, format_version=99), "format_version 99, this lsm2 reads 2"),
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
    ids=["cut", "not-text", "not-a-manifest", "absent", "former", "future", "other-folder", "changed"],
)
def test_bad_manifest(store, damage, words):
    damage(store.path / "manifest.json")
    with pytest.raises(InputError) as error:
        DayStore.open(store.path)
    assert words in str(error.value)


def test_an_absent_store(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        DayStore.open(tmp_path / "nothing")


def read_days(store) -> dict[str, np.ndarray]:
    """Values of all days by name."""
    return {day_id: store.values(row) for row, day_id in enumerate(store.days["day_id"].to_pylist())}


@pytest.mark.parametrize(
    "people",
    [
        {"person 1"},
        {"person 0", "person 2"},
        ["person 2", "person 1", "person 0"],
        {"person 0", "nobody"},
        set(),
    ],
    ids=["one", "two", "all", "a-stranger", "nobody"],
)
def test_moments_of_people_are_those_of_their_days(store, signals, people):
    count, mean, squares = store.moments_of(people)
    days = [values for day_id, values in read_days(store).items() if day_id.split("/")[0] in people]
    pooled = np.concatenate([np.full((3, 1), np.nan), *days], axis=1).astype(np.float64)
    pooled[1] = np.log1p(pooled[1])
    expected = np.nan_to_num(np.nanmean(pooled, axis=1, keepdims=True)) if days else np.zeros((3, 1))
    np.testing.assert_array_equal(count, (~np.isnan(pooled)).sum(1))
    np.testing.assert_allclose(mean, expected[:, 0], rtol=1e-6)
    np.testing.assert_allclose(squares, np.nansum((pooled - expected) ** 2, axis=1), rtol=1e-6)
    normalization = Normalization.from_moments(store.signals, store.moments_of(people))
    np.testing.assert_allclose(normalization.mean, mean)


def test_moments_do_not_depend_on_how_people_are_given(store):
    one = store.moments_of(["person 0", "person 2"])
    assert one.tobytes() == store.moments_of({"person 2", "person 0"}).tobytes()


def test_bits_are_those_of_the_values(store):
    indices = [3, 0, 11, 3, 7]
    observed = store.observed(indices)
    assert observed.dtype == bool and observed.shape == (5, 3, SAMPLES)
    for row, index in enumerate(indices):
        np.testing.assert_array_equal(observed[row], ~np.isnan(store.values(index)))
    assert store.observed([]).shape == (0, 3, SAMPLES)
    for index in (-1, 12):
        with pytest.raises(IndexError, match="12 days"):
            store.observed([0, index])


def test_bits_of_a_day_whose_cells_fill_no_byte(tmp_path):
    values = np.array([[1, np.nan, 3, np.nan, 5]] * 3, np.float32)
    days = [Day("a", "2024-01-01", values), Day("a", "2024-01-02", -values[:, ::-1])]
    store = DayStore.write(tmp_path / "store", [Signal(name) for name in "abc"], days)
    assert (store.path / "observed.bits").stat().st_size == 2 * 2
    np.testing.assert_array_equal(store.observed([1, 0]), ~np.isnan([days[1].values, values]))


def test_flipped_bits_beside_the_shards_of_a_large_store_are_found_before_their_use(store, monkeypatch):
    monkeypatch.setattr(reader, "VERIFY_AT_OPEN_BYTES", 0)
    flip_bit(store.path / "observed.bits", 4 * 9)
    flip_bit(store.path / "moments.arrow", 300)
    opened = DayStore.open(store.path)
    opened.observed([0, 1, 2, 6])
    opened.values(4)
    for _ in range(2):
        with pytest.raises(InputError, match=r"observed\.bits is damaged"):
            opened.observed([0, 4])
        with pytest.raises(InputError, match=r"moments\.arrow is damaged"):
            opened.moments_of(["person 0"])


def test_few_shards_are_open_at_a_time(tmp_path):
    """A store of more shards than a process may have files open is read whole, by loader workers too."""
    program = """
import resource, sys
import numpy as np
from lsm2.data import Day, DayStore, Signal
from lsm2.data.store import reader, writer

writer.SHARD_BYTES = 1
values = np.arange(12, dtype=np.float32).reshape(1, 12)
days = (Day(f"p{n}", "2024-01-01", values + n) for n in range(300))
DayStore.write(sys.argv[1], [Signal("a")], days)
reader.VERIFY_AT_OPEN_BYTES = 0
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
store = DayStore.open(sys.argv[1])
assert len(store.manifest["shards"]) == 300
for _ in range(2):
    assert all((store.values(n) == values + n).all() for n in range(300))
from torch.utils.data import DataLoader
loader = DataLoader(range(300), batch_size=None, num_workers=1, collate_fn=lambda n: float(store.values(n)[0, 0]))
assert list(loader) == list(range(300))
"""
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "store")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
        timeout=120,
    )
    assert run.returncode == 0, run.stderr


def test_a_store_swapped_before_a_shard_is_opened_is_noticed(store, signals, make_days):
    """A store of the same shape takes its place: its shards have the same size, and none was opened yet."""
    opened = DayStore.open(store.path)
    DayStore.write(store.path, signals, make_days(seed=1), sample_minutes=60, replace=True)
    for _ in range(2):
        with pytest.raises(InputError, match=r"was replaced or removed after it was opened.*start again"):
            opened.values(0)
    DayStore.write(store.path, signals, make_days(1, 1), sample_minutes=60, replace=True)
    with pytest.raises(InputError, match=r"was replaced or removed after it was opened"):
        opened.values(11)
    np.testing.assert_array_equal(opened.observed([11])[0], ~np.isnan(make_days()[11].values))


def test_a_store_swapped_after_a_shard_was_closed_is_noticed(store, signals, make_days, monkeypatch):
    monkeypatch.setattr(reader, "OPEN_SHARDS", 1)
    opened = DayStore.open(store.path)
    opened.values(0)
    opened.values(11)
    DayStore.write(store.path, signals, make_days(seed=1), sample_minutes=60, replace=True)
    assert opened.values(11).tobytes() == make_days()[11].values.tobytes()
    with pytest.raises(InputError, match="was replaced"):
        opened.values(0)


def test_a_file_that_was_only_touched_is_no_other(store, make_days):
    opened = DayStore.open(store.path)
    for file in store.path.iterdir():
        os.utime(file)
    assert opened.values(0).tobytes() == make_days()[0].values.tobytes()


def test_another_process_gets_no_other_store(store, signals, make_days):
    sent = pickle.dumps(store)
    DayStore.write(store.path, signals, make_days(seed=1), sample_minutes=60, replace=True)
    with pytest.raises(InputError, match="was replaced after it was opened"):
        pickle.loads(sent)
