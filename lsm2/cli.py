"""The command `lsm2`: one function per verb. What is heavy to import is imported by the verb that needs it."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, PositionalMetavarFromFieldName

from lsm2 import presets
from lsm2.config import Decoder, LSM2Config, MaskingConfig, TrainConfig
from lsm2.errors import InputError

if TYPE_CHECKING:
    from lsm2.data.store import DayStore

PRESETS = {preset.__name__: preset for preset in (presets.tiny, presets.small, presets.base, presets.paper)}

app = tyro.extras.SubcommandApp()
importers = tyro.extras.SubcommandApp()


@dataclass(frozen=True)
class ModelOptions:
    """Changes to the preset."""

    decoder: Decoder | None = None
    """`cross`, `joint` or `full` (the paper's)."""
    patch_minutes: int | None = None
    """Minutes of one signal per token: a multiple of the store's sampling that divides the day."""
    encoder_width: int | None = None
    """Width of the encoder."""
    encoder_depth: int | None = None
    """Blocks in the encoder."""
    encoder_heads: int | None = None
    """Attention heads in the encoder."""
    decoder_width: int | None = None
    """Width of the decoder."""
    decoder_depth: int | None = None
    """Blocks in the decoder."""
    decoder_heads: int | None = None
    """Attention heads in the decoder."""
    tied_qk_init: float | None = None
    """Key weights start equal to query weights of deviation this / sqrt(width); 0: independent."""
    position_base: float | None = None
    """Base of the sin-cos positions."""


# tyro wraps an InputError raised while it parses in words about its own workings, so these two are checked after parsing.
@dataclass(frozen=True)
class MaskingOptions(MaskingConfig):
    """What pre-training hides."""

    def __post_init__(self) -> None:
        pass


@dataclass(frozen=True)
class TrainOptions(TrainConfig):
    """How long and how to train."""

    def __post_init__(self) -> None:
        pass


@app.command
def simulate(
    out: Positional[Path], /, people: int = 100, days_per_person: int = 14, seed: int = 0, noise: float = 0.35
) -> None:
    """Write a simulated cohort with known truth: 26 signals, gaps like those of real wearables.

    Args:
        out: Folder of the new store.
        people: How many people.
        days_per_person: Days of each.
        seed: The same seed gives the same cohort.
        noise: White-noise share of each signal's variance.
    """
    from lsm2.simulate.cohort import write_cohort

    store = write_cohort(out, people, days_per_person, seed, noise, progress=True)
    print(f"{out}: {len(store)} days of {people} people, {len(store.signals)} signals")


@importers.command
def table(
    source: Positional[Path],
    out: Positional[Path],
    /,
    columns: tuple[str, ...] = (),
    subject: str = "subject",
    timestamp: str = "timestamp",
    signal: str = "signal",
    value: str = "value",
    where: str | None = None,
    sample_minutes: int = 1,
    timezone: str = "local",
    aggregate: Literal["none", "mean"] = "none",
    min_observed: float = 0.0,
    log1p: tuple[str, ...] = (),
    units: dict[str, str] = {},  # noqa: B006  (tyro reads the default; nothing changes it)
) -> None:
    """CSV or Parquet, a file or a folder of them: long (subject, timestamp, signal, value) or wide (a column per signal).

    Args:
        source: The file, or the folder.
        out: Folder of the new store.
        columns: The signals to take, in this order; all if none is named.
        subject: Column that names the person.
        timestamp: Column of the time.
        signal: Column that names the signal, in a long table.
        value: Column of the value, in a long table.
        where: A true/false column; only rows where it is true are read.
        sample_minutes: Minutes per sample, a divisor of 60.
        timezone: `local` if times are wall clock, else the IANA zone that people lived in.
        aggregate: `mean` averages several values of one epoch; otherwise they are an error.
        min_observed: Leave out days of which less than this fraction is observed.
        log1p: Signals to normalise through log(1 + x).
        units: Signal and unit, signal and unit, ...
    """
    from lsm2.importers.table import import_table

    store = import_table(
        source,
        out,
        columns=columns or None,
        subject=subject,
        timestamp=timestamp,
        signal=signal,
        value=value,
        where=where,
        sample_minutes=sample_minutes,
        timezone=timezone,
        aggregate=aggregate,
        min_observed=min_observed,
        log1p=log1p,
        units=units,
        progress=True,
    )
    print(f"{out}: {len(store)} days of {len(store.subjects)} people, {len(store.signals)} signals")


app.command(importers, name="import", help="Turn files of wearables into a store of days.")


@app.command
def info(store: Positional[Path], /) -> None:
    """Say what a store holds: people, days, signals, how much is missing and how.

    Args:
        store: Folder of a store.
    """
    from lsm2.data.quality import describe
    from lsm2.data.store import DayStore
    from lsm2.report.terminal import show_cohort

    show_cohort(describe(DayStore.open(store)))


@app.command
def pretrain(
    preset: Positional[str],
    /,
    data: Path,
    out: Path,
    resume: bool = False,
    model: OmitArgPrefixes[ModelOptions] = ModelOptions(),
    masking: OmitArgPrefixes[MaskingOptions] = MaskingOptions(),
    train: OmitArgPrefixes[TrainOptions] = TrainOptions(),
) -> None:
    """Train an AIM masked autoencoder on a store of days.

    Args:
        preset: tiny (1M parameters), small (8M), base (25M), or paper (25M, with what is known of the paper's recipe).
        data: Folder of a store.
        out: Folder of the run.
        resume: Continue from the newest checkpoint of the run.
    """
    if preset not in PRESETS:
        raise InputError(f"unknown preset {preset!r}; choose {', '.join(PRESETS)}")
    train_config = TrainConfig(**dataclasses.asdict(train))
    masking_config = MaskingConfig(**dataclasses.asdict(masking))

    from lsm2.data.store import DayStore
    from lsm2.training.loop import pretrain as run_pretraining

    store = DayStore.open(data)
    changes = {name: value for name, value in dataclasses.asdict(model).items() if value is not None}
    if changes.get("tied_qk_init") == 0:
        changes["tied_qk_init"] = None
    config = _config_for(store, PRESETS[preset](), changes | {"masking": masking_config})
    run = run_pretraining(config, train_config, store, out, resume=resume)
    print(f"model in {run / 'model'}")


def _config_for(store: DayStore, preset: LSM2Config, changes: dict[str, Any]) -> LSM2Config:
    """The preset for the signals and the sampling of this store, with the user's changes."""
    fitted = preset.fitted_to(len(store.signals), store.num_samples, store.sample_minutes)
    if fitted.patch_minutes != preset.patch_minutes and "patch_minutes" not in changes:
        print(
            f"tokens of {fitted.patch_minutes} minutes instead of {preset.patch_minutes}: "
            f"{store.path} has a sample every {store.sample_minutes} minutes"
        )
    return dataclasses.replace(fitted, **changes)


@app.command
def evaluate(
    run: Positional[Path],
    /,
    data: Path,
    draws: int = 1,
    max_days: int = 48,
    all_people: bool = False,
    seed: int = 0,
    tasks: tuple[str, ...] = (),
) -> None:
    """Let the model and simple fills reconstruct hidden parts of days of held-out people; writes evaluation.json into the run.

    Args:
        run: Folder of a run.
        data: Folder of a store.
        draws: How often each task hides something on each day.
        max_days: At most this many days are scored, spread over people.
        all_people: Also people that the model was trained on.
        seed: Seed of what is hidden.
        tasks: Only these tasks, such as random_80; all if none is named.
    """
    import torch

    from lsm2.data.store import DayStore
    from lsm2.evaluate.generative import evaluate_generative
    from lsm2.evaluate.trained_run import trained_model, training_days, unseen_days
    from lsm2.files import write_json
    from lsm2.report.summary import headline
    from lsm2.report.terminal import show_evaluation
    from lsm2.run_folder import RunFolder

    folder, store = RunFolder(run), DayStore.open(data)
    model = trained_model(folder).to("cuda" if torch.cuda.is_available() else "cpu")
    days = list(range(len(store))) if all_people else unseen_days(folder, store)
    if not days:
        raise InputError(
            f"the model was trained on everyone in {data}; give other data, or --all-people to evaluate on them all the same"
        )
    seen = training_days(folder, store)
    evaluation = evaluate_generative(
        model,
        store,
        days,
        draws=draws,
        seed=seed,
        max_days=max_days,
        training_days=seen,
        tasks=tasks or None,
        all_people=all_people,
    )
    write_json(folder.evaluation_file, evaluation.to_dict())
    show_evaluation(evaluation)
    print(f"written to {folder.evaluation_file}")
    for line in headline(evaluation):
        print(line)


@app.command
def plot(run: Positional[Path], /, data: Path, day: str, task: str = "random_80") -> None:
    """Draw one day: what was measured, what the model saw of it, what it reconstructed; a PNG in the run folder.

    Args:
        run: Folder of a run.
        data: Folder of a store.
        day: Day id, as in the store: person/date.
        task: What is hidden from the model, by its name in evaluation.json.
    """
    from lsm2.data.store import DayStore
    from lsm2.report.page import write_day_picture
    from lsm2.run_folder import RunFolder

    print(write_day_picture(RunFolder(run), DayStore.open(data), day, task))


@app.command
def report(run: Positional[Path], /, data: Path | None = None) -> None:
    """Write report.html, one self-contained page with figures and numbers, into the run folder.

    Args:
        run: Folder of a run.
        data: Folder of the store, if it is no longer where the run was trained or evaluated.
    """
    from lsm2.evaluate.trained_run import find_store
    from lsm2.report.page import write_report
    from lsm2.run_folder import RunFolder

    folder = RunFolder(run)
    print(write_report(folder, find_store(folder, data)))


def _show_warning(message: Warning | str, *_: object) -> None:
    print(f"lsm2: warning: {message}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; 0 if all went well, 2 with one line on stderr if the input is at fault."""
    description = "Pre-train and evaluate masked autoencoders on incomplete wearable-sensor data."
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            app.cli(
                prog="lsm2",
                description=description,
                args=arguments,
                config=(FlagCreatePairsOff, PositionalMetavarFromFieldName),
            )
    except (InputError, OSError) as error:
        print(f"lsm2: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lsm2: interrupted", file=sys.stderr)
        return 130
    return 0
