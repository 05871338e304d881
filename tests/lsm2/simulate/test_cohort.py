"""The simulated cohort: pure in (seed, person, day), written with its labels and its truth."""

import json

import numpy as np
import pyarrow.csv
import pytest

from lsm2.data import LSM2_SIGNALS, DayStore
from lsm2.errors import InputError
from lsm2.simulate.cohort import read_truth, simulate, true_values, write_cohort


@pytest.fixture(scope="module")
def cohort() -> list:
    return list(simulate(80, 3, seed=0))


def test_days_have_names_shapes_and_plausible_values(cohort):
    assert len({day.day_id for day in cohort}) == 240
    assert cohort[0].day_id == "P00000/2024-03-01" and cohort[-1].day_id == "P00079/2024-03-03"
    values = np.stack([day.values for day in cohort])
    assert values.dtype == np.float32 and values.shape == (240, 26, 1440)
    for index, signal in enumerate(LSM2_SIGNALS):
        assert np.nanmin(values[:, index]) >= signal.low and np.nanmax(values[:, index]) <= signal.high


def test_a_day_is_a_function_of_seed_person_and_day(cohort):
    part = list(simulate(3, 2, seed=0))
    assert [day.day_id for day in part] == [
        day.day_id for day in cohort if day.day_id[:6] < "P00003" and day.date < "2024-03-03"
    ]
    by_id = {day.day_id: day.values for day in cohort}
    assert all(day.values.tobytes() == by_id[day.day_id].tobytes() for day in part)
    other = list(simulate(1, 2, seed=1))
    assert len({day.values.tobytes() for day in [*part[:2], *other]}) == 4


def test_the_truth_is_generated_anew(tmp_path):
    store = write_cohort(tmp_path / "cohort", 4, 3, seed=5, noise=0.3)
    for index in range(len(store)):
        observed, complete = store.values(index), true_values(store, index)
        seen = ~np.isnan(observed)
        assert seen.any() and not seen.all() and not np.isnan(complete).any()
        assert observed[seen].tobytes() == complete[seen].tobytes()


def test_only_a_simulated_store_has_a_truth(tmp_path, cohort):
    store = DayStore.write(tmp_path / "other", LSM2_SIGNALS, cohort[:2])
    with pytest.raises(InputError, match=r"truth\.json cannot be read"):
        true_values(store, 0)
    (tmp_path / "other" / "truth.json").write_text('{"simulator_version": 1}')
    with pytest.raises(InputError, match="another version of the simulator"):
        read_truth(store)


def test_cohort_is_written_with_labels_and_truth(tmp_path):
    store = write_cohort(tmp_path / "cohort", 4, 2, seed=3)
    assert isinstance(store, DayStore) and len(store) == 8 and store.signals == LSM2_SIGNALS
    for index, day in enumerate(simulate(4, 2, seed=3)):
        assert store.values(index).tobytes() == day.values.tobytes()
    labels = pyarrow.csv.read_csv(tmp_path / "cohort" / "labels.csv")
    assert labels.column_names == [
        "subject", "age", "sex", "bmi", "resting_heart_rate", "hypertension", "anxiety"
    ]  # fmt: skip
    assert tuple(labels["subject"].to_pylist()) == store.subjects
    activities = pyarrow.csv.read_csv(tmp_path / "cohort" / "activities.csv")
    assert activities.column_names == ["subject", "start", "end", "activity"] and activities.num_rows > 0
    truth = json.loads((tmp_path / "cohort" / "truth.json").read_text())
    assert truth["noise"] == 0.2 and truth["seed"] == 3 and len(truth["signals"]) == 26


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((0, 1, 0), "people is 0"),
        ((1, 0, 0), "days_per_person is 0"),
        ((1, 1, 0, 1.0), "noise is 1.0"),
        ((1, 1, 0, -0.1), "noise is -0.1"),
    ],
    ids=["people", "days", "only-noise", "negative-noise"],
)
def test_numbers_that_make_no_cohort(tmp_path, arguments, word):
    with pytest.raises(InputError, match=word):
        write_cohort(tmp_path / "cohort", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_cohort_is_replaced_when_asked_for(tmp_path):
    write_cohort(tmp_path / "cohort", 2, 1, seed=0)
    with pytest.raises(InputError, match="holds a store already"):
        write_cohort(tmp_path / "cohort", 1, 1, seed=0)
    assert len(write_cohort(tmp_path / "cohort", 1, 1, seed=0, replace=True)) == 1
