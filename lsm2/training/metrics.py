"""metrics.jsonl, and progress for whoever watches: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lsm2.files import write_whole
from lsm2.training.step import StepResult

LINE_EVERY_SECONDS = 15
SHOWN_WAIT = 0.02
"""Part of the time spent waiting for the loader from which on it is shown: more workers would help."""


class Metrics:
    """Writes one line per step and shows where training stands; a process that does not write (`path` None) does neither."""

    def __init__(self, path: Path | None, first_step: int, steps: int, seconds: float) -> None:
        self.path, self.first_step, self.steps = path, first_step, steps
        self._days, self._waited = 0, 0.0
        self._started = self._last = time.perf_counter()
        self._seconds_before = seconds
        self._smooth_loss: float | None = None
        self._line_due = 0.0
        self._console = Console(stderr=True, quiet=path is None)
        now = TextColumn("{task.fields[now]}")
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            now,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(
            *columns, console=self._console, disable=path is None or not self._console.is_terminal
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
        """Write the line of a finished step, counted from 1, and show it; `waited`: seconds spent waiting for the loader so far."""
        if self.path is None:
            return
        now = time.perf_counter()
        elapsed, self._last = max(now - self._last, 1e-9), now
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
        self._days, self._waited = self._days + num_days, waited
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._show(step, result)

    def message(self, text: str) -> None:
        """Print a line without disturbing the bar."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def _show(self, step: int, result: StepResult) -> None:
        if math.isfinite(result.loss):
            self._smooth_loss = (
                result.loss if self._smooth_loss is None else 0.95 * self._smooth_loss + 0.05 * result.loss
            )
        elapsed = time.perf_counter() - self._started
        rate = (step - self.first_step) / elapsed
        loss = "-" if self._smooth_loss is None else f"{self._smooth_loss:.4f}"
        tokens = result.num_visible * rate
        now = f"loss {loss}  {self._days / elapsed:.1f} days/s  {tokens:,.0f} visible tokens/s"
        if self._waited > SHOWN_WAIT * elapsed:
            now += f"  {self._waited / elapsed:.0%} waiting for the loader"
        self._bar.update(self._task, completed=step, now=now)
        if self._bar.disable and (elapsed >= self._line_due or step == self.steps):
            self._line_due = elapsed + LINE_EVERY_SECONDS
            left = (self.steps - step) / rate
            self.message(f"step {step} of {self.steps}  {now}  {left:.0f} s left")


def _keep_until(path: Path, step: int) -> None:
    """Drop what a run wrote after the checkpoint it resumes from: those steps are taken again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            if line.endswith("\n") and json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue  # a line that a crash cut short
    write_whole(path, lambda part: part.write_text("".join(kept)))


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None
