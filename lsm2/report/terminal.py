"""Tables on the terminal: a store's numbers, an evaluation's."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lsm2.data.quality import MISSING_KINDS, Cohort
from lsm2.evaluate.methods import METHODS
from lsm2.evaluate.results import Evaluation
from lsm2.evaluate.tasks import TASKS
from lsm2.report.summary import printable

WIDTH_OF_FILES = 120


def show_evaluation(evaluation: Evaluation) -> None:
    """Print tasks x methods; an asterisk and bold type mark the best method that sees one day only."""
    settings = evaluation.settings
    table = Table(
        title=f"mean squared error, normalised; {settings.num_days} days of {settings.num_people} people",
        title_justify="left",
    )
    table.add_column("task", no_wrap=True)
    for method in METHODS.values():
        table.add_column(method.marked_label, justify="right")
    table.add_column("minutes", justify="right")
    for name, task in evaluation.scored.items():
        best = task.best_methods()
        cells = [
            f"[bold]{task.methods[method].mse:.3f}*[/bold]"
            if method in best
            else f"{task.methods[method].mse:.3f} "
            for method in METHODS
        ]
        table.add_row(TASKS[name].label, *cells, f"{task.aim.num_minutes:,}")
    console = _console()
    console.print(table)
    console.print(
        "* the best method that sees one day; † sees the person's other days; about 1: the training mean"
    )
    if evaluation.constant_signals:
        names = ", ".join(printable(name) for name in evaluation.constant_signals)
        console.print(f"not scored, as they never vary in the training data: {names}", markup=False)
    for name, task in evaluation.tasks.items():
        if task.days_skipped:
            console.print(
                f"{TASKS[name].label}: {task.days_skipped} days left out, which have too little data"
            )


def show_cohort(cohort: Cohort) -> None:
    """Print what `lsm2.data.quality.describe` found."""
    console = _console()
    low, high = cohort.missing_of_days
    console.print(
        f"{cohort.num_people} people, {cohort.num_days} days, {cohort.num_signals} signals, "
        f"{cohort.samples_per_day} samples a day (every {cohort.sample_minutes} min)"
    )
    console.print(
        f"{cohort.missing:.1%} missing, {low:.1%} to {high:.1%} a day "
        f"(over {cohort.num_days_looked_at} days); of all minutes:"
    )
    for kind, label in MISSING_KINDS.items():
        console.print(f"  {cohort.missing_kinds[kind]:6.1%}  {label}")
    table = Table()
    table.add_column("signal", no_wrap=True)
    table.add_column("unit")
    for title in ("missing", "median gap (min)", "5 %", "median", "95 %"):
        table.add_column(title, justify="right")
    for signal in cohort.per_signal:
        quantiles = [f"{q:.4g}" for q in signal.quantiles] if signal.quantiles else ["never measured", "", ""]
        gap = f"{signal.median_gap_minutes:g}" if signal.median_gap_minutes else "-"
        names = [escape(printable(signal.name)), escape(printable(signal.unit))]
        table.add_row(*names, f"{signal.missing:.1%}", gap, *quantiles)
    console.print(table)


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH_OF_FILES)
