"""Using a trained model on days: embeddings, missing cells filled, the end of a window predicted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lsm2.data.batch import PackedBatch, collate
from lsm2.data.dataframes import FrameDays, days_given, is_frame, warn_of_clipped, whole_minutes
from lsm2.data.day_grid import MINUTES_PER_DAY
from lsm2.data.masking import token_observed
from lsm2.data.normalize import CLIP
from lsm2.data.tokens import patchify, unpatchify
from lsm2.errors import InputError
from lsm2.model.mae import MaskedAutoencoder
from lsm2.model.precision import autocast

DAYS_AT_ONCE = 8
Days = np.ndarray | Tensor | Any
"""An array, a tensor, or a DataFrame of a library that is not imported here."""


@torch.inference_mode()
def predict_hidden(
    model: MaskedAutoencoder, values: np.ndarray, hidden: np.ndarray, queries: np.ndarray | None = None
) -> np.ndarray:
    """Predict hidden tokens from the others: float32 (B, C, L), normalised, NaN at all tokens that are no
    queries.

    values (B, C, L) float32, normalised, NaN = missing; hidden (B, N) bool: tokens that the model does not
    see. queries (B, N) bool, a subset of hidden (None: all of it): the tokens to predict. The `cross`
    decoder skips the others, since its predictions do not depend on each other. Predictions are clipped to
    the range of normalised values. Days are computed in batches, in the precision `model.precision`. A
    model that was trained on filled days gets the other gaps filled, from what is not hidden alone. Raises
    InputError where the model's predictions are not finite.
    """
    config, device = model.config, next(model.parameters()).device
    queries = hidden if queries is None else queries
    patches = np.full((*hidden.shape, config.patch_samples), np.nan, dtype=np.float32)
    for days in _batch_slices(len(values)):
        if not queries[days].any():
            continue
        shown = as_read(model, values[days], hidden[days])
        batch = collate(torch.from_numpy(shown), config, artificial=torch.from_numpy(hidden[days]))
        if config.decoder == "cross":
            batch = _only_queries(batch, queries[days])
        with autocast(model.precision, device):
            predictions = model(batch.to(device)).predictions.float()
        # The normalisation clips too, so the model has learned nothing beyond its range.
        predictions = _finite(predictions).clamp(-CLIP, CLIP).cpu().numpy()
        patches[days][_day_of_query(batch), batch.query_ids.numpy()] = predictions
    patches[~queries] = np.nan
    return unpatchify(patches, config.num_signals)


def as_read(model: MaskedAutoencoder, values: np.ndarray, hidden: np.ndarray | None = None) -> np.ndarray:
    """Days (B, C, L) float32, normalised, NaN = missing, as `collate` packs them for this model.

    They are the same days, but for a model that was trained on filled days: it gets all gaps filled, and
    hidden tokens (B, N) bool are withheld from the fill. Raises InputError where that fill is not known.
    """
    if model.config.fill_gaps == "none":
        return values
    if model.gap_fill is None:
        raise InputError(
            f"fill_gaps is {model.config.fill_gaps!r}, but the model has no gap_fill: give "
            "LSM2(config, normalization, gap_fill) one, or use a model of `lsm2 pretrain`"
        )
    if hidden is not None:
        samples = np.repeat(hidden, model.config.patch_samples, axis=-1).reshape(values.shape)
        values = np.where(samples, np.float32(np.nan), values)
    return np.stack([model.gap_fill(day) for day in values])


def encode(model: MaskedAutoencoder, values: Days, level: Literal["day", "token"]) -> Any:
    """`LSM2.encode`."""
    if level not in ("day", "token"):
        raise InputError(f"level is {level!r}; it must be 'day' or 'token'")
    values = days_given(values)
    if is_frame(values):
        if level == "token":
            raise InputError("level 'token' needs arrays; a DataFrame gets level 'day'")
        days = _frame_days(model, values)
        return days.embeddings(encode(model, days.values, level))
    normalised = _normalised(model, values)
    shape = (len(normalised), model.config.num_tokens, model.config.encoder_width)
    result = torch.full(shape if level == "token" else (shape[0], shape[2]), torch.nan)
    for day, (ids, encoded) in enumerate(_encoded_days(model, normalised)):
        if level == "token":
            result[day, ids] = encoded
        elif len(ids):
            result[day] = encoded.mean(0)
    return _like(values, result)


def impute(model: MaskedAutoencoder, values: Days) -> Any:
    """`LSM2.impute`."""
    values = days_given(values)
    if is_frame(values):
        days = _frame_days(model, values)
        return days.samples(impute(model, days.values))
    config = model.config
    normalised = _normalised(model, values)
    missing = np.isnan(normalised)
    observed = token_observed(~missing, config.patch_samples, config.masking.token_min_observed)
    has_gap = patchify(missing, config.patch_samples).any(2)
    predicted = predict_hidden(model, normalised, ~observed)
    predicted = np.where(
        np.isnan(predicted), predict_hidden(model, normalised, observed & has_gap), predicted
    )
    given = torch.as_tensor(values, dtype=torch.float32).cpu().numpy().reshape(normalised.shape)
    filled = np.where(missing, _physical(model, predicted), given)
    return _like(values, torch.from_numpy(filled))


def forecast(model: MaskedAutoencoder, values: Days, minutes: int) -> Any:
    """`LSM2.forecast`."""
    values = days_given(values)
    minutes = whole_minutes(minutes)
    if is_frame(values):
        days = _frame_days(model, values)
        return days.samples(forecast(model, days.values, minutes))
    config = model.config
    if minutes % config.patch_minutes or not 0 < minutes < config.window_minutes:
        raise InputError(
            f"minutes is {minutes}; it must be a multiple of {config.patch_minutes} (the minutes of a "
            f"token), above 0 and below {config.window_minutes} (the minutes of a window)"
        )
    num_samples = minutes // config.sample_minutes
    normalised = _normalised(model, values, ignored=num_samples)
    hidden = np.zeros((len(normalised), config.num_signals, config.num_slots), dtype=bool)
    hidden[..., -(minutes // config.patch_minutes) :] = True
    predicted = predict_hidden(model, normalised, hidden.reshape(len(normalised), -1))
    return _like(values, torch.from_numpy(_physical(model, predicted)[..., -num_samples:]))


def _frame_days(model: MaskedAutoencoder, frame: Any) -> FrameDays:
    if model.normalization is None:
        raise InputError(
            "this model has no signals.json, so the columns of a DataFrame cannot be told apart; give arrays"
        )
    config = model.config
    if config.window_minutes != MINUTES_PER_DAY:
        raise InputError(
            f"this model reads windows of {config.window_samples} samples, {config.window_minutes} minutes "
            "and not a day; "
            "give arrays instead of a frame"
        )
    return FrameDays.from_frame(frame, model.normalization.signals, config.sample_minutes)


def _normalised(model: MaskedAutoencoder, values: np.ndarray | Tensor, ignored: int = 0) -> np.ndarray:
    """Days as normalised float32 (B, C, L), the last `ignored` samples missing."""
    days = np.array(values.detach().cpu().numpy() if isinstance(values, Tensor) else values, dtype=np.float32)
    expected = (model.config.num_signals, model.config.window_samples)
    if days.ndim not in (2, 3) or days.shape[-2:] != expected:
        raise InputError(
            f"values has shape {days.shape}; this model reads (days, {expected[0]} signals, {expected[1]} "
            "samples), or one such day"
        )
    if ignored:
        days[..., -ignored:] = np.nan
    if model.normalization is not None:
        days = model.normalization.apply(days)
        warn_of_clipped(days, model.normalization)
    return days.reshape(-1, *expected)


def _physical(model: MaskedAutoencoder, normalised: np.ndarray) -> np.ndarray:
    return normalised if model.normalization is None else model.normalization.invert(normalised)


def _like(values: Days, result: Tensor) -> Any:
    """The result as the kind of array that was given, without the day dimension if it was given without."""
    if values.ndim == 2:
        result = result.squeeze(0)
    return result if isinstance(values, Tensor) else result.numpy()


def _only_queries(batch: PackedBatch, queries: np.ndarray) -> PackedBatch:
    """The batch without its other queries; queries (B, N) bool."""
    kept = torch.from_numpy(queries[_day_of_query(batch), batch.query_ids.numpy()])
    cu_query = torch.nn.functional.pad(kept.cumsum(0), (1, 0))[batch.cu_query.long()].to(torch.int32)
    fields = {name: getattr(batch, name)[kept] for name in ("query_ids", "target_values", "target_observed")}
    return dataclasses.replace(batch, cu_query=cu_query, **fields)


def _day_of_query(batch: PackedBatch) -> np.ndarray:
    return np.repeat(np.arange(batch.num_days), np.diff(batch.cu_query.numpy()))


def _batch_slices(num_days: int) -> Iterator[slice]:
    for first in range(0, num_days, DAYS_AT_ONCE):
        yield slice(first, first + DAYS_AT_ONCE)


@torch.inference_mode()
def _encoded_days(model: MaskedAutoencoder, normalised: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
    """Token ids and encoded tokens of each day, all observed tokens visible, filled ones too."""
    device = next(model.parameters()).device
    for days in _batch_slices(len(normalised)):
        values = torch.from_numpy(as_read(model, normalised[days]))
        nothing = torch.zeros(len(values), model.config.num_tokens, dtype=torch.bool)
        batch = collate(values, model.config, artificial=nothing)
        on_device = batch.to(device)
        with autocast(model.precision, device):
            encoded = model.encoder(on_device.visible_patches, on_device.visible_ids, on_device.cu_visible)
        encoded = _finite(encoded.float()).cpu()
        lengths = batch.cu_visible.diff().tolist()
        yield from zip(batch.visible_ids.split(lengths), encoded.split(lengths), strict=True)


def _finite(output: Tensor) -> Tensor:
    if not output.isfinite().all():
        raise InputError(
            "the model computes numbers that are not finite: its weights are damaged or its training "
            "diverged; use an earlier model, or train anew with a lower learning rate"
        )
    return output
