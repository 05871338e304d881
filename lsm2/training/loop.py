"""Pre-training, from a store of days to a run folder."""

from __future__ import annotations

import contextlib
from collections import deque
from pathlib import Path
from typing import Any

import torch

from lsm2.config import LSM2Config, TrainConfig
from lsm2.data.fills.gaps import GapFill, fit_gap_fill
from lsm2.data.normalize import Normalization
from lsm2.data.store import DayStore
from lsm2.errors import InputError
from lsm2.model.lsm2 import LSM2
from lsm2.model.pretrained import differences, save_model
from lsm2.run_folder import RunFolder
from lsm2.training.batches import StepBatches, Waited, load_steps, loader_failures_in_words
from lsm2.training.checkpoint import Checkpoint, load_newest, save_checkpoint
from lsm2.training.metrics import Metrics, describe_start
from lsm2.training.objective import Reconstruction
from lsm2.training.optim import learning_rate
from lsm2.training.parallel import Ranks, join_ranks
from lsm2.training.settings import run_settings, settle
from lsm2.training.step import Trainer, fetch_result
from lsm2.training.stop import stop_signals
from lsm2.training.validation import MakeValidate, Validations, describe_overfitting

GPU_LAG = 8
"""Steps that a GPU may be behind before its results are read: by then they are ready, and nothing waits."""
MOST_SKIPPED_IN_A_ROW = 20
"""After so many steps that were not finite, one after the other, skipping more would train nothing."""


def pretrain(
    model_config: LSM2Config,
    train_config: TrainConfig,
    store: DayStore,
    out: Path | str,
    *,
    resume: bool = False,
    initial: Path | str | None = None,
    stop_after: int | None = None,
    validate: MakeValidate | None = None,
) -> Path:
    """Pre-train a model on a store's days into the run folder `out`, which is returned; `lsm2.run_folder`
    says what it holds.

    People are held out by `heldout_fraction` and `seed`; the normalisation is fitted on the others. `resume`
    continues from the newest intact checkpoint, bit for bit on the same machine with as many ranks; where
    there is no run yet, it begins one. `initial` names a run, a model folder or a hub id whose weights and
    normalisation training begins from. Reaching step `stop_after` ends it early with a checkpoint; so do
    SIGTERM and Ctrl-C, which then raise SystemExit(143) and KeyboardInterrupt. `validate` makes the function
    that `validate_every` calls: `lsm2.evaluate.validation.prepare_validation`. Runs under torchrun too.

    Raises InputError for a folder in use, settings that are not those of the run to resume, a store or
    initial weights that do not fit, and a loss or gradient that is not finite when `non_finite` is "stop".
    """
    run = RunFolder(Path(out))
    if train_config.validate_every is not None and validate is None:
        raise InputError(
            f"validate_every is {train_config.validate_every} and nothing validates: give "
            "validate=lsm2.evaluate.validation.prepare_validation"
        )
    with join_ranks(train_config.device) as ranks:
        train_config, initial = settle(train_config, initial, run, resume, ranks)
        settings = run_settings(model_config, train_config, store, initial)
        if ranks.writes:
            run.begin(settings, resume)
        ranks.barrier()
        _train(model_config, train_config, store, run, settings, ranks, stop_after, validate)
    return run.path


def _train(
    model_config: LSM2Config,
    train_config: TrainConfig,
    store: DayStore,
    run: RunFolder,
    settings: dict[str, Any],
    ranks: Ranks,
    stop_after: int | None,
    validate: MakeValidate | None,
) -> None:
    # The model, its optimizer and how far they are: new, from given weights, or from the newest checkpoint.
    people = settings["train_subjects"]
    indices = store.indices_of(people)
    checkpoint = load_newest(run.checkpoints_folder)
    state = checkpoint.state if checkpoint else {"step": 0, "seconds": 0.0}
    model = _begin_model(model_config, store, people, settings["initial"], train_config.seed, checkpoint)
    if model_config.fill_gaps != "none" and model.gap_fill is None:
        assert model.normalization is not None
        fitted = fit_gap_fill(model_config, store, indices, model.normalization) if ranks.writes else None
        model.gap_fill = ranks.from_first(fitted)
    trainer = Trainer(Reconstruction(model), train_config, ranks)
    if checkpoint:
        trainer.restore(checkpoint.tensors)

    # Which steps are left, and what each trains on.
    first = state["step"]
    patience = train_config.patience
    past = [line for line in RunFolder(run.path).metrics if line["step"] <= first]
    validations = ranks.from_first(Validations.from_metrics(past, patience))
    last = first if validations.run_out else min(train_config.steps, stop_after or train_config.steps)
    assert model.normalization is not None
    batches = StepBatches(
        store, indices, model.normalization, model_config, train_config, ranks, model.gap_fill
    )

    def save_weights() -> None:
        save_model(run.model_folder, model_config, trainer.ema.weights, model.normalization, model.gap_fill)

    if checkpoint and first >= last and ranks.writes and patience is None:
        # A run killed between its last checkpoint and its model has a model of before, or none.
        save_weights()

    scores_now = None
    if train_config.validate_every is not None and ranks.writes and first < last:
        assert validate is not None
        heldout = store.indices_of(settings["validation_subjects"] or settings["heldout_subjects"])
        averaged = _new_model(model_config, model.normalization, train_config.seed, model.gap_fill)
        averaged.to(ranks.device).eval().precision = train_config.precision
        scores_now = validate(averaged, store, heldout, indices)

    # Closing the loader ends its processes whatever happens: at its exit Python would wait for them without
    # end.
    with (
        loader_failures_in_words(),
        contextlib.closing(load_steps(batches, first, last, ranks.device)) as steps,
        Metrics(
            run.metrics_file if ranks.writes else None, first, train_config.steps, state["seconds"]
        ) as metrics,
        stop_signals(metrics.message) as stop,
    ):
        if ranks.writes:
            metrics.message(describe_start(model, store, settings, ranks, first))
        loader = Waited(steps)
        unread: deque[tuple[int, torch.Tensor]] = deque()
        stopping, skipped, told = False, 0, False
        for step, micro_batches in enumerate(loader, start=first):
            # Train on the step's days.
            unread.append((step, trainer.step(step, micro_batches, stop.asked or validations.run_out)))

            # Read and report what is ready; all of it before anything is saved.
            saving = (step + 1) % train_config.checkpoint_every == 0 or step + 1 == last
            every = train_config.validate_every
            validating = every is not None and ((step + 1) % every == 0 or step + 1 == last)
            lag = GPU_LAG if ranks.device.type == "cuda" else 0
            while len(unread) > (0 if saving or stopping or validating else lag):
                number, result = unread.popleft()
                found = fetch_result(result)
                days = batches.days(number)
                rate = learning_rate(number, train_config)
                metrics.record(number + 1, found, rate, len(days), loader.seconds)
                stopping |= found.stop
                skipped = 0 if found.finite else skipped + 1
                if not found.finite:
                    _refuse_or_tell(number + 1, skipped, days, train_config, metrics)

            # Score held-out people with the averaged weights.
            if validating and scores_now is not None and not validations.run_out:
                averaged.load_state_dict(trainer.ema.weights)
                scores = scores_now(averaged)
                validations.add(step + 1, scores)
                metrics.record_validation(step + 1, scores)
                if validations.overfits and not told:
                    metrics.message(describe_overfitting(validations))
                    told = True
                if patience is not None and validations.newest_is_best:
                    save_weights()

            # Save, and stop where a signal or `stop_after` says so.
            if saving or stopping:
                if ranks.writes:
                    progress = {"step": step + 1, "seconds": metrics.seconds}
                    state = progress | {"normalization": model.normalization.to_dict()}
                    if model.gap_fill is not None:
                        state["gap_fill"] = model.gap_fill.to_dict()
                    keep = train_config.keep_checkpoints
                    save_checkpoint(run.checkpoints_folder, step + 1, trainer.tensors(), state, keep)
                    if patience is None:
                        save_weights()
                ranks.barrier()
            if (stopping or step + 1 == last) and step + 1 < train_config.steps:
                if not validations.run_out:
                    metrics.message(
                        f"stopped after step {step + 1} of {train_config.steps}; continue with --resume"
                    )
                break
    ended_early = ranks.from_first(validations.run_out)
    if ended_early:
        metrics.message(
            f"ended early: {patience} validations brought nothing better than step {validations.best_step}, "
            "whose model is kept"
        )
    if stopping and step + 1 < train_config.steps and not ended_early:
        stop.end_process()
    if last == train_config.steps or ended_early:
        metrics.message(metrics.describe_end(run.path, store.path))


def _begin_model(
    config: LSM2Config,
    store: DayStore,
    people: list[str],
    initial: str | None,
    seed: int,
    checkpoint: Checkpoint | None,
) -> LSM2:
    """The model with its normalisation; its weights are new or those of `initial`, and a checkpoint is
    restored later.
    """
    if checkpoint:
        gap_fill = checkpoint.state.get("gap_fill")
        return _new_model(
            config,
            Normalization.from_dict(checkpoint.state["normalization"]),
            seed,
            GapFill.from_dict(gap_fill) if gap_fill else None,
        )
    if initial is None:
        normalization = Normalization.from_moments(store.signals, store.moments_of(people))
        return _new_model(config, normalization, seed)
    given = LSM2.from_pretrained(initial)
    names = [signal.name for signal in store.signals]
    if given.normalization is None or [signal.name for signal in given.normalization.signals] != names:
        raise InputError(
            f"the model in {initial} reads other signals than {store.path} holds: {', '.join(names)}"
        )
    gap_fill = given.gap_fill if given.config.fill_gaps == config.fill_gaps else None
    model = _new_model(config, given.normalization, seed, gap_fill)
    if different := differences(model, given.state_dict()):
        raise InputError(
            f"the model in {initial} has another shape ({different}); choose its preset and sizes"
        )
    model.load_state_dict(given.state_dict())
    return model


def _new_model(
    config: LSM2Config, normalization: Normalization, seed: int, gap_fill: GapFill | None = None
) -> LSM2:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LSM2(config, normalization, gap_fill)


def _refuse_or_tell(
    step: int, skipped: int, day_ids: list[str], config: TrainConfig, metrics: Metrics
) -> None:
    shown = ", ".join(day_ids[:8]) + (f" and {len(day_ids) - 8} more" if len(day_ids) > 8 else "")
    what = f"step {step}: loss or gradient is not finite; its days: {shown}"
    if config.non_finite == "stop":
        raise InputError(
            f"{what}. The weights are those of before. Look at these days, lower learning_rate = "
            f"{config.learning_rate}, or resume with non_finite = 'skip' to leave such steps out"
        )
    if skipped == MOST_SKIPPED_IN_A_ROW:
        raise InputError(
            f"{what}. It is the {skipped}th such step in a row, so training has diverged: resume with a "
            f"lower learning_rate than {config.learning_rate}, or train anew"
        )
    metrics.message(f"{what}; skipped, the weights are unchanged")
