"""The rows behind the tables of the pages, as pandas has them."""

from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).parents[1] / "results" / "2026-11-23-amd-epyc-zen4-2-cores.csv"
"""The machine and day that the pages show."""


def read_rows(suite: str, *runs: str) -> pd.DataFrame:
    """A row per run, case and way of these runs, in the order of the file."""
    frame = pd.read_csv(RESULTS, low_memory=False)
    chosen = frame.query("suite == @suite and run in @runs")
    if chosen.empty:
        raise SystemExit(f"{RESULTS} has no {suite} of {', '.join(runs)}")
    return chosen.dropna(axis=1, how="all")
