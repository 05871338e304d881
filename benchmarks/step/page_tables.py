"""Tables of training steps in README.md and RESULTS.md; see benchmarks/pages.py."""

import pandas as pd

from benchmarks.measure.saved_rows import read_rows
from benchmarks.measure.tables import markdown
from benchmarks.step.tables import TARGETS

WAYS = {
    "ours_cross": "ours `cross`",
    "ours_joint": "ours `joint`",
    "ours_full": "ours `full`",
    "padded": "padded, `full`",
    "paper": "paper's way, `full`",
    "dense": "dense, `full`",
}


def train_step() -> str:
    """Milliseconds of a step on two days, by preset and missing fraction."""
    frame = read_rows("train_step", "train_step_missing", "train_step_base")
    ms = 1e3 * frame.pivot(index=["param.preset", "param.missing"], columns="way", values="median_seconds")
    rows = []
    for preset, missing in sorted(ms.index, key=lambda case: (case[0] != "tiny", case[1])):
        cells = [ms.loc[(preset, missing), way] for way in WAYS]
        texts = ["-" if pd.isna(cell) else f"{cell:.0f}" for cell in cells]
        rows.append((f"{preset}, {100 * missing:.0f} %", *texts))
    return markdown(("preset, missing", *WAYS.values()), rows)


def train_step_targets() -> str:
    """Ratios of three runs."""
    runs = [f"train_step_targets_run{run}" for run in (1, 2, 3)]
    times = read_rows("train_step", *runs).set_index(["param.preset", "way", "run"]).median_seconds
    names = {"paper": "the paper's way", "dense": "dense"}
    rows = []
    for target in TARGETS:
        preset = target.params["preset"]
        ratios = [times[preset, target.peer, run] / times[preset, target.ours, run] for run in runs]
        title = f"{preset}, `{target.ours.removeprefix('ours_')}` against {names[target.peer]}"
        rows.append((title, *(f"{ratio:.1f}x" for ratio in ratios)))
    return markdown(("preset, ours against", "run 1", "run 2", "run 3"), rows)


def peak_memory() -> str:
    """Megabytes a day."""
    frame = read_rows("train_step", "train_step_targets_run1")
    base = frame[frame["param.preset"] == "base"].set_index("way")
    peaks = base.peak_bytes / base["param.num_windows"] / 1e6
    ways = {
        way: title.removeprefix("ours ").removesuffix(", `full`")
        for way, title in WAYS.items()
        if way in peaks
    }
    row = (
        f"base, {100 * base['param.missing'].iloc[0]:.0f} % missing",
        *(f"{peaks[way]:.0f}" for way in ways),
    )
    return markdown(("peak memory of a step, MB a day", *ways.values()), [row])


TABLES = {"train_step": train_step, "train_step_targets": train_step_targets, "peak_memory": peak_memory}
