"""Verbs that show what a trained model does: plot, report."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from lsm2.progress import say


def plot(run: Positional[Path], /, *, data: Path, day: str, task: str = "random_80") -> None:
    """Draw a day as it was measured, as the model saw it and as it was reconstructed.

    Args:
        run: Folder of a run.
        data: Folder of a store.
        day: Day id in the store: person/date.
        task: What is hidden from the model, by its name in evaluation.json.
    """
    from lsm2.data.store import DayStore
    from lsm2.report.page import write_day_picture
    from lsm2.run_folder import RunFolder

    say(str(write_day_picture(RunFolder(run), DayStore.open(data), day, task)))


def report(run: Positional[Path], /, *, data: Path | None = None) -> None:
    """Write report.html into the run folder: one page with figures and numbers.

    Args:
        run: Folder of a run.
        data: Folder of the store, if it was moved after training or evaluation.
    """
    from lsm2.evaluate.trained_run import find_store
    from lsm2.report.page import write_report
    from lsm2.run_folder import RunFolder

    folder = RunFolder(run)
    say(str(write_report(folder, find_store(folder, data))))
