"""encode, impute and forecast on arrays: units, shapes, and what they may and may not look at."""

import dataclasses

import numpy as np
import pytest
import torch

from lsm2 import LSM2, LSM2Config
from lsm2.data import Normalization, Signal, collate
from lsm2.data.fills.gaps import GapFill
from lsm2.errors import InputError
from lsm2.model.inference import predict_hidden

SIGNALS = (Signal("a", "bpm"), Signal("b", "ms", transform="log1p"), Signal("c"))
NORMALIZATION = Normalization(SIGNALS, np.array([60.0, 3.0, 0.0]), np.array([10.0, 1.0, 2.0]))


@pytest.fixture(params=("cross", "joint", "full"))
def model(request: pytest.FixtureRequest, tiny_config: LSM2Config) -> LSM2:
    torch.manual_seed(0)
    model = LSM2(dataclasses.replace(tiny_config, decoder=request.param), NORMALIZATION).eval()
    model.precision = "fp32"
    return model


@pytest.fixture
def days() -> np.ndarray:
    """10 days, more than are computed at once, in physical units; the last one has nothing."""
    rng = np.random.default_rng(0)
    days = np.abs(rng.normal(60, 10, size=(10, 3, 120))).astype(np.float32)
    days[rng.random(days.shape) < 0.35] = np.nan
    days[:, :, 50:80] = np.nan
    days[9] = np.nan
    return days


def test_encode_is_the_mean_over_visible_tokens(model: LSM2, days: np.ndarray) -> None:
    by_day, by_token = model.encode(days), model.encode(days, level="token")
    assert (
        by_day.shape == (10, 32)
        and by_token.shape == (10, 36, 32)
        and by_day.dtype == by_token.dtype == np.float32
    )
    visible = ((~np.isnan(days)).reshape(10, 36, 10).mean(2) >= 0.5)[..., None]
    np.testing.assert_array_equal(~np.isnan(by_token), np.broadcast_to(visible, by_token.shape))
    np.testing.assert_allclose(by_day[:9], np.nanmean(by_token[:9], axis=1), rtol=1e-4, atol=1e-5)
    assert np.isnan(by_day[9]).all()


def test_encode_reads_normalised_values(model: LSM2, days: np.ndarray) -> None:
    batch = collate(
        torch.from_numpy(NORMALIZATION.apply(days[:1])),
        model.config,
        artificial=torch.zeros(1, 36, dtype=torch.bool),
    )
    expected = model.encoder(batch.visible_patches, batch.visible_ids, batch.cu_visible).mean(0)
    np.testing.assert_allclose(model.encode(days[0]), expected.detach(), rtol=1e-5, atol=1e-6)


def test_impute_fills_missing_cells_and_returns_observed_ones_bit_for_bit(
    model: LSM2, days: np.ndarray
) -> None:
    filled = model.impute(days)
    observed = ~np.isnan(days)
    np.testing.assert_array_equal(filled[observed], days[observed])
    assert np.isfinite(filled).all()
    # An untrained model predicts normalised values of a few units: the fill must be in bpm, not around 0.
    assert 20 < np.median(filled[:, 0][~observed[:, 0]]) < 100


def test_impute_is_what_the_model_predicts_at_hidden_tokens(model: LSM2, days: np.ndarray) -> None:
    day = days[:1]
    normalised = torch.from_numpy(NORMALIZATION.apply(day))
    enough = (~normalised.isnan()).reshape(1, 36, 10).float().mean(2) >= 0.5
    batch = collate(normalised, model.config, artificial=~enough)
    at = int((batch.query_ids == 6).nonzero())  # signal a, minutes 60 to 69: in the gap
    expected = model(batch).predictions[at].detach().numpy().clip(-5, 5) * 10 + 60
    np.testing.assert_allclose(model.impute(day)[0, 0, 60:70], expected, rtol=1e-5)


def test_forecast_reads_only_what_came_before(model: LSM2, days: np.ndarray) -> None:
    changed = days.copy()
    changed[..., -30:] = 1e30
    ahead = model.forecast(days, 30)
    assert ahead.shape == (10, 3, 30) and np.isfinite(ahead).all()
    np.testing.assert_array_equal(ahead, model.forecast(changed, 30))
    changed[..., -40:-30] = 70.0
    assert not np.array_equal(ahead[:9], model.forecast(changed, 30)[:9])


def test_one_day_and_tensors_come_back_as_they_went_in(model: LSM2, days: np.ndarray) -> None:
    one = torch.from_numpy(days[0])
    for result, shape in (
        (model.encode(one), (32,)),
        (model.impute(one), (3, 120)),
        (model.forecast(one, 20), (3, 20)),
    ):
        assert isinstance(result, torch.Tensor) and result.shape == shape
    np.testing.assert_allclose(model.impute(one).numpy(), model.impute(days)[0], rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(days[0], one.numpy())


def test_without_normalization_values_are_normalised_ones(model: LSM2, days: np.ndarray) -> None:
    plain = LSM2(model.config)
    plain.precision = "fp32"
    plain.load_state_dict(model.state_dict())
    np.testing.assert_allclose(
        plain.encode(NORMALIZATION.apply(days[:9])), model.encode(days[:9]), rtol=1e-5, atol=1e-6
    )


def some_hidden(days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normalised days and hidden tokens, some of them of every day that has any data."""
    values = NORMALIZATION.apply(days)
    return values, np.random.default_rng(0).random((len(days), 36)) < 0.6


def of_cells(tokens: np.ndarray) -> np.ndarray:
    return tokens.repeat(10, axis=1).reshape(len(tokens), 3, 120)


def test_predictions_are_where_tokens_are_hidden_and_blind_to_what_they_hold(
    model: LSM2, days: np.ndarray
) -> None:
    values, hidden = some_hidden(days)
    filled = predict_hidden(model, values, hidden)
    assert filled.dtype == np.float32 and (np.isnan(filled) == ~of_cells(hidden)).all()
    other_truth = np.where(of_cells(hidden), np.float32(3.0), values)
    assert predict_hidden(model, other_truth, hidden).tobytes() == filled.tobytes()


def test_fewer_queries_do_not_change_a_prediction(model: LSM2, days: np.ndarray) -> None:
    values, hidden = some_hidden(days)
    queries = hidden & (np.random.default_rng(1).random(hidden.shape) < 0.3)
    queries[4] = False
    some, everything = predict_hidden(model, values, hidden, queries), predict_hidden(model, values, hidden)
    assert (np.isnan(some) == ~of_cells(queries)).all()
    np.testing.assert_allclose(some[of_cells(queries)], everything[of_cells(queries)], atol=1e-5)


def test_the_precision_is_the_models_and_results_are_float32(model: LSM2, days: np.ndarray) -> None:
    in_fp32 = [model.encode(days), model.impute(days), model.forecast(days, 30)]
    model.precision = "bf16"
    in_bf16 = [model.encode(days), model.impute(days), model.forecast(days, 30)]
    for exact, rounded in zip(in_fp32, in_bf16, strict=True):
        assert exact.dtype == rounded.dtype == np.float32
        assert not np.array_equal(exact, rounded, equal_nan=True)
        np.testing.assert_allclose(rounded, exact, rtol=0.1, atol=0.1 * np.nanstd(exact))


def test_a_model_that_is_not_finite_says_so(model: LSM2, days: np.ndarray) -> None:
    with torch.no_grad():
        next(model.encoder.parameters()).fill_(torch.nan)
    for use in (model.encode, model.impute, lambda days: model.forecast(days, 30)):
        with pytest.raises(InputError, match="not finite: its weights are damaged or its training diverged"):
            use(days)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda model, days: model.encode(days[..., :60]), r"shape \(10, 3, 60\)"),
        (lambda model, days: model.encode(days, level="week"), "'day' or 'token'"),
        (lambda model, days: model.impute(np.where(np.isnan(days), np.inf, days)), "infinite|inf"),
        (lambda model, days: model.forecast(days, 25), "multiple of 10"),
        (lambda model, days: model.forecast(days, 120), "below 120"),
        (lambda model, days: model.forecast(days, 0), "above 0"),
    ],
    ids=["shape", "level", "infinite", "not a token", "whole window", "nothing"],
)
def test_bad_input_is_named(model: LSM2, days: np.ndarray, call, named: str) -> None:
    with pytest.raises(InputError, match=named):
        call(model, days)


USUAL = np.array([[0.3, -0.2, 0.1, 0.4]] * 3)


@pytest.fixture(params=("linear", "smooth"))
def filled_first(request: pytest.FixtureRequest, model: LSM2) -> LSM2:
    choices = np.ones((2, 3), dtype=np.int64) if request.param == "smooth" else None
    config = dataclasses.replace(model.config, fill_gaps=request.param)
    filled = LSM2(config, NORMALIZATION, GapFill(1, USUAL, choices)).eval()
    filled.load_state_dict(model.state_dict())
    filled.precision = "fp32"
    return filled


def test_hidden_values_reach_no_prediction_through_the_fill(filled_first: LSM2, days: np.ndarray) -> None:
    values = NORMALIZATION.apply(days)
    hidden = np.random.default_rng(1).random((10, 36)) < 0.5
    samples = np.repeat(hidden, 10, axis=1).reshape(values.shape)
    changed = np.where(samples, np.random.default_rng(2).normal(size=values.shape), values).astype(np.float32)
    np.testing.assert_array_equal(
        predict_hidden(filled_first, values, hidden), predict_hidden(filled_first, changed, hidden)
    )
    # Samples that are not hidden do reach it, also those in tokens with too little data for AIM.
    lonely = np.full((1, 3, 120), np.nan, np.float32)
    lonely[0, 0, 5] = 1.0
    late = np.zeros((1, 36), bool)
    late[0, 11] = True
    other = lonely * -1
    assert (predict_hidden(filled_first, lonely, late) != predict_hidden(filled_first, other, late)).any()


def test_forecast_of_a_filled_day_reads_nothing_of_the_end(filled_first: LSM2, days: np.ndarray) -> None:
    changed = days.copy()
    changed[..., -30:] = 1.0
    np.testing.assert_array_equal(filled_first.forecast(days, 30), filled_first.forecast(changed, 30))


def test_every_token_of_a_filled_day_is_encoded(filled_first: LSM2, days: np.ndarray) -> None:
    by_token = filled_first.encode(days, level="token")
    assert np.isfinite(by_token[:9]).all() and np.isnan(by_token[9]).all()
    assert np.isfinite(filled_first.impute(days)).all()


def test_a_model_of_filled_days_without_its_fill_is_an_error(filled_first: LSM2, days: np.ndarray) -> None:
    filled_first.gap_fill = None
    with pytest.raises(InputError, match="gap_fill"):
        filled_first.encode(days)


def test_the_fill_is_saved_with_the_model(filled_first: LSM2, days: np.ndarray, tmp_path) -> None:
    folder = filled_first.save_pretrained(tmp_path / "model")
    again = LSM2.from_pretrained(folder)
    again.precision = "fp32"
    np.testing.assert_array_equal(again.encode(days), filled_first.encode(days))
    (folder / "gap_fill.json").write_text("{}")
    with pytest.raises(InputError, match=r"gap_fill\.json"):
        LSM2.from_pretrained(folder)
