"""Using a trained model on days: embeddings, missing cells filled, the end of a window predicted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

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

if TYPE_CHECKING:
    from lsm2.model.mae import LSM2

DAYS_AT_ONCE = 8
Days = np.ndarray | Tensor | Any
"""An array, a tensor, or a DataFrame of a library that is not imported here."""


def encode(model: LSM2, values: Days, level: Literal["day", "token"]) -> Any:
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


def impute(model: LSM2, values: Days) -> Any:
    """`LSM2.impute`."""
    values = days_given(values)
    if is_frame(values):
        days = _frame_days(model, values)
        return days.samples(impute(model, days.values))
    normalised = _normalised(model, values)
    missing = normalised.isnan()
    enough = token_observed(~missing, model.config.patch_samples, model.config.masking.token_min_observed)
    gap = patchify(missing, model.config.patch_samples).any(2)
    predicted = _predict(model, normalised, ~enough)
    predicted = torch.where(predicted.isnan(), _predict(model, normalised, enough & gap), predicted)
    given = torch.as_tensor(values, dtype=torch.float32).cpu().reshape(normalised.shape)
    return _like(values, torch.where(missing, _physical(model, predicted), given))


def forecast(model: LSM2, values: Days, minutes: int) -> Any:
    """`LSM2.forecast`."""
    values = days_given(values)
    minutes = whole_minutes(minutes)
    if is_frame(values):
        days = _frame_days(model, values)
        return days.samples(forecast(model, days.values, minutes))
    config = model.config
    if minutes % config.patch_minutes or not 0 < minutes < config.window_minutes:
        raise InputError(
            f"minutes is {minutes}; it must be a multiple of {config.patch_minutes} (the minutes of a token), "
            f"above 0 and below {config.window_minutes} (the minutes of a window)"
        )
    num_samples = minutes // config.sample_minutes
    normalised = _normalised(model, values, ignored=num_samples)
    asked = torch.zeros(len(normalised), config.num_signals, config.num_slots, dtype=torch.bool)
    asked[..., -(minutes // config.patch_minutes) :] = True
    return _like(values, _physical(model, _predict(model, normalised, asked.flatten(1)))[..., -num_samples:])


def _frame_days(model: LSM2, frame: Any) -> FrameDays:
    if model.normalization is None:
        raise InputError(
            "this model has no signals.json, so the columns of a DataFrame cannot be told apart; give arrays"
        )
    config = model.config
    if config.window_minutes != MINUTES_PER_DAY:
        raise InputError(
            f"this model reads windows of {config.window_samples} samples, {config.window_minutes} minutes and not a day; "
            "give arrays instead of a frame"
        )
    return FrameDays.from_frame(frame, model.normalization.signals, config.sample_minutes)


def _normalised(model: LSM2, values: np.ndarray | Tensor, ignored: int = 0) -> Tensor:
    """Days as a float32 tensor (B, C, L) on the CPU, normalised; the last `ignored` samples missing."""
    days = np.array(values.detach().cpu().numpy() if isinstance(values, Tensor) else values, dtype=np.float32)
    expected = (model.config.num_signals, model.config.window_samples)
    if days.ndim not in (2, 3) or days.shape[-2:] != expected:
        raise InputError(
            f"values has shape {days.shape}; this model reads (days, {expected[0]} signals, {expected[1]} samples), or one such day"
        )
    if ignored:
        days[..., -ignored:] = np.nan
    if model.normalization is not None:
        days = model.normalization.apply(days)
        warn_of_clipped(days, model.normalization)
    return torch.from_numpy(days).reshape(-1, *expected)


def _physical(model: LSM2, normalised: Tensor) -> Tensor:
    return (
        normalised
        if model.normalization is None
        else torch.from_numpy(model.normalization.invert(normalised.numpy()))
    )


def _like(values: Days, result: Tensor) -> Any:
    """The result as the kind of array that was given, without the day dimension if it was given without."""
    if values.ndim == 2:
        result = result.squeeze(0)
    return result if isinstance(values, Tensor) else result.numpy()


def _batches(model: LSM2, normalised: Tensor, artificial: Tensor) -> Iterator[PackedBatch]:
    for first in range(0, len(normalised), DAYS_AT_ONCE):
        some = slice(first, first + DAYS_AT_ONCE)
        yield collate(normalised[some], model.config, artificial=artificial[some])


@torch.inference_mode()
def _encoded_days(model: LSM2, normalised: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Token ids and encoded tokens of each day, all observed tokens visible."""
    device = next(model.parameters()).device
    nothing = torch.zeros(len(normalised), model.config.num_tokens, dtype=torch.bool)
    for batch in _batches(model, normalised, nothing):
        there = batch.to(device)
        encoded = model.encoder(there.visible_patches, there.visible_ids, there.cu_visible).float().cpu()
        lengths = batch.cu_visible.diff().tolist()
        yield from zip(batch.visible_ids.split(lengths), encoded.split(lengths), strict=True)


@torch.inference_mode()
def _predict(model: LSM2, normalised: Tensor, hidden: Tensor) -> Tensor:
    """What the model says about the tokens `hidden` (B, N) bool from the others: (B, C, L), NaN at all other
    tokens.
    """
    device = next(model.parameters()).device
    patches = torch.full((*hidden.shape, model.config.patch_samples), torch.nan)
    for number, batch in enumerate(_batches(model, normalised, hidden)):
        if not len(batch.query_ids):
            continue
        # The normalisation clips too: beyond its range nothing was ever learned.
        predictions = model(batch.to(device)).predictions.clamp(-CLIP, CLIP).cpu()
        day = number * DAYS_AT_ONCE + torch.arange(batch.num_days).repeat_interleave(batch.cu_query.diff())
        patches[day, batch.query_ids] = predictions
    patches[~hidden] = torch.nan
    return unpatchify(patches, model.config.num_signals)
