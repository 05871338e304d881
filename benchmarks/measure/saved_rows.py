"""The rows behind the tables of the pages, as pandas has them."""

from pathlib import Path

import pandas as pd

RESULTS = sorted((Path(__file__).parents[1] / "results").glob("*-amd-epyc-zen4-2-cores.csv"))
"""The machine that the pages show, a file a day."""


def read_rows(suite: str, *runs: str) -> pd.DataFrame:
    """A row per run, case and way of these runs, in the order of the files; of a run its newest day."""
    frame = pd.concat([pd.read_csv(file, low_memory=False) for file in RESULTS])
    newest = frame.groupby("run").date.transform("max")
    chosen = frame[frame.date == newest].query("suite == @suite and run in @runs")
    if chosen.empty:
        raise SystemExit(f"{RESULTS[0].parent} has no {suite} of {', '.join(runs)}")
    return chosen.dropna(axis=1, how="all")
