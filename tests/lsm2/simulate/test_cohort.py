"""The simulated cohort: pure in (seed, person, day), gaps like those known of the real data, statistics as
its docstring promises.
"""

import json

import numpy as np
import pyarrow.csv
import pytest

from lsm2.data import LSM2_SIGNALS, DayStore, Normalization
from lsm2.errors import InputError
from lsm2.simulate.cohort import _first_order, person_labels, simulate, write_cohort
from lsm2.simulate.physiology import CAUSES, CENTRE, LOADINGS, SPREAD

SENSORS = np.array([signal.sensor for signal in LSM2_SIGNALS])


@pytest.fixture(scope="module")
def cohort() -> list:
    return list(simulate(80, 3, seed=0))


@pytest.fixture(scope="module")
def normalised(cohort) -> np.ndarray:
    """(days, 26, 1440) in units of the simulator's own centre and spread."""
    return Normalization(LSM2_SIGNALS, CENTRE, SPREAD).apply(np.stack([day.values for day in cohort]))


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


def test_missing_is_as_much_as_in_the_real_data(cohort):
    missing = np.array([np.isnan(day.values).mean() for day in cohort])
    # 49 % and 15 % are known; half of that variance lies between 80 people, so the mean is known to about
    # 0.012.
    assert abs(missing.mean() - 0.49) < 0.04 and abs(missing.std() - 0.15) < 0.03
    assert missing.min() >= 0.02 and missing.max() <= 0.80
    by_person = missing.reshape(80, 3)
    assert 0.05 < by_person.mean(1).std() < 0.15


def test_gaps_are_of_the_kinds_named(cohort):
    gone = np.stack([np.isnan(day.values) for day in cohort])
    device_off = gone.all(1)
    runs = np.diff(np.flatnonzero(np.diff(np.pad(device_off.astype(int), ((0, 0), (1, 1))).reshape(-1))))[::2]
    assert device_off.any(1).mean() > 0.8 and np.median(runs) > 20
    for sensor in set(SENSORS):
        alone = gone[:, sensor == SENSORS].all(1) & ~gone[:, sensor != SENSORS].all(1)
        assert alone.any(1).mean() > 0.3
    whole_day = np.stack([gone[:, sensor == SENSORS].all((1, 2)) for sensor in sorted(set(SENSORS))])
    assert 0.05 < whole_day.any(0).mean() < 0.9


def test_motion_makes_artefacts(normalised):
    """While steps are measured, short gaps of PPG begin more often in active minutes than in still ones."""
    steps = normalised[:, [signal.name for signal in LSM2_SIGNALS].index("step_count"), 1:-12]
    ppg_gone = np.isnan(normalised[:, SENSORS == "ppg"]).all(1)
    present, begins = ~ppg_gone[:, :-13], ppg_gone[:, 1:-12] & ~ppg_gone[:, 13:]
    rate = [begins[present & chosen].mean() for chosen in (steps > 1, steps < -1)]
    assert rate[0] > 1.5 * rate[1] > 0


def test_every_signal_has_the_promised_mean_and_variance(normalised):
    # Levels of 80 people and their rhythms: a mean within 0.25 of 0 is what such a cohort can promise.
    mean, std = np.nanmean(normalised, (0, 2)), np.nanstd(normalised, (0, 2))
    assert np.abs(mean).max() < 0.25
    assert std.min() > 0.85 and std.max() < 1.15


@pytest.mark.parametrize("noise", [0.0, 0.2, 0.6])
def test_noise_is_the_white_share_of_the_variance(noise):
    values = Normalization(LSM2_SIGNALS, CENTRE, SPREAD).apply(
        np.stack([day.values for day in simulate(15, 1, seed=4, noise=noise)])
    )
    steps = np.diff(values, axis=-1)
    decay = np.exp(-1 / np.array([cause.minutes for cause in CAUSES]))
    from_causes = (1 - noise) * 0.6 * (LOADINGS**2 @ (2 * (1 - decay)))
    expected = 2 * noise + from_causes
    np.testing.assert_allclose(np.nanvar(steps, axis=(0, 2)), expected, rtol=0.12, atol=2e-3)


def test_first_order_series_is_the_recursion():
    innovations = np.random.default_rng(0).standard_normal((3, 200))
    decay = np.array([[0.5], [0.95], [0.999]])
    expected = innovations.copy()
    for step in range(1, 200):
        expected[:, step] = (
            decay[:, 0] * expected[:, step - 1] + np.sqrt(1 - decay[:, 0] ** 2) * innovations[:, step]
        )
    np.testing.assert_allclose(_first_order(innovations, decay), expected, rtol=1e-9, atol=1e-12)


def test_cohort_is_written_with_labels_and_truth(tmp_path):
    store = write_cohort(tmp_path / "cohort", 4, 2, seed=3)
    assert isinstance(store, DayStore) and len(store) == 8 and store.signals == LSM2_SIGNALS
    for index, day in enumerate(simulate(4, 2, seed=3)):
        assert store.values(index).tobytes() == day.values.tobytes()
    labels = pyarrow.csv.read_csv(tmp_path / "cohort" / "labels.csv")
    assert labels.column_names == ["subject", "age", "condition", "activity_level", "chronotype"]
    assert tuple(labels["subject"].to_pylist()) == store.subjects
    assert labels.to_pylist() == person_labels(4, 3).to_pylist()
    truth = json.loads((tmp_path / "cohort" / "truth.json").read_text())
    assert truth["noise"] == 0.35 and truth["seed"] == 3 and np.array(truth["loadings"]).shape == (26, 6)


def test_labels_show_in_the_days():
    people = person_labels(300, seed=0)
    age, condition = people["age"].to_numpy(), people["condition"].to_numpy()
    assert age.min() >= 18 and age.max() <= 90 and 0.3 < condition.mean() < 0.5
    rmssd = [signal.name for signal in LSM2_SIGNALS].index("rmssd")
    means = np.array(
        [
            np.nanmean(np.log1p(day.values[rmssd])) if (~np.isnan(day.values[rmssd])).any() else np.nan
            for day in simulate(300, 1, seed=0)
        ]
    )
    known = ~np.isnan(means)
    assert np.corrcoef(age[known], means[known])[0, 1] < -0.15


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
