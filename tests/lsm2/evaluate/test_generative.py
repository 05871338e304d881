"""The evaluation end to end, with an untrained model small enough to be quick."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from lsm2.config import LSM2Config
from lsm2.data.fills.gaps import fit_gap_fill
from lsm2.data.normalize import Normalization
from lsm2.data.signals import LSM2_SIGNALS, Signal
from lsm2.data.store import DayStore
from lsm2.data.store.layout import Day
from lsm2.errors import InputError
from lsm2.evaluate.generative import evaluate_generative
from lsm2.evaluate.methods import METHODS, name_runs
from lsm2.evaluate.results import Evaluation
from lsm2.evaluate.tasks import TASKS
from lsm2.model.lsm2 import LSM2

EPOCH, SAMPLES, PATCH = 5, 288, 6
SIGNALS = tuple(
    signal for signal in LSM2_SIGNALS if signal.name in ("heart_rate", "step_count", "skin_temperature_value")
)
CONFIG = LSM2Config(
    num_signals=3, window_minutes=SAMPLES, patch_minutes=PATCH,
    encoder_width=32, encoder_depth=1, encoder_heads=2, decoder_width=32, decoder_depth=1, decoder_heads=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> DayStore:
    """Six people with two or three days each, a third of them missing, and one day with a single token."""
    rng = np.random.default_rng(0)
    days = []
    for person in range(6):
        for date in range(2 + person % 2):
            values = np.array([[70.0], [20.0], [33.0]]) + rng.normal(size=(3, SAMPLES)) * np.array(
                [[10.0], [6.0], [0.5]]
            )
            values = np.clip(values, 0, None).astype(np.float32)
            values[:, 40:90] = np.nan
            values[rng.random(values.shape) < 0.2] = np.nan
            if (person, date) == (0, 0):
                values[:, PATCH:] = np.nan
            days.append(Day(f"p{person}", f"2026-01-{date + 1:02d}", values))
    return DayStore.write(
        tmp_path_factory.mktemp("evaluation") / "store", SIGNALS, days, sample_minutes=EPOCH
    )


def make_model(store: DayStore, **changes) -> LSM2:
    torch.manual_seed(0)
    model = LSM2(dataclasses.replace(CONFIG, **changes)).eval()
    model.precision = "fp32"
    model.normalization = Normalization.from_moments(store.signals, store.moments_of(store.subjects))
    return model


@pytest.fixture(scope="module")
def evaluation(store) -> Evaluation:
    return evaluate_generative(make_model(store), store, range(len(store)), progress=False)


def test_every_task_and_method_has_numbers_on_the_same_minutes(store, evaluation):
    assert set(evaluation.scored) == set(TASKS) - {"signal_imputation_6"}
    for task in evaluation.scored.values():
        assert tuple(task.methods) == tuple(METHODS)
        assert len({result.num_minutes for result in task.methods.values()}) == 1
        for result in task.methods.values():
            assert result.num_minutes == sum(signal.num_minutes for signal in result.per_signal.values()) > 0
            assert np.isfinite([result.mse, result.mae]).all()
            low, high = result.mse_interval
            assert low <= result.mse <= high
            for signal in SIGNALS:
                assert result.per_signal[signal.name].unit == signal.unit
    as_json = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert set(as_json["generative"]) == set(evaluation.scored)
    assert (
        as_json["generative"]["random_80"]["smooth"]["mse"]
        == evaluation.tasks["random_80"].methods["smooth"].mse
    )
    assert Evaluation.from_dict(as_json) == evaluation


def test_impossible_days_are_skipped_and_counted(store, evaluation):
    for name, task in evaluation.tasks.items():
        assert task.days_scored + task.days_skipped == len(store)
        assert task.days_skipped >= 1 if TASKS[name].kind in ("interpolation", "extrapolation") else True
    assert evaluation.tasks["signal_imputation_6"].days_scored == 0
    assert evaluation.tasks["temporal_interpolation_10"].minutes == EPOCH * PATCH
    assert evaluation.tasks["temporal_interpolation_180"].minutes == 180


def test_mean_error_equals_a_direct_computation(store, evaluation):
    normalization = make_model(store).normalization
    assert normalization is not None
    squares, in_unit = [], []
    for index in range(len(store)):
        values = normalization.apply(store.values(index))
        observed = (~np.isnan(values)).reshape(3, -1, PATCH).mean(axis=2) >= 0.5
        tokens = TASKS["random_80"].sample(
            observed, EPOCH * PATCH, day_id=store.days["day_id"][index].as_py()
        )
        if tokens is not None:
            cells = tokens.target.repeat(PATCH).reshape(3, SAMPLES) & ~np.isnan(values)
            squares.append(values[cells] ** 2)
            in_unit.append(np.abs(store.values(index)[0] - normalization.mean[0])[cells[0]])
    result = evaluation.tasks["random_80"].methods["mean"]
    assert result.mse == pytest.approx(np.concatenate(squares).mean(), rel=1e-5)
    assert result.per_signal["heart_rate"].mae_in_unit == pytest.approx(
        np.concatenate(in_unit).mean(), rel=1e-4
    )


def test_numbers_do_not_depend_on_the_batch_nor_on_the_run(store, evaluation):
    again = evaluate_generative(
        make_model(store),
        store,
        range(len(store)),
        batch_days=3,
        tasks=["random_50", "signal_imputation_2"],
        progress=False,
    )
    assert set(again.scored) == {"random_50", "signal_imputation_2"}
    for name, task in again.tasks.items():
        for method, result in task.methods.items():
            before = evaluation.tasks[name].methods[method]
            assert result.num_minutes == before.num_minutes
            assert result.mse == pytest.approx(before.mse, rel=1e-5)


def test_more_draws_score_more_minutes_and_other_seeds_others(store):
    model, days = make_model(store), range(len(store))
    one, two, other = (
        evaluate_generative(model, store, days, tasks=["random_30"], progress=False, **options)
        .tasks["random_30"]
        .methods["mean"]
        for options in ({}, {"draws": 2}, {"seed": 1})
    )
    assert two.num_minutes > 1.8 * one.num_minutes
    assert other.mse != one.mse


def test_same_minute_learns_from_training_days_and_never_from_the_person_it_fills(tmp_path):
    """Two signals go together in everyone but the person to be filled, in whom they go opposite ways."""
    rng = np.random.default_rng(0)
    days = []
    for person, sign in (("a", 1), ("b", 1), ("c", -1)):
        for date in range(2):
            wave = rng.normal(size=SAMPLES)
            values = np.stack([70 + 10 * wave, 20 + 5 * rng.random(SAMPLES), 33 + sign * wave]).astype(
                np.float32
            )
            days.append(Day(person, f"2026-01-{date + 1:02d}", values))
    store = DayStore.write(tmp_path / "store", SIGNALS, days, sample_minutes=EPOCH)
    model = make_model(store)
    # A third of the days goes the other way, so all have one spread and the mean's error is the variance.
    of_c, others = store.indices_of(["c"]), store.indices_of(["a", "b"])

    def error(indices, **options) -> float:
        evaluation = evaluate_generative(
            model, store, indices, tasks=["signal_imputation_1"], draws=20, progress=False, **options
        )
        return evaluation.tasks["signal_imputation_1"].methods["same_minute"].per_signal["heart_rate"].mse

    assert error(others) < 0.1
    assert error(of_c, training_days=others) > 3
    assert error(of_c, training_days=[*others, *of_c]) == error(of_c, training_days=others)
    assert error(of_c) == pytest.approx(1, abs=0.3)


def test_a_model_that_is_not_finite_is_refused(store):
    model = make_model(store)
    with torch.no_grad():
        next(model.decoder.parameters()).fill_(torch.nan)
    with pytest.raises(InputError, match="not finite: its weights are damaged or its training diverged"):
        evaluate_generative(model, store, range(len(store)), progress=False)


def test_the_precision_that_was_taken_is_recorded(store, evaluation):
    assert evaluation.settings.precision == "fp32"


@pytest.mark.parametrize("level", [7.0, 1e30, -0.0, 1e-40, np.nan], ids=str)
def test_a_signal_that_never_varies_is_told_and_not_scored(store, tmp_path, level):
    days = []
    for index in range(len(store)):
        values = store.values(index)
        values[0] = np.where(
            np.isnan(values[0]), np.nan, np.float32(level) * (1 + index % 2 * (level == 1e-40))
        )
        days.append(Day(store.days["subject"][index].as_py(), store.days["date"][index].as_py(), values))
    store = DayStore.write(tmp_path / "store", SIGNALS, days, sample_minutes=EPOCH)
    evaluation = evaluate_generative(make_model(store), store, range(len(store)), progress=False)
    assert evaluation.constant_signals == ("heart_rate",)
    for task in evaluation.scored.values():
        for result in task.methods.values():
            assert "heart_rate" not in result.per_signal and result.mse > 0.01
    json.dumps(evaluation.to_dict(), allow_nan=False)


def test_limited_days_are_spread_over_people(store):
    model = make_model(store)
    limited = evaluate_generative(
        model, store, range(len(store)), max_days=6, tasks=["random_50"], progress=False
    )
    assert limited.settings.num_days == 6
    assert limited.settings.num_people == 6


def test_the_bar_moves_with_every_task_of_every_batch(store, monkeypatch):
    bars = {}

    def track(items, description, **options):
        for item in items:
            bars[description] = bars.get(description, 0) + 1
            yield item

    monkeypatch.setattr("lsm2.evaluate.generative.track", track)
    evaluate_generative(
        make_model(store), store, range(len(store)), batch_days=4, draws=2, tasks=["random_30", "random_80"]
    )
    assert bars["evaluating"] == -(-len(store) // 4) * 2 * 2
    assert bars["looking at training days"] == bars["learning smooth"] == len(store)


def test_a_prediction_beyond_every_float_is_an_error_that_json_holds(tmp_path, monkeypatch):
    """A signal of log1p from 0 to 80: five deviations above its mean, expm1 is infinite."""
    rng = np.random.default_rng(0)
    signals = (*SIGNALS[:2], Signal("wide", transform="log1p"))
    days = [
        Day(f"p{person}", "2026-01-01", np.expm1(rng.uniform(0, 80, size=(3, SAMPLES))).astype(np.float32))
        for person in range(3)
    ]
    store = DayStore.write(tmp_path / "store", signals, days, sample_minutes=EPOCH)
    monkeypatch.setattr(
        "lsm2.evaluate.other_models.predict_hidden", lambda model, values, *_: np.full_like(values, 5)
    )
    evaluation = evaluate_generative(make_model(store), store, range(3), progress=False)
    json.dumps(evaluation.to_dict(), allow_nan=False)


def test_model_and_store_must_fit(store):
    model, days = make_model(store), range(len(store))
    with pytest.raises(InputError, match="reads 144 samples a day"):
        evaluate_generative(make_model(store, window_minutes=144), store, days, progress=False)
    with pytest.raises(InputError, match="unknown task random_99; choose among random_30"):
        evaluate_generative(model, store, days, tasks=["random_99"], progress=False)
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluate_generative(model, store, [], progress=False)
    model.normalization = None
    with pytest.raises(InputError, match=r"signals\.json"):
        evaluate_generative(model, store, days, progress=False)


def impute_first(store: DayStore, **changes) -> LSM2:
    model = make_model(store, fill_gaps="linear", **changes)
    model.gap_fill = fit_gap_fill(model.config, store, range(len(store)), model.normalization)
    return model


def test_other_runs_are_scored_on_the_same_minutes_in_the_evaluated_models_numbers(store):
    model, other = make_model(store), make_model(store)
    # A model with another normalisation that predicts its mean everywhere.
    other.normalization = dataclasses.replace(model.normalization, mean=model.normalization.mean + 1)
    with torch.no_grad():
        for weights in other.decoder.parameters():
            weights.zero_()
    twin, filled, shifted = name_runs([("runs/twin", "none"), ("runs/x", "linear"), ("runs/linear", "none")])
    assert [run.name for run in (twin, filled, shifted)] == ["twin", "impute_first", "linear_2"]
    against = {twin: make_model(store), filled: impute_first(store), shifted: other}
    tasks = ["random_80", "signal_imputation_2"]
    found = evaluate_generative(model, store, range(len(store)), tasks=tasks, against=against, progress=False)
    alone = evaluate_generative(model, store, range(len(store)), tasks=tasks, progress=False)
    for name, task in found.tasks.items():
        assert set(task.methods) == set(found.methods)
        assert list(found.methods)[:4] == ["aim", "twin", "impute_first", "linear_2"]
        assert {method: task.methods[method] for method in METHODS} == alone.tasks[name].methods
        assert task.methods["twin"] == task.aim and task.aim_over["twin"].mse_ratio == 1
        assert len({result.num_minutes for result in task.methods.values()}) == 1
        assert task.methods["impute_first"].mse != task.aim.mse
        assert task.best_fill() in METHODS
        for signal, std in zip(SIGNALS, model.normalization.std, strict=True):
            always_one = 1 / std
            mean, ours = task.methods["mean"].per_signal[signal.name], task.methods["linear_2"]
            assert ours.per_signal[signal.name].mse == pytest.approx(mean.mse + always_one**2, rel=0.5)
    assert Evaluation.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_models_that_read_other_days_cannot_be_compared(store):
    model = make_model(store)
    (run,) = name_runs([("runs/x", "none")])
    coarse = make_model(store, patch_minutes=2 * PATCH)
    with pytest.raises(InputError, match=r"--against x: .*minutes a token \(12\).*\(6\)"):
        evaluate_generative(model, store, range(len(store)), against={run: coarse}, progress=False)
