"""Pre-training, from a store of days to a run folder."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from lsm2.config import LSM2Config, TrainConfig
from lsm2.data.normalize import Normalization
from lsm2.data.store import DayStore
from lsm2.errors import InputError
from lsm2.model.mae import LSM2
from lsm2.model.pretrained import save_model
from lsm2.run_folder import RunFolder
from lsm2.training.batches import StepBatches, Waited, load_steps
from lsm2.training.checkpoint import load_newest, save_checkpoint
from lsm2.training.metrics import Metrics
from lsm2.training.optim import learning_rate
from lsm2.training.parallel import Ranks, join_ranks
from lsm2.training.settings import run_settings, settle_precision
from lsm2.training.step import Trainer, fetch_result

GPU_LAG = 8
"""Steps that a GPU may be behind before its results are read: by then they are there, and nothing waits."""


def pretrain(
    model_config: LSM2Config,
    train_config: TrainConfig,
    store: DayStore,
    out: Path | str,
    *,
    resume: bool = False,
    stop_after: int | None = None,
) -> Path:
    """Pre-train a model on a store's days into the run folder `out`, which is returned: config.json, model/, checkpoints/, metrics.jsonl.

    People are held out by `heldout_fraction` and `seed`; the normalisation is fitted on the others. `resume` continues from the newest
    intact checkpoint, bit for bit on the same machine with as many ranks; where there is no run yet, it begins one. SIGTERM, Ctrl-C or
    reaching step `stop_after` end it early with a checkpoint. Runs under torchrun too. Raises InputError for a folder in use, settings that
    are not those of the run to resume, a store that does not fit, and a loss or gradient that is not finite when `non_finite` is "stop".
    """
    run = RunFolder(Path(out))
    with join_ranks(train_config.device) as ranks:
        train_config = settle_precision(train_config, run, resume, ranks)
        settings = run_settings(model_config, train_config, store)
        if ranks.writes:
            run.begin(settings, resume)
        ranks.barrier()
        _train(model_config, train_config, store, run, settings["train_subjects"], ranks, stop_after)
    return run.path


def _train(
    model_config: LSM2Config,
    config: TrainConfig,
    store: DayStore,
    run: RunFolder,
    people: list[str],
    ranks: Ranks,
    stop_after: int | None,
) -> None:
    indices = store.indices_of(people)
    checkpoint = load_newest(run.checkpoints_folder)
    state: dict[str, Any] = checkpoint.state if checkpoint else {"step": 0, "seconds": 0.0}
    normalization = (
        Normalization.from_dict(state["normalization"])
        if checkpoint
        else Normalization.from_moments(store.signals, store.moments_of(people))
    )
    trainer = Trainer(_new_model(model_config, normalization, config.seed), config, ranks)
    if checkpoint:
        trainer.restore(checkpoint.tensors)
    first, last = state["step"], min(config.steps, stop_after or config.steps)
    batches = StepBatches(store, indices, normalization, model_config, config, ranks)
    lag = GPU_LAG if ranks.device.type == "cuda" else 0

    if checkpoint and first == config.steps and ranks.writes:
        # A run killed between its last checkpoint and its model has a model of before, or none.
        save_model(run.model_folder, model_config, trainer.ema, normalization)

    # Closing the loader ends its workers whatever happens: left to the interpreter's exit, they would be waited for without end.
    with (
        contextlib.closing(load_steps(batches, first, last, ranks.device)) as steps,
        Metrics(run.metrics_file if ranks.writes else None, first, config.steps, state["seconds"]) as metrics,
    ):
        loader = Waited(steps)

        def report(step: int, result: torch.Tensor) -> bool:
            numbers = fetch_result(result)
            days = batches.days(step)
            metrics.record(step + 1, numbers, learning_rate(step, config), len(days), loader.seconds)
            if not numbers.finite:
                _refuse_or_tell(step + 1, days, config, metrics)
            return numbers.stop

        def save(steps_done: int) -> None:
            if ranks.writes:
                state = {
                    "step": steps_done,
                    "seconds": metrics.seconds,
                    "normalization": normalization.to_dict(),
                }
                save_checkpoint(
                    run.checkpoints_folder, steps_done, trainer.tensors(), state, config.keep_checkpoints
                )
                save_model(run.model_folder, model_config, trainer.ema, normalization)
            ranks.barrier()

        with stop_signals() as asked_to_stop:
            unread: deque[tuple[int, torch.Tensor]] = deque()
            for step, micro_batches in enumerate(loader, start=first):
                unread.append((step, trainer.step(step, micro_batches, asked_to_stop.is_set())))
                stopping = len(unread) > lag and report(*unread.popleft())
                if stopping or (step + 1) % config.checkpoint_every == 0 or step + 1 == last:
                    while unread:
                        stopping |= report(*unread.popleft())
                    save(step + 1)
                    if stopping or step + 1 == last < config.steps:
                        metrics.message(
                            f"stopped after step {step + 1} of {config.steps}; continue with --resume"
                        )
                        break


def _new_model(config: LSM2Config, normalization: Normalization, seed: int) -> LSM2:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LSM2(config, normalization)


def _refuse_or_tell(step: int, day_ids: list[str], config: TrainConfig, metrics: Metrics) -> None:
    shown = ", ".join(day_ids[:8]) + (f" and {len(day_ids) - 8} more" if len(day_ids) > 8 else "")
    what = f"step {step}: loss or gradient is not finite; its days: {shown}"
    if config.non_finite == "stop":
        raise InputError(
            f"{what}. The weights are those of before. Look at these days, lower learning_rate = {config.learning_rate}, "
            "or resume with non_finite = 'skip' to leave such steps out"
        )
    metrics.message(f"{what}; skipped, the weights are unchanged")


@contextlib.contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that the first SIGTERM or Ctrl-C sets; the second does what it would have done without this."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread may listen
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: object) -> None:
        asked.set()
        restore()

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        restore()
