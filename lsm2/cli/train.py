"""The verb that trains: pretrain, with a page of options for each preset."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Fixed, OmitArgPrefixes

from lsm2 import presets
from lsm2.cli.command import Group, Verb
from lsm2.config import LSM2Config, MaskingConfig, TrainConfig
from lsm2.progress import say

if TYPE_CHECKING:
    from lsm2.data.store import DayStore


class _Unchecked:
    """Leaves a configuration's checks to the real one, which is made when the store is known.

    tyro would report an InputError raised while it parses in words about its own workings.
    """

    def __post_init__(self) -> None:
        pass


class TrainOptions(_Unchecked, TrainConfig):
    """How long and how to train."""


class MaskingOptions(_Unchecked, MaskingConfig):
    """What pre-training hides."""


@dataclass(frozen=True)
class ModelOptions(_Unchecked, LSM2Config):
    """Shape of the model."""

    num_signals: Fixed[int] = LSM2Config.num_signals
    sample_minutes: Fixed[int] = LSM2Config.sample_minutes
    window_minutes: Fixed[int] = LSM2Config.window_minutes
    masking: Fixed[MaskingConfig] = dataclasses.field(default_factory=MaskingConfig)


def _pretrain_verb(preset: Callable[[], LSM2Config]) -> Verb:
    """`lsm2 pretrain PRESET`, whose options have the preset's values as defaults."""
    shape = preset()
    default_train = TrainOptions()
    default_model = ModelOptions(**vars(shape))
    default_masking = MaskingOptions(**vars(shape.masking))

    def pretrain(
        *,
        data: Path,
        out: Path,
        resume: bool = False,
        init_from: str | None = None,
        train: OmitArgPrefixes[TrainOptions] = default_train,
        model: OmitArgPrefixes[ModelOptions] = default_model,
        masking: OmitArgPrefixes[MaskingOptions] = default_masking,
    ) -> None:
        """Train it on a store of days; `torchrun -m lsm2 pretrain ...` uses more devices.

        Args:
            data: Folder of a store.
            out: Folder of the run.
            resume: Continue the run after its newest checkpoint; more steps than before make it longer.
            init_from: Begin with the weights of this run, model folder or Hugging Face model.
        """
        from lsm2.data.store import DayStore
        from lsm2.evaluate.validation import prepare_validation
        from lsm2.training.loop import pretrain as run_pretraining

        train_config = TrainConfig(**vars(train))
        store = DayStore.open(data)
        model_config = _fitted(shape, store, model, MaskingConfig(**vars(masking)))
        run_pretraining(
            model_config,
            train_config,
            store,
            out,
            resume=resume,
            initial=init_from,
            validate=prepare_validation,
        )

    pretrain.__doc__ = f"{inspect.getdoc(preset)}\n\n{inspect.getdoc(pretrain)}"
    return pretrain


def _fitted(preset: LSM2Config, store: DayStore, options: ModelOptions, masking: MaskingConfig) -> LSM2Config:
    """The preset for the signals and the sampling of this store, with what the user has changed."""
    fitted = preset.fitted_to(len(store.signals), store.num_samples, store.sample_minutes)
    changes = {name: value for name, value in vars(options).items() if value != getattr(preset, name)}
    if fitted.patch_minutes != preset.patch_minutes and "patch_minutes" not in changes:
        say(
            f"tokens of {fitted.patch_minutes} minutes instead of {preset.patch_minutes}: "
            f"{store.path} has a sample every {store.sample_minutes} minutes"
        )
    return dataclasses.replace(fitted, **changes | {"masking": masking})


def _load_presets() -> Mapping[str, Verb | Group]:
    functions = (presets.tiny, presets.small, presets.base, presets.paper)
    return {preset.__name__: _pretrain_verb(preset) for preset in functions}


PRESETS = Group("preset", "Train an AIM masked autoencoder on a store of days.", _load_presets)
