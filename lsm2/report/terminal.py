"""Tables on the terminal: a store's numbers, an evaluation's."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from lsm2.data.quality import MISSING_KINDS
from lsm2.evaluate.tasks import TASKS
from lsm2.report.figures import METHOD_LABELS
from lsm2.report.summary import best_methods

WIDTH_OF_FILES = 120


def show_evaluation(evaluation: dict[str, Any]) -> None:
    """Print tasks x methods, the best of each task marked by an asterisk and bold type."""
    settings = evaluation["settings"]
    table = Table(
        title=f"mean squared error, normalised; {settings['num_days']} days of {settings['num_people']} people; * best",
        title_justify="left",
    )
    table.add_column("task", no_wrap=True)
    for label in METHOD_LABELS.values():
        table.add_column(label, justify="right")
    table.add_column("minutes", justify="right")
    for name, results in evaluation["generative"].items():
        best = best_methods(results)
        cells = [
            f"[bold]{results[m]['mse']:.3f}*[/bold]" if m in best else f"{results[m]['mse']:.3f} "
            for m in METHOD_LABELS
        ]
        table.add_row(TASKS[name].label, *cells, f"{results['aim']['num_minutes']:,}")
    console = _console()
    console.print(table)
    if constant := evaluation["constant_signals"]:
        console.print(
            f"not scored, as they never vary in the training data: {', '.join(constant)}", markup=False
        )
    for name, info in evaluation["tasks"].items():
        if info["days_skipped"]:
            console.print(f"{TASKS[name].label}: left out days with too little data: {info['days_skipped']}")


def show_cohort(cohort: dict[str, Any]) -> None:
    """Print what `lsm2.data.quality.describe` found."""
    console = _console()
    low, high = cohort["missing_of_days"]
    console.print(
        f"{cohort['num_people']} people, {cohort['num_days']} days, {cohort['num_signals']} signals, "
        f"{cohort['samples_per_day']} samples a day (every {cohort['sample_minutes']} min)"
    )
    console.print(
        f"{cohort['missing']:.1%} missing, {low:.1%} to {high:.1%} a day (over {cohort['num_days_looked_at']} days); of all minutes:"
    )
    for kind, label in MISSING_KINDS.items():
        console.print(f"  {cohort['missing_kinds'][kind]:6.1%}  {label}")
    table = Table()
    table.add_column("signal", no_wrap=True)
    table.add_column("unit")
    for title in ("missing", "median gap (min)", "5 %", "median", "95 %"):
        table.add_column(title, justify="right")
    for signal in cohort["per_signal"]:
        quantiles = (
            [f"{q:.4g}" for q in signal["quantiles"]] if signal["quantiles"] else ["never measured", "", ""]
        )
        gap = f"{signal['median_gap_minutes']:g}" if signal["median_gap_minutes"] else "-"
        table.add_row(signal["name"], signal["unit"], f"{signal['missing']:.1%}", gap, *quantiles)
    console.print(table)


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH_OF_FILES)
