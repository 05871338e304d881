"""The ridge regression on what is visible around each minute."""

import dataclasses

import numpy as np
import pytest

from lsm2.data.fills import ridge
from lsm2.data.fills.fitted import SameMinute, Smooth
from lsm2.data.fills.ridge import Ridge
from lsm2.data.fills.simple import TrainingDays, VisibleDay

N = np.float32(np.nan)
SEED = 20260512


def coupled_days(people: str, num_signals: int = 3, length: int = 288, missing: float = 0.2):
    """A day for each letter, of mixed smooth courses and white noise; samples are missing at random."""
    rng = np.random.default_rng(SEED)
    mixing = np.random.default_rng(1).normal(size=(num_signals, 2))
    kernel = np.exp(-0.5 * (np.arange(-30, 31) / 4) ** 2)
    days = {}
    for number, person in enumerate(people):
        courses = [
            np.convolve(rng.normal(size=length + 60), kernel / np.linalg.norm(kernel), mode="valid")
            for _ in range(2)
        ]
        values = mixing @ np.stack(courses) + 0.3 * rng.normal(size=(num_signals, length))
        values[rng.random(values.shape) < missing] = np.nan
        days[f"{person}{number}"] = values.astype(np.float32)
    return days


def hide_three_ways(number, day):
    """Single samples, a gap of 12, and the first signal where there is another one."""
    rng = np.random.default_rng(number)
    at_random = rng.random(day.shape) < 0.5
    gap = np.zeros(day.shape, dtype=bool)
    gap[:, 100:112] = True
    signal = np.zeros(day.shape, dtype=bool)
    signal[0, :] = True
    for hidden in (at_random, gap, *([signal] if len(day) > 1 else [])):
        yield hidden, hidden & ~np.isnan(day)


def training(days, sample_minutes: int = 5) -> TrainingDays:
    """The person of a day is the first letter of its name."""
    values = list(days.values())
    people = [name[0] for name in days]
    return TrainingDays(people, lambda number: values[number], hide_three_ways, sample_minutes)


@pytest.fixture(scope="module")
def fitted() -> Ridge:
    return Ridge.fit(training(coupled_days("aabbccddee")))


@pytest.fixture(scope="module")
def day() -> np.ndarray:
    """A day of somebody else."""
    return coupled_days("x" * 12)["x11"]


def test_features_are_kernel_means_each_shrunk_to_the_wider_one(day):
    around = ridge.features_around(day, 5)
    assert around.shape == (ridge.num_features(3), 288) and around.dtype == np.float32
    kinds = around[:-1].reshape(ridge.KINDS_OF_FEATURES, 3, 288)
    np.testing.assert_array_equal(kinds[0], np.nan_to_num(day))
    seen = ~np.isnan(day)
    minutes = 5 * np.arange(288)
    for signal, sample in ((0, 0), (1, 17), (2, 287)):
        values = day[signal, seen[signal]].astype(np.float64)
        mean = values.sum() / (len(values) + ridge.SAMPLES_OF_TIME_OF_DAY)
        assert kinds[-1, signal, sample] == pytest.approx(mean, abs=1e-5)
        for kind, bandwidth in reversed(list(enumerate(ridge.BANDWIDTH_MINUTES, start=1))):
            weights = np.exp(-0.5 * ((minutes[seen[signal]] - minutes[sample]) / bandwidth) ** 2)
            mean = (weights @ values + ridge.SAMPLES_OF_WIDER_MEAN * mean) / (
                weights.sum() + ridge.SAMPLES_OF_WIDER_MEAN
            )
            assert kinds[kind, signal, sample] == pytest.approx(mean, abs=1e-4)
    np.testing.assert_array_equal(around[-1], 1)


def test_a_regression_sees_all_kinds_of_its_signal_and_fewer_of_the_others():
    numbers = ridge.features_of(1, 3)
    kinds = {signal: [n // 3 for n in numbers[:-1] if n % 3 == signal] for signal in range(3)}
    assert kinds[1] == list(range(ridge.KINDS_OF_FEATURES))
    assert kinds[0] == kinds[2] == list(ridge.KINDS_OF_OTHER_SIGNALS)
    assert numbers[-1] == ridge.num_features(3) - 1


def test_situations_are_distances_to_the_visible_and_whether_anything_is_visible():
    visible = np.full((2, 100), N)
    visible[0, 50] = 1.0
    found = ridge.situations(visible, 1)
    np.testing.assert_array_equal(found[0, [40, 39, 50, 60, 61, 81]], [5, 6, 0, 5, 6, 7])
    never = ridge.NUM_NEARNESSES - 1
    np.testing.assert_array_equal(found[1, [50, 49]], [never, never + ridge.NUM_NEARNESSES])
    np.testing.assert_array_equal(ridge.situations(visible, 10)[0, [49, 48, 40]], [5, 6, 8])


def test_weights_are_those_of_scikit_learn_on_the_same_features():
    linear_model = pytest.importorskip("sklearn.linear_model")
    days = coupled_days("aabbcc")
    fitted = Ridge.fit(training(days))
    weights = fitted.weights(None)
    rows, targets = {}, {}
    for number, (name, values) in enumerate(days.items()):
        prior = fitted.prior(name[0], 288, 5)
        for hidden, target in hide_three_ways(number, values):
            visible = np.where(hidden, N, values)
            around = ridge.features_around(visible - prior, 5)[ridge.features_of(0, 3)]
            minutes = np.flatnonzero(target[0])
            for minute, situation in zip(minutes, ridge.situations(visible, 5)[0, minutes], strict=True):
                rows.setdefault(situation, []).append(around[:, minute])
                targets.setdefault(situation, []).append((values - prior)[0, minute])
    everything = np.concatenate(list(rows.values()))
    all_targets = np.concatenate(list(targets.values()))
    assert len(rows) > 3
    for situation, of_situation in rows.items():
        features = np.concatenate([of_situation, everything])
        wanted = np.concatenate([targets[situation], all_targets])
        lean = ridge.SAMPLES_OF_ALL_SITUATIONS / len(everything)
        sample_weight = np.concatenate([np.ones(len(of_situation)), np.full(len(everything), lean)])
        differences = []
        for strength in ridge.STRENGTHS:
            alpha = strength * sample_weight.sum() + ridge.LEAST_RIDGE
            model = linear_model.Ridge(alpha=alpha, fit_intercept=False)
            model.fit(features.astype(np.float64), wanted, sample_weight)
            found = weights[situation, 0, ridge.features_of(0, 3)]
            differences.append(np.abs(model.coef_ - found).max())
        assert min(differences) < 1e-3


def test_the_strength_is_the_one_that_fills_left_out_folds_best():
    rng = np.random.default_rng(SEED)
    # Four folds of 12 targets of two signals: 10 features and a constant that say nothing of the targets.
    rows = np.concatenate(
        [rng.normal(size=(4, 2, 12, 10)), np.ones((4, 2, 12, 1)), rng.normal(size=(4, 2, 12, 1))], axis=3
    )
    moments = np.einsum("kcnf,kcng->kcfg", rows, rows)
    errors = np.zeros(len(ridge.STRENGTHS))
    for left_out in range(4):
        others = np.delete(moments, left_out, axis=0).sum(axis=0)
        for number, weights in enumerate(ridge.ridge_regressions(others, others)):
            predicted = np.einsum("cnf,cf->cn", rows[left_out, ..., :-1], weights)
            errors[number] += np.square(predicted - rows[left_out, ..., -1]).sum()
    assert errors.argmin() == len(ridge.STRENGTHS) - 1
    total = moments.sum(axis=0)
    np.testing.assert_array_equal(
        ridge._fit_situation(moments, moments), ridge.ridge_regressions(total, total)[errors.argmin()]
    )


def test_ridge_beats_the_other_fitted_fills_on_signals_that_go_together(fitted):
    days = training(coupled_days("aabbccddee"))
    fills = {"ridge": fitted, "smooth": Smooth.fit(days), "same minute": SameMinute.fit(days)}
    whole = coupled_days("x" * 12, missing=0.0)["x11"]
    hidden = np.random.default_rng(2).random(whole.shape) < 0.6
    visible = VisibleDay(np.where(hidden, N, whole), "x", 5)
    errors = {name: np.square((fill(visible) - whole)[hidden]).mean() for name, fill in fills.items()}
    assert errors["ridge"] < 0.9 * min(errors["smooth"], errors["same minute"])


def test_values_that_are_hidden_and_no_target_are_never_looked_at(day):
    hidden = np.random.default_rng(3).random((3, 288)) < 0.5
    target = hidden & (np.arange(288) % 2 == 0) & ~np.isnan(day)
    changed = np.where(hidden & ~target, np.float32(1e6), day)
    found = np.zeros((2, ridge.NUM_SITUATIONS, 3, *2 * [len(ridge.features_of(0, 3)) + 1]), np.float32)
    for moments, values in zip(found, (day, changed), strict=True):
        ridge._add_products(moments, np.where(hidden, N, values), values, target, 5)
    assert found[0].any()
    np.testing.assert_array_equal(found[0], found[1])


def test_ridge_learns_nothing_from_the_person_it_fills(day):
    days = coupled_days("aabbccddx")
    changed = days | {"x8": -3 * days["x8"]}
    fits = [Ridge.fit(training(of)) for of in (days, changed)]
    fold = fits[0].fold_of["x"]
    assert fold == fits[1].fold_of["x"] and not np.array_equal(fits[0].moments[fold], fits[1].moments[fold])
    # Their own fold is not looked at: whatever stands in it, their day is filled with the same bits.
    poisoned = Ridge(fits[0].of_person, fits[0].fold_of, fits[0].moments.copy())
    poisoned.moments[fold] = np.nan
    visible = VisibleDay(day, "x", 5)
    np.testing.assert_array_equal(poisoned(visible), fits[0](visible))
    assert np.isfinite(poisoned(visible)).all()
    # Nor are their own habits, except in the time of day that the others' days were compared with.
    np.testing.assert_allclose(fits[0].prior("x", 288, 5), fits[1].prior("x", 288, 5), atol=1e-6)


def test_a_person_alone_in_training_gets_the_training_mean(day):
    alone = Ridge.fit(training(coupled_days("a")))
    assert not alone(VisibleDay(day, "a", 5)).any()
    assert np.isfinite(alone(VisibleDay(day, "x", 5))).all()


@pytest.mark.parametrize(("sample_minutes", "length"), [(1, 1440), (5, 288), (60, 24)])
@pytest.mark.parametrize("num_signals", [1, 3])
def test_ridge_fills_stores_of_one_signal_and_of_any_sampling(num_signals, sample_minutes, length):
    days = coupled_days("aabbccdd", num_signals, length)
    fitted = Ridge.fit(training(days, sample_minutes))
    whole = coupled_days("x" * 10, num_signals, length, missing=0.0)["x9"]
    hidden = np.random.default_rng(4).random(whole.shape) < 0.3
    filled = fitted(VisibleDay(np.where(hidden, N, whole), "x", sample_minutes))
    assert filled.shape == whole.shape and filled.dtype == np.float32 and np.isfinite(filled).all()
    if sample_minutes < 60:
        assert np.square((filled - whole)[hidden]).mean() < 0.6 * np.square(whole[hidden]).mean()


def test_signals_and_days_that_nobody_measured(fitted):
    days = coupled_days("aabbcc")
    for values in days.values():
        values[1] = np.nan
    without = Ridge.fit(training(days))
    visible = coupled_days("x" * 7)["x6"].copy()
    visible[1] = np.nan
    filled = without(VisibleDay(visible, "x", 5))
    assert not filled[1].any() and np.isfinite(filled).all()
    # A signal that this day lacks is filled from the others.
    assert np.abs(fitted(VisibleDay(visible, "x", 5))[1]).max() > 0.5
    assert np.isfinite(fitted(VisibleDay(np.full((3, 288), N), "x", 5))).all()


def test_ridge_is_the_same_bits_every_time(day):
    days = coupled_days("aabbccdd")
    first, second = (Ridge.fit(training(days))(VisibleDay(day, "x", 5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_ridge_hides_days_in_every_way_that_it_is_given():
    ways = []

    def hide_widely(number, day):
        ways.append(number)
        yield from hide_three_ways(number, day)

    days = dataclasses.replace(training(coupled_days("aabb")), hide_widely=hide_widely)
    Ridge.fit(days)
    assert ways == [0, 1, 2, 3]


def test_ridge_fills_a_day_of_26_signals_in_milliseconds(fastest):
    days = coupled_days("aabb", 26, 1440)
    fitted = Ridge.fit(training(days, 1))
    visible = VisibleDay(coupled_days("x" * 6, 26, 1440, missing=0.8)["x5"], "x", 1)
    assert fastest(fitted, visible) < 0.1
