"""PackedBatch: the form in which all data reaches the model. It holds only present tokens, with offsets per day; no padding."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lsm2.config import LSM2Config
from lsm2.data.masking import sample_masks, token_observed
from lsm2.data.tokens import patchify
from lsm2.errors import InputError


@dataclass(frozen=True)
class PackedBatch:
    """Visible tokens and query tokens of B days, day after day, token ids ascending within a day, P samples a token."""

    visible_patches: torch.Tensor
    """(T_v, P) float32, normalised; missing samples are 0."""
    visible_ids: torch.Tensor
    """(T_v,) int64 token ids."""
    cu_visible: torch.Tensor
    """(B + 1,) int32: day b has the visible tokens cu_visible[b] to cu_visible[b + 1]."""
    query_ids: torch.Tensor
    """(T_q,) int64 ids of the tokens to reconstruct."""
    cu_query: torch.Tensor
    """(B + 1,) int32, as `cu_visible`."""
    target_values: torch.Tensor
    """(T_q, P) float32, normalised; 0 where `target_observed` is False."""
    target_observed: torch.Tensor
    """(T_q, P) bool: the samples that count in the loss: observed, in an observed token that is artificially hidden."""
    day_ids: tuple[str, ...]
    """Names of the B days."""

    @property
    def num_days(self) -> int:
        """B."""
        return len(self.day_ids)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PackedBatch:
        """This batch with its tensors on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PackedBatch:
        """This batch in page-locked memory, from which copies to a GPU can overlap with work there."""
        return self._map(lambda tensor: tensor.pin_memory())

    def longest_first(self) -> PackedBatch:
        """The same days, those with the most visible tokens first, equals in their order.

        A GPU then starts its longest work first.
        """
        visible, queries = self.cu_visible.diff().tolist(), self.cu_query.diff().tolist()
        order = sorted(range(self.num_days), key=lambda day: -visible[day])
        if order == list(range(self.num_days)):
            return self

        def reordered(tensor: torch.Tensor, lengths: list[int]) -> torch.Tensor:
            days = tensor.split(lengths)
            return torch.cat([days[day] for day in order])

        return PackedBatch(
            visible_patches=reordered(self.visible_patches, visible),
            visible_ids=reordered(self.visible_ids, visible),
            cu_visible=_offsets(np.array([visible[day] for day in order])),
            query_ids=reordered(self.query_ids, queries),
            cu_query=_offsets(np.array([queries[day] for day in order])),
            target_values=reordered(self.target_values, queries),
            target_observed=reordered(self.target_observed, queries),
            day_ids=tuple(self.day_ids[day] for day in order),
        )

    def _map(self, function) -> PackedBatch:
        tensors = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "day_ids"}
        return dataclasses.replace(self, **{name: function(tensor) for name, tensor in tensors.items()})


def collate(
    values: torch.Tensor,
    config: LSM2Config,
    seed: int = 0,
    epoch: int | Sequence[int] = 0,
    day_ids: Sequence[str] | None = None,
    artificial: torch.Tensor | None = None,
) -> PackedBatch:
    """Pack days `values` (B, C, L) float32 on the CPU, normalised, NaN = missing, into a PackedBatch.

    Without `artificial` each day's mask is drawn from (seed, epoch, day id) as `config.masking` says (`epoch`: one for
    all days, or one per day), and `max_visible` and `max_queries` apply. With `artificial` (B, N) bool exactly those
    tokens are hidden, and the `cross` and `joint` decoders are asked for them, also where nothing was measured:
    imputation asks for that. The `full` decoder is asked for every position that is not visible. What lies under missing
    cells cannot change any bit of the result.

    Raises InputError for a wrong shape or dtype and for infinite values.
    """
    day_names, epochs = _check(values, config, epoch, day_ids, artificial)
    # numpy throughout: on operations this small torch's threads wait for each other longer than they work.
    days = values.numpy()
    sample_observed = ~np.isnan(days)
    _check_finite(days, day_names)
    observed = token_observed(sample_observed, config.patch_samples, config.masking.token_min_observed)
    if artificial is None:
        visible, queries = sample_masks(observed, config, seed, epochs, day_names)
        targets = queries
    else:
        hidden = artificial.numpy()
        visible = observed & ~hidden
        queries = hidden
        targets = hidden & observed
    if config.decoder == "full":
        queries = ~visible

    patches = patchify(days, config.patch_samples).reshape(-1, config.patch_samples)
    visible_at = np.flatnonzero(visible)
    query_at = np.flatnonzero(queries)
    visible_patches = patches[visible_at]
    visible_patches[np.isnan(visible_patches)] = 0
    target_observed = sample_observed.reshape(patches.shape)[query_at] & targets.reshape(-1)[query_at, None]
    target_values = patches[query_at]
    target_values[~target_observed] = 0
    return PackedBatch(
        visible_patches=torch.from_numpy(visible_patches),
        visible_ids=torch.from_numpy(visible_at % config.num_tokens),
        cu_visible=_offsets(visible.sum(1)),
        query_ids=torch.from_numpy(query_at % config.num_tokens),
        cu_query=_offsets(queries.sum(1)),
        target_values=torch.from_numpy(target_values),
        target_observed=torch.from_numpy(target_observed),
        day_ids=day_names,
    )


def _offsets(lengths: np.ndarray) -> torch.Tensor:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return torch.from_numpy(offsets)


def _check_finite(days: np.ndarray, day_names: Sequence[str]) -> None:
    if np.isinf(days).any():
        day, signal, sample = np.argwhere(np.isinf(days))[0].tolist()
        raise InputError(
            f"day {day_names[day]!r}, signal {signal}, sample {sample} is infinite, which no sensor measures; "
            "use NaN where a sample is missing"
        )


def _check(
    values: torch.Tensor,
    config: LSM2Config,
    epoch: int | Sequence[int],
    day_ids: Sequence[str] | None,
    artificial: torch.Tensor | None,
) -> tuple[tuple[str, ...], Sequence[int]]:
    """Day names and epochs, one per day; raises InputError for input that cannot be packed."""
    if not isinstance(values, torch.Tensor) or values.dtype != torch.float32 or values.device.type != "cpu":
        came = (
            f"a {values.dtype} tensor on {values.device}"
            if isinstance(values, torch.Tensor)
            else f"a {type(values).__name__}"
        )
        raise InputError(
            f"values is {came}; give a float32 tensor on the CPU, normalised, with NaN where a sample is missing"
        )
    if values.ndim != 3 or tuple(values.shape[1:]) != (config.num_signals, config.window_samples):
        raise InputError(
            f"values has shape {tuple(values.shape)}; the configuration expects (days, num_signals = "
            f"{config.num_signals}, window_samples = {config.window_samples}): change the data or those two settings"
        )
    days = len(values)
    day_names = tuple(day_ids) if day_ids is not None else tuple(str(day) for day in range(days))
    epochs = [epoch] * days if isinstance(epoch, int) else [int(day_epoch) for day_epoch in epoch]
    if len(day_names) != days or len(epochs) != days:
        raise InputError(
            f"day_ids names {len(day_names)} days and epoch {len(epochs)}; values has {days}: "
            "give one of each per day"
        )
    if artificial is not None and (
        artificial.dtype != torch.bool or tuple(artificial.shape) != (days, config.num_tokens)
    ):
        raise InputError(
            f"artificial is {artificial.dtype} of shape {tuple(artificial.shape)}; give torch.bool of shape "
            f"(days, num_tokens) = ({days}, {config.num_tokens}), True where a token is to be hidden"
        )
    return day_names, epochs
