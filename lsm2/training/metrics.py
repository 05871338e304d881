"""metrics.jsonl, and progress for whoever watches: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lsm2.data.store import DayStore
from lsm2.files import write_whole
from lsm2.model.attention import kernels_for
from lsm2.model.lsm2 import LSM2
from lsm2.progress import PlainConsole
from lsm2.training.order import Workload
from lsm2.training.parallel import Ranks
from lsm2.training.step import StepResult
from lsm2.training.validation import TaskScore, describe_scores

LINE_EVERY_SECONDS = 15
SHOWN_WAIT = 0.02
"""Part of the time spent waiting for the loader from which on it is shown: more workers would help."""
WIDE = 100
"""Columns of a terminal from which on the bar shows tokens per second too."""


class Metrics:
    """Writes one line per step and shows where training stands; a process that does not write (`path` None)
    does neither.
    """

    def __init__(self, path: Path | None, first_step: int, steps: int, seconds: float) -> None:
        self.path = path
        self.first_step = first_step
        self.steps = steps
        self._days = 0
        self._waited = 0.0
        self._started = self._last = time.perf_counter()
        self._seconds_before = seconds
        self._smooth_loss: float | None = None
        self._validated = ""
        self._line_due = 0.0
        self._console = PlainConsole(stderr=True, quiet=path is None)
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[now]}", markup=False),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self._console,
            expand=True,
            disable=path is None or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=steps, completed=first_step, now="")

    def __enter__(self) -> Metrics:
        if self.path is not None:
            _keep_until(self.path, self.first_step)
            self._file = self.path.open("a")
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if self.path is not None:
            self._file.close()

    @property
    def seconds(self) -> float:
        """Seconds of training, those before a resume included."""
        return self._seconds_before + time.perf_counter() - self._started

    def record(
        self, step: int, result: StepResult, learning_rate: float, num_days: int, waited: float
    ) -> None:
        """Write the line of a finished step, counted from 1, and show it; `waited`: seconds spent waiting for
        the loader so far.
        """
        if self.path is None:
            return
        now = time.perf_counter()
        elapsed = max(now - self._last, 1e-9)
        self._last = now
        line = {
            "step": step,
            "loss": _json_number(result.loss),
            "learning_rate": learning_rate,
            "grad_norm": _json_number(result.grad_norm),
            "skipped": not result.finite,
            "num_target": result.num_target,
            "num_visible": result.num_visible,
            "days_per_second": round(num_days / elapsed, 3),
            "visible_tokens_per_second": round(result.num_visible / elapsed, 1),
            "loader_wait": round(min(1.0, (waited - self._waited) / elapsed), 4),
            "seconds": round(self.seconds, 3),
        }
        self._days += num_days
        self._waited = waited
        self._write(line)
        self._show(step, result)

    def record_validation(self, step: int, scores: Sequence[TaskScore]) -> None:
        """Write and show what held-out people's days gave after a step, counted from 1."""
        validation = [score._asdict() for score in scores]
        line = {"step": step, "validation": validation, "seconds": round(self.seconds, 3)}
        self._write(line)
        error = sum(score.error for score in scores) / len(scores)
        fill_error = sum(score.fill_error for score in scores) / len(scores)
        self._validated = f"  held out {error:.3f} (fill {fill_error:.3f})"
        self.message(describe_scores(step, scores))

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def message(self, text: str) -> None:
        """Print a line without disturbing the bar; nothing in it is taken for markup."""
        self._console.print(text, soft_wrap=True)

    def describe_end(self, run: Path, data: Path) -> str:
        """What a finished training reached, and the command that comes next."""
        reached = "trained before; nothing is left to do"
        if self._smooth_loss is not None:
            minutes = self.seconds / 60
            reached = (
                f"trained {self.steps} steps in {minutes:.1f} min, loss {self._smooth_loss:.3f} at the end"
            )
        return f"{reached}; model in {run / 'model'}\nnext: lsm2 evaluate {run} --data {data}"

    def _show(self, step: int, result: StepResult) -> None:
        if math.isfinite(result.loss):
            before = result.loss if self._smooth_loss is None else self._smooth_loss
            self._smooth_loss = 0.95 * before + 0.05 * result.loss
        elapsed = time.perf_counter() - self._started
        rate = (step - self.first_step) / elapsed
        loss = "-" if self._smooth_loss is None else f"{self._smooth_loss:.4f}"
        now = f"loss {loss}{self._validated}  {self._days / elapsed:.1f} days/s"
        if self._bar.disable or self._console.width >= WIDE:
            now += f"  {result.num_visible * rate:,.0f} visible tokens/s"
        if self._waited > SHOWN_WAIT * elapsed:
            now += f"  {self._waited / elapsed:.0%} waiting for data"
        self._bar.update(self._task, completed=step, now=now)
        if self._bar.disable and (elapsed >= self._line_due or step == self.steps):
            self._line_due = elapsed + LINE_EVERY_SECONDS
            left = (self.steps - step) / rate
            self.message(f"step {step} of {self.steps}  {now}  {left:.0f} s left")


def describe_start(
    model: LSM2, store: DayStore, settings: dict[str, Any], ranks: Ranks, first_step: int
) -> str:
    """What is about to be trained, on what, and how: days, people, parameters, device, precision, kernels.

    Days that training can learn nothing from are counted.
    """
    people = settings["train_subjects"]
    indices = store.indices_of(people)
    num_days = len(indices)
    parameters = sum(weight.numel() for weight in model.parameters())
    device = f"GPU {torch.cuda.get_device_name(ranks.device)}" if ranks.device.type == "cuda" else "CPU"
    if ranks.device.type == "cpu":
        device += f" ({torch.get_num_threads()} of {os.cpu_count()} cores)"
    lines = [
        f"data: {num_days} days of {len(people)} people; {len(settings['heldout_subjects'])} people held out",
        f"model: {parameters / 1e6:.1f}M parameters, tokens of {model.config.patch_minutes} minutes",
        f"on: {ranks.world_size} x {device}, {settings['train']['precision']}, kernels "
        f"{kernels_for(ranks.device)}",
    ]
    unmaskable, seen = Workload(store, indices, model.config).count_unmaskable()
    if unmaskable:
        lines.append(
            f"nothing to learn from {unmaskable} of {seen} days: they hold too few tokens, slots or signals "
            "with data for the masks to hide any"
        )
    if first_step:
        lines.append(f"continuing after step {first_step}")
    return "\n".join(lines)


def _keep_until(path: Path, step: int) -> None:
    """Drop what a run wrote after the checkpoint it resumes from: those steps are taken again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            if line.endswith(b"\n") and json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue  # a line that a crash cut short
    write_whole(path, lambda part: part.write_bytes(b"".join(kept)))


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None
